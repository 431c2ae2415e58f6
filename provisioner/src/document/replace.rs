//! A file of the project, replaced as a whole.
//!
//! Goes in: a path and its new text. Comes out: the file with that text, durable. Invariant: at
//! any moment the path holds the old text or the new one, with the permissions that it had.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What a new file may be read by, where none was before.
const NEW_FILE_MODE: u32 = 0o644;

/// Puts a text in the place of a file, or makes the file.
///
/// # Errors
/// The folder or the file cannot be written; the old text is still there.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    // What a symbolic link points to is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let permissions = fs::metadata(&path).map_or_else(
        |_| Permissions::from_mode(NEW_FILE_MODE),
        |known| known.permissions(),
    );
    let mut file = tempfile::Builder::new()
        .prefix(".provision-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|failed| failed.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_links_survive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let link = folder.path().join("link");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace_file(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
