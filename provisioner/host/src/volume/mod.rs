//! Block devices as the kernel shows them.
//!
//! Goes in: what selects a device. Comes out: its number, node, identity and size. Invariant: a
//! device is known by its number; a name only leads to it.

pub(crate) mod blank;
pub(crate) mod filesystem;
pub(crate) mod fstab;
pub(crate) mod intent;
pub(crate) mod mounts;

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use provision_protocol::fact::{VolumeQuery, plain_serial};

use crate::failure::{Doing, Failure};
use crate::root::{Root, check_absolute};

/// What the kernel appends to the name of a loop device's file that was removed.
const REMOVED_FILE: &str = " (deleted)";
/// What stands before a serial, and before a backing file, in an identity.
const SERIAL: &str = "serial:";
const FILE: &str = "file:";
/// How deep below `/dev` a node is searched, and how many entries are looked at.
const NODE_DEPTH: usize = 3;
const MAX_NODES: usize = 20_000;
/// The size of the kernel's sectors, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;

/// The kernel's number for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    /// The driver's part.
    pub(crate) major: u32,
    /// The device's part.
    pub(crate) minor: u32,
}

impl Number {
    /// The number of a node.
    fn of(rdev: u64) -> Self {
        Self {
            major: rustix::fs::major(rdev),
            minor: rustix::fs::minor(rdev),
        }
    }

    /// Reads `major:minor`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}

/// A block device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The kernel's number for it.
    pub(crate) number: Number,
    /// A node that leads to it.
    pub(crate) node: PathBuf,
    /// Its directory in sysfs.
    pub(crate) sys: PathBuf,
    /// `serial:…` or `file:…`, the first of several; empty where the kernel shows neither.
    pub(crate) identity: String,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
}

impl Device {
    /// The device is the one of this identity, by whichever of its serials.
    pub(crate) fn is(&self, identity: &str) -> bool {
        let by_serial = identity
            .strip_prefix(SERIAL)
            .is_some_and(|serial| bears_serial(&self.sys, serial));
        !identity.is_empty() && (by_serial || self.identity == identity)
    }
}

/// The identity that a query asks for, spelt as in the query; `None` where it names a node only.
pub(crate) fn asked_identity(wanted: &VolumeQuery) -> Option<String> {
    if !wanted.serial.is_empty() {
        return Some(format!("{SERIAL}{}", wanted.serial));
    }
    (!wanted.backing_file.is_empty()).then(|| format!("{FILE}{}", wanted.backing_file))
}

/// Finds the device that is wanted; `None` where there is none.
pub(crate) fn find(root: &Root, wanted: &VolumeQuery) -> Result<Option<Device>, Failure> {
    if !wanted.serial.is_empty() {
        let bears = |sys: &Path| bears_serial(sys, &wanted.serial);
        return find_by(root, &format!("the serial {}", wanted.serial), bears);
    }
    if !wanted.backing_file.is_empty() {
        let bears = |sys: &Path| backing_file(sys).is_some_and(|file| file == wanted.backing_file);
        return find_by(
            root,
            &format!("the backing file {}", wanted.backing_file),
            bears,
        );
    }
    at_node(root, &wanted.device)
}

/// The device behind a node; `None` where nothing is there.
pub(crate) fn at_node(root: &Root, node: &str) -> Result<Option<Device>, Failure> {
    let path = root.at(check_absolute(node)?);
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(|| format!("look at {node}")),
    };
    if !found.file_type().is_block_device() {
        return Err(Failure::refused(format!("{node} is not a block device")));
    }
    let number = Number::of(found.rdev());
    let sys = root.at(format!("/sys/dev/block/{number}"));
    match sys.canonicalize() {
        Ok(sys) => describe(path, number, sys).map(Some),
        // The node is there, but no device that it leads to.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("look at {}", sys.display())),
    }
}

/// The device of a number; `None` where the kernel has none or no node leads to it.
pub(crate) fn at_number(root: &Root, number: Number) -> Result<Option<Device>, Failure> {
    let Ok(sys) = root.at(format!("/sys/dev/block/{number}")).canonicalize() else {
        return Ok(None);
    };
    match find_node(root, &kernel_name(&sys), number) {
        Some(node) => describe(node, number, sys).map(Some),
        None => Ok(None),
    }
}

fn find_by(
    root: &Root,
    what: &str,
    bears: impl Fn(&Path) -> bool,
) -> Result<Option<Device>, Failure> {
    let directory = root.at("/sys/block");
    let entries = fs::read_dir(&directory).doing(|| format!("list {}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|sys| bears(sys))
        .collect();
    found.sort();
    let Some(first) = found.first() else {
        return Ok(None);
    };
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|sys| kernel_name(sys)).collect();
        return Err(Failure::refused(format!(
            "{what} is borne by several devices: {names:?}"
        )));
    }
    let doing = || format!("look at {}", first.display());
    let sys = first.canonicalize().doing(doing)?;
    let text = fs::read_to_string(sys.join("dev")).doing(doing)?;
    let number = Number::parse(&text)
        .ok_or_else(|| Failure::refused(format!("{} has no number", first.display())))?;
    let node = find_node(root, &kernel_name(&sys), number).ok_or_else(|| {
        Failure::refused(format!(
            "the kernel has {} ({number}) for {what}, but no node in /dev leads to it",
            kernel_name(&sys)
        ))
    })?;
    describe(node, number, sys).map(Some)
}

fn describe(node: PathBuf, number: Number, sys: PathBuf) -> Result<Device, Failure> {
    let doing = || format!("read the size of {}", node.display());
    let text = fs::read_to_string(sys.join("size")).doing(doing)?;
    let sectors: u64 = text
        .trim()
        .parse()
        .map_err(std::io::Error::other)
        .doing(doing)?;
    let size_bytes = sectors.saturating_mul(SECTOR_BYTES);
    let identity = identity(&sys);
    Ok(Device {
        number,
        node,
        sys,
        identity,
        size_bytes,
    })
}

/// What identifies a device; that of a partition is its disk's, with its own number.
fn identity(sys: &Path) -> String {
    if let (Some(partition), Some(disk)) = (attribute(sys, "partition"), sys.parent()) {
        let disk = identity(disk);
        return if disk.is_empty() {
            disk
        } else {
            format!("{disk}-part{partition}")
        };
    }
    if let Some(file) = backing_file(sys) {
        return format!("{FILE}{file}");
    }
    serials(sys)
        .first()
        .map_or_else(String::new, |serial| format!("{SERIAL}{serial}"))
}

fn backing_file(sys: &Path) -> Option<String> {
    let file = attribute(sys, "loop/backing_file")?;
    Some(file.strip_suffix(REMOVED_FILE).unwrap_or(&file).to_owned())
}

/// Every serial that the kernel shows for a disk: virtio, NVMe and SCSI each have their place.
fn serials(sys: &Path) -> Vec<String> {
    let mut found: Vec<String> = ["serial", "device/serial"]
        .iter()
        .filter_map(|name| attribute(sys, name))
        .collect();
    if let Ok(page) = fs::read(sys.join("device/vpd_pg80"))
        && let Some(serial) = page.get(4..)
    {
        let serial = String::from_utf8_lossy(serial);
        found.push(serial.trim_matches(['\0', ' ', '\n']).to_owned());
    }
    found.retain(|serial| !serial.is_empty());
    found
}

fn bears_serial(sys: &Path, wanted: &str) -> bool {
    let wanted = plain_serial(wanted);
    serials(sys)
        .iter()
        .any(|found| plain_serial(found) == wanted)
}

fn attribute(sys: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(sys.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The kernel's name for a device.
pub(crate) fn kernel_name(sys: &Path) -> String {
    let name = sys
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    // sysfs cannot have a slash in a name.
    name.replace('!', "/")
}

/// A node that leads to a device. A container may have it under another name.
fn find_node(root: &Root, name: &str, number: Number) -> Option<PathBuf> {
    let leads_there = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|found| {
            found.file_type().is_block_device() && Number::of(found.rdev()) == number
        })
    };
    let usual = root.at("/dev").join(name);
    if leads_there(&usual) {
        return Some(usual);
    }
    let mut waiting = vec![(root.at("/dev"), 0)];
    let mut looked_at = 0;
    while let Some((directory, depth)) = waiting.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        entries.sort();
        for path in entries {
            looked_at += 1;
            if looked_at > MAX_NODES {
                return None;
            }
            if leads_there(&path) {
                return Some(path);
            }
            if depth + 1 < NODE_DEPTH
                && fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir())
            {
                waiting.push((path, depth + 1));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(attributes: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path().join("disk");
        for (name, value) in attributes {
            let path = sys.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        (directory, sys)
    }

    #[test]
    fn finds_serials_wherever_the_kernel_shows_them() {
        let (_directory, virtio) = sysfs(&[("serial", b"data-1\n")]);
        assert_eq!(identity(&virtio), "serial:data-1");
        let (_directory, nvme) = sysfs(&[("device/serial", b"vol0123abcd             \n")]);
        assert_eq!(identity(&nvme), "serial:vol0123abcd");
        assert!(bears_serial(&nvme, "vol-0123ABCD"));
        let (_directory, scsi) = sysfs(&[("device/vpd_pg80", b"\0\x80\0\x04QM01")]);
        assert_eq!(identity(&scsi), "serial:QM01");
        let (_directory, none) = sysfs(&[("size", b"8\n")]);
        assert_eq!(identity(&none), "");
    }

    #[test]
    fn a_disk_is_known_by_any_of_its_serials() {
        let (_directory, sys) = sysfs(&[
            ("device/serial", b"first\n"),
            ("device/vpd_pg80", b"\0\x80\0\x06vol-0123abcd"),
        ]);
        assert!(bears_serial(&sys, "vol0123abcd"));
        let device = Device {
            number: Number { major: 8, minor: 0 },
            node: "/dev/sda".into(),
            identity: identity(&sys),
            sys,
            size_bytes: 1,
        };
        for known in ["serial:first", "serial:vol-0123abcd", "serial:vol0123abcd"] {
            assert!(device.is(known), "{known}");
        }
        for other in ["", "serial:", "serial:second", "file:first", "first"] {
            assert!(!device.is(other), "{other}");
        }
    }

    #[test]
    fn an_identity_is_spelt_as_it_was_asked() {
        let wanted = VolumeQuery {
            serial: "vol-0123abcd".into(),
            ..VolumeQuery::default()
        };
        assert_eq!(
            asked_identity(&wanted).as_deref(),
            Some("serial:vol-0123abcd")
        );
        let wanted = VolumeQuery {
            device: "/dev/sdf".into(),
            ..VolumeQuery::default()
        };
        assert_eq!(asked_identity(&wanted), None);
    }

    #[test]
    fn a_loop_device_is_its_file_even_when_that_was_removed() {
        let (_directory, sys) = sysfs(&[("loop/backing_file", b"/var/disk.img (deleted)\n")]);
        assert_eq!(identity(&sys), "file:/var/disk.img");
    }

    #[test]
    fn a_partition_is_not_mistaken_for_its_disk() {
        let (_directory, sys) = sysfs(&[("serial", b"data\n"), ("disk1/partition", b"1\n")]);
        assert_eq!(identity(&sys.join("disk1")), "serial:data-part1");
    }

    #[test]
    fn two_disks_with_one_serial_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        for name in ["sda", "sdb"] {
            fs::create_dir_all(root.at("/sys/block").join(name)).unwrap();
            fs::write(root.at("/sys/block").join(name).join("serial"), "same").unwrap();
        }
        let wanted = |serial: &str| VolumeQuery {
            serial: serial.into(),
            ..Default::default()
        };
        let error = find(&root, &wanted("same")).unwrap_err().to_string();
        assert!(
            error.contains("several devices: [\"sda\", \"sdb\"]"),
            "{error}"
        );
        assert!(find(&root, &wanted("other")).unwrap().is_none());
    }

    #[test]
    fn what_is_not_a_block_device_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::create_dir(root.at("/dev")).unwrap();
        fs::write(root.at("/dev/sdf"), "").unwrap();
        assert!(at_node(&root, "/dev/sdf").is_err());
        assert!(at_node(&root, "/dev/sdg").unwrap().is_none());
    }
}
