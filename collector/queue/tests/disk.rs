//! The queue in a process that is killed, and on a small disk that is full.
//!
//! The disk is a loop device, which only root can have: anybody else sees that test pass without
//! having tried anything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a test of a real disk")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use collector_queue::{AppendError, Disk, Options, Queue, Record, Space};

/// Tells a test process that it is the one to be killed, and where its queue is.
const VICTIM: &str = "QUEUE_VICTIM";

const KILLS: u64 = 20;

fn open(folder: &Path, space: &Path) -> Queue {
    let space = Arc::new(Space::new(Arc::new(Disk), space).unwrap());
    let options = Options {
        idle: Duration::from_millis(20),
        ..Options::new(1 << 26, space)
    };
    let (queue, opened) = Queue::open(Arc::new(Disk), folder, options).unwrap();
    assert_eq!((opened.losses, opened.set_aside), (Vec::new(), Vec::new()));
    queue
}

fn record(number: u64, len: usize) -> Record {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(len.max(8), number as u8);
    Record {
        payload: payload.into(),
        weight: 1,
        ..Record::default()
    }
}

fn number(record: &Record) -> u64 {
    u64::from_le_bytes(record.payload[..8].try_into().unwrap())
}

async fn drain(queue: &Queue) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    while queue.stats().left.records > 0 {
        let next = tokio::time::timeout(Duration::from_millis(100), queue.next());
        if let Ok(Some(delivery)) = next.await {
            let number = number(&delivery.record);
            assert_eq!(
                delivery.record,
                record(number, delivery.record.payload.len())
            );
            assert!(seen.insert(number), "record {number} was handed out twice");
            queue.ack(delivery.receipt);
        }
    }
    seen
}

/// Appends from many tasks for ever and says what was answered, when it is told to be a victim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(VICTIM) else {
        return;
    };
    let folder = Path::new(&folder);
    let queue = Arc::new(open(folder, folder));
    let senders: Vec<_> = (0..8u64)
        .map(|sender| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for turn in 0.. {
                    let number = sender << 32 | turn;
                    if queue.append(record(number, 3000)).await.is_ok() {
                        writeln!(std::io::stdout().lock(), "answered {number}").unwrap();
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let mut answered_at_all = 0;
    for kill in 0..KILLS {
        let folder = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "appends_until_it_is_killed", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = victim.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            let numbers = lines.filter_map(|line| line.rsplit_once("answered ")?.1.parse().ok());
            numbers.collect::<BTreeSet<u64>>()
        });
        tokio::time::sleep(Duration::from_millis(30 + kill * 7)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        let answered = reader.join().unwrap();
        answered_at_all += answered.len();
        let queue = open(folder.path(), folder.path());
        let seen = drain(&queue).await;
        let missing: Vec<_> = answered.difference(&seen).collect();
        assert!(missing.is_empty(), "answered and lost: {missing:?}");
        queue.close().await;
    }
    assert!(answered_at_all > 0, "no victim lived long enough to answer");
}

/// A file system of 64 MiB that goes when this is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not have one.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let at = folder.path().join("at");
        fs::create_dir(&at).unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            let command = Command::new(program).args(arguments).output();
            command.is_ok_and(|output| output.status.success())
        };
        let (quiet, plain) = (Path::new("-q"), Path::new("-F"));
        let mounted = run("mkfs.ext4", &[quiet, plain, &image])
            && run("mount", &[Path::new("-o"), Path::new("loop"), &image, &at]);
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg(self.0.path().join("at"))
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_queue_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new() else {
        return;
    };
    let at = disk.0.path().join("at");
    // The free space of another file system, so that the disk itself has to refuse.
    let queue = open(&at.join("queue"), disk.0.path());
    let mut answered = BTreeSet::new();
    let filler = at.join("filler");
    let mut refused = 0;
    for number in 0..400 {
        if number == 50 {
            let mut file = File::create(&filler).unwrap();
            while file.write_all(&[1; 65536]).is_ok() {}
        }
        if number == 200 {
            fs::remove_file(&filler).unwrap();
        }
        match queue.append(record(number, 60_000)).await {
            Ok(()) => drop(answered.insert(number)),
            Err(error) => {
                assert!(
                    matches!(error, AppendError::NoSpace) && error.may_pass(),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused >= 100, "only {refused} were refused");
    assert!(answered.contains(&399), "it goes on");
    queue.close().await;
    drop(queue);
    let queue = open(&at.join("queue"), disk.0.path());
    let seen = drain(&queue).await;
    assert!(answered.is_subset(&seen));
    queue.close().await;
    drop(queue);

    // With its own free space it refuses before the disk is full.
    let queue = open(&at.join("queue"), &at);
    let mut number = 0;
    let refusal = loop {
        match queue.append(record(number, 60_000)).await {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refusal, AppendError::NoSpace | AppendError::Full { .. }),
        "{refusal}"
    );
    let space = Space::new(Arc::new(Disk), &at).unwrap();
    assert!(space.kept_free() > 0);
    let free = rustix::fs::statvfs(&at).unwrap();
    assert!(free.f_bavail * free.f_frsize + (2 << 20) >= space.kept_free());
    queue.close().await;
}
