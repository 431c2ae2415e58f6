//! What is mounted, and what is swapped to.
//!
//! Goes in: `/proc/self/mountinfo` and `/proc/swaps`. Comes out: mounts and swaps by device
//! number. Invariant: names of devices are never compared, because a device has several.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::failure::{Doing, Failure};
use crate::root::Root;
use crate::volume::Number;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What is mounted.
    pub(crate) number: Number,
    /// Where it is mounted.
    pub(crate) mount_point: String,
    /// The type of its file system.
    pub(crate) filesystem: String,
    /// The kernel's words for what is mounted.
    pub(crate) source: String,
}

/// Every mount, in the order in which they were made.
pub(crate) fn read(root: &Root) -> Result<Vec<Mount>, Failure> {
    let path = root.at("/proc/self/mountinfo");
    let bytes = fs::read(&path).doing(|| format!("read {}", path.display()))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// What is on top at a mount point.
pub(crate) fn on_top<'a>(mounts: &'a [Mount], mount_point: &str) -> Option<&'a Mount> {
    mounts
        .iter()
        .rev()
        .find(|mount| mount.mount_point == mount_point)
}

/// A directory has something in it that a mount would hide.
pub(crate) fn has_entries(root: &Root, mount_point: &str) -> Result<bool, Failure> {
    match fs::read_dir(root.at(mount_point)) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(|| format!("list {mount_point}")),
    }
}

/// A device is swapped to.
pub(crate) fn is_swap(root: &Root, number: Number) -> bool {
    let text = fs::read_to_string(root.at("/proc/swaps")).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .any(|name| {
            root.at(unescape(name)).metadata().is_ok_and(|found| {
                found.file_type().is_block_device() && Number::of(found.rdev()) == number
            })
        })
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mount-point options optional… - type source super-options`
fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let number = Number::parse(left.next()?)?;
    let mount_point = unescape(left.nth(1)?);
    let mut right = right.split(' ');
    Some(Mount {
        number,
        mount_point,
        filesystem: right.next()?.to_owned(),
        source: unescape(right.next()?),
    })
}

/// Resolves the octal escapes by which the kernel and `fstab` write blanks.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let digits = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 7:3 / /mnt/my\\040data rw,noatime shared:2 master:3 - xfs /dev/loop3 rw,attr2\n\
31 22 0:25 / /run rw - tmpfs tmpfs rw\n\
40 22 8:17 / /run rw - ext4 /dev/sdb1 rw\n\
not a line\n";

    #[test]
    fn reads_mounts_with_any_number_of_optional_fields() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[1],
            Mount {
                number: Number { major: 7, minor: 3 },
                mount_point: "/mnt/my data".into(),
                filesystem: "xfs".into(),
                source: "/dev/loop3".into(),
            }
        );
    }

    #[test]
    fn the_last_mount_is_on_top() {
        let mounts = parse(TEXT);
        assert_eq!(on_top(&mounts, "/run").unwrap().filesystem, "ext4");
        assert_eq!(on_top(&mounts, "/none"), None);
    }

    #[test]
    fn tells_an_empty_mount_point_from_one_that_hides_something() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::create_dir(root.at("/mnt")).unwrap();
        assert!(!has_entries(&root, "/mnt/data").unwrap());
        assert!(!has_entries(&root, "/mnt").unwrap());
        fs::write(root.at("/mnt/file"), "").unwrap();
        assert!(has_entries(&root, "/mnt").unwrap());
        assert!(has_entries(&root, "/mnt/file").is_err());
    }

    #[test]
    fn whatever_the_text_is_it_is_only_read() {
        for cut in 0..TEXT.len() {
            parse(&TEXT[..cut]);
            parse(&TEXT[cut..]);
        }
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("\\"), "\\");
        assert_eq!(unescape("\\999"), "\\999");
        assert_eq!(unescape("\\134040"), "\\040");
    }
}
