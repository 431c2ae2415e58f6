//! Reads and removes mounts of this machine.
//!
//! In: `/proc/self/mountinfo`. Out: the mount points below a directory, the control-group
//! hierarchies, and whether a file is a mount.
//!
//! Invariant: only mounts below the directory that was given are removed, the innermost first.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::error::{AtPath as _, LabError};

const TABLE: &str = "/proc/self/mountinfo";

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    options: String,
}

/// Whether something is mounted on exactly this path.
pub(super) fn is_mounted(path: &Path) -> Result<bool, LabError> {
    Ok(table()?.iter().any(|mount| mount.point == path))
}

/// Unmounts everything at and below a directory, and returns what was unmounted.
pub(super) fn unmount_below(directory: &Path) -> Result<Vec<PathBuf>, LabError> {
    let mut points: Vec<PathBuf> = table()?
        .into_iter()
        .map(|mount| mount.point)
        .filter(|point| point.starts_with(directory))
        .collect();
    points.reverse();
    for point in &points {
        // A mount that a process of the user still looks into goes when that process leaves.
        unmount(point, UnmountFlags::empty())
            .or_else(|_| unmount(point, UnmountFlags::DETACH))
            .at("unmount", point)?;
    }
    Ok(points)
}

/// The hierarchies of control groups in which systemd keeps its units.
pub(super) fn unit_hierarchies() -> Result<Vec<PathBuf>, LabError> {
    let keeps_units = |mount: &Mount| {
        mount.kind == "cgroup2"
            || (mount.kind == "cgroup"
                && mount
                    .options
                    .split(',')
                    .any(|option| option == "name=systemd"))
    };
    Ok(table()?
        .into_iter()
        .filter(keeps_units)
        .map(|mount| mount.point)
        .collect())
}

fn table() -> Result<Vec<Mount>, LabError> {
    let text = fs::read_to_string(TABLE).at("read", Path::new(TABLE))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Reads one line of `mountinfo`: the mount point is the fifth field; after a lone hyphen follow
/// the type, the source and the options of the file system.
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    Some(Mount {
        point: PathBuf::from(mount.split(' ').nth(4)?.replace("\\040", " ")),
        kind: file_system.next()?.to_owned(),
        options: file_system.nth(1)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mount_with_optional_fields() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:3 - cgroup none rw,name=systemd";
        let expected = Mount {
            point: PathBuf::from("/mnt 2"),
            kind: "cgroup".to_owned(),
            options: "rw,name=systemd".to_owned(),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("36 35 98:0"), None);
    }
}
