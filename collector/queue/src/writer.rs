//! Commits groups of records to segments, notes what is done with, and retires segments.
//!
//! In: groups of records, receipts. Out: answers. Invariant: an answer is `Ok` only when the
//! records, the segment's name and everything before them are durable; what a write or an fsync
//! failed on is never written or synced again.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::AppendError;
use crate::files::{Access, File, Files, write_all};
use crate::format::{
    ACK_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Head, Header, RECORD_BYTES, Seed,
};
use crate::ledger::{Place, Segment, Shared, micros};
use crate::notes::Notes;
use crate::scan::Cursor;
use crate::space::Space;
use crate::{Amount, Overflow, READY_BYTES, Record};

/// What a writer is told.
#[derive(Clone)]
pub(crate) struct Bounds {
    pub(crate) max_bytes: u64,
    pub(crate) segment_bytes: u64,
    /// What damaged segments that are through may keep.
    pub(crate) damaged_bytes: u64,
    pub(crate) overflow: Overflow,
    pub(crate) space: Arc<Space>,
}

/// See the module.
pub(crate) struct Writer {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) folder: PathBuf,
    pub(crate) bounds: Bounds,
    pub(crate) shared: Arc<Shared>,
    pub(crate) salt: u64,
    pub(crate) next_sequence: u64,
    /// Everything that was ever appended.
    pub(crate) appended: Amount,
    pub(crate) notes: BTreeMap<u64, Notes>,
    pub(crate) active: Option<Active>,
    pub(crate) spares: Vec<(PathBuf, u64)>,
    pub(crate) is_folder_dirty: bool,
}

/// The segment that is written to.
pub(crate) struct Active {
    file: Arc<dyn File>,
    pub(crate) sequence: u64,
    header: Option<Header>,
    end: u64,
    pub(crate) amount: Amount,
    /// What was noted to be durable.
    pub(crate) noted: Amount,
    file_bytes: u64,
}

/// Records that become durable together.
struct Group<'a> {
    records: &'a [&'a Record],
    parts: Vec<Part>,
    amount: Amount,
    /// Where the last one ends.
    end: u64,
    /// Microseconds since 1970.
    appended_at: u64,
}

/// The place of a record in a group.
struct Part {
    head: Head,
    encoded: [u8; RECORD_BYTES as usize],
    offset: u64,
}

impl<'a> Group<'a> {
    fn new(records: &'a [&'a Record], seed: Seed, active: &Active) -> Self {
        let appended_at = micros(SystemTime::now());
        let mut after = active.amount;
        let mut end = active.end;
        let mut parts = Vec::with_capacity(records.len());
        for record in records {
            let head = Head {
                body_sum: Head::body_sum(seed, &record.meta, &record.payload),
                body_len: record.body_bytes() as u32,
                meta_len: record.meta.len() as u32,
                index: after.records as u32,
                weight: record.weight,
                durable_records: active.amount.records as u32,
                before: after.weight,
                durable_weight: active.amount.weight,
                appended_at,
            };
            parts.push(Part {
                head,
                encoded: head.encode(seed),
                offset: end,
            });
            after.add(Amount::of(record.weight));
            end += head.extent();
        }
        Self {
            records,
            parts,
            amount: after.less(active.amount),
            end,
            appended_at,
        }
    }

    /// The bytes of the group, behind those of a header.
    fn slices<'b>(&'b self, header: Option<&'b [u8; HEADER_BYTES as usize]>) -> Vec<IoSlice<'b>> {
        let mut slices = Vec::with_capacity(1 + self.parts.len() * 4);
        slices.extend(header.map(|header| IoSlice::new(header)));
        for (part, record) in self.parts.iter().zip(self.records) {
            let padding = part.head.extent() - RECORD_BYTES - record.body_bytes();
            let padding = &[0; 8][..padding as usize];
            let bytes = [&part.encoded[..], &record.meta, &record.payload, padding];
            slices.extend(
                bytes
                    .into_iter()
                    .filter(|bytes| !bytes.is_empty())
                    .map(IoSlice::new),
            );
        }
        slices
    }
}

/// The path of a segment's file with this ending.
pub(crate) fn segment_path(folder: &Path, sequence: u64, ending: &str) -> PathBuf {
    folder.join(format!("{sequence:020}.{ending}"))
}

/// What a record takes on disk, with the note that it is done with.
fn cost(record: &Record) -> u64 {
    Head::extent_of(record.body_bytes()) + ACK_BYTES as u64
}

impl Writer {
    pub(crate) fn seed(&self, sequence: u64) -> Seed {
        Seed::new(self.salt, sequence)
    }

    pub(crate) fn path(&self, sequence: u64, ending: &str) -> PathBuf {
        segment_path(&self.folder, sequence, ending)
    }

    /// Appends records; each has its answer.
    pub(crate) fn commit(&mut self, records: &[Record]) -> Vec<Result<(), AppendError>> {
        let mut answers: Vec<_> = self.admit(records);
        let admitted: Vec<&Record> = records
            .iter()
            .zip(&answers)
            .filter_map(|(record, answer)| answer.is_ok().then_some(record))
            .collect();
        if admitted.is_empty() {
            return answers;
        }
        if let Err(error) = self.write(&admitted) {
            self.abandon();
            let error = AppendError::from(error);
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(error.clone());
            }
        }
        answers
    }

    /// Which records there is room for.
    fn admit(&mut self, records: &[Record]) -> Vec<Result<(), AppendError>> {
        let largest = self
            .bounds
            .max_bytes
            .saturating_sub(HEADER_BYTES + FOOTER_BYTES);
        let fits = |record: &&Record| {
            cost(record) <= largest && u32::try_from(record.body_bytes()).is_ok()
        };
        let total: u64 = records.iter().filter(fits).map(cost).sum();
        let full = |active: &Active| active.end + total > self.bounds.segment_bytes;
        if self.active.as_ref().is_some_and(full) {
            self.seal();
        }
        self.make_room(total);
        let mut budget = self.budget();
        let has_space = self.has_space(total.min(budget));
        let answer = |record: &Record| {
            let cost = cost(record);
            if !fits(&record) {
                Err(AppendError::TooLarge {
                    bytes: cost,
                    max_bytes: largest,
                })
            } else if !has_space {
                Err(AppendError::NoSpace)
            } else if cost > budget {
                Err(AppendError::Full {
                    max_bytes: self.bounds.max_bytes,
                })
            } else {
                budget -= cost;
                Ok(())
            }
        };
        records.iter().map(answer).collect()
    }

    /// The bytes that may still be appended, a file that is written again included.
    fn budget(&self) -> u64 {
        let left = self
            .bounds
            .max_bytes
            .saturating_sub(self.shared.ledger().bytes());
        match &self.active {
            Some(active) => {
                (left + active.file_bytes.saturating_sub(active.end)).saturating_sub(FOOTER_BYTES)
            }
            None => (left + self.spares.last().map_or(0, |(_, len)| *len))
                .saturating_sub(HEADER_BYTES + FOOTER_BYTES),
        }
    }

    /// Whether the file system has room for so much more.
    fn has_space(&self, bytes: u64) -> bool {
        let slack = match &self.active {
            Some(active) => active.file_bytes.saturating_sub(active.end),
            None => self.spares.last().map_or(0, |(_, len)| *len),
        };
        self.bounds.space.admits(bytes.saturating_sub(slack))
    }

    /// Does without what is not needed, and without the oldest records where that was asked for.
    fn make_room(&mut self, bytes: u64) {
        let lacks = |writer: &Self| writer.budget() < bytes || !writer.has_space(bytes);
        if lacks(self) {
            let done = |active: &Active| {
                let mut ledger = self.shared.ledger();
                ledger
                    .find(active.sequence)
                    .is_some_and(|segment| segment.is_done())
            };
            if self.active.as_ref().is_some_and(done) {
                self.retire_active();
            }
        }
        while lacks(self) && self.spares.len() > 1 {
            self.remove_spare();
        }
        while self.bounds.overflow == Overflow::DropOldest && lacks(self) && self.drop_oldest() {}
    }

    /// Writes a group and makes it durable.
    fn write(&mut self, records: &[&Record]) -> io::Result<()> {
        if self.active.is_none() {
            self.active = Some(self.begin()?);
        }
        let Some(active) = &mut self.active else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let group = Group::new(records, Seed::new(self.salt, active.sequence), active);
        let header = active.header.take().map(|header| header.encode());
        let start = if header.is_some() { 0 } else { active.end };
        write_all(&*active.file, &mut group.slices(header.as_ref()), start)?;
        self.shared.ledger().fsyncs += 1;
        active.file.sync_data()?;
        active.end = group.end;
        active.amount.add(group.amount);
        active.file_bytes = active.file_bytes.max(group.end);
        self.appended.add(group.amount);
        publish(&self.shared, active.sequence, &group);
        Ok(())
    }

    /// Begins a segment, whose name is durable after this.
    fn begin(&mut self) -> io::Result<Active> {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let path = self.path(sequence, "log");
        let (file, file_bytes) = match self.spares.pop() {
            Some((spare, len)) => {
                self.shared.ledger().spare_bytes -= len;
                self.files.rename(&spare, &path)?;
                (self.files.open(&path, Access::Write)?, len)
            }
            None => (self.files.open(&path, Access::Create)?, HEADER_BYTES),
        };
        if let Err(error) = self.files.sync_folder(&self.folder) {
            // The segment was not answered from; without its file nothing is owed.
            let _ = self.files.remove(&path);
            return Err(error);
        }
        self.is_folder_dirty = false;
        let Amount { records, weight } = self.appended;
        let mut ledger = self.shared.ledger();
        ledger.segments.push_back(Segment {
            sequence,
            end: HEADER_BYTES,
            file_bytes,
            ..Segment::default()
        });
        ledger.settle();
        let header = Header {
            sequence,
            salt: self.salt,
            records_before: records,
            weight_before: weight,
        };
        Ok(Active {
            file,
            sequence,
            header: Some(header),
            end: HEADER_BYTES,
            amount: Amount::default(),
            noted: Amount::default(),
            file_bytes,
        })
    }

    /// Leaves a segment at its last durable end after a failure.
    fn abandon(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        // Best effort: what stands behind the durable end was refused.
        let cut = active.file.set_len(active.end).is_ok();
        if active.amount.records == 0 {
            self.shared.ledger().forget(active.sequence);
            let _ = self.files.remove(&self.path(active.sequence, "log"));
            return;
        }
        if let Some(segment) = self.shared.ledger().find(active.sequence) {
            segment.file_bytes = if cut { active.end } else { active.file_bytes };
        }
    }

    /// Ends the active segment with a footer.
    pub(crate) fn seal(&mut self) {
        // Should footer and last record be damaged together, the note still says what was there.
        self.note_durable();
        let Some(active) = self.active.take() else {
            return;
        };
        let mut ledger = self.shared.ledger();
        let first_at = ledger
            .find(active.sequence)
            .map_or(0, |segment| segment.first_at);
        drop(ledger);
        let footer = Footer {
            records: active.amount.records as u32,
            weight: active.amount.weight,
            end: active.end,
            first_at,
        };
        let bytes = footer.encode(self.seed(active.sequence));
        // A footer spares the next start a scan; without one the scan finds the same.
        let sealed = write_all(&*active.file, &mut [IoSlice::new(&bytes)], active.end)
            .and_then(|()| active.file.set_len(active.end + FOOTER_BYTES));
        let mut ledger = self.shared.ledger();
        if let Some(segment) = ledger.find(active.sequence) {
            let len = active.end + FOOTER_BYTES;
            segment.file_bytes = if sealed.is_ok() {
                len
            } else {
                active.file_bytes.max(len)
            };
        }
        let done = ledger
            .find(active.sequence)
            .is_some_and(|segment| segment.is_done());
        drop(ledger);
        if done {
            self.retire(active.sequence);
        }
    }

    /// Makes everything durable and leaves nothing open.
    pub(crate) fn close(&mut self) {
        self.flush_notes();
        let sealed = self.active.as_ref().map(|active| Arc::clone(&active.file));
        self.seal();
        if let Some(file) = sealed {
            let _ = file.sync_data();
        }
        self.tidy();
        while !self.spares.is_empty() {
            self.remove_spare();
        }
        self.sync_notes();
        let _ = self.files.sync_folder(&self.folder);
    }
}

/// Tells the readers of a group that is durable.
fn publish(shared: &Shared, sequence: u64, group: &Group<'_>) {
    let mut ledger = shared.ledger();
    ledger.settle();
    let place = |part: &Part| {
        let cursor = Cursor {
            offset: part.offset,
            index: part.head.index,
            before: part.head.before,
        };
        Place { sequence, cursor }
    };
    // Who reads on the heels of the writer gets the records from memory.
    let follows = group
        .parts
        .first()
        .is_some_and(|first| ledger.filled == place(first))
        && ledger.ready_bytes < READY_BYTES;
    ledger.left.add(group.amount);
    if let Some(segment) = ledger.find(sequence) {
        if segment.amount.records == 0 {
            segment.first_at = group.appended_at;
        }
        segment.amount.add(group.amount);
        segment.end = group.end;
        segment.file_bytes = segment.file_bytes.max(group.end);
    }
    if follows {
        for (record, part) in group.records.iter().zip(&group.parts) {
            ledger.push(
                place(part),
                record.weight,
                group.appended_at,
                (*record).clone(),
            );
        }
        ledger.filled.cursor.offset = group.end;
        drop(ledger);
        shared.ready.notify_one();
    } else if ledger.reader_waits {
        shared.readable.notify_one();
    }
}
