//! Free space.
//!
//! Goes in: a path that need not exist yet. Comes out: the file system that will hold it and
//! what can still be written there. Invariant: what is reserved for root does not count as free.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::failure::{Doing, Failure};

/// A file system that will hold something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// The kernel's number for it.
    pub(crate) device: u64,
    /// Where it is mounted.
    pub(crate) mount_point: PathBuf,
    /// What an unprivileged user may still write, in bytes.
    pub(crate) free_bytes: u64,
}

impl FileSystem {
    /// The file system of the nearest ancestor that exists.
    pub(crate) fn holding(path: &Path) -> Result<Self, Failure> {
        let existing = path
            .ancestors()
            .find(|ancestor| ancestor.exists())
            .ok_or_else(|| Failure::refused(format!("nothing of {} exists", path.display())))?;
        let doing = || format!("look at {}", existing.display());
        let existing = existing.canonicalize().doing(doing)?;
        let device = existing.metadata().doing(doing)?.dev();
        let on_it = |ancestor: &&Path| ancestor.metadata().is_ok_and(|found| found.dev() == device);
        let mount_point = existing
            .ancestors()
            .take_while(on_it)
            .last()
            .unwrap_or(&existing);
        let found = rustix::fs::statvfs(&existing).doing(doing)?;
        Ok(Self {
            device,
            mount_point: mount_point.to_owned(),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}

/// Says how much is needed and free, where a failure was for want of space.
pub(crate) fn explain(failure: Failure, path: &Path, needed_bytes: u64) -> Failure {
    match FileSystem::holding(path) {
        Ok(found) if failure.is_no_space() => Failure::refused(format!(
            "{failure} ({needed_bytes} bytes needed, {} bytes free on {})",
            found.free_bytes,
            found.mount_point.display()
        )),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_system_of_a_path_to_come() {
        let directory = tempfile::tempdir().unwrap();
        let found = FileSystem::holding(&directory.path().join("a/b/c")).unwrap();
        assert!(
            directory
                .path()
                .canonicalize()
                .unwrap()
                .starts_with(&found.mount_point)
        );
        assert!(found.free_bytes > 0);
    }

    #[test]
    fn explains_only_a_want_of_space() {
        let path = Path::new("/");
        let full = Failure::System {
            doing: "write".into(),
            source: std::io::Error::from_raw_os_error(28),
        };
        assert!(
            explain(full, path, 7)
                .to_string()
                .contains("7 bytes needed")
        );
        assert_eq!(explain(Failure::refused("no"), path, 7).to_string(), "no");
    }
}
