//! Reads the records of a segment, whatever its bytes are.
//!
//! In: a file, where to begin and where to stop. Out: the sound records in order and the gaps
//! between them. Invariant: every step moves on, and no more is allocated than a record that the
//! file has room for.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::files::{File, read_full};
use crate::format::{Head, RECORD_BYTES, Seed};

/// How much is read at once, unless a record is larger. A record that is kept for long keeps that
/// much memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// Where a reader stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) offset: u64,
    /// The index that the next record should have.
    pub(crate) index: u32,
    /// The weight that should stand before it.
    pub(crate) before: u64,
}

/// A sound record.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) head: Head,
    pub(crate) offset: u64,
    pub(crate) meta: Bytes,
    pub(crate) payload: Bytes,
}

/// Records that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: u32,
    pub(crate) records: u32,
    pub(crate) weight: u64,
}

/// What was found next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Record(Found),
    /// What the next record says is missing before it. It follows.
    Gap {
        gap: Gap,
        next: Head,
    },
    End,
}

/// Reads a segment from its cursor on.
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    seed: Seed,
    pub(crate) cursor: Cursor,
    /// Where sound records end at the latest.
    pub(crate) end: u64,
    chunk: Bytes,
    chunk_at: u64,
}

impl Scanner {
    pub(crate) fn new(file: Arc<dyn File>, seed: Seed, cursor: Cursor, end: u64) -> Self {
        Self {
            file,
            seed,
            cursor,
            end,
            chunk: Bytes::new(),
            chunk_at: 0,
        }
    }

    /// The next record or gap.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut offset = self.cursor.offset;
        loop {
            let Some(head) = self.head(offset)? else {
                if offset.saturating_add(RECORD_BYTES) > self.end {
                    self.cursor.offset = self.cursor.offset.max(offset.min(self.end));
                    return Ok(Step::End);
                }
                offset += 8;
                continue;
            };
            let Some(body) = self.body(offset, &head)? else {
                // The head is sound, so its length is: what lies within is no record.
                offset += head.extent();
                continue;
            };
            let gap = Gap {
                first: self.cursor.index,
                records: head.index - self.cursor.index,
                weight: head.before.saturating_sub(self.cursor.before),
            };
            if gap.records > 0 {
                self.cursor = Cursor {
                    offset,
                    index: head.index,
                    before: head.before,
                };
                return Ok(Step::Gap { gap, next: head });
            }
            self.cursor = Cursor {
                offset: offset + head.extent(),
                index: head.index.saturating_add(1),
                before: head.before.saturating_add(head.weight.into()),
            };
            let (meta, payload) = body;
            return Ok(Step::Record(Found {
                head,
                offset,
                meta,
                payload,
            }));
        }
    }

    /// The head of a record at an offset, if one is there that can be the next.
    fn head(&mut self, offset: u64) -> io::Result<Option<Head>> {
        if offset.saturating_add(RECORD_BYTES) > self.end {
            return Ok(None);
        }
        let Some(bytes) = self.bytes(offset, RECORD_BYTES)? else {
            // The file is shorter than it was said to be.
            self.end = self.end.min(offset + RECORD_BYTES - 1);
            return Ok(None);
        };
        let fits = |head: &Head| {
            head.index >= self.cursor.index
                && u64::from(head.index) * RECORD_BYTES <= offset
                && offset + head.extent() <= self.end.next_multiple_of(8)
        };
        Ok(Head::decode(&bytes, self.seed).filter(fits))
    }

    /// The body of a record, if it is sound.
    fn body(&mut self, offset: u64, head: &Head) -> io::Result<Option<(Bytes, Bytes)>> {
        let len = u64::from(head.body_len);
        let Some(mut whole) = self.bytes(offset, RECORD_BYTES + len)? else {
            return Ok(None);
        };
        let mut meta = whole.split_off(RECORD_BYTES as usize);
        let payload = meta.split_off(head.meta_len as usize);
        let sound = Head::body_sum(self.seed, &meta, &payload) == head.body_sum;
        Ok(sound.then_some((meta, payload)))
    }

    /// Bytes of the file; `None` when it ends before.
    fn bytes(&mut self, offset: u64, len: u64) -> io::Result<Option<Bytes>> {
        let held = self.chunk_at..=self.chunk_at + self.chunk.len() as u64;
        if !held.contains(&offset) || !held.contains(&(offset + len)) {
            let left = self.end.next_multiple_of(8).saturating_sub(offset);
            let wanted = len.max(CHUNK_BYTES.min(left));
            let mut chunk = BytesMut::zeroed(usize::try_from(wanted).map_err(io::Error::other)?);
            let read = read_full(&*self.file, &mut chunk, offset)?;
            chunk.truncate(read);
            self.chunk = chunk.freeze();
            self.chunk_at = offset;
        }
        let from = (offset - self.chunk_at) as usize;
        let until = from + len as usize;
        Ok((until <= self.chunk.len()).then(|| self.chunk.slice(from..until)))
    }
}
