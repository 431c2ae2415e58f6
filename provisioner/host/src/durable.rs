//! Puts files in place so that a power cut leaves the old one or the new one, and never half.
//!
//! Goes in: a target and what fills it. Comes out: the target replaced. Invariant: the file has
//! its owner and mode before it has its name, and a failure leaves no dotfile behind.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::failure::{Doing, Failure};

/// How much of a file's name goes into the name of its dotfile; the kernel allows 255 bytes.
const MAX_NAME_BYTES: usize = 200;
/// Marks dotfiles and directories that are not in place yet.
pub(crate) const UNFINISHED: &str = ".provision-unfinished";

/// Who owns something and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The owner's id.
    pub(crate) uid: u32,
    /// The group's id.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// A file that has not got its name yet. It is removed when it never gets it.
pub(crate) struct Draft {
    /// To be written.
    pub(crate) file: File,
    path: PathBuf,
    target: PathBuf,
    named: bool,
}

impl Draft {
    /// A dotfile beside the target, for root alone. One that a crash left behind is replaced.
    pub(crate) fn beside(target: &Path) -> Result<Self, Failure> {
        let path = unfinished_beside(target)?;
        remove_if_there(&path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .doing(|| format!("create {}", path.display()))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            named: false,
        })
    }

    /// Where it is for now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its owner and mode, makes it last, and gives it its name.
    pub(crate) fn commit(mut self, attributes: Option<Attributes>) -> Result<(), Failure> {
        if let Some(attributes) = attributes {
            apply(&self.file, attributes)
                .doing(|| format!("set owner and mode of {}", self.path.display()))?;
        }
        self.file
            .sync_all()
            .doing(|| format!("make {} last", self.path.display()))?;
        fs::rename(&self.path, &self.target)
            .doing(|| format!("put {} in place", self.target.display()))?;
        self.named = true;
        sync_parent(&self.target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            // Another attempt removes it as well, so nothing hangs on this one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The name under which something is prepared before it takes the target's place.
pub(crate) fn unfinished_beside(target: &Path) -> Result<PathBuf, Failure> {
    let name = target
        .file_name()
        .ok_or_else(|| Failure::refused(format!("{} has no name", target.display())))?
        .to_string_lossy();
    let end = (0..=name.len().min(MAX_NAME_BYTES))
        .rev()
        .find(|&at| name.is_char_boundary(at));
    let short = &name[..end.unwrap_or(0)];
    Ok(target.with_file_name(format!(".{short}{UNFINISHED}")))
}

/// Replaces a small file of the helper's own.
pub(crate) fn write(target: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut draft = Draft::beside(target)?;
    draft
        .file
        .write_all(bytes)
        .doing(|| format!("write {}", target.display()))?;
    draft.commit(None)
}

/// Sets owner, then mode: a change of owner takes set-user-id away.
pub(crate) fn apply(file: &File, attributes: Attributes) -> io::Result<()> {
    let found = file.metadata()?;
    use std::os::unix::fs::MetadataExt;
    if (found.uid(), found.gid()) != (attributes.uid, attributes.gid) {
        fchown(file, Some(attributes.uid), Some(attributes.gid))?;
    }
    file.set_permissions(fs::Permissions::from_mode(attributes.mode & 0o7777))
}

/// Makes a change of a directory's entries last.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Failure> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .doing(|| format!("make the entries of {} last", path.display()))
}

/// Makes the name of a path last.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Failure> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory of the helper's own, and its parents, for root alone.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("make {}", path.display()))?;
    sync_parent(path)
}

/// Removes a file, which need not be there.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it, which need not be there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_old_file_and_no_dotfile() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        write(&target, b"old").unwrap();
        {
            let mut draft = Draft::beside(&target).unwrap();
            draft.file.write_all(b"half of the new").unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_rename_that_fails_leaves_no_dotfile() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("taken");
        fs::create_dir(&target).unwrap();
        assert!(write(&target, b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dotfile_that_a_crash_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        fs::write(unfinished_beside(&target).unwrap(), "left over").unwrap();
        write(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn long_names_get_a_dotfile_too() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("ä".repeat(127));
        write(&target, b"x").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"x");
    }

    #[test]
    fn mode_is_set_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let draft = Draft::beside(&target).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        draft
            .commit(Some(Attributes {
                uid,
                gid,
                mode: 0o4755,
            }))
            .unwrap();
        assert_eq!(
            fs::metadata(&target).unwrap().permissions().mode() & 0o7777,
            0o4755
        );
    }
}
