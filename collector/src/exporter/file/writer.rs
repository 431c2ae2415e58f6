//! The file, and what is not yet in it.
//!
//! In: whole records. Out: bytes in the file, in the order of the records.
//! Invariant: after a failed write the next one goes on at the very byte where it stopped, so
//! records are never torn or doubled; at most [`BUFFER_BYTES`] and one record wait.

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
    /// Whether so many more bytes belong into another file.
    fn is_full(&self, more: usize) -> bool;
    /// Begins another file.
    fn begin_another(&mut self) -> io::Result<()>;
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
        if self.file.is_full(self.waiting.len() + record.len()) {
            self.flush()?;
            self.file.begin_another()?;
        } else if self.waiting.len() >= BUFFER_BYTES {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full after so many bytes.
    struct Disk {
        content: Vec<u8>,
        room: usize,
        limit: usize,
        others: Vec<Vec<u8>>,
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

        fn is_full(&self, more: usize) -> bool {
            self.content.len() + more > self.limit
        }

        fn begin_another(&mut self) -> io::Result<()> {
            self.others.push(std::mem::take(&mut self.content));
            Ok(())
        }
    }

    fn disk(content: &[u8], room: usize) -> Disk {
        Disk {
            content: content.to_vec(),
            room,
            limit: usize::MAX,
            others: Vec::new(),
        }
    }

    #[test]
    fn another_file_begins_between_two_records() {
        let mut disk = disk(b"", 15);
        disk.limit = 10;
        let mut writer = Writer::onto(disk, Beginning::Kept);
        writer.append(b"one\n").unwrap();
        writer.append(b"two\n").unwrap();
        writer.append(b"three\n").unwrap();
        assert_eq!(writer.file.others, [&b"one\ntwo\n"[..]]);
        // The disk is full in the middle of a record, which stays in its file.
        assert!(writer.append(b"four\n").is_ok() && writer.flush().is_err());
        assert!(writer.append(b"fifth\n").is_err());
        writer.file.room = 100;
        writer.append(b"fifth\n").unwrap();
        writer.close().unwrap();
        assert_eq!(writer.file.others[1..], [&b"three\n"[..], b"four\n"]);
        assert_eq!(writer.file.content, b"fifth\n");
    }

    #[test]
    fn goes_on_where_a_full_disk_stopped_it() {
        let mut writer = Writer::onto(disk(b"old", 10), Beginning::Emptied);
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
        let mut writer = Writer::onto(disk(b"", 0), Beginning::Kept);
        writer.append(&vec![b'a'; BUFFER_BYTES]).unwrap();
        assert!(writer.append(b"b").is_err());
        writer.file.room = usize::MAX;
        writer.append(b"c").unwrap();
        writer.close().unwrap();
        assert_eq!(writer.file.content.len(), BUFFER_BYTES + 1);
        assert_eq!(writer.file.content.last(), Some(&b'c'));
    }
}
