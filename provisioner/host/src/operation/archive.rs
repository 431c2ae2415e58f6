//! Unpacks archives.
//!
//! Goes in: a stored gzip-compressed tar. Comes out: a directory that holds it, exchanged as a
//! whole. Invariant: nothing is written outside the directory that is being prepared, whatever
//! the archive says.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use provision_protocol::operation::ExtractArchive;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use tar::{Archive, Entry, EntryType};

use crate::accounts::Accounts;
use crate::content;
use crate::debt;
use crate::durable::{self, Attributes};
use crate::fact::file::metadata;
use crate::failure::{Doing, Failure};
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::Task;
use crate::operation::file::check_parent;
use crate::root::check_absolute;
use crate::space;

/// The file inside that bears the archive's hash and tells that the directory is ours.
const MARK: &str = ".provision-archive";
/// The most plain bytes in one archive.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The most entries in one archive.
const MAX_ENTRIES: usize = 200_000;
/// What directories get that the archive does not name.
const DIRECTORY_MODE: u32 = 0o755;

/// Unpacks an archive beside its target and exchanges the two.
pub(crate) fn extract(task: &mut Task<'_>, wanted: &ExtractArchive) -> Result<(), Failure> {
    let root = task.root;
    let shown = check_absolute(&wanted.path)?.trim_end_matches('/');
    let target = root.at(shown);
    check_parent(&target, shown)?;
    let is_there = check_target(task, &target, shown)?;
    let owner = Accounts::read(root).attributes(&wanted.owner, &wanted.group, 0)?;
    let source = content::require(root, &wanted.sha256)?;
    let prepared = durable::unfinished_beside(&target)?;
    durable::remove_tree(&prepared)?;
    let unpacked = Unpacking::begin(&prepared, wanted.strip_components, owner)
        .and_then(|unpacking| unpacking.unpack(&source, &wanted.sha256))
        .map_err(|failure| space::explain(failure, &target, MAX_BYTES.min(size(&source))));
    if let Err(failure) = unpacked {
        durable::remove_tree(&prepared)?;
        return Err(failure);
    }
    let known = task.manifest.get(Kind::Archive, shown);
    let applied = known.map(|entry| entry.applied.clone()).unwrap_or_default();
    let before = Before {
        existed: false,
        sha256: unpacked_sha256(&target).unwrap_or_default(),
        attributes: applied.attributes,
        value: applied.value,
    };
    task.record(Wanted {
        kind: Kind::Archive,
        name: shown,
        before,
        sha256: Some(&wanted.sha256),
        attributes: Some(format!("{}:{}:", wanted.owner, wanted.group)),
        value: Some(wanted.strip_components.to_string()),
        debts: wanted.debts.iter().map(Into::into).collect(),
        ..Wanted::default()
    })?;
    content::keep_upload(root, &wanted.sha256);
    debt::record(root, &wanted.debts)?;
    let flags = if is_there {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::NOREPLACE
    };
    renameat_with(CWD, &prepared, CWD, &target, flags).doing(|| format!("put {shown} in place"))?;
    durable::sync_parent(&target)?;
    // After an exchange this is what stood there before, and otherwise nothing.
    durable::remove_tree(&prepared)
}

/// The hash of the archive that a directory was unpacked from.
pub(crate) fn unpacked_sha256(target: &Path) -> Option<String> {
    let words = fs::read_to_string(target.join(MARK)).ok()?;
    content::check_sha256(words.trim()).ok().map(str::to_owned)
}

/// Removes an unpacked archive, and nothing that only stands in its place.
pub(crate) fn remove(task: &Task<'_>, name: &str) -> Result<(), Failure> {
    let path = task.root.at(check_absolute(name)?);
    if !path.join(MARK).is_file() {
        return Ok(());
    }
    // The name goes first, so that an interruption does not leave half of it in use.
    let doomed = durable::unfinished_beside(&path)?;
    durable::remove_tree(&doomed)?;
    fs::rename(&path, &doomed).doing(|| format!("remove {name}"))?;
    durable::sync_parent(&path)?;
    durable::remove_tree(&doomed)
}

/// Says whether the target is there. Only an archive of ours or an empty directory gives way.
fn check_target(task: &Task<'_>, target: &Path, shown: &str) -> Result<bool, Failure> {
    let Some(found) = metadata(target).doing(|| format!("look at {shown}"))? else {
        return Ok(false);
    };
    if !found.is_dir() {
        return Err(Failure::refused(format!(
            "{shown} is there, but is no directory: move it away first"
        )));
    }
    let ours = target.join(MARK).is_file() && task.manifest.get(Kind::Archive, shown).is_some();
    let mut entries = fs::read_dir(target).doing(|| format!("list {shown}"))?;
    if ours || entries.next().is_none() {
        return Ok(true);
    }
    Err(Failure::refused(format!(
        "{shown} holds something that provision has not put there: move it away first"
    )))
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// A directory that an archive is unpacked into.
struct Unpacking<'a> {
    directory: &'a Path,
    strip_components: usize,
    owner: Attributes,
    bytes: u64,
}

impl<'a> Unpacking<'a> {
    fn begin(
        directory: &'a Path,
        strip_components: u32,
        owner: Attributes,
    ) -> Result<Self, Failure> {
        let strip_components = usize::try_from(strip_components).unwrap_or(usize::MAX);
        let unpacking = Self {
            directory,
            strip_components,
            owner,
            bytes: 0,
        };
        unpacking.make_directory(directory)?;
        Ok(unpacking)
    }

    fn unpack(mut self, source: &Path, sha256: &str) -> Result<(), Failure> {
        let doing = || format!("read the archive {sha256}");
        let file = File::open(source).doing(doing)?;
        // The limit holds for the whole stream, so that headers cannot go on for ever either.
        let plain = MultiGzDecoder::new(file).take(MAX_BYTES + 1);
        let mut archive = Archive::new(plain);
        for (count, entry) in archive.entries().doing(doing)?.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(Failure::refused(format!(
                    "the archive has more than {MAX_ENTRIES} entries"
                )));
            }
            self.place(&mut entry.doing(doing)?)?;
        }
        let mark = self.directory.join(MARK);
        if metadata(&mark).doing(doing)?.is_some() {
            return Err(Failure::refused(format!(
                "the archive has an entry {MARK} itself"
            )));
        }
        self.write_file(&mark, &mut format!("{sha256}\n").as_bytes(), 0o644)?;
        // One pass over the file system is cheaper than one per file.
        File::open(self.directory)
            .and_then(|directory| syncfs(directory).map_err(io::Error::from))
            .doing(|| format!("make {} last", self.directory.display()))
    }

    fn place(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Failure> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let name = entry
            .path()
            .doing(|| "read a name in the archive".to_owned())?
            .into_owned();
        let Some(inside) = self.inside(&name)? else {
            return Ok(());
        };
        let path = self.directory.join(&inside);
        self.make_parents(&inside)?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        match kind {
            EntryType::Directory => {
                self.make_directory(&path)?;
                // Root must be able to go on unpacking into it, and others to use it.
                self.set_mode(&path, mode | 0o700)
            }
            EntryType::Regular | EntryType::Continuous => {
                self.bytes = self.bytes.saturating_add(entry.size());
                if self.bytes > MAX_BYTES {
                    return Err(Failure::refused(format!(
                        "the archive holds more than {MAX_BYTES} bytes"
                    )));
                }
                self.write_file(&path, entry, mode)
            }
            EntryType::Symlink => {
                let link = entry.link_name().ok().flatten();
                self.make_link(&path, &inside, link.as_deref())
            }
            _ => Err(Failure::refused(format!(
                "the archive has an entry {} that is neither a file, a directory nor a symbolic \
                 link",
                name.display()
            ))),
        }
    }

    /// The name below the directory; `None` where stripping leaves nothing of it.
    fn inside(&self, name: &Path) -> Result<Option<PathBuf>, Failure> {
        let mut parts = Vec::new();
        for part in name.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                _ => {
                    return Err(Failure::refused(format!(
                        "the archive has an entry {} that leads out of it",
                        name.display()
                    )));
                }
            }
        }
        let rest: PathBuf = parts.iter().skip(self.strip_components).collect();
        Ok((!rest.as_os_str().is_empty()).then_some(rest))
    }

    /// Every parent must be a directory itself, so that no link of the archive is followed.
    fn make_parents(&self, inside: &Path) -> Result<(), Failure> {
        let mut parent = self.directory.to_owned();
        let parts = inside.parent().into_iter().flat_map(Path::components);
        for part in parts {
            parent.push(part);
            self.make_directory(&parent)?;
        }
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> Result<(), Failure> {
        let doing = || format!("make {}", path.display());
        match metadata(path).doing(doing)? {
            Some(found) if found.is_dir() => return Ok(()),
            Some(_) => {
                return Err(Failure::refused(format!(
                    "the archive uses {} both as a directory and as something else",
                    path.display()
                )));
            }
            None => {}
        }
        DirBuilder::new().mode(0o700).create(path).doing(doing)?;
        self.set_mode(path, DIRECTORY_MODE)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.set_owner(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .doing(|| format!("set the mode of {}", path.display()))
    }

    fn set_owner(&self, path: &Path) -> Result<(), Failure> {
        lchown(path, Some(self.owner.uid), Some(self.owner.gid))
            .doing(|| format!("set the owner of {}", path.display()))
    }

    fn write_file(&self, path: &Path, source: &mut impl Read, mode: u32) -> Result<(), Failure> {
        let doing = || format!("write {}", path.display());
        durable::remove_if_there(path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .doing(doing)?;
        io::copy(source, &mut file).doing(doing)?;
        file.flush().doing(doing)?;
        durable::apply(&file, Attributes { mode, ..self.owner }).doing(doing)
    }

    /// A link may point anywhere inside, and nowhere else.
    fn make_link(&self, path: &Path, inside: &Path, link: Option<&Path>) -> Result<(), Failure> {
        let Some(link) = link else {
            return Err(Failure::refused(format!(
                "the link {} has no target",
                inside.display()
            )));
        };
        let mut depth = inside.components().count() - 1;
        for part in link.components() {
            let inner = match part {
                Component::Normal(_) => Some(depth + 1),
                Component::CurDir => Some(depth),
                Component::ParentDir => depth.checked_sub(1),
                _ => None,
            };
            depth = inner.ok_or_else(|| {
                Failure::refused(format!(
                    "the link {} in the archive leads out of it, to {}",
                    inside.display(),
                    link.display()
                ))
            })?;
        }
        durable::remove_if_there(path)?;
        symlink(link, path).doing(|| format!("make the link {}", path.display()))?;
        self.set_owner(path)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    type Writer = Builder<GzEncoder<File>>;

    /// Unpacks what `fill` writes, and gives the outcome with the directory.
    fn unpack(
        strip: u32,
        fill: impl FnOnce(&mut Writer),
    ) -> (Result<(), String>, tempfile::TempDir) {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("archive");
        let encoder = GzEncoder::new(File::create(&source).unwrap(), Compression::fast());
        let mut builder = Builder::new(encoder);
        fill(&mut builder);
        builder.into_inner().unwrap().finish().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let owner = Attributes { uid, gid, mode: 0 };
        let directory = place.path().join("unpacked");
        let result = Unpacking::begin(&directory, strip, owner)
            .and_then(|unpacking| unpacking.unpack(&source, "abc"))
            .map_err(|failure| failure.to_string());
        (result, place)
    }

    fn add(builder: &mut Writer, name: &str, kind: EntryType, content: &[u8]) {
        let mut header = Header::new_gnu();
        // Written by hand, because the crate refuses the very names that are tried here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
    }

    #[test]
    fn unpacks_files_directories_and_inner_links() {
        let (result, place) = unpack(1, |builder| {
            add(builder, "app-1.0/", EntryType::Directory, b"");
            add(builder, "app-1.0/bin/app", EntryType::Regular, b"program");
            add(
                builder,
                "app-1.0/current",
                EntryType::Symlink,
                b"bin/../bin/app",
            );
        });
        result.unwrap();
        let directory = place.path().join("unpacked");
        assert_eq!(fs::read(directory.join("current")).unwrap(), b"program");
        assert_eq!(fs::read(directory.join(MARK)).unwrap(), b"abc\n");
        let mode = |name: &str| {
            directory
                .join(name)
                .metadata()
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("bin/app") & 0o7777, 0o755, "no set-user-id");
        assert_eq!(mode("bin") & 0o7777, 0o755);
    }

    #[test]
    fn refuses_everything_that_leads_out() {
        let cases: [(&str, EntryType, &[u8]); 7] = [
            ("../evil", EntryType::Regular, b"x"),
            ("/etc/evil", EntryType::Regular, b"x"),
            ("a/../../evil", EntryType::Regular, b"x"),
            ("link", EntryType::Symlink, b"/etc"),
            ("a/link", EntryType::Symlink, b"../../etc"),
            ("hard", EntryType::Link, b"/etc/passwd"),
            ("null", EntryType::Char, b""),
        ];
        for (name, kind, content) in cases {
            let (result, place) = unpack(0, |builder| add(builder, name, kind, content));
            assert!(result.is_err(), "{name}");
            assert!(!place.path().join("evil").exists(), "{name}");
        }
    }

    #[test]
    fn does_not_write_through_a_link() {
        let (result, place) = unpack(0, |builder| {
            add(builder, "there/", EntryType::Directory, b"");
            add(builder, "link", EntryType::Symlink, b"there");
            add(builder, "link/file", EntryType::Regular, b"x");
        });
        assert!(
            result
                .unwrap_err()
                .contains("both as a directory and as something else")
        );
        assert!(!place.path().join("unpacked/there/file").exists());
    }

    #[test]
    fn a_file_replaces_a_link_instead_of_following_it() {
        let (result, place) = unpack(0, |builder| {
            add(builder, "target", EntryType::Regular, b"old");
            add(builder, "link", EntryType::Symlink, b"target");
            add(builder, "link", EntryType::Regular, b"new");
        });
        result.unwrap();
        assert_eq!(
            fs::read(place.path().join("unpacked/target")).unwrap(),
            b"old"
        );
    }

    #[test]
    fn refuses_half_an_archive_and_what_is_none() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("archive");
        fs::write(&source, "no gzip").unwrap();
        let directory = place.path().join("unpacked");
        let owner = Attributes {
            uid: 0,
            gid: 0,
            mode: 0,
        };
        let unpacking = Unpacking {
            directory: &directory,
            strip_components: 0,
            owner,
            bytes: 0,
        };
        assert!(unpacking.unpack(&source, "abc").is_err());
    }
}
