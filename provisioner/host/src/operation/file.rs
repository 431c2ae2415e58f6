//! Puts a file in place.
//!
//! Goes in: a stored content and where it belongs. Comes out: the file, replaced as a whole.
//! Invariant: what the change brings about is written down before the file has its name.

use std::path::Path;

use provision_protocol::operation::WriteFile;

use crate::accounts::Accounts;
use crate::content;
use crate::debt;
use crate::durable::Draft;
use crate::fact::file::metadata;
use crate::failure::{Doing, Failure};
use crate::manifest::{Before, Kind, Written};
use crate::operation::{Task, describe_attributes};
use crate::root::check_absolute;
use crate::space;
use crate::stage::{self, Verdict};

/// Puts a file in place.
pub(crate) fn write(task: &mut Task<'_>, wanted: &WriteFile) -> Result<(), Failure> {
    let root = task.root;
    let path = root.at(check_absolute(&wanted.path)?);
    let found = metadata(&path).doing(|| format!("look at {}", wanted.path))?;
    if let Some(found) = &found
        && !found.is_file()
    {
        let what = if found.is_dir() {
            "a directory"
        } else if found.is_symlink() {
            "a symbolic link"
        } else {
            "no regular file"
        };
        return Err(Failure::refused(format!(
            "{} is {what}: it is not replaced by a file, move it away first",
            wanted.path
        )));
    }
    check_parent(&path, &wanted.path)?;
    let accounts = Accounts::read(root);
    let attributes = accounts.attributes(&wanted.owner, &wanted.group, wanted.mode)?;
    let source = content::require(root, &wanted.sha256)?;
    let size = source.metadata().map_or(0, |found| found.len());
    let mut draft = Draft::beside(&path)?;
    content::copy_to(root, &wanted.sha256, &mut draft.file)
        .map_err(|failure| space::explain(failure, &path, size))?;
    validate(task, wanted, draft.path())?;
    // What stood there before the first write is kept to be put back, and later contents for a
    // rollback, but never one that this tool wrote a secret into.
    let known = task.manifest.get(Kind::File, &wanted.path);
    let held_secret = known.is_some_and(|entry| entry.secret);
    let holds_secret = held_secret || (known.is_some() && wanted.secret);
    let kept = match &found {
        Some(_) if !holds_secret => content::keep(root, &path)?,
        _ => String::new(),
    };
    let before = || {
        Ok(Before {
            existed: found.is_some(),
            sha256: kept,
            attributes: found
                .as_ref()
                .map_or_else(String::new, |found| describe_attributes(&accounts, found)),
            value: String::new(),
        })
    };
    // Until the new content has its name, the old one stands there with its secret.
    let written = Written {
        sha256: &wanted.sha256,
        secret: wanted.secret || held_secret,
    };
    let entry = (Kind::File, wanted.path.as_str(), Some(written));
    task.manifest
        .record_written(root, task.operation, entry, before)?;
    debt::record(root, &wanted.debts)?;
    draft
        .commit(Some(attributes))
        .map_err(|failure| space::explain(failure, &path, size))?;
    if held_secret && !wanted.secret {
        task.manifest.note_no_secret(root, &wanted.path)?;
    }
    Ok(())
}

/// A file is not put into a directory that nobody has made.
pub(crate) fn check_parent(path: &Path, shown: &str) -> Result<(), Failure> {
    let parent = shown
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent);
    if path.parent().is_some_and(Path::is_dir) {
        Ok(())
    } else {
        Err(Failure::refused(format!(
            "there is no directory {parent} for {shown}: have it made before"
        )))
    }
}

fn validate(task: &Task<'_>, wanted: &WriteFile, draft: &Path) -> Result<(), Failure> {
    let Some(validation) = &wanted.validation else {
        return Ok(());
    };
    if task.accepted.has(wanted, validation) {
        return Ok(());
    }
    match stage::validate(task.root, validation, Some(draft))? {
        Verdict::Accepted => Ok(()),
        Verdict::Missing(name) => Err(Failure::refused(format!(
            "the validator {name} is not installed, so {} was left as it is",
            wanted.path
        ))),
        Verdict::Rejected(words) => Err(Failure::program(
            format!(
                "{} was refused by its validator and left as it is:\n",
                wanted.path
            ),
            words,
        )),
    }
}
