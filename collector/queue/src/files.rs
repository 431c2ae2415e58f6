//! What the queue asks of a file system.
//!
//! In: paths, offsets, bytes. Out: the operating system's answers. Invariant: the queue reaches
//! the disk through [`Files`] and [`File`] alone, so that a test can lose, tear and refuse writes.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the queue's I/O is done"
)]

use std::any::Any;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; it exists.
    Read,
    /// For reading and writing; it exists.
    Write,
    /// For reading and writing; it is created, and emptied when it exists.
    Create,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; entries whose names are not UTF-8 are not listed.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// What a process may still use.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Held until it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// A file system.
pub trait Files: Send + Sync {
    /// Creates a folder and those above it.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that is empty.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;
    /// The entries of a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;
    /// Makes the entries of a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Locks a file, which is created for it; `None` when another process has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Whether a process has locked a file.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
    /// How full the file system of a folder is.
    fn capacity(&self, folder: &Path) -> io::Result<Capacity>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Reads at an offset; less than asked for at the end and whenever it likes.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset; less than given whenever it likes.
    fn write_vectored_at(&self, from: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes the content durable, and as much about the file as reading it back needs.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or lengthens the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        if access != Access::Read {
            options.write(true);
        }
        if access == Access::Create {
            options.create(true).truncate(true);
        }
        Ok(Arc::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                let is_folder = entry.file_type()?.is_dir();
                entries.push(Entry { name, is_folder });
            }
        }
        Ok(entries)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // A read-only file system still says who has a lock that was made before.
        let file = options.open(path).or_else(|_| fs::File::open(path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Whoever had it has taken the file away, with the folder of an empty queue.
            Ok(()) if !is_still_at(&file, path) => Ok(None),
            Ok(()) => {
                let owner = format!("{}\n", std::process::id());
                // Who has it is written for people; the lock holds without it.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.write_all_at(owner.as_bytes(), 0));
                Ok(Some(Box::new(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = fs::File::open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn capacity(&self, folder: &Path) -> io::Result<Capacity> {
        let found = statvfs(folder)?;
        Ok(Capacity {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

/// Whether a path leads to this open file.
fn is_still_at(file: &fs::File, path: &Path) -> bool {
    let here = fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let open = file.metadata().map(|found| (found.dev(), found.ino()));
    here.is_ok_and(|here| open.is_ok_and(|open| here == open))
}

impl File for fs::File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_vectored_at(&self, from: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, from, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// The most slices that one write takes.
const SLICES: usize = 1024;

/// Writes all slices at an offset.
pub(crate) fn write_all(
    file: &dyn File,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    // Empty slices in front are no reason to write.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let count = slices.len().min(SLICES);
        match file.write_vectored_at(&slices[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends; returns how much was read.
pub(crate) fn read_full(file: &dyn File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
