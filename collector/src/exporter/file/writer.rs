//! The file, and what is not yet in it.
//!
//! In: whole records. Out: bytes in the file, in the order of the records.
//! Invariant: after a failed write the next one goes on at the very byte where it stopped, so
//! records are never torn or doubled; at most [`BUFFER_BYTES`] and one record wait.

use std::fs::File;
use std::io::{self, Write};

/// How much waits before it is written out.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// What the first record finds in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// What was there before, which stays.
    Kept,
    /// What was there before, which goes when the first record comes: a collector that fails to
    /// start has then emptied nothing.
    Emptied,
}

/// Buffers records in front of a file.
pub(super) struct Writer<F> {
    file: F,
    waiting: Vec<u8>,
    beginning: Beginning,
}

/// A file that can be emptied.
pub(super) trait Target: Write {
    /// Removes everything from the file.
    fn empty(&mut self) -> io::Result<()>;
    /// Waits until everything is on the disk.
    fn synchronise(&mut self) -> io::Result<()>;
}

impl<F: Target> Writer<F> {
    pub(super) fn onto(file: F, beginning: Beginning) -> Self {
        Self {
            file,
            waiting: Vec::with_capacity(BUFFER_BYTES),
            beginning,
        }
    }

    /// Takes a record whole, or not at all.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.beginning == Beginning::Emptied {
            self.file.empty()?;
            self.beginning = Beginning::Kept;
        }
        if self.waiting.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        self.waiting.extend_from_slice(record);
        Ok(())
    }

    /// Writes out what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            match self.file.write(&self.waiting[written..]) {
                _ if written == self.waiting.len() => break Ok(()),
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.waiting.drain(..written);
        result
    }

    /// Writes out what waits, and waits until it is on the disk.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.synchronise()
    }
}

impl Target for File {
    fn empty(&mut self) -> io::Result<()> {
        match self.set_len(0) {
            // Pipes and terminals have no length.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    fn synchronise(&mut self) -> io::Result<()> {
        match self.sync_all() {
            // Pipes and terminals cannot be synchronised, and need not be.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full after so many bytes.
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fitting = bytes.len().min(self.room).min(7);
            if fitting == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fitting;
            self.content.extend_from_slice(&bytes[..fitting]);
            Ok(fitting)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Disk {
        fn empty(&mut self) -> io::Result<()> {
            self.content.clear();
            Ok(())
        }

        fn synchronise(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn goes_on_where_a_full_disk_stopped_it() {
        let disk = Disk {
            content: b"old".to_vec(),
            room: 10,
        };
        let mut writer = Writer::onto(disk, Beginning::Emptied);
        assert_eq!(writer.file.content, b"old");
        writer.append(b"first record\n").unwrap();
        assert!(writer.flush().is_err());
        assert_eq!(writer.file.content, b"first reco");
        writer.file.room = 100;
        writer.append(b"second\n").unwrap();
        writer.close().unwrap();
        assert_eq!(writer.file.content, b"first record\nsecond\n");
    }

    #[test]
    fn refuses_a_record_whole_when_the_buffer_cannot_be_written() {
        let disk = Disk {
            content: Vec::new(),
            room: 0,
        };
        let mut writer = Writer::onto(disk, Beginning::Kept);
        writer.append(&vec![b'a'; BUFFER_BYTES]).unwrap();
        assert!(writer.append(b"b").is_err());
        writer.file.room = usize::MAX;
        writer.append(b"c").unwrap();
        writer.close().unwrap();
        assert_eq!(writer.file.content.len(), BUFFER_BYTES + 1);
        assert_eq!(writer.file.content.last(), Some(&b'c'));
    }
}
