//! The disks of a lab's hosts: sparse files behind loop devices.
//!
//! In: a file's path and size. Out: the loop device that shows it.
//!
//! Invariant: a file has at most one loop device, and is never made smaller or emptied.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::command::{program, run};
use super::error::{AtPath as _, LabError};

const DETACH_WAIT: Duration = Duration::from_secs(10);

const DETACH_POLL: Duration = Duration::from_millis(20);

/// A loop device and the file behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loop {
    pub(super) device: PathBuf,
    pub(super) file: PathBuf,
}

/// Makes the file if needed and returns the loop device that shows it.
pub(super) fn ensure(file: &Path, size_bytes: u64) -> Result<PathBuf, LabError> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).at("make", parent)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(created) => created.set_len(size_bytes).at("size", file)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => complete(file, size_bytes)?,
        Err(error) => return Err(error).at("make", file),
    }
    if let Some(found) = attached()?.into_iter().find(|found| found.file == file) {
        return Ok(found.device);
    }
    let losetup = ["--find", "--show", "--nooverlap", "--direct-io=off"];
    let device = run(program("losetup").args(losetup).arg(file))?;
    Ok(PathBuf::from(device.trim()))
}

/// Gives its size to a file whose making was interrupted.
fn complete(file: &Path, size_bytes: u64) -> Result<(), LabError> {
    let found = fs::metadata(file).at("read", file)?;
    if found.len() < size_bytes {
        let opened = File::options().write(true).open(file).at("open", file)?;
        opened.set_len(size_bytes).at("size", file)?;
    }
    Ok(())
}

/// The loop devices of this machine that show a file.
pub(super) fn attached() -> Result<Vec<Loop>, LabError> {
    let blocks = Path::new("/sys/block");
    let mut loops = Vec::new();
    for entry in fs::read_dir(blocks).at("list", blocks)? {
        let entry = entry.at("list", blocks)?;
        let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        let file = file.trim_end_matches('\n').trim_end_matches(" (deleted)");
        loops.push(Loop {
            device: Path::new("/dev").join(entry.file_name()),
            file: file.into(),
        });
    }
    Ok(loops)
}

/// Detaches all loop devices whose file lies below a directory, and returns them.
pub(super) fn detach_below(directory: &Path) -> Result<Vec<PathBuf>, LabError> {
    let below = || -> Result<Vec<Loop>, LabError> {
        Ok(attached()?
            .into_iter()
            .filter(|found| found.file.starts_with(directory))
            .collect())
    };
    let found = below()?;
    for found in &found {
        run(program("losetup").arg("--detach").arg(&found.device))?;
    }
    // A device in use is detached when the last user leaves.
    let deadline = Instant::now() + DETACH_WAIT;
    while let Some(left) = below()?.first() {
        if Instant::now() > deadline {
            let what = format!("loop device {}", left.device.display());
            return Err(LabError::Stuck {
                what,
                waited: DETACH_WAIT,
            });
        }
        sleep(DETACH_POLL);
    }
    Ok(found.into_iter().map(|found| found.device).collect())
}
