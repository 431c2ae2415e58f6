//! What runs have changed, one file per run that changed something.
//!
//! Goes in: an [`Open`] generation, which lives in the manifest. Comes out: `generations/`, a file
//! per closed one. Invariant: the number of files and their bytes are bounded, the oldest go
//! first, and a number is never used twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use provision_protocol::generation as sent;
use provision_protocol::operation::{self as asked, ManifestKind};
use serde::{Deserialize, Serialize};

use crate::content;
use crate::durable;
use crate::failure::{Doing, Failure};
use crate::manifest::{Kind, Manifest};
use crate::root::Root;

const DIRECTORY: &str = "generations";
const VERSION: u32 = 1;
/// The most closed generations that are kept.
const MAX_GENERATIONS: usize = 200;
/// The most bytes that they may take together.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The longest note, in bytes.
const MAX_NOTE_BYTES: usize = 2000;

/// How something stands on the host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Standing {
    /// See [`sent::Standing::sha256`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) sha256: String,
    /// See [`sent::Standing::attributes`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) attributes: String,
    /// See [`sent::Standing::value`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) value: String,
}

/// What a unit is owed because of a change.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debt {
    unit: String,
    restart: bool,
}

/// One change.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    pub(crate) play: String,
    pub(crate) resource: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// See [`sent::Alteration::managed`].
    pub(crate) managed: bool,
    /// See [`sent::Alteration::before`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Standing>,
    /// See [`sent::Alteration::after`]; while the generation is open, the manifest knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Standing>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) debts: Vec<Debt>,
    /// Path and arguments of what had to accept the content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) validation: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secret: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) wrote: bool,
}

/// A generation, as long as it is open and afterwards.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Generation {
    version: u32,
    pub(crate) number: u64,
    unix_seconds: u64,
    run: String,
    who: String,
    commit: String,
    pub(crate) environment: String,
    ending: Ending,
    plays: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    pub(crate) changes: Vec<Change>,
}

/// See [`sent::Ending`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    #[default]
    Unfinished,
    Applied,
    RolledBack,
}

/// How a generation is closed.
pub(crate) struct Closing {
    /// How it ended.
    pub(crate) ending: Ending,
    /// The plays that were gone through.
    pub(crate) plays: Vec<String>,
    /// What else is to be said of it.
    pub(crate) note: String,
}

impl Generation {
    /// One that begins with this number.
    pub(crate) fn begin(number: u64, environment: &str) -> Self {
        Self {
            version: VERSION,
            number,
            environment: environment.to_owned(),
            ..Self::default()
        }
    }

    /// A run goes to work on it.
    pub(crate) fn continue_as(&mut self, run: &str, origin: &sent::Origin) {
        if self.run == run {
            return;
        }
        run.clone_into(&mut self.run);
        self.who.clone_from(&origin.who);
        self.commit.clone_from(&origin.commit);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.unix_seconds = now.unwrap_or_default().as_secs();
    }

    /// Writes a change down. What stood there before the first one is kept.
    pub(crate) fn note(&mut self, change: Change) {
        let same = |known: &&mut Change| (known.kind, &known.name) == (change.kind, &change.name);
        let Some(known) = self.changes.iter_mut().find(same) else {
            self.changes.push(change);
            return;
        };
        // An attribute that was set earlier says nothing of the content, which is known only now.
        if !known.wrote
            && change.wrote
            && let (Some(first), Some(now)) = (&mut known.before, change.before)
        {
            first.sha256 = now.sha256;
        }
        known.wrote |= change.wrote;
        known.secret |= change.secret;
        for debt in change.debts {
            if !known.debts.contains(&debt) {
                known.debts.push(debt);
            }
        }
        if !change.validation.is_empty() {
            known.validation = change.validation;
        }
    }

    /// Puts it on disk for good. Doing so again does no harm.
    pub(crate) fn close(mut self, root: &Root, closing: Closing) -> Result<u64, Failure> {
        self.ending = closing.ending;
        self.plays = closing.plays;
        self.note = closing.note;
        if self.note.len() > MAX_NOTE_BYTES {
            let cut = (0..=MAX_NOTE_BYTES).rev();
            let end = cut.into_iter().find(|&at| self.note.is_char_boundary(at));
            self.note.truncate(end.unwrap_or(0));
        }
        let directory = root.state(DIRECTORY);
        durable::make_private_directory(&directory)?;
        let path = directory.join(format!("{:010}.json", self.number));
        let text = serde_json::to_vec(&self)
            .map_err(std::io::Error::from)
            .doing(|| format!("describe {}", path.display()))?;
        durable::write(&path, &text)?;
        bound(root)?;
        Ok(self.number)
    }

    /// As the controller gets it.
    pub(crate) fn to_message(&self, root: &Root) -> sent::Generation {
        sent::Generation {
            number: self.number,
            unix_seconds: self.unix_seconds,
            run: self.run.clone(),
            origin: Some(sent::Origin {
                who: self.who.clone(),
                commit: self.commit.clone(),
            }),
            environment: self.environment.clone(),
            ending: sent::Ending::from(self.ending) as i32,
            plays: self.plays.clone(),
            note: self.note.clone(),
            changes: self
                .changes
                .iter()
                .map(|one| one.to_message(root))
                .collect(),
        }
    }
}

impl Change {
    fn to_message(&self, root: &Root) -> sent::Alteration {
        let kept = self.before.as_ref().is_some_and(|before| {
            !before.sha256.is_empty() && content::find(root, &before.sha256).is_some()
        });
        let validation = self.validation.split_first();
        sent::Alteration {
            play: self.play.clone(),
            resource: self.resource.clone(),
            kind: ManifestKind::from(self.kind) as i32,
            name: self.name.clone(),
            managed: self.managed,
            before: self.before.as_ref().map(Standing::to_message),
            after: self.after.as_ref().map(Standing::to_message),
            debts: self.debts.iter().map(Debt::to_message).collect(),
            validation: validation.map(|(path, arguments)| asked::Validation {
                path: path.clone(),
                arguments: arguments.to_vec(),
            }),
            secret: self.secret,
            kept,
            wrote: self.wrote,
        }
    }
}

impl Standing {
    /// As the controller gets it.
    pub(crate) fn to_message(&self) -> sent::Standing {
        sent::Standing {
            sha256: self.sha256.clone(),
            attributes: self.attributes.clone(),
            value: self.value.clone(),
        }
    }
}

impl Debt {
    /// The full name of the unit.
    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    /// As the controller gets it.
    pub(crate) fn to_message(&self) -> asked::Debt {
        let owed = if self.restart {
            asked::Owed::Restart
        } else {
            asked::Owed::Reload
        };
        asked::Debt {
            unit: self.unit.clone(),
            owed: owed as i32,
        }
    }
}

impl From<&asked::Debt> for Debt {
    fn from(debt: &asked::Debt) -> Self {
        Self {
            unit: debt.unit.clone(),
            restart: debt.owed() == asked::Owed::Restart,
        }
    }
}

impl From<Ending> for sent::Ending {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Unfinished => Self::Unfinished,
            Ending::Applied => Self::Applied,
            Ending::RolledBack => Self::RolledBack,
        }
    }
}

impl From<sent::Ending> for Ending {
    fn from(ending: sent::Ending) -> Self {
        match ending {
            sent::Ending::Unfinished => Self::Unfinished,
            sent::Ending::Applied => Self::Applied,
            sent::Ending::RolledBack => Self::RolledBack,
        }
    }
}

/// The newest closed generations of an environment, the oldest of them first.
pub(crate) fn closed(
    root: &Root,
    environment: &str,
    limit: usize,
) -> Result<Vec<Generation>, Failure> {
    let mut found = Vec::new();
    for path in files(root).into_iter().rev() {
        if found.len() >= limit {
            break;
        }
        let text = fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let generation: Generation = serde_json::from_slice(&text).map_err(|error| {
            Failure::refused(format!("{} cannot be understood: {error}", path.display()))
        })?;
        if generation.environment == environment {
            found.push(generation);
        }
    }
    found.reverse();
    Ok(found)
}

/// Removes the contents that once stood at a path from what is kept, but for those that are needed
/// to put back what stood there before the first run.
pub(crate) fn purge(root: &Root, manifest: &Manifest, path: &str) -> Result<(), Failure> {
    let needed: BTreeSet<&str> = manifest.kept_hashes().collect();
    for file in files(root) {
        let text = fs::read(&file).doing(|| format!("read {}", file.display()))?;
        let Ok(generation) = serde_json::from_slice::<Generation>(&text) else {
            continue;
        };
        let of_path = |change: &&Change| change.kind == Kind::File && change.name == path;
        for change in generation.changes.iter().filter(of_path) {
            for standing in change.before.iter().chain(&change.after) {
                if !standing.sha256.is_empty() && !needed.contains(standing.sha256.as_str()) {
                    content::forget_kept(root, &standing.sha256)?;
                }
            }
        }
    }
    Ok(())
}

/// The files of closed generations, the oldest first.
fn files(root: &Root) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.state(DIRECTORY));
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    files
}

/// Removes the oldest generations above the limits.
fn bound(root: &Root) -> Result<(), Failure> {
    let mut files = files(root);
    let size = |path: &PathBuf| path.metadata().map_or(0, |found| found.len());
    let mut total: u64 = files.iter().map(size).sum();
    while files.len() > MAX_GENERATIONS || (total > MAX_BYTES && files.len() > 1) {
        let oldest = files.remove(0);
        total = total.saturating_sub(size(&oldest));
        durable::remove_if_there(&oldest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        durable::make_private_directory(&root.state("")).unwrap();
        (directory, root)
    }

    fn change(name: &str, sha256: &str) -> Change {
        Change {
            kind: Kind::File,
            name: name.to_owned(),
            before: Some(Standing {
                sha256: sha256.to_owned(),
                ..Standing::default()
            }),
            wrote: true,
            ..Change::default()
        }
    }

    fn closing() -> Closing {
        Closing {
            ending: Ending::Applied,
            plays: vec!["p".to_owned()],
            note: String::new(),
        }
    }

    #[test]
    fn what_stood_there_before_the_first_change_counts() {
        let mut generation = Generation::begin(1, "e");
        generation.note(change("/a", "first"));
        generation.note(change("/a", "second"));
        generation.note(change("/b", "other"));
        let before: Vec<_> = generation
            .changes
            .iter()
            .map(|one| one.before.as_ref().unwrap().sha256.as_str())
            .collect();
        assert_eq!(before, ["first", "other"]);
    }

    #[test]
    fn the_content_behind_an_attribute_is_learnt_when_it_is_written() {
        let mut generation = Generation::begin(1, "e");
        let mut attributes = change("/a", "");
        attributes.wrote = false;
        generation.note(attributes);
        generation.note(change("/a", "content"));
        generation.note(change("/a", "later"));
        let before = generation.changes[0].before.as_ref().unwrap();
        assert_eq!(before.sha256, "content");
    }

    #[test]
    fn the_newest_of_an_environment_are_found_and_the_oldest_go() {
        let (_directory, root) = place();
        for number in 1..=(MAX_GENERATIONS as u64 + 3) {
            let environment = if number % 2 == 0 { "even" } else { "odd" };
            let generation = Generation::begin(number, environment);
            generation.close(&root, closing()).unwrap();
        }
        assert_eq!(files(&root).len(), MAX_GENERATIONS);
        let numbers = |environment: &str, limit| -> Vec<u64> {
            let found = closed(&root, environment, limit).unwrap();
            found.iter().map(|one| one.number).collect()
        };
        assert_eq!(numbers("odd", 2), [201, 203]);
        assert_eq!(numbers("even", 1000).first(), Some(&4));
        assert!(numbers("none", 10).is_empty());
    }
}
