//! What the disk does by itself: the figure that durable rows are held against.
//!
//! In: a folder. Out: bytes a second of 8 MiB writes with O_DSYNC.
//! Invariant: each write is on the disk before the next begins, and the file is gone afterwards.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::result::Disk;

const WRITE_BYTES: usize = 8 << 20;
const WRITES: usize = 100;

/// Writes 800 MiB of random bytes.
pub fn measure(folder: &Path) -> anyhow::Result<Disk> {
    let path = folder.join("disk");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlags::DSYNC.bits() as i32)
        .open(&path)?;
    let mut bytes = vec![0; WRITE_BYTES];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let mut times: Vec<Duration> = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    Ok(Disk {
        bytes_per_second: (WRITE_BYTES * WRITES) as f64 / total.as_secs_f64(),
        p99_ms: times[WRITES * 99 / 100].as_secs_f64() * 1e3,
    })
}
