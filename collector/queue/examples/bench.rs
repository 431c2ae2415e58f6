//! Measures the queue against the disk that it is on.
//!
//! `cargo run --profile dist -p collector-queue --example bench -- FOLDER [BACKLOG_MIB]`
//! writes there and removes what it wrote. Senders append records of 120 KB of noise, 64 at a
//! time; the disk itself takes 8 MiB writes with O_DSYNC, in turns with it.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it is a measurement"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use collector_queue::{Disk, Options, Queue, Record, Space};

const SENDERS: usize = 64;
const RECORD_BYTES: usize = 120_000;
const DISK_WRITE_BYTES: usize = 8 << 20;
const DISK_WRITES: usize = 50;
const ROUNDS: u64 = 5;
const O_DSYNC: i32 = 0o10000;

struct Speed {
    megabytes_per_second: f64,
    p50: f64,
    p99: f64,
}

impl Speed {
    fn new(bytes: u64, took: Duration, mut each: Vec<Duration>) -> Self {
        each.sort_unstable();
        let at = |part: f64| each[((each.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
        Self {
            megabytes_per_second: bytes as f64 / took.as_secs_f64() / 1e6,
            p50: at(0.5),
            p99: at(0.99),
        }
    }

    fn print(&self, what: &str) {
        println!(
            "{what:46} {:8.1} MB/s   p50 {:7.2} ms   p99 {:7.2} ms",
            self.megabytes_per_second, self.p50, self.p99
        );
    }
}

fn noise(len: usize) -> Bytes {
    let mut rng = fastrand::Rng::new();
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes.into()
}

/// 8 MiB writes with O_DSYNC to a new file.
fn disk(path: &Path) -> Speed {
    let noise: Vec<_> = (0..4).map(|_| noise(DISK_WRITE_BYTES)).collect();
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(O_DSYNC)
        .open(path);
    let file = file.unwrap();
    let began = Instant::now();
    let mut each = Vec::new();
    for turn in 0..DISK_WRITES {
        let begins = Instant::now();
        let offset = (turn * DISK_WRITE_BYTES) as u64;
        file.write_all_at(&noise[turn % noise.len()], offset)
            .unwrap();
        each.push(begins.elapsed());
    }
    Speed::new(
        (DISK_WRITES * DISK_WRITE_BYTES) as u64,
        began.elapsed(),
        each,
    )
}

fn open(folder: &Path, max_bytes: u64) -> (Arc<Queue>, Duration) {
    let space = Arc::new(Space::new(Arc::new(Disk), folder).unwrap());
    let began = Instant::now();
    let options = Options::new(max_bytes, space);
    let (queue, _) = Queue::open(Arc::new(Disk), &folder.join("queue"), options).unwrap();
    (Arc::new(queue), began.elapsed())
}

/// Appends with many senders until it is enough.
async fn append(queue: &Arc<Queue>, enough: impl Fn(u64) -> bool + Send + Sync + 'static) -> Speed {
    let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let enough = Arc::new(enough);
    let began = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (queue, written, enough) =
                (Arc::clone(queue), Arc::clone(&written), Arc::clone(&enough));
            tokio::spawn(async move {
                let payload = noise(RECORD_BYTES);
                let mut each = Vec::new();
                while !enough(written.load(Ordering::Relaxed)) {
                    let begins = Instant::now();
                    let record = Record {
                        payload: payload.clone(),
                        weight: 512,
                        ..Record::default()
                    };
                    queue.append(record).await.unwrap();
                    each.push(begins.elapsed());
                    written.fetch_add(RECORD_BYTES as u64, Ordering::Relaxed);
                }
                each
            })
        })
        .collect();
    let mut each = Vec::new();
    for sender in senders {
        each.extend(sender.await.unwrap());
    }
    Speed::new(written.load(Ordering::Relaxed), began.elapsed(), each)
}

/// Takes and acknowledges everything, and prints how fast each part of it went.
async fn drain(queue: &Queue, bytes: u64) {
    const PARTS: u64 = 8;
    let part = bytes / PARTS;
    let mut speeds = Vec::new();
    let (mut taken, mut began) = (0, Instant::now());
    let whole = Instant::now();
    while queue.stats().left.records > 0 {
        let Ok(Some(delivery)) =
            tokio::time::timeout(Duration::from_millis(500), queue.next()).await
        else {
            continue;
        };
        taken += delivery.record.payload.len() as u64;
        queue.ack(delivery.receipt);
        if taken >= part {
            speeds.push(format!(
                "{:.0}",
                taken as f64 / began.elapsed().as_secs_f64() / 1e6
            ));
            (taken, began) = (0, Instant::now());
        }
    }
    let whole = bytes as f64 / whole.elapsed().as_secs_f64() / 1e6;
    println!(
        "{:46} {whole:8.1} MB/s   by eighths: {}",
        "drain of the backlog",
        speeds.join(" ")
    );
}

/// Rounds of the disk alone and the queue alone, in turns, since a disk is not the same from one
/// minute to the next. Returns the ratios of throughput and of the 99th percentile.
async fn rounds(folder: &Path, queue: &Arc<Queue>, round_bytes: u64) -> (Vec<f64>, Vec<f64>) {
    let (mut speed, mut tail) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let probe = folder.join(format!("disk-{round}"));
        let disk = disk(&probe);
        let filled = append(queue, move |bytes| bytes >= round_bytes).await;
        disk.print(&format!("{round}: disk: 8 MiB, O_DSYNC, new file"));
        filled.print(&format!("{round}: queue: 64 senders of 120 KB"));
        speed.push(filled.megabytes_per_second / disk.megabytes_per_second);
        tail.push(filled.p99 / disk.p99);
    }
    for round in 0..ROUNDS {
        fs::remove_file(folder.join(format!("disk-{round}"))).unwrap();
    }
    (speed, tail)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = std::path::PathBuf::from(arguments.next().expect("a folder")).join("queue-bench");
    let backlog: u64 = arguments.next().map_or(2048, |mib| mib.parse().unwrap()) << 20;
    fs::create_dir_all(&folder).unwrap();
    let (queue, _) = open(&folder, 64 << 30);
    println!("The backlog grows: every block is new.");
    let (speed, tail) = rounds(&folder, &queue, backlog / ROUNDS).await;
    println!(
        "throughput {:.2} of the disk's, p99 {:.2} times it",
        median(speed),
        median(tail)
    );
    queue.close().await;
    drop(queue);
    let (queue, took) = open(&folder, 64 << 30);
    println!(
        "opened with that backlog in {:.1} ms",
        took.as_secs_f64() * 1e3
    );
    drain(&queue, backlog).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    println!("on disk after it: {} bytes", queue.stats().disk_bytes);

    println!("A consumer keeps up: segments are written again in place.");
    let stop = Arc::new(AtomicBool::new(false));
    let consumer = tokio::spawn({
        let (queue, stop) = (Arc::clone(&queue), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) || queue.stats().left.records > 0 {
                let next = tokio::time::timeout(Duration::from_millis(100), queue.next());
                if let Ok(Some(delivery)) = next.await {
                    queue.ack(delivery.receipt);
                }
            }
        }
    });
    let (speed, tail) = rounds(&folder, &queue, backlog / ROUNDS).await;
    println!(
        "throughput {:.2} of the disk's, p99 {:.2} times it",
        median(speed),
        median(tail)
    );
    stop.store(true, Ordering::Relaxed);
    consumer.await.unwrap();
    queue.close().await;
    std::io::stdout().flush().unwrap();
    fs::remove_dir_all(&folder).unwrap();
}
