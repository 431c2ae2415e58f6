//! The space that the queues of a storage directory leave free.
//!
//! In: how much a queue is about to write. Out: whether it may. Invariant: the file system keeps
//! [`Space::kept_free`] for everything else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::Files;

/// What is kept free at most.
const KEPT_FREE_BYTES: u64 = 128 << 20;

/// What is kept free of a small file system: a part of this many.
const KEPT_FREE_PART: u64 = 20;

/// The free space of one file system.
pub struct Space {
    files: Arc<dyn Files>,
    folder: PathBuf,
    kept_free: u64,
}

impl Space {
    /// Keeps 128 MiB, or 5 % of a smaller file system, free where this folder is.
    pub fn new(files: Arc<dyn Files>, folder: &Path) -> io::Result<Self> {
        files.create_folder(folder)?;
        let total = files.capacity(folder)?.total;
        let kept_free = KEPT_FREE_BYTES.min(total / KEPT_FREE_PART);
        Ok(Self {
            files,
            folder: folder.to_owned(),
            kept_free,
        })
    }

    /// The bytes that are kept free.
    pub fn kept_free(&self) -> u64 {
        self.kept_free
    }

    /// Whether so many more bytes may be used.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        // Who cannot be asked does not refuse: the write will tell.
        self.files.capacity(&self.folder).map_or(true, |capacity| {
            capacity.free >= self.kept_free.saturating_add(bytes)
        })
    }
}
