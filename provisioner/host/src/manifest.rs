//! What was put on this host, by whom, and what stood there before.
//!
//! Goes in: an entry before each change. Comes out: `manifest.json`, versioned, replaced
//! atomically, with the generation that is being made. Invariant: what is known about the time
//! before the first run is written once and never overwritten; an entry and the change that made
//! it are written at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use provision_protocol::generation::Origin;
use provision_protocol::operation::{ManifestEntry, ManifestKind, Operation};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::generation::{Change, Closing, Debt, Ending, Generation, Standing};
use crate::root::Root;

const FILE: &str = "manifest.json";
const VERSION: u32 = 2;
/// The version before generations; it is read, and written as [`VERSION`].
const FIRST_VERSION: u32 = 1;
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
    /// The number of the newest generation, closed or not.
    #[serde(default)]
    generation: u64,
    /// What was changed since the last one was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Generation>,
    /// The run at work, and who asked for it.
    #[serde(skip)]
    run: (String, Origin),
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
    /// See [`ManifestEntry::applied`].
    pub(crate) applied: Standing,
    /// What is owed to units when it changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) debts: Vec<Debt>,
    /// See [`ManifestEntry::adopted`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) adopted: bool,
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
    /// A command, by its program; only ever in a generation.
    Command,
}

/// What stood there before.
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

/// A thing that is about to be put on the host.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// What kind of thing.
    pub(crate) kind: Kind,
    /// Its path or name.
    pub(crate) name: &'a str,
    /// How it stands now.
    pub(crate) before: Before,
    /// The hash of the content that it gets.
    pub(crate) sha256: Option<&'a str>,
    /// The owner, group and mode that it gets.
    pub(crate) attributes: Option<String>,
    /// The value that it gets.
    pub(crate) value: Option<String>,
    /// It is a file, and the content that it gets or the one that it has may hold a secret.
    pub(crate) secret: bool,
    /// What is owed to units because of it.
    pub(crate) debts: Vec<Debt>,
    /// Path and arguments of what must accept it.
    pub(crate) validation: Vec<String>,
    /// It is not put there, but taken over as it stands.
    pub(crate) adopted: bool,
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
                    generation: 0,
                    open: None,
                    run: Default::default(),
                });
            }
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        let version: Version = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&path.display().to_string(), &error))?;
        if !(FIRST_VERSION..=VERSION).contains(&version.version) {
            return Err(Failure::refused(format!(
                "{} has version {}, and this program knows version {VERSION}: \
                 use the provision that wrote it, or a newer one",
                path.display(),
                version.version
            )));
        }
        let mut manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&path.display().to_string(), &error))?;
        if manifest.version == FIRST_VERSION {
            manifest.version = VERSION;
            for entry in &mut manifest.entries {
                entry.applied.sha256 = entry.written_sha256.first().cloned().unwrap_or_default();
            }
        }
        Ok(manifest)
    }

    /// The manifest of this host, with the run on whose behalf it will be written.
    pub(crate) fn read_for(root: &Root, run: &str, origin: Origin) -> Result<Self, Failure> {
        let mut manifest = Self::read(root)?;
        manifest.run = (run.to_owned(), origin);
        Ok(manifest)
    }

    /// The entries of an environment, or of all where it has no name, in the order in which they
    /// were made.
    pub(crate) fn of(&self, environment: &str) -> Vec<ManifestEntry> {
        let own = self
            .entries
            .iter()
            .filter(|entry| environment.is_empty() || entry.environment == environment);
        own.map(Entry::to_message).collect()
    }

    /// An entry.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.kind == kind && entry.name == name)
    }

    /// Makes sure that an entry exists and belongs to the operation, and that the generation
    /// knows what stood there before, and writes the manifest when that changed it.
    pub(crate) fn record(
        &mut self,
        root: &Root,
        operation: &Operation,
        wanted: Wanted<'_>,
    ) -> Result<(), Failure> {
        let at = self.position(wanted.kind, wanted.name);
        let known = at.map(|at| self.entries[at].clone());
        let managed = known.is_some();
        let mut entry = known.unwrap_or_else(|| Entry {
            kind: wanted.kind,
            name: wanted.name.to_owned(),
            existed: wanted.before.existed,
            previous_sha256: wanted.before.sha256.clone(),
            previous_attributes: wanted.before.attributes.clone(),
            previous_value: wanted.before.value.clone(),
            adopted: wanted.adopted,
            ..Entry::default()
        });
        // Whoever set its attributes first did not look at its content.
        let first_write = entry.written_sha256.is_empty() && wanted.sha256.is_some();
        if entry.existed && entry.kind == Kind::File && first_write {
            entry.previous_sha256.clone_from(&wanted.before.sha256);
        }
        entry.environment.clone_from(&operation.environment);
        entry.play.clone_from(&operation.play);
        entry.resource.clone_from(&operation.resource);
        entry.take(&wanted);
        let change = Change {
            play: operation.play.clone(),
            resource: operation.resource.clone(),
            kind: wanted.kind,
            name: wanted.name.to_owned(),
            managed,
            before: wanted.before.standing(),
            after: None,
            debts: wanted.debts,
            validation: wanted.validation,
            secret: wanted.secret,
            wrote: wanted.sha256.is_some(),
        };
        let noted = self.note(root, &operation.environment, change)?;
        match at {
            Some(at) if self.entries[at] == entry && !noted => return Ok(()),
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

    /// Writes down that a command is about to be run.
    pub(crate) fn record_command(
        &mut self,
        root: &Root,
        operation: &Operation,
        (resource, program): (&str, &str),
    ) -> Result<(), Failure> {
        let change = Change {
            play: operation.play.clone(),
            resource: resource.to_owned(),
            kind: Kind::Command,
            name: program.to_owned(),
            ..Change::default()
        };
        self.note(root, &operation.environment, change)?;
        self.write(root)
    }

    /// Writes down that an entry is about to be taken back.
    pub(crate) fn record_removal(
        &mut self,
        root: &Root,
        (entry, before): (&Entry, Before),
    ) -> Result<(), Failure> {
        let change = Change {
            play: entry.play.clone(),
            resource: entry.resource.clone(),
            kind: entry.kind,
            name: entry.name.clone(),
            managed: true,
            before: before.standing(),
            after: None,
            debts: entry.debts.clone(),
            validation: Vec::new(),
            secret: entry.secret,
            wrote: !entry.written_sha256.is_empty(),
        };
        let environment = entry.environment.clone();
        self.note(root, &environment, change)?;
        self.write(root)
    }

    /// Adds a change to the generation of this run, which may have to begin; `false` where it was
    /// noted before.
    fn note(&mut self, root: &Root, environment: &str, change: Change) -> Result<bool, Failure> {
        if let Some(other) = self.open.take_if(|open| open.environment != environment) {
            self.close_generation(root, other, Closing::interrupted())?;
        }
        let open = self.open.get_or_insert_with(|| {
            self.generation += 1;
            Generation::begin(self.generation, environment)
        });
        let before = open.clone();
        open.continue_as(&self.run.0, &self.run.1);
        open.note(change);
        Ok(before != *open)
    }

    /// Closes what was changed for an environment; 0 where nothing was.
    pub(crate) fn commit(
        &mut self,
        root: &Root,
        environment: &str,
        closing: Closing,
    ) -> Result<u64, Failure> {
        let Some(open) = self.open.take_if(|open| open.environment == environment) else {
            return Ok(0);
        };
        let number = self.close_generation(root, open, closing)?;
        self.write(root)?;
        Ok(number)
    }

    fn close_generation(
        &self,
        root: &Root,
        open: Generation,
        closing: Closing,
    ) -> Result<u64, Failure> {
        self.described(open).close(root, closing)
    }

    /// A generation with what stands there now.
    fn described(&self, mut open: Generation) -> Generation {
        for change in &mut open.changes {
            let entry = self.get(change.kind, &change.name);
            change.after = entry.map(|entry| entry.applied.clone());
        }
        open
    }

    /// The generation of an environment that is not closed.
    pub(crate) fn open_generation(&self, environment: &str) -> Option<Generation> {
        let open = self.open.as_ref()?;
        (open.environment == environment).then(|| self.described(open.clone()))
    }

    /// How a file was before this run, and the unfinished one that it goes on with, changed it.
    pub(crate) fn changed_file(&self, path: &str) -> Option<&Change> {
        let is = |change: &&Change| change.kind == Kind::File && change.name == path;
        self.open.as_ref()?.changes.iter().find(is)
    }

    fn position(&self, kind: Kind, name: &str) -> Option<usize> {
        let is = |entry: &Entry| entry.kind == kind && entry.name == name;
        self.entries.iter().position(is)
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

    /// The hashes of kept contents that an entry, or the generation that is open, still needs.
    pub(crate) fn kept_hashes(&self) -> impl Iterator<Item = &str> {
        let originals = self.entries.iter().flat_map(|entry| {
            [
                entry.previous_sha256.as_str(),
                entry.applied.sha256.as_str(),
            ]
        });
        let open = self.open.iter().flat_map(|open| &open.changes);
        let before = open.filter_map(|change| Some(change.before.as_ref()?.sha256.as_str()));
        originals.chain(before).filter(|sha| !sha.is_empty())
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

impl Before {
    fn standing(&self) -> Option<Standing> {
        let standing = Standing {
            sha256: self.sha256.clone(),
            attributes: self.attributes.clone(),
            value: self.value.clone(),
        };
        (self.existed || standing != Standing::default()).then_some(standing)
    }
}

impl Closing {
    /// As the next run closes what nobody can go on with.
    const fn interrupted() -> Self {
        Self {
            ending: Ending::Unfinished,
            plays: Vec::new(),
            note: String::new(),
        }
    }
}

impl Entry {
    /// Becomes what is wanted.
    fn take(&mut self, wanted: &Wanted<'_>) {
        if let Some(sha256) = wanted.sha256 {
            self.applied.sha256 = sha256.to_owned();
            if self.kind == Kind::File {
                self.secret = wanted.secret;
                self.written_sha256.retain(|known| known != sha256);
                self.written_sha256.insert(0, sha256.to_owned());
                self.written_sha256.truncate(WRITTEN_KEPT);
            }
            self.debts.clone_from(&wanted.debts);
        }
        if let Some(attributes) = &wanted.attributes {
            self.applied.attributes.clone_from(attributes);
        }
        if let Some(value) = &wanted.value {
            self.applied.value.clone_from(value);
        }
    }

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
            applied: Some(self.applied.to_message()),
            secret: self.secret,
            debts: self.debts.iter().map(Debt::to_message).collect(),
            adopted: self.adopted,
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
    Archive,
    Command
);

#[cfg(test)]
mod tests;
