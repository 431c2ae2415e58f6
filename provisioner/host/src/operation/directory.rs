//! Makes directories, and gives things an owner and a mode.
//!
//! Goes in: a path, an owner, a mode. Comes out: the directory with exactly those. Invariant: a
//! symbolic link is never followed at the end of the path.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use provision_protocol::operation::{MakeDirectory, SetAttributes};

use crate::accounts::Accounts;
use crate::durable::{self, Attributes};
use crate::fact::file::{self, metadata};
use crate::failure::{Doing, Failure};
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::{Task, asked_attributes, describe_attributes};
use crate::root::check_absolute;

/// What missing parents get.
const PARENT_MODE: u32 = 0o755;

/// Makes a directory and its missing parents.
pub(crate) fn make(task: &mut Task<'_>, wanted: &MakeDirectory) -> Result<(), Failure> {
    let shown = check_absolute(&wanted.path)?.trim_end_matches('/');
    let path = task.root.at(shown);
    let accounts = Accounts::read(task.root);
    let attributes = accounts.attributes(&wanted.owner, &wanted.group, wanted.mode)?;
    let found = metadata(&path).doing(|| format!("look at {shown}"))?;
    match found {
        Some(found) if !found.is_dir() => {
            return Err(Failure::refused(format!(
                "{shown} is there, but is no directory: move it away first"
            )));
        }
        Some(found) => task.record(Wanted {
            kind: Kind::Directory,
            name: shown,
            before: there(&accounts, &found),
            attributes: Some(asked_attributes(&wanted.owner, &wanted.group, wanted.mode)),
            ..Wanted::default()
        })?,
        None => {
            let asked = asked_attributes(&wanted.owner, &wanted.group, wanted.mode);
            make_with_parents(task, &path, Some(asked))?;
        }
    }
    give(&path, shown, attributes)?;
    durable::sync_parent(&path)
}

/// Makes a directory that is missing, and its parents for everybody to enter.
pub(crate) fn make_with_parents(
    task: &mut Task<'_>,
    path: &Path,
    attributes: Option<String>,
) -> Result<(), Failure> {
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .map(Path::to_owned)
        .collect();
    for directory in missing.iter().rev() {
        let shown = task.root.shown(directory);
        task.record(Wanted {
            kind: Kind::Directory,
            name: &shown,
            attributes: attributes.clone().filter(|_| directory == path),
            ..Wanted::default()
        })?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .doing(|| format!("make {shown}"))?;
        open(directory, &shown)?
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(PARENT_MODE))
            .doing(|| format!("set the mode of {shown}"))?;
        durable::sync_parent(directory)?;
    }
    Ok(())
}

/// Gives an existing file or directory an owner and a mode.
pub(crate) fn set_attributes(task: &mut Task<'_>, wanted: &SetAttributes) -> Result<(), Failure> {
    let shown = check_absolute(&wanted.path)?.trim_end_matches('/');
    let path = task.root.at(shown);
    let accounts = Accounts::read(task.root);
    let attributes = accounts.attributes(&wanted.owner, &wanted.group, wanted.mode)?;
    let found = metadata(&path)
        .doing(|| format!("look at {shown}"))?
        .ok_or_else(|| Failure::refused(format!("{shown} is not there")))?;
    let kind = match (found.is_dir(), found.is_file()) {
        (true, _) => Kind::Directory,
        (_, true) => Kind::File,
        _ => {
            return Err(Failure::refused(format!(
                "{shown} is neither a file nor a directory"
            )));
        }
    };
    task.record(Wanted {
        kind,
        name: shown,
        before: there(&accounts, &found),
        attributes: Some(asked_attributes(&wanted.owner, &wanted.group, wanted.mode)),
        ..Wanted::default()
    })?;
    give(&path, shown, attributes)
}

fn there(accounts: &Accounts, found: &std::fs::Metadata) -> Before {
    Before {
        existed: true,
        attributes: describe_attributes(accounts, found),
        ..Before::default()
    }
}

/// Gives something an owner and a mode, without following a link.
pub(crate) fn give(path: &Path, shown: &str, attributes: Attributes) -> Result<(), Failure> {
    durable::apply(&open(path, shown)?, attributes)
        .doing(|| format!("set owner and mode of {shown}"))
}

fn open(path: &Path, shown: &str) -> Result<File, Failure> {
    file::open(path).doing(|| format!("open {shown}"))
}
