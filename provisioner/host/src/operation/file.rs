//! Puts a file in place.
//!
//! Goes in: a stored content and where it belongs. Comes out: the file, replaced as a whole.
//! Invariant: what the change brings about is written down before the file has its name.

use std::fs::Metadata;
use std::path::Path;

use provision_protocol::operation::{Validation, WriteFile};

use crate::accounts::Accounts;
use crate::content;
use crate::debt;
use crate::durable::Draft;
use crate::fact::file::metadata;
use crate::failure::{Doing, Failure};
use crate::generation;
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::{Task, asked_attributes, describe_attributes};
use crate::root::check_absolute;
use crate::space;
use crate::stage::{self, Verdict};

/// Contents up to this size are kept while they stand there, so that what somebody else changes
/// in them can be shown.
const MAX_SHOWN_BYTES: u64 = 256 * 1024;

/// Puts a file in place.
pub(crate) fn write(task: &mut Task<'_>, wanted: &WriteFile) -> Result<(), Failure> {
    let root = task.root;
    let path = root.at(check_absolute(&wanted.path)?);
    let found = metadata(&path).doing(|| format!("look at {}", wanted.path))?;
    if let Some(found) = &found {
        check_replaceable(found, &wanted.path)?;
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
    task.record(Wanted {
        kind: Kind::File,
        name: &wanted.path,
        before: Before {
            existed: found.is_some(),
            sha256: kept,
            attributes: found
                .as_ref()
                .map_or_else(String::new, |found| describe_attributes(&accounts, found)),
            value: String::new(),
        },
        sha256: Some(&wanted.sha256),
        attributes: Some(asked_attributes(&wanted.owner, &wanted.group, wanted.mode)),
        value: None,
        // Until the new content has its name, the old one stands there with its secret.
        secret: wanted.secret || held_secret,
        debts: wanted.debts.iter().map(Into::into).collect(),
        validation: words(wanted.validation.as_ref()),
        adopted: false,
    })?;
    debt::record(root, &wanted.debts)?;
    draft
        .commit(Some(attributes))
        .map_err(|failure| space::explain(failure, &path, size))?;
    if held_secret && !wanted.secret {
        task.manifest.note_no_secret(root, &wanted.path)?;
    }
    if wanted.secret && !held_secret {
        // What stood there until now may hold the same secret, without anybody having said so.
        generation::purge(root, task.manifest, &wanted.path)?;
    }
    if !wanted.secret && size <= MAX_SHOWN_BYTES {
        content::keep_upload(root, &wanted.sha256);
    }
    Ok(())
}

/// Only a regular file is replaced by one.
fn check_replaceable(found: &Metadata, shown: &str) -> Result<(), Failure> {
    if found.is_file() {
        return Ok(());
    }
    let what = if found.is_dir() {
        "a directory"
    } else if found.is_symlink() {
        "a symbolic link"
    } else {
        "no regular file"
    };
    Err(Failure::refused(format!(
        "{shown} is {what}: it is not replaced by a file, move it away first"
    )))
}

/// A validation as the generation keeps it.
fn words(validation: Option<&Validation>) -> Vec<String> {
    let words = validation.map(|one| std::iter::once(&one.path).chain(&one.arguments));
    words.into_iter().flatten().cloned().collect()
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
