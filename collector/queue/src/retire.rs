//! What becomes of segments: notes of what is done with, files removed, kept or written again.
//!
//! In: receipts, idle time, the need for room. Out: fewer files. Invariant: a file goes only when
//! all its records are done with or dropped on request; a damaged one keeps its bytes for a while.

use std::io::{ErrorKind, IoSlice};

use crate::files::{Access, write_all};
use crate::format::{Note, Seed};
use crate::writer::Writer;
use crate::{Amount, Receipt};

/// Files that are kept to be written again, since that costs the file system no metadata.
const SPARES: usize = 2;

/// How many files with notes are kept open.
const OPEN_NOTES: usize = 16;

impl Writer {
    /// Notes that records are done with, and retires the segments that are through.
    pub(crate) fn finish(&mut self, receipts: &[Receipt]) {
        let mut through = Vec::new();
        let mut ledger = self.shared.ledger();
        for receipt in receipts {
            let seed = Seed::new(self.salt, receipt.sequence);
            ledger
                .outstanding
                .remove(&(receipt.sequence, receipt.index));
            let amount = Amount {
                records: 1,
                weight: receipt.weight,
            };
            let Some(segment) = ledger.find(receipt.sequence) else {
                continue;
            };
            if !segment.done.insert(receipt.index, receipt.weight) {
                continue;
            }
            segment.is_damaged |= receipt.is_lost;
            if segment.is_done() {
                through.push(receipt.sequence);
            }
            ledger.left = ledger.left.less(amount);
            if receipt.is_lost {
                ledger.lost.add(amount);
            }
            let weight = u32::try_from(receipt.weight).unwrap_or(u32::MAX);
            let note = Note::Done {
                index: receipt.index,
                weight,
            };
            let notes = self.notes.entry(receipt.sequence).or_default();
            notes.pending.extend_from_slice(&note.encode(seed));
        }
        drop(ledger);
        let active = self.active.as_ref().map(|active| active.sequence);
        for sequence in through
            .into_iter()
            .filter(|sequence| Some(*sequence) != active)
        {
            self.retire(sequence);
        }
        self.flush_notes();
    }

    /// Writes the notes that are pending. What fails is only noted again by the next start.
    pub(crate) fn flush_notes(&mut self) {
        let mut open = self
            .notes
            .values()
            .filter(|notes| notes.file.is_some())
            .count();
        for (sequence, notes) in &mut self.notes {
            if notes.pending.is_empty() {
                continue;
            }
            let was_open = notes.file.is_some();
            let Some(file) = notes.open(&*self.files, &self.folder, *sequence) else {
                continue;
            };
            let len = notes.pending.len() as u64;
            if write_all(&*file, &mut [IoSlice::new(&notes.pending)], notes.len).is_ok() {
                notes.len += len;
                notes.is_dirty = true;
                notes.pending.clear();
                self.shared.ledger().note_bytes += len;
            }
            if !was_open && open >= OPEN_NOTES {
                notes.file = None;
            } else if !was_open {
                open += 1;
            }
        }
    }

    /// Makes the notes durable.
    pub(crate) fn sync_notes(&mut self) {
        for (sequence, notes) in self.notes.iter_mut().filter(|(_, notes)| notes.is_dirty) {
            if let Some(file) = notes.open(&*self.files, &self.folder, *sequence) {
                notes.is_dirty = file.sync_data().is_err();
            }
            notes.file = None;
        }
    }

    /// Ends a segment that is through: its file is kept to be written again, or removed.
    pub(crate) fn retire(&mut self, sequence: u64) {
        let mut ledger = self.shared.ledger();
        let Some(segment) = ledger.find(sequence) else {
            return;
        };
        let (len, is_damaged) = (segment.file_bytes, segment.is_damaged);
        drop(ledger);
        let path = self.path(sequence, "log");
        let is_worth_it = len >= self.bounds.segment_bytes / 2 && len <= self.bounds.segment_bytes;
        let gone = if is_damaged {
            self.files.rename(&path, &self.path(sequence, "damaged"))
        } else if self.spares.len() < SPARES && is_worth_it {
            let spare = self.path(sequence, "spare");
            self.files.rename(&path, &spare).map(|()| {
                self.spares.push((spare, len));
                self.shared.ledger().spare_bytes += len;
            })
        } else {
            self.files.remove(&path)
        };
        if gone.is_err_and(|error| error.kind() != ErrorKind::NotFound) {
            // It is tried again when the queue is idle.
            return;
        }
        self.is_folder_dirty = true;
        self.forget(sequence);
        if is_damaged {
            self.bound_damaged();
        }
    }

    /// Forgets a segment whose file is gone.
    fn forget(&mut self, sequence: u64) {
        if let Some(notes) = self.notes.remove(&sequence) {
            if notes.is_on_disk {
                let _ = self.files.remove(&self.path(sequence, "ack"));
            }
            let mut ledger = self.shared.ledger();
            ledger.note_bytes = ledger.note_bytes.saturating_sub(notes.len);
        }
        self.shared.ledger().forget(sequence);
    }

    pub(crate) fn retire_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.retire(active.sequence);
        }
    }

    pub(crate) fn remove_spare(&mut self) {
        if let Some((path, len)) = self.spares.pop() {
            let _ = self.files.remove(&path);
            self.shared.ledger().spare_bytes -= len;
            self.is_folder_dirty = true;
        }
    }

    /// Drops the oldest segment; false when there is none, or it cannot be removed.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        let ledger = self.shared.ledger();
        let Some(segment) = ledger.segments.front() else {
            return false;
        };
        let sequence = segment.sequence;
        let dropped = ledger.unread(segment);
        drop(ledger);
        if self.files.remove(&self.path(sequence, "log")).is_err() {
            return false;
        }
        self.is_folder_dirty = true;
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.sequence == sequence)
        {
            self.active = None;
        }
        self.forget(sequence);
        let mut ledger = self.shared.ledger();
        ledger.dropped.add(dropped);
        ledger.settle();
        true
    }

    /// Removes the oldest damaged segments that were kept, when there are too many.
    fn bound_damaged(&self) {
        let Ok(entries) = self.files.list(&self.folder) else {
            return;
        };
        let mut names: Vec<_> = entries
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| name.ends_with(".damaged"))
            .collect();
        names.sort();
        let mut kept = 0;
        for name in names.iter().rev() {
            let path = self.folder.join(name);
            let len = self
                .files
                .open(&path, Access::Read)
                .and_then(|file| file.size());
            kept += len.unwrap_or(0);
            if kept > self.bounds.damaged_bytes {
                let _ = self.files.remove(&path);
            }
        }
    }

    /// What is done when nothing else is: a queue in which nothing is left leaves no files.
    pub(crate) fn tidy(&mut self) {
        self.flush_notes();
        let ledger = self.shared.ledger();
        let is_empty = ledger.left.records == 0;
        let through: Vec<u64> = ledger
            .segments
            .iter()
            .filter(|segment| segment.is_done())
            .map(|segment| segment.sequence)
            .collect();
        drop(ledger);
        if is_empty {
            self.retire_active();
        }
        let active = self.active.as_ref().map(|active| active.sequence);
        for sequence in through
            .into_iter()
            .filter(|sequence| Some(*sequence) != active)
        {
            self.retire(sequence);
        }
        while is_empty && !self.spares.is_empty() {
            self.remove_spare();
        }
        self.note_durable();
        if self.is_folder_dirty && self.files.sync_folder(&self.folder).is_ok() {
            self.is_folder_dirty = false;
        }
    }

    /// Notes how much of the active segment is durable, so that damage to its end is known.
    pub(crate) fn note_durable(&mut self) {
        let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.noted != active.amount)
        else {
            return;
        };
        active.noted = active.amount;
        let (sequence, amount) = (active.sequence, active.amount);
        let note = Note::Durable {
            records: amount.records as u32,
            weight: amount.weight,
        };
        let bytes = note.encode(self.seed(sequence));
        let notes = self.notes.entry(sequence).or_default();
        notes.pending.extend_from_slice(&bytes);
        self.flush_notes();
    }
}
