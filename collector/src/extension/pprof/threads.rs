//! What each thread has worked, as the kernel counts it.
//!
//! In: `/proc/self`. Out: seconds on a CPU, by thread and by mode.
//! Invariant: the shares of all threads, with those that have ended, are what the process worked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Time on a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// In the program.
    pub(super) user: Duration,
    /// In the kernel, on its behalf.
    pub(super) system: Duration,
}

impl Work {
    /// What was added since.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// The work of all threads up to now.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// By thread id, with the thread's name.
    threads: BTreeMap<u64, (String, Work)>,
    process: Work,
}

/// The share that one thread has in the work between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) name: String,
    /// `None` for all those together that have ended.
    pub(super) thread: Option<u64>,
    pub(super) work: Work,
}

impl Snapshot {
    /// What the kernel says now.
    pub(super) fn take() -> Self {
        let mut snapshot = Self::default();
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        for task in tasks.flatten() {
            let id = task.file_name().to_string_lossy().parse();
            if let (Ok(id), Some(thread)) = (id, read(&task.path().join("stat"))) {
                snapshot.threads.insert(id, thread);
            }
        }
        // Read last, so that it holds all that the threads' own numbers do.
        let process = read(Path::new("/proc/self/stat"));
        snapshot.process = process.map(|(_, work)| work).unwrap_or_default();
        snapshot
    }

    /// What each thread has worked since.
    pub(super) fn since(&self, earlier: &Self) -> Vec<Share> {
        let mut ended = self.process.since(earlier.process);
        let mut shares = Vec::new();
        for (id, (name, work)) in &self.threads {
            let before = earlier.threads.get(id);
            let before = before.map(|(_, work)| *work).unwrap_or_default();
            let work = work.since(before);
            ended = ended.since(work);
            shares.push(Share {
                name: name.clone(),
                thread: Some(*id),
                work,
            });
        }
        shares.push(Share {
            name: "(threads that have ended)".to_owned(),
            thread: None,
            work: ended,
        });
        shares.retain(|share| share.work != Work::default());
        shares
    }
}

/// Name and work of a thread or a process.
fn read(path: &Path) -> Option<(String, Work)> {
    parse(&std::fs::read_to_string(path).ok()?)
}

/// Reads `proc_pid_stat(5)`: the name stands in parentheses and may contain some itself.
fn parse(text: &str) -> Option<(String, Work)> {
    let (start, rest) = text.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let mut fields = rest.split_whitespace().skip(11);
    let per_second = rustix::param::clock_ticks_per_second();
    let mut time = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
    };
    let work = Work {
        user: time()?,
        system: time()?,
    };
    Some((name.to_owned(), work))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(user: u64, system: u64) -> Work {
        Work {
            user: Duration::from_millis(user),
            system: Duration::from_millis(system),
        }
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        let text = "7 (a) (b) S 1 2 3 4 5 6 7 8 9 10 300 20 0 0";
        let ticks = rustix::param::clock_ticks_per_second();
        let (name, read) = parse(text).unwrap();
        assert_eq!(name, "a) (b");
        assert_eq!(read.user, Duration::from_nanos(300 * 1_000_000_000 / ticks));
        assert_eq!(parse("7 (a) S"), None);
    }

    #[test]
    fn what_no_thread_accounts_for_was_done_by_threads_that_have_ended() {
        let thread = |name: &str, work| (name.to_owned(), work);
        let earlier = Snapshot {
            threads: [(1, thread("a", work(10, 0))), (2, thread("b", work(90, 0)))].into(),
            process: work(100, 0),
        };
        let later = Snapshot {
            threads: [(1, thread("a", work(30, 5))), (3, thread("c", work(0, 0)))].into(),
            process: work(160, 5),
        };
        let shares = later.since(&earlier);
        let shares: Vec<_> = shares
            .iter()
            .map(|share| (share.thread, share.work))
            .collect();
        assert_eq!(shares, [(Some(1), work(20, 5)), (None, work(40, 0))]);
    }
}
