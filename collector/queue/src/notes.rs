//! The notes beside a segment: what is done with, and how much was durable.
//!
//! In: the file beside a segment. Out: its sound entries. Invariant: a note that is damaged is as
//! if it were not there, which costs a repetition and never a record.

use std::path::Path;
use std::sync::Arc;

use crate::Amount;
use crate::files::{Access, File, Files, read_full};
use crate::format::{ACK_BYTES, Note, Seed};
use crate::scan::Gap;
use crate::writer::segment_path;

/// The most bytes of notes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Notes that are being written.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) file: Option<Arc<dyn File>>,
    pub(crate) len: u64,
    pub(crate) is_on_disk: bool,
    /// Whether some were written and not synced.
    pub(crate) is_dirty: bool,
    pub(crate) pending: Vec<u8>,
}

impl Notes {
    /// The file of the notes beside a segment.
    pub(crate) fn open(
        &mut self,
        files: &dyn Files,
        folder: &Path,
        sequence: u64,
    ) -> Option<Arc<dyn File>> {
        if self.file.is_none() {
            let path = segment_path(folder, sequence, "ack");
            let access = if self.len == 0 {
                Access::Create
            } else {
                Access::Write
            };
            self.file = files.open(&path, access).ok();
            self.is_on_disk |= self.file.is_some();
        }
        self.file.clone()
    }
}

/// Notes that were found.
#[derive(Default)]
pub(crate) struct Noted {
    /// Index and weight of what is done with.
    pub(crate) done: Vec<(u32, u32)>,
    /// The most that was noted to be durable.
    pub(crate) durable: Amount,
    /// The bytes of whole notes.
    pub(crate) len: u64,
    pub(crate) is_on_disk: bool,
}

impl Noted {
    pub(crate) fn read(files: &dyn Files, folder: &Path, salt: u64, sequence: u64) -> Self {
        let mut noted = Self::default();
        let path = segment_path(folder, sequence, "ack");
        let Ok(file) = files.open(&path, Access::Read) else {
            return noted;
        };
        noted.is_on_disk = true;
        let seed = Seed::new(salt, sequence);
        let mut bytes = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = read_full(&*file, &mut bytes, noted.len) {
            for note in bytes[..read].chunks_exact(ACK_BYTES) {
                noted.len += ACK_BYTES as u64;
                match Note::decode(note, seed) {
                    Some(Note::Done { index, weight }) => noted.done.push((index, weight)),
                    Some(Note::Durable { records, weight }) => {
                        let durable = Amount {
                            records: records.into(),
                            weight,
                        };
                        noted.durable = noted.durable.max(durable);
                    }
                    None => {}
                }
            }
            if read < bytes.len() {
                break;
            }
        }
        noted.done.sort_unstable();
        noted.done.dedup_by_key(|(index, _)| *index);
        noted
    }

    /// The weight of what is done with in a gap.
    pub(crate) fn weight_in(&self, gap: Gap) -> u64 {
        let until = gap.first.saturating_add(gap.records);
        let from = self.done.partition_point(|(index, _)| *index < gap.first);
        let inside = self.done[from..]
            .iter()
            .take_while(|(index, _)| *index < until);
        inside.map(|(_, weight)| u64::from(*weight)).sum()
    }
}
