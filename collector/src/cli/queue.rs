//! `collector queue`: looks at durable queues, puts back what was set aside, removes what is
//! not wanted.
//!
//! In: a storage directory or the folder of one queue. Out: lines of text, or a record's payload
//! as it is. Invariant: `ls` and `inspect` change nothing and work beside a running collector;
//! `replay` and `purge` are refused while one has the queue.

use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use collector_queue::offline::{self, Purge, Stored, Summary};
use collector_queue::{Disk, Files, OpenError, Options, Space};

/// What a replay may use on disk, in bytes: the file system's free space bounds it sooner.
const REPLAY_BYTES: u64 = 1 << 50;

/// Looks at durable queues and repairs them.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the queues below a storage directory.
    Ls {
        /// The directory of `file_storage`, or the folder of one queue.
        folder: PathBuf,
    },
    /// Lists the records of a queue, or writes the payload of one to stdout.
    Inspect {
        /// The folder of the queue.
        queue: PathBuf,
        /// The dead letters rather than the queue.
        #[arg(long)]
        dead_letters: bool,
        /// Records that are acknowledged already, too.
        #[arg(long)]
        all: bool,
        /// How many records are listed at most.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Writes the payload of this record as it is.
        #[arg(long, value_name = "SEGMENT:INDEX")]
        payload: Option<Place>,
    },
    /// Puts dead letters back into their queue, or the sound records of a file set aside.
    Replay {
        /// The folder of the queue.
        queue: PathBuf,
        /// A file that was set aside, in place of the dead letters. It stays where it is.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Removes what a queue holds.
    Purge {
        /// The folder of the queue.
        queue: PathBuf,
        /// Dead letters only.
        #[arg(long, conflicts_with = "set_aside")]
        dead_letters: bool,
        /// Files that were set aside only.
        #[arg(long)]
        set_aside: bool,
        /// It is meant: what is removed is gone.
        #[arg(long)]
        yes: bool,
    },
}

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: u64,
    index: u32,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (segment, index) = text.split_once(':')?;
            Some(Self {
                segment: segment.parse().ok()?,
                index: index.parse().ok()?,
            })
        };
        parse().ok_or("a place is SEGMENT:INDEX, as `inspect` lists it")
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("no queue at or below {}", .0.display())]
    NoQueue(PathBuf),
    #[error("no record {}:{} in {}", place.segment, place.index, queue.display())]
    NoRecord { queue: PathBuf, place: Place },
    #[error("this removes records for good: say --yes if it is meant")]
    NotConfirmed,
    #[error("not everything was put back: {0}")]
    Refused(collector_queue::AppendError),
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::Ls { folder } => list(folder, out),
        Command::Inspect {
            queue,
            dead_letters,
            all,
            limit,
            payload,
        } => {
            let wanted = Wanted {
                dead_letters: *dead_letters,
                all: *all,
                limit: *limit,
            };
            match payload {
                Some(place) => write_payload(queue, wanted, *place, out),
                None => inspect(queue, wanted, out),
            }
        }
        Command::Replay { queue, file } => replay(queue, file.as_deref(), out),
        Command::Purge { yes: false, .. } => Err(Failure::NotConfirmed),
        Command::Purge {
            queue,
            dead_letters,
            set_aside,
            ..
        } => {
            let what = match (dead_letters, set_aside) {
                (true, _) => Purge::DeadLetters,
                (_, true) => Purge::SetAside,
                _ => Purge::All,
            };
            let removed = offline::purge(&Disk, queue, what)?;
            Ok(writeln!(out, "{removed} files removed")?)
        }
    }
}

fn list(folder: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let read = |error| Failure::Read {
        path: folder.to_owned(),
        error,
    };
    let summaries = offline::list(&Disk, folder).map_err(read)?;
    if summaries.is_empty() {
        return Err(Failure::NoQueue(folder.to_owned()));
    }
    for summary in summaries {
        print_summary(&summary, out)?;
    }
    Ok(())
}

fn print_summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", summary.folder.display())?;
    let left = summary.left;
    writeln!(
        out,
        "  waiting       {} records, {} items, in {} segments",
        left.records, left.weight, summary.segments
    )?;
    if let Some(oldest) = summary.oldest {
        writeln!(out, "  oldest        {} ago", Age::since(oldest))?;
    }
    writeln!(out, "  on disk       {} bytes", summary.bytes)?;
    let letters = summary.dead_letters;
    writeln!(
        out,
        "  dead letters  {} records, {} items",
        letters.records, letters.weight
    )?;
    for path in &summary.set_aside {
        writeln!(out, "  set aside     {}", path.display())?;
    }
    match &summary.owner {
        Some(process) => writeln!(out, "  in use        by process {process}"),
        None => writeln!(out, "  in use        no"),
    }
}

/// Which records are listed.
#[derive(Clone, Copy)]
struct Wanted {
    dead_letters: bool,
    all: bool,
    limit: usize,
}

fn inspect(queue: &Path, wanted: Wanted, out: &mut impl Write) -> Result<(), Failure> {
    let mut listed = 0;
    let mut written = Ok(());
    let mut more = false;
    let visit = |stored: Stored| {
        if stored.is_done && !wanted.all {
            return ControlFlow::Continue(());
        }
        if listed == wanted.limit {
            more = true;
            return ControlFlow::Break(());
        }
        listed += 1;
        written = print_record(&stored, out);
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let read = |error| Failure::Read {
        path: queue.to_owned(),
        error,
    };
    offline::inspect(&Disk, queue, wanted.dead_letters, visit).map_err(read)?;
    written?;
    if more {
        writeln!(
            out,
            "… and more: --limit N lists more than {}",
            wanted.limit
        )?;
    }
    Ok(())
}

fn print_record(stored: &Stored, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "{}:{}  {} ago  {} items  {} bytes",
        stored.segment,
        stored.index,
        Age::since(stored.appended_at),
        stored.record.weight,
        stored.record.payload.len(),
    )?;
    if !stored.record.meta.is_empty() {
        write!(out, "  meta {} bytes", stored.record.meta.len())?;
    }
    if stored.is_done {
        write!(out, "  acknowledged")?;
    }
    if let Some(reason) = &stored.reason {
        write!(out, "  {reason:?}")?;
    }
    writeln!(out)
}

fn write_payload(
    queue: &Path,
    wanted: Wanted,
    place: Place,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut payload = None;
    let visit = |stored: Stored| {
        if (stored.segment, stored.index) == (place.segment, place.index) {
            payload = Some(stored.record.payload);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let read = |error| Failure::Read {
        path: queue.to_owned(),
        error,
    };
    offline::inspect(&Disk, queue, wanted.dead_letters, visit).map_err(read)?;
    let payload = payload.ok_or_else(|| Failure::NoRecord {
        queue: queue.to_owned(),
        place,
    })?;
    Ok(out.write_all(&payload)?)
}

fn replay(queue: &Path, file: Option<&Path>, out: &mut impl Write) -> Result<(), Failure> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let space = Space::new(Arc::clone(&files), queue);
    let space = space.map_err(|error| Failure::Read {
        path: queue.to_owned(),
        error,
    })?;
    let options = Options::new(REPLAY_BYTES, Arc::new(space));
    let replayed = match file {
        Some(file) => offline::replay_file(&files, queue, &options, file)?,
        None => offline::replay_dead_letters(&files, queue, &options)?,
    };
    let amount = replayed.amount;
    writeln!(
        out,
        "{} records, {} items put back",
        amount.records, amount.weight
    )?;
    replayed
        .refused
        .map_or(Ok(()), |refusal| Err(Failure::Refused(refusal)))
}

/// How long ago something was, in its two largest units.
struct Age(Duration);

impl Age {
    fn since(time: SystemTime) -> Self {
        Self(SystemTime::now().duration_since(time).unwrap_or_default())
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m {}s", seconds % 60),
            (0, _, _) => write!(f, "{hours}h {}m", minutes % 60),
            _ => write!(f, "{days}d {}h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use collector_queue::{Queue, Record};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn outcome(line: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from([&["queue"], line].concat()).expect("a command line");
        let mut out = Vec::new();
        match run(&line.arguments, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).expect("text")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[tokio::test]
    async fn a_queue_is_listed_inspected_replayed_and_purged() {
        let storage = tempfile::tempdir().expect("a folder");
        let folder = storage.path().join("otlp_traces");
        let space = Arc::new(Space::new(Arc::new(Disk), storage.path()).expect("space"));
        let options = Options::new(1 << 24, space);
        let opened = Queue::open(Arc::new(Disk), &folder, options).expect("a queue");
        let (queue, _) = opened;
        for payload in ["one", "two", "three"] {
            let record = Record {
                payload: payload.into(),
                weight: 7,
                ..Record::default()
            };
            queue.append(record).await.expect("room");
        }
        let first = queue.next().await.expect("a record");
        let aside = queue.set_aside(&first.record, "invalid argument");
        aside.await.expect("room");
        queue.ack(first.receipt);
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (storage, folder) = (text(storage.path()), text(&folder));
        let refused = outcome(&["replay", &folder]).expect_err("it is in use");
        assert!(refused.contains("in use by another process"), "{refused}");
        queue.close().await;

        let listed = outcome(&["ls", &storage]).expect("a list");
        assert!(
            listed.contains("waiting       2 records, 14 items, in 1 segments"),
            "{listed}"
        );
        assert!(
            listed.contains("dead letters  1 records, 7 items"),
            "{listed}"
        );
        assert!(listed.ends_with("in use        no\n"), "{listed}");
        let records = outcome(&["inspect", &folder]).expect("records");
        assert!(
            records.starts_with("1:1  0s ago  7 items  3 bytes\n1:2  "),
            "{records}"
        );
        assert_eq!(
            outcome(&["inspect", &folder, "--payload", "1:2"]).expect("one"),
            "three"
        );
        let letters = outcome(&["inspect", &folder, "--dead-letters"]).expect("letters");
        assert!(letters.ends_with("\"invalid argument\"\n"), "{letters}");
        let replayed = outcome(&["replay", &folder]).expect("it is free");
        assert_eq!(replayed, "1 records, 7 items put back\n");
        assert!(
            outcome(&["purge", &folder])
                .expect_err("not meant")
                .contains("--yes")
        );
        outcome(&["purge", &folder, "--yes"]).expect("it is free");
        let listed = outcome(&["ls", &storage]).expect("a list");
        assert!(listed.contains("waiting       0 records"), "{listed}");
        let nothing = outcome(&["ls", &format!("{folder}/dead-letter")]).expect_err("none");
        assert!(nothing.contains("no queue at or below"), "{nothing}");
    }

    #[test]
    fn an_age_has_two_units() {
        let text = |seconds| Age(Duration::from_secs(seconds)).to_string();
        assert_eq!(
            [text(5), text(65), text(7500), text(100_000)],
            ["5s", "1m 5s", "2h 5m", "1d 3h"]
        );
    }
}
