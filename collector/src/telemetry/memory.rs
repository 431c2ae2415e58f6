//! What the kernel knows of this process and the memory around it.
//!
//! In: files under `/proc` and `/sys/fs/cgroup`. Out: numbers, or `None` where the kernel has none.
//! Invariant: reading never fails louder than `None`.

use std::fs;

/// Clock ticks per second in `/proc/self/stat`, fixed at 100 by Linux's ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// Physical memory in use by this process, in bytes.
pub fn resident_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmRSS:")
}

/// The memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In physical memory.
    pub resident: Option<u64>,
    /// Of that, what no file is behind.
    pub anonymous: Option<u64>,
    /// What only this process can see and write, in physical memory or not.
    pub private: Option<u64>,
}

impl Usage {
    /// Asks the kernel.
    pub fn read() -> Self {
        let Ok(status) = fs::read_to_string("/proc/self/status") else {
            return Self::default();
        };
        Self {
            resident: kibibytes_in(&status, "VmRSS:"),
            anonymous: kibibytes_in(&status, "RssAnon:"),
            private: kibibytes_in(&status, "VmData:"),
        }
    }
}

/// User and system time of this process, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    Some((stat_field(14)? + stat_field(15)?) as f64 / TICKS_PER_SECOND)
}

/// The memory of every page that the kernel gave when it was first used, in bytes.
pub fn faulted_bytes() -> Option<u64> {
    Some(stat_field(10)? * rustix::param::page_size() as u64)
}

/// A field of `/proc/self/stat`, counted from one as in proc(5).
fn stat_field(number: usize) -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    fields.nth(number.checked_sub(3)?)?.parse().ok()
}

/// The memory that this process may use: the smallest limit of its cgroups, or the machine's.
pub fn available_bytes() -> Option<u64> {
    cgroup_limit().into_iter().chain(machine_bytes()).min()
}

fn machine_bytes() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemTotal:")
}

/// A value that the kernel writes as `Name:   123 kB`, in bytes.
fn kibibytes(file: &str, name: &str) -> Option<u64> {
    kibibytes_in(&fs::read_to_string(file).ok()?, name)
}

fn kibibytes_in(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

fn cgroup_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut limit = None;
    let mut folder = std::path::PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    while folder.starts_with("/sys/fs/cgroup") {
        let read = fs::read_to_string(folder.join("memory.max")).ok();
        let found = read.and_then(|text| text.trim().parse::<u64>().ok());
        limit = limit.into_iter().chain(found).min();
        if !folder.pop() {
            break;
        }
    }
    limit
}
