//! Reads around the unreadable parts of a file.
//!
//! In: a file that cannot be read whole. Out: its bytes, with zeros where the disk gives none,
//! which the checksums then find. Invariant: where nothing at all can be read, the disk is taken
//! to be gone rather than empty.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::files::File;

/// What is given up together.
const BLOCK_BYTES: usize = 4096;

/// See the module.
pub(crate) struct Salvaged(pub(crate) Arc<dyn File>);

impl File for Salvaged {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let error = match self.0.read_at(into, offset) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let (mut done, mut readable) = (0, 0);
        while done < into.len() {
            let at = offset + done as u64;
            let to_boundary = BLOCK_BYTES - (at % BLOCK_BYTES as u64) as usize;
            let until = into.len().min(done + to_boundary);
            let block = &mut into[done..until];
            match self.0.read_at(block, at) {
                Ok(0) => break,
                Ok(read) => {
                    readable += read;
                    done += read;
                }
                Err(_) => {
                    block.fill(0);
                    done = until;
                }
            }
        }
        if readable == 0 { Err(error) } else { Ok(done) }
    }

    fn write_vectored_at(&self, from: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.0.write_vectored_at(from, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
