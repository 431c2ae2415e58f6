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

/// User and system time of this process, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
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
    let text = fs::read_to_string(file).ok()?;
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
