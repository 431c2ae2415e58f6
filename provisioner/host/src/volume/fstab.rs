//! Single lines of `/etc/fstab`.
//!
//! Goes in: the whole text and one volume. Comes out: the text with or without that volume's line.
//! Invariant: every other line stays byte for byte, and a text with a new error is never put in
//! place.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::durable::{Attributes, Draft};
use crate::failure::{Doing, Failure};
use crate::process::Program;
use crate::root::Root;
use crate::volume::mounts::unescape;

const FILE: &str = "/etc/fstab";
/// What a table gets that was not there.
const NEW_ATTRIBUTES: Attributes = Attributes {
    uid: 0,
    gid: 0,
    mode: 0o644,
};

/// A volume that is mounted at boot.
#[derive(Clone, Debug)]
pub(crate) struct Volume<'a> {
    /// The file system's UUID.
    pub(crate) uuid: &'a str,
    /// Where it is mounted.
    pub(crate) mount_point: &'a str,
    /// `ext4` or `xfs`.
    pub(crate) filesystem: &'a str,
    /// All mount options, joined by commas.
    pub(crate) options: &'a str,
}

impl Volume<'_> {
    fn line(&self) -> String {
        format!(
            "UUID={} {} {} {} 0 2",
            self.uuid,
            escape(self.mount_point),
            self.filesystem,
            self.options
        )
    }
}

/// The whole table; empty where there is none.
pub(crate) fn read(root: &Root) -> Result<String, Failure> {
    match fs::read_to_string(root.at(FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.doing(|| format!("read {FILE}")),
    }
}

/// The line of a UUID, or else of a mount point.
pub(crate) fn line_for<'a>(text: &'a str, uuid: &str, mount_point: &str) -> Option<&'a str> {
    let by_uuid = text
        .lines()
        .find(|line| Entry::of(line).is_some_and(|it| it.has_uuid(uuid)));
    by_uuid.or_else(|| {
        text.lines()
            .find(|line| Entry::of(line).is_some_and(|it| it.mount_point == mount_point))
    })
}

/// The line by which somebody else mounts something at a mount point.
pub(crate) fn foreign_line<'a>(
    text: &'a str,
    (uuid, mount_point): (&str, &str),
    is_ours: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    text.lines().find(|line| {
        let entry = Entry::of(line).filter(|entry| entry.mount_point == mount_point);
        entry.is_some_and(|entry| {
            !entry.has_uuid(uuid) && !entry.uuid().is_some_and(|uuid| is_ours(&uuid))
        })
    })
}

/// Where a volume's line says that it is mounted.
pub(crate) fn mount_point_of(text: &str, uuid: &str) -> Option<String> {
    let mut entries = text.lines().filter_map(Entry::of);
    entries
        .find(|entry| entry.has_uuid(uuid))
        .map(|entry| entry.mount_point)
}

/// The table with the volume's line in place of its earlier ones, or at the end.
pub(crate) fn with(
    text: &str,
    volume: &Volume<'_>,
    is_ours: impl Fn(&str) -> bool,
) -> Result<String, Failure> {
    let place = (volume.uuid, volume.mount_point);
    if let Some(line) = foreign_line(text, place, is_ours) {
        return Err(Failure::refused(format!(
            "{FILE} already mounts something else at {}: `{}`",
            volume.mount_point,
            line.trim()
        )));
    }
    let mut new = String::with_capacity(text.len() + 128);
    let mut placed = false;
    for line in text.split_inclusive('\n') {
        let entry = Entry::of(line);
        let same = entry
            .as_ref()
            .is_some_and(|entry| entry.has_uuid(volume.uuid));
        let same_place = entry
            .as_ref()
            .is_some_and(|it| it.mount_point == volume.mount_point);
        if !same && !same_place {
            new.push_str(line);
        } else if !placed {
            new.push_str(&volume.line());
            new.push('\n');
            placed = true;
        }
    }
    if !placed {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&volume.line());
        new.push('\n');
    }
    Ok(new)
}

/// The table without the volume's lines.
pub(crate) fn without(text: &str, uuid: &str) -> String {
    let is_its = |line: &&str| Entry::of(line).is_some_and(|entry| entry.has_uuid(uuid));
    text.split_inclusive('\n')
        .filter(|line| !is_its(line))
        .collect()
}

/// Puts a table in place, unless it brings an error that the old one has not; says whether it
/// differs. `tolerated` is a UUID that need not be found by name.
pub(crate) fn put(root: &Root, text: &str, tolerated: &str) -> Result<bool, Failure> {
    let path = root.at(FILE);
    if read(root)? == text {
        return Ok(false);
    }
    let attributes = path.metadata().map_or(NEW_ATTRIBUTES, |found| Attributes {
        uid: found.uid(),
        gid: found.gid(),
        mode: found.mode() & 0o7777,
    });
    let mut draft = Draft::beside(&path)?;
    draft
        .file
        .write_all(text.as_bytes())
        .doing(|| format!("write {FILE}"))?;
    let old = if path.exists() {
        errors(root, &path)?
    } else {
        BTreeSet::new()
    };
    let is_new = |error: &String| {
        let unreachable = error.contains("unreachable") && error.contains(tolerated);
        !old.contains(error) && (tolerated.is_empty() || !unreachable)
    };
    if let Some(error) = errors(root, draft.path())?.into_iter().find(is_new) {
        return Err(Failure::refused(format!(
            "{FILE} would have a new error: {error}"
        )));
    }
    draft.commit(Some(attributes))?;
    Ok(true)
}

/// The errors that `findmnt --verify` sees in a table, each with the mount point it is about.
fn errors(root: &Root, table: &Path) -> Result<BTreeSet<String>, Failure> {
    let outcome = Program::named(root, "findmnt")?
        .arguments(["--verify", "--tab-file"])
        .arguments([table])
        .run()?;
    Ok(parse_errors(&outcome.stdout))
}

fn parse_errors(text: &str) -> BTreeSet<String> {
    let mut heading = "";
    let mut errors = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            if let Some(error) = line.trim().strip_prefix("[E] ") {
                errors.insert(format!("{heading}: {error}"));
            }
        } else {
            heading = line.trim();
        }
    }
    errors
}

/// What matters of a line.
struct Entry {
    source: String,
    mount_point: String,
}

impl Entry {
    fn of(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let source = fields.next().filter(|source| !source.starts_with('#'))?;
        Some(Self {
            source: unescape(source),
            mount_point: unescape(fields.next()?),
        })
    }

    fn uuid(&self) -> Option<String> {
        let uuid = self
            .source
            .strip_prefix("UUID=")
            .or_else(|| self.source.strip_prefix("/dev/disk/by-uuid/"))?;
        Some(uuid.trim_matches('"').to_lowercase())
    }

    fn has_uuid(&self, uuid: &str) -> bool {
        self.uuid()
            .is_some_and(|found| found == uuid.to_lowercase())
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\n\
                        UUID=\"AAAA\" / ext4 errors=remount-ro 0 1\n\
                        \n\
                        /dev/sdb1\t/srv  xfs defaults 0 0  # with a remark\n\
                        tmpfs /tmp tmpfs defaults 0 0";

    fn volume() -> Volume<'static> {
        Volume {
            uuid: "bbbb",
            mount_point: "/mnt/my data",
            filesystem: "xfs",
            options: "defaults,nofail",
        }
    }

    const LINE: &str = "UUID=bbbb /mnt/my\\040data xfs defaults,nofail 0 2";

    #[test]
    fn a_line_is_added_and_the_rest_stays() {
        let new = with(TEXT, &volume(), |_| false).unwrap();
        assert_eq!(new, format!("{TEXT}\n{LINE}\n"));
        assert_eq!(
            with(&new, &volume(), |_| false).unwrap(),
            new,
            "a second time changes nothing"
        );
        assert_eq!(without(&new, "bbbb"), format!("{TEXT}\n"));
        assert_eq!(with("", &volume(), |_| false).unwrap(), format!("{LINE}\n"));
        assert_eq!(line_for(&new, "bbbb", "/x"), Some(LINE));
        assert_eq!(line_for(&new, "cccc", "/mnt/my data"), Some(LINE));
        assert_eq!(line_for(&new, "cccc", "/x"), None);
        assert_eq!(
            mount_point_of(&new, "BBBB").as_deref(),
            Some("/mnt/my data")
        );
    }

    #[test]
    fn its_own_line_is_replaced_where_it_stands() {
        let text = "UUID=bbbb /old ext4 defaults 0 2\ntmpfs /tmp tmpfs defaults 0 0\n";
        let new = with(text, &volume(), |_| false).unwrap();
        assert_eq!(new, format!("{LINE}\ntmpfs /tmp tmpfs defaults 0 0\n"));
    }

    #[test]
    fn an_earlier_volume_of_ours_gives_way_and_a_strangers_does_not() {
        let text = "UUID=cccc /mnt/my\\040data ext4 defaults 0 2\n";
        let error = with(text, &volume(), |_| false).unwrap_err().to_string();
        assert!(
            error.contains("already mounts something else at /mnt/my data"),
            "{error}"
        );
        let place = ("bbbb", "/mnt/my data");
        assert_eq!(foreign_line(text, place, |_| false), Some(text.trim()));
        assert_eq!(foreign_line(text, place, |uuid| uuid == "cccc"), None);
        assert_eq!(foreign_line(text, ("cccc", place.1), |_| false), None);
        assert_eq!(foreign_line(text, ("bbbb", "/srv"), |_| false), None);
        assert_eq!(
            with(text, &volume(), |uuid| uuid == "cccc").unwrap(),
            format!("{LINE}\n")
        );
    }

    #[test]
    fn reads_the_errors_of_findmnt() {
        let text = "/mnt\n   [E] unreachable on boot required source: UUID=x\n   [W] slow\n/a\n   \
                    [E] target is not a directory\n\n0 parse errors, 2 errors, 1 warning\n";
        let errors: Vec<_> = parse_errors(text).into_iter().collect();
        assert_eq!(
            errors,
            [
                "/a: target is not a directory",
                "/mnt: unreachable on boot required source: UUID=x"
            ]
        );
    }
}
