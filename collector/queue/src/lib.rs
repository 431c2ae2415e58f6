//! A durable queue of records: fsynced before it answers, opened whatever its files hold.
//!
//! In: records of opaque bytes. Out: the same records, oldest first, until they are acknowledged.
//! Invariant: a record whose append was answered with `Ok` is handed out again after any crash,
//! until it was acknowledged; what damage took is said exactly, in records and weight.
//!
//! - [`Queue`]: a thread that commits groups, a thread that reads ahead
//! - `writer`: groups to segments, one fdatasync each
//! - `retire`: what is done with, and the files that it takes along
//! - `reader`, `scan`: segments to records, resynchronised behind damage
//! - `notes`: acknowledgements beside a segment
//! - `salvage`: what a failing disk still gives
//! - `recover`: any folder to a queue
//! - `ledger`: what is known of the segments, without I/O
//! - [`offline`]: what the command line does with a queue's files
//! - `format`: the bytes
//! - [`Files`]: the file system, so that tests can take its promises away
//!
//! # Files
//!
//! A queue is a folder: `lock` (flock, with the owner's process id), `queue` (its salt), for each
//! segment `NNNNNNNNNNNNNNNNNNNN.log` and, beside it, `.ack` with what is done with, and
//! `dead-letter/`, a queue of the same format. `.spare` is a segment that is to be written again;
//! `.damaged` one whose sound records are through; `.foreign` and `.version-N` were set aside at a
//! start and are never removed.

mod error;
mod files;
mod format;
mod ledger;
mod notes;
pub mod offline;
mod queue;
mod reader;
mod recover;
mod retire;
mod salvage;
mod scan;
mod space;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

pub use error::{AppendError, OpenError};
pub use files::{Access, Capacity, Disk, Entry, File, Files, Lock};
pub use queue::Queue;
pub use space::Space;

/// The bytes of records that are read ahead of who consumes them.
pub const READY_BYTES: usize = 6 << 20;

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// New records are refused until there is room.
    #[default]
    Refuse,
    /// The oldest segment is dropped, and counted.
    DropOldest,
}

/// How a queue is kept.
#[derive(Clone)]
pub struct Options {
    /// What the queue may use on disk, in bytes.
    pub max_bytes: u64,
    /// What happens when it has used them.
    pub overflow: Overflow,
    /// The free space that all queues of a file system share.
    pub space: Arc<Space>,
    /// What may wait in memory to be written, in bytes; above it, an append waits.
    pub pending_bytes: usize,
    /// What dead letters may use on disk, in bytes; above it, the oldest are dropped.
    pub dead_letter_bytes: u64,
    /// What damaged segments that are through may keep on disk, in bytes.
    pub damaged_bytes: u64,
    /// How long a queue is idle before it removes the files that it does not need.
    pub idle: Duration,
    /// Who is told what nobody asked for.
    pub observer: Option<Observer>,
}

/// Is told what happens to a queue by itself, on one of its threads.
pub type Observer = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What happens to a queue by itself.
#[derive(Debug)]
pub enum Notice {
    /// Damage was met while reading.
    Lost(Loss),
    /// Reading failed; it is tried again.
    Unreadable {
        /// What could not be read.
        segment: u64,
        /// What the operating system says.
        error: std::io::Error,
    },
}

impl Options {
    /// The defaults, for a queue of so many bytes.
    pub fn new(max_bytes: u64, space: Arc<Space>) -> Self {
        Self {
            max_bytes,
            overflow: Overflow::Refuse,
            space,
            pending_bytes: 32 << 20,
            dead_letter_bytes: (max_bytes / 8).max(1 << 20),
            damaged_bytes: (max_bytes / 8).max(1 << 20),
            idle: Duration::from_secs(1),
            observer: None,
        }
    }
}

/// What is queued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What the consumer needs besides the payload.
    pub meta: Bytes,
    /// The bytes to be delivered.
    pub payload: Bytes,
    /// How much it counts, in whatever its owner counts.
    pub weight: u32,
}

impl Record {
    pub(crate) fn body_bytes(&self) -> u64 {
        self.meta.len() as u64 + self.payload.len() as u64
    }

    /// What it holds in memory, itself included.
    pub(crate) fn held_bytes(&self) -> usize {
        self.meta.len() + self.payload.len() + size_of::<Delivery>()
    }
}

/// The right to acknowledge a record.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a record that is not acknowledged is handed out again after the next start"]
pub struct Receipt {
    pub(crate) sequence: u64,
    pub(crate) index: u32,
    pub(crate) weight: u64,
    /// Whether nobody had it, since it is damaged.
    pub(crate) is_lost: bool,
}

/// A record that is handed out.
#[derive(Debug)]
pub struct Delivery {
    /// The record.
    pub record: Record,
    /// What acknowledges it.
    pub receipt: Receipt,
    /// When it was appended.
    pub appended_at: SystemTime,
}

/// Records and what they weigh together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many records.
    pub records: u64,
    /// Their weight.
    pub weight: u64,
}

impl Amount {
    pub(crate) fn of(weight: u32) -> Self {
        Self {
            records: 1,
            weight: weight.into(),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.weight = self.weight.saturating_add(other.weight);
    }

    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            weight: self.weight.saturating_sub(other.weight),
        }
    }

    /// The one with more records.
    pub(crate) fn max(self, other: Self) -> Self {
        if other.records > self.records {
            other
        } else {
            self
        }
    }
}

/// Records that were acknowledged to their sender and that damage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The segment that is damaged.
    pub segment: u64,
    /// What of it is lost.
    pub amount: Amount,
}

/// A file that is no part of the queue any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// What a queue held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What is to be handed out.
    pub left: Amount,
    /// In how many segments.
    pub segments: usize,
    /// What damage took, as far as it was met; more may be met while reading.
    pub losses: Vec<Loss>,
    /// Files that were set aside now.
    pub set_aside: Vec<SetAside>,
    /// Files that were set aside before and are still there.
    pub set_aside_before: Vec<PathBuf>,
    /// What is in the dead letters.
    pub dead_letters: Amount,
}

/// What a queue holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Appended and not yet acknowledged.
    pub left: Amount,
    /// What its files use, dead letters apart.
    pub disk_bytes: u64,
    /// What they may use.
    pub capacity_bytes: u64,
    /// How long the oldest record has been waiting for its acknowledgement.
    pub oldest: Option<Duration>,
    /// What is in the dead letters.
    pub dead_letters: Amount,
    /// What damage took, since this start.
    pub lost: Amount,
    /// What was dropped to make room, since this start.
    pub dropped: Amount,
    /// Dead letters that were dropped to make room, since this start.
    pub dead_letters_dropped: Amount,
    /// How often data was made durable, since this start.
    pub fsyncs: u64,
}
