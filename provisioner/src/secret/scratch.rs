//! A secret in an editor.
//!
//! Goes in: a text. Comes out: the text that `$EDITOR` left. Invariant: the text is in memory
//! alone (on a tmpfs), for this account alone, and gone when the editor is, also after a failure.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::error::{Error, ErrorKind, Result};

/// The type of a file system in memory, as statfs names it.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The editor when neither VISUAL nor EDITOR names one.
const DEFAULT_EDITOR: &str = "vi";

/// A text on a tmpfs, removed when this is dropped.
#[derive(Debug)]
pub struct ScratchFile {
    // Its folder goes with it, so that what an editor puts beside the file goes too.
    folder: TempDir,
    path: PathBuf,
}

impl ScratchFile {
    /// A file with this text; `name` is what an editor shows.
    ///
    /// # Errors
    /// There is no file system in memory, or it cannot be written.
    pub fn new(name: &str, text: &str) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let wrap = |error: std::io::Error| {
            Error::controller("the secret cannot be laid out for the editor").caused_by(error)
        };
        let place = places().find(|place| is_in_memory(place)).ok_or_else(|| {
            Error::controller("there is no file system in memory to edit the secret on")
                .hint("mount one: mount -t tmpfs tmpfs /dev/shm; or set it from the standard input: provision secret set NAME")
        })?;
        let folder = tempfile::Builder::new()
            .prefix("provision-secret-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(place)
            .map_err(wrap)?;
        let path = folder.path().join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(wrap)?;
        file.write_all(text.as_bytes()).map_err(wrap)?;
        Ok(Self { folder, path })
    }

    /// Lets a person edit it. Ctrl-C is for the editor.
    ///
    /// # Errors
    /// The editor cannot be started or ends badly, or leaves no text.
    pub fn edit(self) -> Result<String> {
        // Without these, a signal to the whole terminal would end this program before the file is
        // removed.
        let mut handlers = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            handlers.extend(signal_hook::flag::register(
                signal,
                Arc::new(AtomicBool::new(false)),
            ));
        }
        let editor = ["VISUAL", "EDITOR"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|editor| !editor.trim().is_empty())
            .unwrap_or_else(|| DEFAULT_EDITOR.to_owned());
        // An editor may be given with arguments, as in `code --wait`.
        let status = Command::new("sh")
            .args(["-c", &format!("exec {editor} \"$1\""), "sh"])
            .arg(&self.path)
            .status();
        for handler in handlers {
            signal_hook::low_level::unregister(handler);
        }
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                let message = format!("the editor `{editor}` ended with {status}");
                return Err(Error::new(ErrorKind::Cancelled, message)
                    .caused_by("nothing was changed")
                    .hint("EDITOR names another one"));
            }
            Err(error) => {
                return Err(Error::controller("the editor cannot be started").caused_by(error));
            }
        }
        let text = fs::read_to_string(&self.path).map_err(|error| {
            Error::controller("what the editor left is no text").caused_by(error)
        })?;
        drop(self.folder);
        Ok(text)
    }
}

fn places() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime
        .into_iter()
        .chain(["/dev/shm", "/run"].map(PathBuf::from))
}

fn is_in_memory(folder: &Path) -> bool {
    let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    writable && rustix::fs::statfs(folder).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC)
}
