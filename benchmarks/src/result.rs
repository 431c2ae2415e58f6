//! What was measured, as it is kept in a file between runs.
//!
//! In: figures of the runner. Out: JSON, and the figures that tables compare.
//! Invariant: a row that is run again replaces what it said before, and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::subject::Name;

/// Everything that is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The machine and the programs, as lines of text.
    pub machine: Vec<String>,
    /// What the disk of the durable rows does by itself.
    pub disk: Option<Disk>,
    /// By row, then by subject.
    pub rows: BTreeMap<String, BTreeMap<Name, Cell>>,
    /// KiB for each idle connection, by subject.
    pub idle: BTreeMap<Name, Idle>,
}

/// The disk's own figure: 8 MiB writes, each on the disk before the next begins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// The slowest of a hundred 8 MiB writes, in milliseconds.
    pub p99_ms: f64,
}

/// Memory of connections over which nothing is sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// Open connections.
    pub connections: usize,
    /// The resident set before they were opened, in KiB.
    pub before_kib: u64,
    /// The resident set with all of them open, in KiB.
    pub after_kib: u64,
}

impl Idle {
    /// KiB for each connection.
    pub fn kib_per_connection(&self) -> f64 {
        (self.after_kib as f64 - self.before_kib as f64) / self.connections as f64
    }
}

/// What a subject did in a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Its figures.
    Ran(Box<Ran>),
    /// Why there are none.
    CannotRun(String),
}

/// The figures of one subject in one row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ran {
    /// As fast as it answers.
    pub saturation: Measurement,
    /// At 50 % of what it does itself.
    pub own_half: Option<Measurement>,
    /// At 50 % of what the slowest subject does.
    pub half: Option<Measurement>,
    /// At 90 % of what the slowest subject does.
    pub ninety: Option<Measurement>,
}

/// One measurement: one process from its start to its end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Measurement {
    /// Items that were offered each second; nothing at saturation.
    pub offered_items_per_second: Option<f64>,
    /// Items that came out each second.
    pub items_per_second: f64,
    /// Bytes of requests that came in and were accepted each second, as they were on the wire.
    pub accepted_bytes_per_second: f64,
    /// Processor time for each million items.
    pub cpu_seconds_per_million: f64,
    /// The largest resident set, in KiB.
    pub peak_kib: u64,
    /// The send at the middle.
    pub p50_ms: f64,
    /// The send that one in a hundred exceeds.
    pub p99_ms: f64,
    /// Items that the senders were told were accepted.
    pub accepted_items: u64,
    /// Items that came out.
    pub delivered_items: u64,
    /// Bytes of requests that came in.
    pub accepted_bytes: u64,
    /// Requests that came in.
    pub accepted_requests: u64,
    /// Requests that came out.
    pub sent_requests: u64,
    /// Bytes of requests that came out.
    pub sent_bytes: u64,
    /// Requests that were refused with a status.
    pub refused: u64,
    /// Requests without an answer.
    pub failed: u64,
}

impl Results {
    /// Reads what earlier runs left, if any.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not of this version", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes all of it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The figures of a subject in a row, if it ran.
    pub fn ran(&self, row: &str, name: Name) -> Option<&Ran> {
        match self.rows.get(row)?.get(&name)? {
            Cell::Ran(ran) => Some(ran),
            Cell::CannotRun(_) => None,
        }
    }
}
