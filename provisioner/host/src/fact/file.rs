//! What is at a path.
//!
//! Goes in: a path. Comes out: its type, attributes, hash and perhaps text. Invariant: a symbolic
//! link at the end of the path is looked at, not followed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use provision_protocol::fact::{FileFact, FileQuery, FileType};
use rustix::fs::OFlags;

use crate::accounts::Accounts;
use crate::content;
use crate::failure::{Doing, Failure};
use crate::root::{Root, check_absolute};

/// Looks at a path.
pub(crate) fn look(
    root: &Root,
    accounts: &Accounts,
    wanted: &FileQuery,
) -> Result<FileFact, Failure> {
    let path = root.at(check_absolute(&wanted.path)?);
    let doing = || format!("look at {}", wanted.path);
    let Some(found) = metadata(&path).doing(doing)? else {
        return Ok(FileFact::default());
    };
    let mut fact = FileFact {
        file_type: file_type(&found) as i32,
        mode: found.mode() & 0o7777,
        owner: accounts.user_name(found.uid()),
        group: accounts.group_name(found.gid()),
        size_bytes: found.size(),
        ..FileFact::default()
    };
    if found.is_symlink() {
        fact.link_target = fs::read_link(&path).doing(doing)?.display().to_string();
    } else if found.is_file() {
        let mut file = open(&path).doing(doing)?;
        fact.sha256 = content::hash(&mut file).doing(doing)?;
        let known = wanted.known_sha256.contains(&fact.sha256);
        if !known && wanted.text_limit_bytes > 0 && found.size() <= wanted.text_limit_bytes {
            fact.text = text(&mut file, wanted.text_limit_bytes).doing(doing)?;
        }
    }
    Ok(fact)
}

/// What is at a path, without following it; `None` where nothing is.
pub(crate) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens a regular file; neither a link nor a pipe that took its place is waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn file_type(found: &Metadata) -> FileType {
    let kind = found.file_type();
    if kind.is_file() {
        FileType::Regular
    } else if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else {
        debug_assert!(
            kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket()
        );
        FileType::Other
    }
}

fn text(file: &mut File, limit_bytes: u64) -> io::Result<Option<String>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    let fits = bytes.len() as u64 <= limit_bytes;
    Ok(String::from_utf8(bytes).ok().filter(|_| fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_at(root: &Root, path: &str, text_limit_bytes: u64) -> FileFact {
        let wanted = FileQuery {
            path: path.into(),
            text_limit_bytes,
            known_sha256: Vec::new(),
        };
        look(root, &Accounts::default(), &wanted).unwrap()
    }

    #[test]
    fn tells_what_a_path_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::write(root.at("/file"), "text").unwrap();
        std::os::unix::fs::symlink("/nowhere", root.at("/link")).unwrap();
        fs::create_dir(root.at("/directory")).unwrap();
        let file = look_at(&root, "/file", 4);
        assert_eq!(file.file_type(), FileType::Regular);
        assert_eq!(file.text.as_deref(), Some("text"));
        assert_eq!(file.sha256, content::hash(&mut &b"text"[..]).unwrap());
        assert_eq!(look_at(&root, "/file", 3).text, None);
        assert_eq!(look_at(&root, "/link", 0).link_target, "/nowhere");
        assert_eq!(
            look_at(&root, "/directory", 0).file_type(),
            FileType::Directory
        );
        assert_eq!(look_at(&root, "/none", 0), FileFact::default());
        assert_eq!(look_at(&root, "/none/below", 0), FileFact::default());
        assert_eq!(look_at(&root, "/file/below", 0), FileFact::default());
    }

    #[test]
    fn returns_no_text_that_is_known_or_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::write(root.at("/file"), "text").unwrap();
        let wanted = FileQuery {
            path: "/file".into(),
            text_limit_bytes: 100,
            known_sha256: vec![content::hash(&mut &b"text"[..]).unwrap()],
        };
        assert_eq!(
            look(&root, &Accounts::default(), &wanted).unwrap().text,
            None
        );
        fs::write(root.at("/file"), [0xff, 0xfe]).unwrap();
        assert_eq!(look_at(&root, "/file", 100).text, None);
    }
}
