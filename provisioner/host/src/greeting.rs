//! Who and what the helper runs on.
//!
//! Goes in: `/proc`, `/etc/os-release`, the kernel. Comes out: [`Hello`]. Invariant: a greeting
//! never fails; what cannot be found out is left empty.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use provision_protocol::PROTOCOL_VERSION;
use provision_protocol::message::Hello;

use crate::root::Root;
use crate::space::FileSystem;

/// Says hello.
pub(crate) fn hello(root: &Root) -> Hello {
    let kernel = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let release = fs::read_to_string(root.at("/etc/os-release")).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Hello {
        protocol_version: PROTOCOL_VERSION,
        host_name: kernel.nodename().to_string_lossy().into_owned(),
        architecture: kernel.machine().to_string_lossy().into_owned(),
        os_id: release_value(&release, "ID"),
        os_version: release_value(&release, "VERSION_ID"),
        kernel_release: kernel.release().to_string_lossy().into_owned(),
        boot_id: boot_id(),
        effective_uid: rustix::process::geteuid().as_raw(),
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        memory_bytes: memory.totalram.saturating_mul(u64::from(memory.mem_unit)),
        free_state_bytes: FileSystem::holding(&root.at("/var/lib"))
            .map_or(0, |found| found.free_bytes),
        clock_unix_seconds: clock.as_secs(),
    }
}

/// The kernel's random id of this boot; empty where it cannot be read.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn release_value(text: &str, key: &str) -> String {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value
        .unwrap_or_default()
        .trim()
        .trim_matches(['"', '\''])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n";
        assert_eq!(release_value(text, "ID"), "debian");
        assert_eq!(release_value(text, "VERSION_ID"), "12");
        assert_eq!(release_value(text, "NAME"), "");
    }
}
