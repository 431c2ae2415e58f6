//! Power cuts: nothing is answered before it is on the disk.
//!
//! Two looks at it. A trace of system calls shows that every answer comes after the fdatasync that
//! covers its request. And a file system on an image that is copied at a random moment, without
//! what the system has not written to it yet, is what a power cut leaves behind.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Test;
use crate::crashes::{all_arrive, counting, duplicates, forwarding};
use crate::load::{Load, request};
use crate::peer::Peer;
use crate::process::{DEADLINE, Kind, Process, folder, port, until};
use crate::sender::Sender;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "power::no_answer_is_written_before_the_fdatasync_that_covers_its_request",
        needs: &[Peer::Strace],
        run: || crate::run(answers_follow_fdatasync()),
    },
    Test {
        name: "power::what_was_acknowledged_survives_a_power_cut",
        needs: &[Peer::Root],
        run: || crate::run(power_cuts()),
    },
];

/// Connections of the traced load.
const CONNECTIONS: u64 = 16;

/// Requests of each connection.
const REQUESTS: u64 = 20;

/// A system call; `begin` and `end` are lines of the trace.
#[derive(Debug)]
struct Call {
    name: String,
    begin: usize,
    end: usize,
    text: String,
}

impl Call {
    /// The descriptor and what it stands for, such as `9</storage/1.seg>`.
    fn descriptor(&self) -> &str {
        let from = self.text.find('(').map_or(0, |at| at + 1);
        let rest = &self.text[from..];
        &rest[..rest.find('>').map_or(0, |at| at + 1)]
    }

    fn succeeded(&self) -> bool {
        let result = self.text.rsplit(" = ").next().unwrap_or_default();
        !result.starts_with('-')
    }
}

/// Reads what `strace -f` writes; calls of threads overlap.
fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<(String, String), (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (line_number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((name, tail)) = resumed.split_once(" resumed>") else {
                continue;
            };
            let Some((begin, head)) = open.remove(&(thread.to_owned(), name.to_owned())) else {
                continue;
            };
            let (name, text) = (name.to_owned(), head + tail);
            calls.push(Call {
                name,
                begin,
                end: line_number,
                text,
            });
            continue;
        }
        let Some((name, _)) = rest.split_once('(') else {
            continue;
        };
        let name = name.to_owned();
        match rest.strip_suffix(" <unfinished ...>") {
            Some(head) => {
                open.insert((thread.to_owned(), name), (line_number, head.to_owned()));
            }
            None => calls.push(Call {
                name,
                begin: line_number,
                end: line_number,
                text: rest.to_owned(),
            }),
        }
    }
    calls.sort_by_key(|call| call.begin);
    calls
}

async fn answers_follow_fdatasync() {
    let (folder, grpc, http) = (folder(), port(), port());
    let storage = folder.path().join("storage");
    // Nobody listens there, so that all that is written is written for the senders.
    let config = forwarding(folder.path(), (grpc, http), port(), Some(&storage));
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-v", "-y", "-s", "4096", "-o"])
        .arg(&trace)
        .args(["-e", "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,read,recvfrom,fsync,fdatasync"])
        .arg(Kind::Ours.program())
        .arg("--config")
        .arg(&config);
    let mut collector = Process::listening(&mut command, &[http]).await;
    let mut senders = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        senders.spawn(async move {
            let sender = Sender::http(http);
            for number in 0..REQUESTS {
                let number = 1_000_000 + connection * REQUESTS + number;
                let headers = [("content-type", "application/x-protobuf")];
                let body = request(number..number + 1).into();
                let answer = sender.post("/v1/traces", &headers, body).await;
                assert_eq!(answer.map(|answer| answer.status), Some(200));
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    collector.signal("TERM");
    collector.wait(DEADLINE).await;
    // With -D, strace ends after what it traces.
    let whole = || std::fs::read_to_string(&trace).is_ok_and(|text| text.ends_with("+++\n"));
    until("the end of the trace", DEADLINE, async || whole()).await;
    let trace = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
    let calls = calls(&trace);
    for number in 1_000_000..1_000_000 + CONNECTIONS * REQUESTS {
        covered(&calls, &format!("load-{number}"));
    }
    let syncs = calls.iter().filter(|call| call.name == "fdatasync").count();
    println!(
        "{} requests over {CONNECTIONS} connections: every answer after its fdatasync, {syncs} of them",
        CONNECTIONS * REQUESTS
    );
}

/// Makes sure that the answer to a request was written after a fdatasync of its record.
fn covered(calls: &[Call], marker: &str) {
    let marked = |call: &&Call| call.text.contains(marker);
    let came = calls
        .iter()
        .filter(|call| ["read", "recvfrom"].contains(&call.name.as_str()))
        .find(marked)
        .unwrap_or_else(|| panic!("{marker} was never read"));
    let stored = calls
        .iter()
        .filter(|call| ["pwrite64", "pwritev", "pwritev2"].contains(&call.name.as_str()))
        .find(marked)
        .unwrap_or_else(|| panic!("{marker} was never stored"));
    let answered = calls
        .iter()
        .filter(|call| ["write", "writev", "sendto", "sendmsg"].contains(&call.name.as_str()))
        .filter(|call| call.begin > came.begin && call.descriptor() == came.descriptor())
        .find(|call| call.text.contains("HTTP/1.1 200"))
        .unwrap_or_else(|| panic!("{marker} was never answered"));
    let synced = calls
        .iter()
        .filter(|call| call.name == "fdatasync" && call.succeeded())
        .any(|call| {
            call.descriptor() == stored.descriptor()
                && call.begin > stored.end
                && call.end < answered.begin
        });
    assert!(
        synced,
        "{marker} was answered before it was synchronised:\n{stored:?}\n{answered:?}"
    );
}

/// A file system on an image, unmounted when dropped.
struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts; the file system writes to its device only what it is asked to, for five minutes.
    fn new(image: &Path, path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        run(Command::new("mount")
            .args(["-o", "loop,commit=300"])
            .arg(image)
            .arg(path));
        Self {
            path: path.to_owned(),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

async fn power_cuts() {
    let cuts: u64 = if crate::long() { 50 } else { 4 };
    let (mut kept, mut doubled) = (0, 0);
    for cut in 0..cuts {
        let (acknowledged, twice) = power_cut(cut).await;
        kept += acknowledged;
        doubled += twice;
    }
    println!("{cuts} power cuts: {kept} acknowledged spans, none lost, {doubled} arrived twice");
    assert!(kept > 0, "nothing was acknowledged");
}

/// One power cut; how many spans were acknowledged before, and how many arrived twice.
async fn power_cut(cut: u64) -> (usize, usize) {
    let (mut sink, counts) = counting().await;
    let (folder, grpc, http) = (folder(), port(), port());
    let image = folder.path().join("image");
    let copy = folder.path().join("copy");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(192 << 20)
        .unwrap();
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(&image));
    let before = Mounted::new(&image, &folder.path().join("before"));
    run(Command::new("sync").arg("-f").arg(&before.path));
    let storage = before.path.join("storage");
    let config = forwarding(folder.path(), (grpc, http), sink.port, Some(&storage));
    let mut collector = Process::start(Kind::Ours, &config, &[grpc]).await;
    let load = Load::start(grpc, 0);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(200..800))).await;
    // Every other time the backlog is being drained at the moment of the cut.
    if cut.is_multiple_of(2) {
        sink.go_away().await;
    }
    tokio::time::sleep(Duration::from_millis(fastrand::u64(300..1_500))).await;
    let acknowledged = load.acknowledged();
    let unsynced = before.path.join("unsynced");
    std::fs::write(&unsynced, [b'x'; 8192]).unwrap();
    // A process that stands still asks for nothing more to be written.
    collector.signal("STOP");
    tokio::time::sleep(Duration::from_millis(100)).await;
    run(Command::new("cp").arg(&image).arg(&copy));
    load.abandon().await;
    collector.kill();
    drop(before);
    let after = Mounted::new(&copy, &folder.path().join("after"));
    let lost = std::fs::read(after.path.join("unsynced")).unwrap_or_default();
    assert!(
        !lost.starts_with(b"x"),
        "the copy holds what nobody synchronised: it proves nothing"
    );
    sink.go_away().await;
    sink.come_back().await;
    let storage = after.path.join("storage");
    let config = forwarding(folder.path(), (grpc, http), sink.port, Some(&storage));
    let mut collector = Process::start(Kind::Ours, &config, &[grpc]).await;
    all_arrive(&acknowledged, &counts).await;
    collector.signal("TERM");
    until("the collector to end", DEADLINE, async || collector.ended()).await;
    drop(after);
    (acknowledged.len(), duplicates(&counts).0)
}
