//! Whether a device is blank.
//!
//! Goes in: a device. Comes out: the file system on it, and every reason why it is not blank.
//! Invariant: a device is blank only when every single test says so; a test that cannot be made
//! says no.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::OFlags;

use crate::failure::Failure;
use crate::process::{Outcome, Program};
use crate::root::Root;
use crate::volume::mounts::{self, Mount};
use crate::volume::{Device, kernel_name};

/// How much is read at the beginning, in the middle and at the end.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// How much of a tool's words is passed on.
const MAX_WORDS_BYTES: usize = 500;

/// What is on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Why it is not blank, each in plain words; empty where it is.
    pub(crate) reasons: Vec<String>,
    /// The file system, as `blkid` names it.
    pub(crate) filesystem: String,
    /// The UUID of that file system.
    pub(crate) uuid: String,
    /// It is used by more than its content shows: mounted, held, partitioned, swapped to.
    pub(crate) in_use: bool,
}

/// Looks at everything that tells whether a device is blank.
pub(crate) fn examine(root: &Root, device: &Device, mounts: &[Mount]) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    if device.size_bytes == 0 {
        findings.reasons.push("its size is 0".to_owned());
        return Ok(findings);
    }
    let file = match File::open(&device.node) {
        Ok(file) => file,
        Err(error) => {
            findings.reasons.push(format!("it cannot be read: {error}"));
            return Ok(findings);
        }
    };
    ask_blkid(root, device, &mut findings)?;
    let uses = uses(root, device, mounts);
    findings.in_use = !uses.is_empty();
    findings.reasons.extend(uses);
    if findings.reasons.is_empty() {
        ask_wipefs(root, device, &mut findings)?;
    }
    if findings.reasons.is_empty() {
        findings
            .reasons
            .extend(find_bytes(&file, device.size_bytes));
    }
    Ok(findings)
}

fn ask_blkid(root: &Root, device: &Device, findings: &mut Findings) -> Result<(), Failure> {
    let outcome = Program::named(root, "blkid")?
        .arguments(["-p", "-o", "export"])
        .arguments([&device.node])
        .run()?;
    match outcome.code {
        Some(0) if !outcome.timed_out => {
            let found = describe_blkid(&outcome.stdout);
            findings.filesystem = found.filesystem;
            findings.uuid = found.uuid;
            findings.reasons.extend(found.reasons);
        }
        // Nothing was recognised, or it could not be read; the latter is tested elsewhere.
        Some(2) if !outcome.timed_out && outcome.stderr.trim().is_empty() => {}
        Some(8) => findings
            .reasons
            .push("several signatures that contradict each other".into()),
        _ => findings.reasons.push(failed("blkid", &outcome)),
    }
    Ok(())
}

fn failed(name: &str, outcome: &Outcome) -> String {
    format!(
        "{name} cannot tell what is on it: {}",
        outcome.said(MAX_WORDS_BYTES)
    )
}

/// Puts `blkid -p -o export` into words.
fn describe_blkid(text: &str) -> Findings {
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim().to_owned()
    };
    let (filesystem, uuid, table) = (value("TYPE"), value("UUID"), value("PTTYPE"));
    let mut reasons = Vec::new();
    if !filesystem.is_empty() {
        let identified = if uuid.is_empty() {
            uuid.clone()
        } else {
            format!(" (UUID {uuid})")
        };
        reasons.push(format!("{}{identified}", words_for(&filesystem)));
    }
    if !table.is_empty() {
        reasons.push(format!("a partition table ({table})"));
    }
    if reasons.is_empty() {
        // A partition is described by its entry in the table whatever is in it.
        let is_entry = |line: &str| line.starts_with("PART_ENTRY_");
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let other = lines.find(|line| !is_entry(line) && !line.starts_with("DEVNAME="));
        if let Some(other) = other {
            reasons.push(format!("a signature ({other})"));
        } else if !text.lines().any(is_entry) {
            reasons.push("something that blkid recognises without naming it".to_owned());
        }
    }
    Findings {
        reasons,
        filesystem,
        uuid,
        in_use: false,
    }
}

fn words_for(filesystem: &str) -> String {
    match filesystem {
        "LVM2_member" => "an LVM2 physical volume".to_owned(),
        "crypto_LUKS" => "a LUKS container".to_owned(),
        "swap" | "swsuspend" => "swap space".to_owned(),
        "linux_raid_member" => "a member of a Linux RAID".to_owned(),
        "zfs_member" => "a member of a ZFS pool".to_owned(),
        name => {
            let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u', 'x']);
            format!("{} {name} file system", if vowel { "an" } else { "a" })
        }
    }
}

/// How the kernel uses a device.
fn uses(root: &Root, device: &Device, mounts: &[Mount]) -> Vec<String> {
    let mut uses: Vec<String> = mounts
        .iter()
        .filter(|mount| mount.number == device.number)
        .map(|mount| format!("mounted at {}", mount.mount_point))
        .collect();
    if mounts::is_swap(root, device.number) {
        uses.push("swapped to".to_owned());
    }
    for entry in fs::read_dir(device.sys.join("holders"))
        .into_iter()
        .flatten()
        .flatten()
    {
        uses.push(format!("held by {}", kernel_name(&entry.path())));
    }
    for entry in fs::read_dir(&device.sys).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            uses.push(format!(
                "divided into partitions ({})",
                kernel_name(&entry.path())
            ));
        }
    }
    if uses.is_empty() {
        uses.extend(claimed(device));
    }
    uses
}

/// The kernel's own word on whether somebody has claimed a device. Alone among all tests it sees
/// what is mounted in another container.
fn claimed(device: &Device) -> Option<String> {
    let flags = OFlags::EXCL.bits().cast_signed();
    let error = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&device.node)
        .err()?;
    if error.kind() == std::io::ErrorKind::ResourceBusy {
        return Some("in use, perhaps mounted in another container".to_owned());
    }
    Some(format!("it cannot be claimed: {error}"))
}

fn ask_wipefs(root: &Root, device: &Device, findings: &mut Findings) -> Result<(), Failure> {
    let outcome = Program::named(root, "wipefs")?
        .arguments(["--no-act", "--parsable"])
        .arguments([&device.node])
        .run()?;
    if !outcome.succeeded() || !outcome.stderr.trim().is_empty() {
        findings.reasons.push(failed("wipefs", &outcome));
    } else if let Some(line) = outcome.stdout.lines().find(|line| !line.starts_with('#')) {
        findings
            .reasons
            .push(format!("a signature that wipefs sees ({line})"));
    }
    Ok(())
}

/// Looks for a byte that is not zero where somebody's data is likely to be.
fn find_bytes(file: &File, size_bytes: u64) -> Option<String> {
    let last = size_bytes.saturating_sub(WINDOW_BYTES);
    for (from, place) in [(0, "first"), (last / 2, "middle"), (last, "last")] {
        let length = WINDOW_BYTES.min(size_bytes - from);
        let mut window = vec![0u8; usize::try_from(length).unwrap_or(0)];
        if let Err(error) = file.read_exact_at(&mut window, from) {
            return Some(format!("its {place} MiB cannot be read: {error}"));
        }
        if window.iter().any(|&byte| byte != 0) {
            return Some(format!("bytes that are not zero in its {place} MiB"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Number;

    /// A table of the device-mapper, a RAID or a cache over it: kernels without them have none.
    #[test]
    fn what_holds_a_device_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path().join("sys/block/sdx");
        fs::create_dir_all(sys.join("holders/dm-0")).unwrap();
        fs::create_dir_all(sys.join("holders/md127")).unwrap();
        let device = Device {
            number: Number { major: 7, minor: 0 },
            node: folder.path().join("absent"),
            sys,
            identity: String::new(),
            size_bytes: 1,
        };
        let mut named = uses(&Root::below(folder.path().to_owned()), &device, &[]);
        named.sort();
        assert_eq!(named, ["held by dm-0", "held by md127"]);
    }

    #[test]
    fn says_in_plain_words_what_is_there() {
        let words = |text| describe_blkid(text).reasons.join(", ");
        assert_eq!(
            words("DEVNAME=/dev/x\nUUID=1-2\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n"),
            "an ext4 file system (UUID 1-2)"
        );
        assert_eq!(
            words("TYPE=LVM2_member\nUUID=a\n"),
            "an LVM2 physical volume (UUID a)"
        );
        assert_eq!(words("TYPE=vfat\n"), "a vfat file system");
        assert_eq!(
            words("DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=gpt\n"),
            "a partition table (gpt)"
        );
        assert_eq!(
            words("DEVNAME=/dev/x\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=1\n"),
            ""
        );
        assert_eq!(
            words("DEVNAME=/dev/x\nUSAGE=other\n"),
            "a signature (USAGE=other)"
        );
        assert_eq!(words("UUID=1-2\n"), "a signature (UUID=1-2)");
    }

    #[test]
    fn what_blkid_recognises_is_never_blank_even_without_a_name() {
        for text in ["", "\n", "DEVNAME=/dev/x\n"] {
            assert_eq!(
                describe_blkid(text).reasons,
                ["something that blkid recognises without naming it"],
                "{text:?}"
            );
        }
    }

    #[test]
    fn one_byte_in_any_of_three_places_is_found() {
        let size = 5 * WINDOW_BYTES + 512;
        let last = size - WINDOW_BYTES;
        let find = |at: Option<u64>| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            if let Some(at) = at {
                file.write_all_at(&[1], at).unwrap();
            }
            find_bytes(&file, size)
        };
        assert_eq!(find(None), None);
        for (at, place) in [
            (0, "first"),
            (WINDOW_BYTES - 1, "first"),
            (last / 2, "middle"),
            (last, "last"),
            (size - 1, "last"),
        ] {
            let words = format!("bytes that are not zero in its {place} MiB");
            assert_eq!(find(Some(at)), Some(words), "at {at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_blank() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1000).unwrap();
        assert!(find_bytes(&file, 2000).unwrap().contains("cannot be read"));
    }
}
