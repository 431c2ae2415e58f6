//! What can go wrong in a lab.
//!
//! In: failures of commands, files and specifications. Out: one [`LabError`] that names the thing,
//! the reason and what to do.
//!
//! Invariant: an error never leaves a lab that `down` cannot remove.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::{HostName, LabName};
use super::requirements::MissingRequirements;
use super::spec::SpecError;

/// Why a lab could not be brought up, asked or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// This machine lacks a program, a privilege or a kernel feature.
    #[error(transparent)]
    Requirements(#[from] MissingRequirements),
    /// The description of the lab contradicts itself or the lab that exists.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is no such lab on this machine.
    #[error("there is no lab {0}: bring it up with `provision lab up`")]
    NoSuchLab(LabName),
    /// The lab has no such host.
    #[error("lab {lab} has no host {host}")]
    NoSuchHost {
        /// The lab that was asked.
        lab: LabName,
        /// The host that it does not have.
        host: HostName,
    },
    /// The host is powered off, so the request makes no sense.
    #[error("host {0} is powered off: start it first")]
    HostIsOff(HostName),
    /// A file or directory of the lab could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// A verb, as in "cannot write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program's name.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// The last lines that it wrote, with its errors.
        output: String,
    },
    /// A program answered something that could not be read.
    #[error("`{program}` gave an answer that could not be read: {source}")]
    Answer {
        /// The program's name.
        program: &'static str,
        /// Why it could not be read.
        source: serde_json::Error,
    },
    /// The lab's record on disk could not be read or written.
    #[error("the record {} is not readable: {source}; remove the lab with `provision lab down`", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why it could not be read.
        source: serde_json::Error,
    },
    /// Another process holds the lab or the cache for too long.
    #[error("{} is locked by another process since more than {} s", path.display(), waited.as_secs())]
    Locked {
        /// The directory whose lock was wanted.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A host's processes ended while it booted.
    #[error("host {host} ended while it booted; the end of {}:\n{tail}", console.display())]
    BootFailed {
        /// The host.
        host: HostName,
        /// Its console.
        console: PathBuf,
        /// The last lines on its console.
        tail: String,
    },
    /// A host's SSH server did not answer in time.
    #[error("host {host} did not answer SSH within {} s; the end of {}:\n{tail}", waited.as_secs(), console.display())]
    Silent {
        /// The host.
        host: HostName,
        /// How long it was waited for.
        waited: Duration,
        /// Its console.
        console: PathBuf,
        /// The last lines on its console.
        tail: String,
    },
    /// New processes of a host appear as often as they are ended.
    #[error("host {0} is being started by someone else again and again")]
    Respawning(HostName),
    /// Something of the lab would not go away.
    #[error("{what} is still there after {} s: end what uses it and run `provision lab down` again", waited.as_secs())]
    Stuck {
        /// The process, mount, loop device or namespace.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Names the path and the action in an I/O error.
pub(super) trait AtPath<T> {
    /// Turns the error into [`LabError::File`].
    fn at(self, action: &'static str, path: &Path) -> Result<T, LabError>;
}

impl<T, E: Into<std::io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, LabError> {
        self.map_err(|error| LabError::File {
            action,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
