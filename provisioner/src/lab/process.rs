//! Finds and ends the processes of a lab.
//!
//! In: `/proc`. Out: for every host the supervisor (systemd-nspawn, and what it is started
//! through) and the leader (the first process inside).
//!
//! Invariant: a process is signalled only through a pidfd that was opened before its start time
//! and its evidence were read again, so that a stranger with a reused pid is never hit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::LabError;

/// How long a killed process may take to end.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// How long a supervisor may take to clean up after its leader.
const END_WAIT: Duration = Duration::from_secs(3);

/// How often an ending process is looked at.
const KILL_POLL: Duration = Duration::from_millis(5);

/// A process, told from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    /// The process id on this machine.
    pub(super) pid: i32,
    /// Clock ticks between the machine's boot and the start of the process.
    pub(super) started: u64,
}

impl Process {
    /// The running process with this pid; `None` when there is none or it is a zombie.
    pub(super) fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    fn is_running(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Kills the process at once, if it is still this one, and waits until it has ended.
    pub(super) fn kill(self) -> Result<(), LabError> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.is_running() {
            return Ok(());
        }
        // The only failure left is that the process ended by itself.
        let _ = pidfd_send_signal(&descriptor, Signal::KILL);
        if self.ends_within(KILL_WAIT) {
            return Ok(());
        }
        Err(LabError::Stuck {
            what: format!("process {}", self.pid),
            waited: KILL_WAIT,
        })
    }

    /// Waits for a process that is about to end by itself, and kills it if it does not.
    pub(super) fn end_soon(self) -> Result<(), LabError> {
        if self.ends_within(END_WAIT) {
            Ok(())
        } else {
            self.kill()
        }
    }

    fn ends_within(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            sleep(KILL_POLL);
        }
        true
    }
}

/// The state letter and the start time of a line of `/proc/PID/stat`.
///
/// The second field is the program's name in parentheses, which may itself hold spaces and
/// parentheses; all others are found after the last closing one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The processes of one host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HostProcesses {
    /// systemd-nspawn, or what is about to become it.
    pub(super) supervisor: Option<Process>,
    /// The first process inside the host. It outlives a supervisor that was killed.
    pub(super) leader: Option<Process>,
}

/// Finds the processes of all hosts under a directory, by the host's directory.
///
/// A host's directory holds `root` (what systemd-nspawn is given) and `upper` (which the root
/// mount of every process inside names).
pub(super) fn find_hosts(hosts: &Path) -> BTreeMap<PathBuf, HostProcesses> {
    let mut found: BTreeMap<PathBuf, HostProcesses> = BTreeMap::new();
    for process in all() {
        if let Some(host) = supervised_host(process.pid, hosts) {
            found
                .entry(host)
                .or_default()
                .supervisor
                .get_or_insert(process);
        } else if let Some(host) = led_host(process.pid, hosts) {
            found.entry(host).or_default().leader.get_or_insert(process);
        }
    }
    found
}

/// Finds the processes in a network namespace, other than this one.
pub(super) fn find_in_network(namespace: &Path) -> Vec<Process> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(wanted) = fs::metadata(namespace).map(|file| (file.dev(), file.ino())) else {
        return Vec::new();
    };
    let own = std::process::id();
    all()
        .filter(|process| u32::try_from(process.pid) != Ok(own))
        .filter(|process| {
            fs::metadata(format!("/proc/{}/ns/net", process.pid))
                .is_ok_and(|file| (file.dev(), file.ino()) == wanted)
        })
        .collect()
}

/// How many containers run on this machine, whoever started them.
pub(super) fn count_containers() -> usize {
    all()
        .filter(|process| first_of_namespace(process.pid))
        .count()
}

fn all() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::find)
}

fn supervised_host(pid: i32, hosts: &Path) -> Option<PathBuf> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let root = line
        .split('\0')
        .find_map(|word| word.strip_prefix("--directory="))?;
    let host = Path::new(root).strip_prefix(hosts).ok()?.parent()?;
    Some(hosts.join(host))
}

fn led_host(pid: i32, hosts: &Path) -> Option<PathBuf> {
    if !first_of_namespace(pid) {
        return None;
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"))?;
    let upper = root
        .split([' ', ','])
        .find_map(|option| option.strip_prefix("upperdir="))?;
    let host = Path::new(upper).strip_prefix(hosts).ok()?.parent()?;
    Some(hosts.join(host))
}

/// Whether the process is the first of a process namespace below the machine's own.
fn first_of_namespace(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let Some(line) = status.lines().find(|line| line.starts_with("NSpid:")) else {
        return false;
    };
    let pids: Vec<&str> = line.split_ascii_whitespace().skip(1).collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_start_time_behind_a_name_with_parentheses() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(parse_stat(stat), Some(('S', 98765)));
    }

    #[test]
    fn refuses_a_short_stat_line() {
        assert_eq!(parse_stat("42 (sh) S 1 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn kills_the_process_that_was_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        process.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn leaves_a_process_alone_whose_start_time_differs() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        Process {
            started: process.started + 1,
            ..process
        }
        .kill()
        .unwrap();
        assert!(process.is_running());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
