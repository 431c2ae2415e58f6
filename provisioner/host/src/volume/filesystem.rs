//! The kinds of file systems that can be made.
//!
//! Goes in: a device that may be formatted. Comes out: a file system with the wanted UUID.
//! Invariant: whether a device may be formatted is decided elsewhere, and never here.

use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;
use crate::process::Program;
use crate::root::Root;

/// How long making a file system may take; discarding the blocks of a large disk is slow.
const DEADLINE: Duration = Duration::from_secs(3600);
/// How much of a tool's words is passed on.
const MAX_WORDS_BYTES: usize = 2000;

/// A file system that can be made.
pub(crate) struct FileSystemKind {
    /// As `blkid` names it.
    pub(crate) name: &'static str,
    /// The program that makes it.
    pub(crate) format: &'static str,
    /// Options that make it without a question; whether it may be made was decided before.
    options: &'static [&'static str],
    /// What stands before the UUID.
    uuid: &'static [&'static str],
    uuid_prefix: &'static str,
    /// Reads the whole file system without changing it.
    check: &'static [&'static str],
    package: &'static str,
}

const KINDS: [FileSystemKind; 2] = [
    FileSystemKind {
        name: "ext4",
        format: "mkfs.ext4",
        options: &["-F", "-q"],
        uuid: &["-U"],
        uuid_prefix: "",
        check: &["fsck.ext4", "-n", "-f"],
        package: "e2fsprogs",
    },
    FileSystemKind {
        name: "xfs",
        format: "mkfs.xfs",
        options: &["-f", "-q"],
        uuid: &["-m"],
        uuid_prefix: "uuid=",
        check: &["xfs_repair", "-n"],
        package: "xfsprogs",
    },
];

/// The kind of a name.
pub(crate) fn kind(name: &str) -> Result<&'static FileSystemKind, Failure> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        Failure::refused(format!(
            "a file system of the type `{name}` cannot be made, only ext4 and xfs"
        ))
    })
}

/// Makes a file system, over whatever is there.
pub(crate) fn make(
    root: &Root,
    kind: &FileSystemKind,
    (node, uuid): (&Path, &str),
    progress: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let outcome = tool(root, kind.format, kind)?
        .arguments(kind.options.iter().chain(kind.uuid).copied())
        .arguments([format!("{}{uuid}", kind.uuid_prefix)])
        .arguments([node])
        .deadline(DEADLINE)
        .watch(progress)
        .run()?;
    if outcome.succeeded() {
        return Ok(());
    }
    Err(Failure::program(
        format!("{} failed on {}: ", kind.format, node.display()),
        outcome.said(MAX_WORDS_BYTES),
    ))
}

/// Reads the whole file system and says whether it is as it must be.
pub(crate) fn is_sound(root: &Root, kind: &FileSystemKind, node: &Path) -> Result<bool, Failure> {
    let Some((name, options)) = kind.check.split_first() else {
        return Ok(false);
    };
    let outcome = tool(root, name, kind)?
        .arguments(options.iter().copied())
        .arguments([node])
        .deadline(DEADLINE)
        .run()?;
    Ok(outcome.succeeded())
}

/// One of the programs for a kind, or the package that has it.
pub(crate) fn tool<'a>(
    root: &Root,
    name: &str,
    kind: &FileSystemKind,
) -> Result<Program<'a>, Failure> {
    Program::named(root, name).map_err(|_| {
        Failure::refused(format!(
            "{name} is not installed on this host: install the package {}",
            kind.package
        ))
    })
}
