//! Why the queue refuses.
//!
//! In: what went wrong. Out: what to say, and whether to come again. Invariant: only what can
//! never be accepted is permanent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a record was not appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue has used the bytes that it may use.
    #[error("the queue is full: it may use {max_bytes} bytes on disk")]
    Full {
        /// What it may use.
        max_bytes: u64,
    },
    /// The file system has too little space left.
    #[error("the file system of the queue has too little free space")]
    NoSpace,
    /// Writing or syncing failed.
    #[error("the queue cannot write: {0}")]
    Io(Arc<io::Error>),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// The record can never fit.
    #[error("a record of {bytes} bytes is larger than the queue, which holds {max_bytes}")]
    TooLarge {
        /// What the record takes.
        bytes: u64,
        /// What a record may take.
        max_bytes: u64,
    },
}

impl AppendError {
    /// Whether the same record may be accepted later.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// Why a queue was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{folder} is in use by another process: a queue has one owner", folder = .0.display())]
    Locked(PathBuf),
    /// The folder cannot be used at all.
    #[error("{folder} cannot hold a queue: {error}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
}
