//! What was put on this host, by whom, and what stood there before.
//!
//! Goes in: an entry before each change. Comes out: `manifest.json`, versioned, replaced
//! atomically. Invariant: what is known about the time before the first run is written once and
//! never overwritten.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use provision_protocol::operation::{ManifestEntry, ManifestKind, Operation};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::Root;

const FILE: &str = "manifest.json";
const VERSION: u32 = 1;
/// The most entries that a host may have.
const MAX_ENTRIES: usize = 100_000;
/// A write that was interrupted leaves the content before, so two hashes count as ours.
const WRITTEN_KEPT: usize = 2;

/// Everything that was put on this host.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    entries: Vec<Entry>,
}

/// One thing that was put on this host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Entry {
    environment: String,
    play: String,
    resource: String,
    kind: Kind,
    name: String,
    /// See [`ManifestEntry::existed`].
    pub(crate) existed: bool,
    /// See [`ManifestEntry::previous_sha256`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) previous_sha256: String,
    /// See [`ManifestEntry::previous_attributes`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) previous_attributes: String,
    /// See [`ManifestEntry::previous_value`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) previous_value: String,
    /// The content that stands there may be one that this tool wrote with a secret in it: it is
    /// neither kept nor shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret: bool,
    /// Hashes of the contents that this tool wrote last, the latest first; a file that bears
    /// another hash was changed by somebody else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) written_sha256: Vec<String>,
}

/// What an entry is. The names are those in the file, so they do not change.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Nothing that this version knows.
    #[default]
    Unspecified,
    /// A file, by path.
    File,
    /// A directory, by path.
    Directory,
    /// A group, by name.
    Group,
    /// An account, by name.
    User,
    /// A package, by name.
    Package,
    /// A unit, by full name.
    Unit,
    /// A kernel parameter, by key.
    Sysctl,
    /// A volume, by UUID.
    Volume,
    /// An unpacked archive, by path.
    Archive,
}

/// What stood there before, found out only when it is needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// It was there.
    pub(crate) existed: bool,
    /// The hash of its content, where that is kept.
    pub(crate) sha256: String,
    /// Its owner, group and mode.
    pub(crate) attributes: String,
    /// Its value.
    pub(crate) value: String,
}

/// A content that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    /// Its hash.
    pub(crate) sha256: &'a str,
    /// It holds a secret.
    pub(crate) secret: bool,
}

impl Manifest {
    /// The manifest of this host; empty where nothing was ever put on it.
    pub(crate) fn read(root: &Root) -> Result<Self, Failure> {
        let path = root.state(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: VERSION,
                    entries: Vec::new(),
                });
            }
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        let version: Version = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&path.display().to_string(), &error))?;
        if version.version != VERSION {
            return Err(Failure::refused(format!(
                "{} has version {}, and this program knows version {VERSION}: \
                 use the provision that wrote it, or a newer one",
                path.display(),
                version.version
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path.display().to_string(), &error))
    }

    /// The entries of an environment, in the order in which they were made.
    pub(crate) fn of(&self, environment: &str) -> Vec<ManifestEntry> {
        let own = self
            .entries
            .iter()
            .filter(|entry| entry.environment == environment);
        own.map(Entry::to_message).collect()
    }

    /// An entry.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.kind == kind && entry.name == name)
    }

    /// Makes sure that an entry exists and belongs to the operation, and writes the manifest when
    /// that changed it. `before` is asked only for an entry that is new.
    pub(crate) fn record(
        &mut self,
        root: &Root,
        operation: &Operation,
        (kind, name): (Kind, &str),
        before: impl FnOnce() -> Result<Before, Failure>,
    ) -> Result<(), Failure> {
        self.record_written(root, operation, (kind, name, None), before)
    }

    /// As [`Self::record`], with the content that is about to be written.
    pub(crate) fn record_written(
        &mut self,
        root: &Root,
        operation: &Operation,
        (kind, name, written): (Kind, &str, Option<Written<'_>>),
        before: impl FnOnce() -> Result<Before, Failure>,
    ) -> Result<(), Failure> {
        let at = self
            .entries
            .iter()
            .position(|entry| entry.kind == kind && entry.name == name);
        let mut entry = if let Some(at) = at {
            self.entries[at].clone()
        } else {
            let before = before()?;
            Entry {
                kind,
                name: name.to_owned(),
                existed: before.existed,
                previous_sha256: before.sha256,
                previous_attributes: before.attributes,
                previous_value: before.value,
                ..Entry::default()
            }
        };
        entry.environment.clone_from(&operation.environment);
        entry.play.clone_from(&operation.play);
        entry.resource.clone_from(&operation.resource);
        if let Some(Written { sha256, secret }) = written {
            entry.secret = secret;
            entry.written_sha256.retain(|known| known != sha256);
            entry.written_sha256.insert(0, sha256.to_owned());
            entry.written_sha256.truncate(WRITTEN_KEPT);
        }
        match at {
            Some(at) if self.entries[at] == entry => return Ok(()),
            Some(at) => self.entries[at] = entry,
            None if self.entries.len() >= MAX_ENTRIES => {
                return Err(Failure::refused(format!(
                    "the manifest of this host already has {MAX_ENTRIES} entries"
                )));
            }
            None => self.entries.push(entry),
        }
        self.write(root)
    }

    /// A content without a secret has taken the place of one that held one.
    pub(crate) fn note_no_secret(&mut self, root: &Root, path: &str) -> Result<(), Failure> {
        let mut entries = self.entries.iter_mut();
        let entry = entries.find(|entry| entry.kind == Kind::File && entry.name == path);
        if let Some(entry) = entry {
            entry.secret = false;
        }
        self.write(root)
    }

    /// Takes an entry out, and writes the manifest.
    pub(crate) fn forget(&mut self, root: &Root, kind: Kind, name: &str) -> Result<(), Failure> {
        let count = self.entries.len();
        self.entries
            .retain(|entry| entry.kind != kind || entry.name != name);
        if self.entries.len() == count {
            Ok(())
        } else {
            self.write(root)
        }
    }

    /// The hashes of kept contents that an entry still needs.
    pub(crate) fn kept_hashes(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .map(|entry| entry.previous_sha256.as_str())
            .filter(|sha| !sha.is_empty())
    }

    /// The files whose content may hold a secret. Paths, so that no other spelling of one counts as
    /// another file.
    pub(crate) fn secret_files(&self) -> BTreeSet<PathBuf> {
        let secret = self.entries.iter().filter(|entry| entry.secret);
        secret.map(|entry| PathBuf::from(&entry.name)).collect()
    }

    /// How many entries there are, of all environments.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    fn write(&self, root: &Root) -> Result<(), Failure> {
        let path = root.state(FILE);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .doing(|| format!("describe {}", path.display()))?;
        text.push(b'\n');
        durable::write(&path, &text)
    }
}

impl Entry {
    fn to_message(&self) -> ManifestEntry {
        ManifestEntry {
            environment: self.environment.clone(),
            play: self.play.clone(),
            resource: self.resource.clone(),
            kind: ManifestKind::from(self.kind) as i32,
            name: self.name.clone(),
            existed: self.existed,
            previous_sha256: self.previous_sha256.clone(),
            previous_attributes: self.previous_attributes.clone(),
            previous_value: self.previous_value.clone(),
        }
    }
}

/// Read first, so that a newer manifest is told from a damaged one.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn damaged(path: &str, error: &serde_json::Error) -> Failure {
    Failure::refused(format!("{path} cannot be understood: {error}"))
}

/// Both enumerations name the same kinds.
macro_rules! same_kinds {
    ($($kind:ident),*) => {
        impl From<Kind> for ManifestKind {
            fn from(kind: Kind) -> Self {
                match kind { $(Kind::$kind => Self::$kind),* }
            }
        }

        impl From<ManifestKind> for Kind {
            fn from(kind: ManifestKind) -> Self {
                match kind { $(ManifestKind::$kind => Self::$kind),* }
            }
        }
    };
}

same_kinds!(
    Unspecified,
    File,
    Directory,
    Group,
    User,
    Package,
    Unit,
    Sysctl,
    Volume,
    Archive
);

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(play: &str) -> Operation {
        Operation {
            environment: "production".into(),
            play: play.into(),
            resource: "file /x".into(),
            ..Operation::default()
        }
    }

    const fn written(sha256: &str) -> Written<'_> {
        Written {
            sha256,
            secret: false,
        }
    }

    fn place() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        durable::make_private_directory(&root.state("")).unwrap();
        (directory, root)
    }

    #[test]
    fn what_stood_there_first_is_never_overwritten() {
        let (_directory, root) = place();
        let mut manifest = Manifest::read(&root).unwrap();
        let before = || {
            Ok(Before {
                existed: true,
                sha256: "aa".into(),
                ..Before::default()
            })
        };
        manifest
            .record_written(
                &root,
                &operation("one"),
                (Kind::File, "/x", Some(written("bb"))),
                before,
            )
            .unwrap();
        let never = || panic!("asked again");
        let mut manifest = Manifest::read(&root).unwrap();
        for sha in ["cc", "dd"] {
            let what = (Kind::File, "/x", Some(written(sha)));
            manifest
                .record_written(&root, &operation("two"), what, never)
                .unwrap();
        }
        let manifest = Manifest::read(&root).unwrap();
        let entry = manifest.get(Kind::File, "/x").unwrap();
        assert!(entry.existed);
        assert_eq!(entry.previous_sha256, "aa");
        assert_eq!(entry.written_sha256, ["dd", "cc"]);
        assert_eq!(manifest.of("production")[0].play, "two");
        assert_eq!(manifest.of("staging"), []);
    }

    #[test]
    fn tells_a_newer_manifest_from_a_damaged_one() {
        let (_directory, root) = place();
        fs::write(root.state(FILE), r#"{"version":2,"things":[]}"#).unwrap();
        assert!(
            Manifest::read(&root)
                .unwrap_err()
                .to_string()
                .contains("has version 2")
        );
        fs::write(root.state(FILE), "{").unwrap();
        assert!(
            Manifest::read(&root)
                .unwrap_err()
                .to_string()
                .contains("cannot be understood")
        );
    }

    #[test]
    fn forgetting_leaves_the_others() {
        let (_directory, root) = place();
        let mut manifest = Manifest::read(&root).unwrap();
        for name in ["/a", "/b"] {
            let before = || Ok(Before::default());
            manifest
                .record(&root, &operation("p"), (Kind::File, name), before)
                .unwrap();
        }
        manifest.forget(&root, Kind::File, "/a").unwrap();
        let manifest = Manifest::read(&root).unwrap();
        assert_eq!(manifest.of("production").len(), 1);
        assert_eq!(manifest.get(Kind::File, "/a"), None);
    }
}
