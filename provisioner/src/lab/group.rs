//! The control groups of a lab's hosts.
//!
//! In: a lab and a host. Out: an empty branch for the host in every hierarchy in which systemd
//! keeps its units, on a machine that is not itself run by systemd.
//!
//! Invariant: two hosts never share a branch; else the systemd of one would take the processes of
//! the other for its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::{AtPath as _, LabError};
use super::mount::unit_hierarchies;
use super::name::HostName;
use super::record::LabDirectory;

/// How long a group may take to be empty after its processes were killed.
const EMPTY_WAIT: Duration = Duration::from_secs(5);

const EMPTY_POLL: Duration = Duration::from_millis(10);

/// Makes empty control groups for a host; what an earlier boot left there is removed.
pub(super) fn make(lab: &LabDirectory, host: &HostName) -> Result<Vec<PathBuf>, LabError> {
    remove(lab, host)?;
    let mut made = Vec::new();
    for branch in branches(lab)? {
        let group = branch.join(host.as_str());
        fs::create_dir_all(&group).at("make", &group)?;
        made.push(group);
    }
    Ok(made)
}

/// Removes the control groups of a host that has ended.
pub(super) fn remove(lab: &LabDirectory, host: &HostName) -> Result<(), LabError> {
    branches(lab)?
        .into_iter()
        .try_for_each(|branch| remove_below(&branch.join(host.as_str())))
}

/// Removes the control groups of all hosts of a lab.
pub(super) fn remove_all(lab: &LabDirectory) -> Result<(), LabError> {
    for branch in branches(lab)? {
        remove_below(&branch)?;
        // The parent belongs to all labs, and stays as long as another one is there.
        let _ = branch.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// The lab's branch in every hierarchy of control groups, whether it is there or not.
fn branches(lab: &LabDirectory) -> Result<Vec<PathBuf>, LabError> {
    let branch = |hierarchy: PathBuf| hierarchy.join("provision-lab").join(lab.name.as_str());
    Ok(unit_hierarchies()?.into_iter().map(branch).collect())
}

/// Removes a branch of control groups, the innermost first; their files go by themselves.
fn remove_below(group: &Path) -> Result<(), LabError> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    let deadline = Instant::now() + EMPTY_WAIT;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).at("remove", group),
            // A process that was just killed is counted for a moment longer.
            Err(_) => sleep(EMPTY_POLL),
        }
    }
}
