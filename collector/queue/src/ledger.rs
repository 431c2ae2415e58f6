//! What is known of a queue's segments, and what is ready to be handed out.
//!
//! In: what the writer committed, what the reader read, what was acknowledged. Out: counts and
//! records. Invariant: it does no I/O, so its lock is never held across any; its size is that of
//! the bytes that may be ready, and a bit per record of the segments that are partly acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::format::HEADER_BYTES;
use crate::scan::Cursor;
use crate::{Amount, Delivery, Receipt, Record};

/// The records of a segment that are done with.
#[derive(Debug, Default)]
pub(crate) struct Done {
    bits: Vec<u64>,
    pub(crate) amount: Amount,
}

impl Done {
    pub(crate) fn contains(&self, index: u32) -> bool {
        let word = self.bits.get(index as usize / 64).copied().unwrap_or(0);
        word >> (index % 64) & 1 == 1
    }

    /// Whether it was not contained before.
    pub(crate) fn insert(&mut self, index: u32, weight: u64) -> bool {
        if self.contains(index) {
            return false;
        }
        let word = index as usize / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (index % 64);
        self.amount.add(Amount { records: 1, weight });
        true
    }
}

/// A segment.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    /// What is durable in it.
    pub(crate) amount: Amount,
    /// Where its durable records end.
    pub(crate) end: u64,
    pub(crate) file_bytes: u64,
    pub(crate) done: Done,
    /// What is done with and not yet passed by the reader.
    pub(crate) done_ahead: Amount,
    /// When its first record was appended, in microseconds since 1970.
    pub(crate) first_at: u64,
    pub(crate) is_damaged: bool,
}

impl Segment {
    pub(crate) fn is_done(&self) -> bool {
        self.done.amount.records >= self.amount.records
    }

    pub(crate) fn left(&self) -> Amount {
        self.amount.less(self.done.amount)
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) cursor: Cursor,
}

impl Place {
    pub(crate) const fn start(sequence: u64) -> Self {
        let cursor = Cursor {
            offset: HEADER_BYTES,
            index: 0,
            before: 0,
        };
        Self { sequence, cursor }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Ascending by sequence.
    pub(crate) segments: VecDeque<Segment>,
    /// Up to where records are ready or handed out.
    pub(crate) filled: Place,
    pub(crate) ready: VecDeque<Delivery>,
    pub(crate) ready_bytes: usize,
    /// When the records were appended that were handed out and are not yet done with.
    pub(crate) outstanding: BTreeMap<(u64, u32), u64>,
    /// What is not yet done with.
    pub(crate) left: Amount,
    pub(crate) lost: Amount,
    pub(crate) dropped: Amount,
    pub(crate) fsyncs: u64,
    /// Files that are kept to be written again.
    pub(crate) spare_bytes: u64,
    /// Acknowledgements on disk.
    pub(crate) note_bytes: u64,
    pub(crate) is_closed: bool,
    pub(crate) reader_waits: bool,
}

impl Ledger {
    pub(crate) fn new(segments: VecDeque<Segment>) -> Self {
        let mut left = Amount::default();
        segments.iter().for_each(|segment| left.add(segment.left()));
        Self {
            filled: Place::start(segments.front().map_or(0, |segment| segment.sequence)),
            segments,
            ready: VecDeque::new(),
            ready_bytes: 0,
            outstanding: BTreeMap::new(),
            left,
            lost: Amount::default(),
            dropped: Amount::default(),
            fsyncs: 0,
            spare_bytes: 0,
            note_bytes: 0,
            is_closed: false,
            reader_waits: false,
        }
    }

    pub(crate) fn find(&mut self, sequence: u64) -> Option<&mut Segment> {
        let place = self
            .segments
            .binary_search_by_key(&sequence, |segment| segment.sequence);
        place.ok().and_then(|index| self.segments.get_mut(index))
    }

    /// Forgets a segment; what was left of it is no longer left.
    pub(crate) fn forget(&mut self, sequence: u64) -> Option<Segment> {
        let place = self
            .segments
            .binary_search_by_key(&sequence, |segment| segment.sequence);
        let segment = self.segments.remove(place.ok()?)?;
        self.left = self.left.less(segment.left());
        Some(segment)
    }

    /// What of a segment was neither done with nor handed out.
    pub(crate) fn unread(&self, segment: &Segment) -> Amount {
        if segment.sequence < self.filled.sequence {
            return Amount::default();
        }
        let mut unread = segment.amount.less(segment.done_ahead);
        if segment.sequence == self.filled.sequence {
            let cursor = self.filled.cursor;
            unread = unread.less(Amount {
                records: cursor.index.into(),
                weight: cursor.before,
            });
        }
        unread
    }

    /// The bytes of the queue's files.
    pub(crate) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.file_bytes).sum();
        segments + self.spare_bytes + self.note_bytes
    }

    /// Moves the place behind segments that are through or gone. Returns whether there is
    /// something to read there.
    pub(crate) fn settle(&mut self) -> bool {
        let at = self
            .segments
            .partition_point(|segment| segment.sequence < self.filled.sequence);
        for segment in self.segments.iter().skip(at) {
            if segment.sequence != self.filled.sequence {
                self.filled = Place::start(segment.sequence);
            }
            if u64::from(self.filled.cursor.index) < segment.amount.records {
                return true;
            }
        }
        false
    }

    /// Makes a record ready, unless it is done with, and moves on behind it.
    pub(crate) fn push(&mut self, at: Place, weight: u32, time: u64, record: Record) {
        let index = at.cursor.index;
        self.filled = at;
        self.filled.cursor.index += 1;
        self.filled.cursor.before += u64::from(weight);
        let Some(segment) = self.find(at.sequence) else {
            return;
        };
        if segment.done.contains(index) {
            segment.done_ahead = segment.done_ahead.less(Amount::of(weight));
            return;
        }
        self.ready_bytes += record.held_bytes();
        let receipt = Receipt {
            sequence: at.sequence,
            index,
            weight: weight.into(),
            is_lost: false,
        };
        let appended_at = SystemTime::UNIX_EPOCH + Duration::from_micros(time);
        self.ready.push_back(Delivery {
            record,
            receipt,
            appended_at,
        });
    }

    /// Hands out the oldest record that is ready.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.ready.pop_front()?;
        self.ready_bytes -= delivery.record.held_bytes();
        let receipt = &delivery.receipt;
        let time = micros(delivery.appended_at);
        self.outstanding
            .insert((receipt.sequence, receipt.index), time);
        Some(delivery)
    }

    /// When the oldest record that is not done with was appended.
    pub(crate) fn oldest_at(&self) -> Option<u64> {
        if self.left.records == 0 {
            return None;
        }
        let handed = self.outstanding.values().next().copied();
        let ready = self
            .ready
            .front()
            .map(|delivery| micros(delivery.appended_at));
        let waiting = || {
            let segment = self.segments.iter().find(|segment| !segment.is_done())?;
            Some(segment.first_at)
        };
        handed.or(ready).or_else(waiting)
    }
}

/// Microseconds since 1970.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A ledger that threads and tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    /// Something is ready, or it is closed.
    pub(crate) ready: Notify,
    /// There is something to read, or it is closed.
    pub(crate) readable: Condvar,
}

impl Shared {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self {
            ledger: Mutex::new(ledger),
            ready: Notify::new(),
            readable: Condvar::new(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
