//! Opens the files of a queue, whatever they hold.
//!
//! In: a folder. Out: a writer that goes on behind them, and what was found. Invariant: it fails
//! only when the folder cannot be listed; what it does not understand it sets aside and names.
//!
//! A segment with a footer is not read. One without was being written to when the process ended:
//! it is scanned, made durable and given its footer. What is missing of the records that were
//! durable is lost and counted; what was never durable was never answered, and is not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{Access, File, Files, read_full, write_all};
use crate::format::{
    ACK_BYTES, Beginning, FOOTER_BYTES, Footer, HEADER_BYTES, Header, IDENTITY_BYTES, Note, Seed,
    aligned, decode_identity, encode_identity,
};
use crate::ledger::{Ledger, Place, Segment, Shared};
use crate::scan::{Gap, Scanner, Step};
use crate::writer::{Bounds, Notes, Writer, segment_path};
use crate::{Amount, Loss, Opened, SetAside};

/// The file with the queue's identity.
const IDENTITY: &str = "queue";

/// The most bytes of notes that are read at once.
const NOTES_CHUNK_BYTES: usize = 64 << 10;

/// What the notes beside a segment say.
#[derive(Default)]
struct Noted {
    done: Vec<(u32, u32)>,
    durable: Amount,
    /// The bytes of whole notes.
    len: u64,
}

/// A file that holds a segment.
struct Candidate {
    sequence: u64,
    file: Arc<dyn File>,
    len: u64,
    header: Option<Header>,
}

/// Opens the segments of a folder that this process has locked.
pub(crate) fn recover(
    files: Arc<dyn Files>,
    folder: &Path,
    bounds: Bounds,
) -> io::Result<(Writer, Opened)> {
    let mut opened = Opened::default();
    let mut sequences = BTreeSet::new();
    let mut acks = BTreeSet::new();
    let mut last = 0;
    for entry in files
        .list(folder)?
        .into_iter()
        .filter(|entry| !entry.is_folder)
    {
        let Some((sequence, ending)) = parse_name(&entry.name) else {
            continue;
        };
        last = last.max(sequence);
        match ending {
            "log" => drop(sequences.insert(sequence)),
            "ack" => drop(acks.insert(sequence)),
            // A spare holds nothing that is owed.
            "spare" => drop(files.remove(&folder.join(&entry.name))),
            _ => {}
        }
    }
    for orphan in acks.difference(&sequences) {
        let _ = files.remove(&segment_path(folder, *orphan, "ack"));
    }
    let mut recovery = Recovery {
        files: &files,
        folder,
        salt: 0,
        opened: &mut opened,
    };
    let found = recovery.candidates(&sequences);
    recovery.salt = recovery.identity(&found)?;
    let (segments, notes, appended) = recovery.segments(found);
    let salt = recovery.salt;

    let mut ledger = Ledger::new(segments);
    ledger.note_bytes = notes.values().map(|notes| notes.len).sum();
    for loss in &opened.losses {
        ledger.lost.add(loss.amount);
    }
    opened.left = ledger.left;
    opened.segments = ledger.segments.len();
    let mut writer = Writer {
        files: Arc::clone(&files),
        folder: folder.to_owned(),
        bounds,
        shared: Arc::new(Shared::new(ledger)),
        salt,
        next_sequence: last + 1,
        appended,
        notes,
        active: None,
        spares: Vec::new(),
        is_folder_dirty: true,
    };
    writer.tidy();
    Ok((writer, opened))
}

/// The sequence and the ending of a segment's file name.
pub(crate) fn parse_name(name: &str) -> Option<(u64, &str)> {
    let (digits, ending) = name.split_once('.')?;
    (digits.len() == 20).then(|| Some((digits.parse().ok()?, ending)))?
}

struct Recovery<'a> {
    files: &'a Arc<dyn Files>,
    folder: &'a Path,
    salt: u64,
    opened: &'a mut Opened,
}

impl Recovery<'_> {
    /// The files that hold segments; what does not is set aside or, when it is empty, removed.
    fn candidates(&mut self, sequences: &BTreeSet<u64>) -> Vec<Candidate> {
        let mut found = Vec::new();
        for sequence in sequences.iter().copied() {
            let path = segment_path(self.folder, sequence, "log");
            match self.candidate(sequence, &path) {
                Ok(Some(candidate)) => found.push(candidate),
                Ok(None) => drop(self.files.remove(&path)),
                Err(reason) => self.set_aside(&path, reason),
            }
        }
        found
    }

    fn candidate(&self, sequence: u64, path: &Path) -> Result<Option<Candidate>, Reason> {
        let unreadable = |error: io::Error| Reason::Unreadable(error.to_string());
        let file = self
            .files
            .open(path, Access::Write)
            .or_else(|_| self.files.open(path, Access::Read))
            .map_err(unreadable)?;
        let len = file.size().map_err(unreadable)?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = read_full(&*file, &mut bytes, 0).map_err(unreadable)?;
        let header = match Header::decode(&bytes[..read]) {
            // A file that was to be written again, and was not.
            Beginning::Header(header) if header.sequence != sequence => return Ok(None),
            Beginning::Header(header) => Some(header),
            Beginning::OtherVersion(version) => return Err(Reason::Version(version)),
            // Whether there are records behind them the scan will tell.
            Beginning::Damaged | Beginning::Foreign | Beginning::Blank => None,
        };
        if len == 0 {
            return Ok(None);
        }
        Ok(Some(Candidate {
            sequence,
            file,
            len,
            header,
        }))
    }

    fn set_aside(&mut self, path: &Path, reason: Reason) {
        let ending = match &reason {
            Reason::Version(version) => format!("version-{version}"),
            Reason::Foreign => "foreign".into(),
            Reason::Unreadable(_) => "unreadable".into(),
        };
        let to = path.with_extension(ending);
        let moved = self.files.rename(path, &to).is_ok();
        let path = if moved { to } else { path.to_owned() };
        self.opened.set_aside.push(SetAside {
            path,
            reason: reason.to_string(),
        });
    }

    /// The salt of the queue: from its file, or a segment's header, or made.
    fn identity(&self, found: &[Candidate]) -> io::Result<u64> {
        let path = self.folder.join(IDENTITY);
        let mut bytes = [0; IDENTITY_BYTES];
        let read = self
            .files
            .open(&path, Access::Read)
            .and_then(|file| read_full(&*file, &mut bytes, 0));
        let kept = read.ok().and_then(|read| decode_identity(&bytes[..read]));
        let headers = found.iter().rev().find_map(|candidate| candidate.header);
        let salt = match (kept, headers) {
            // The headers are what the records were written with.
            (_, Some(header)) => header.salt,
            (Some(salt), None) => salt,
            (None, None) => RandomState::new().hash_one(self.folder),
        };
        if kept != Some(salt) {
            let fresh = self.folder.join("queue.new");
            // Best effort: each header bears the salt too.
            let _ = self.files.open(&fresh, Access::Create).and_then(|file| {
                write_all(&*file, &mut [IoSlice::new(&encode_identity(salt))], 0)?;
                file.sync_data()?;
                self.files.rename(&fresh, &path)?;
                self.files.sync_folder(self.folder)
            });
        }
        Ok(salt)
    }

    fn segments(
        &mut self,
        found: Vec<Candidate>,
    ) -> (VecDeque<Segment>, BTreeMap<u64, Notes>, Amount) {
        let mut segments = VecDeque::new();
        let mut all_notes = BTreeMap::new();
        let mut appended = Amount::default();
        for (place, candidate) in found.iter().enumerate() {
            let next = found
                .get(place + 1)
                .filter(|next| next.sequence == candidate.sequence + 1);
            let next = next.and_then(|next| next.header);
            if let Some(header) = candidate.header {
                let before = Amount {
                    records: header.records_before,
                    weight: header.weight_before,
                };
                appended = appended.max(before);
            }
            let noted = self.notes(candidate.sequence);
            let mut notes = Notes {
                len: noted.len,
                ..Notes::default()
            };
            if let Some(segment) = self.segment(candidate, next, &noted, &mut notes) {
                appended.add(segment.amount);
                segments.push_back(segment);
                if notes.len > 0 || !notes.pending.is_empty() {
                    all_notes.insert(candidate.sequence, notes);
                }
            }
        }
        (segments, all_notes, appended)
    }

    /// Reads the notes beside a segment; what is damaged of them is as if it were not there.
    fn notes(&self, sequence: u64) -> Noted {
        let mut noted = Noted::default();
        let path = segment_path(self.folder, sequence, "ack");
        let Ok(file) = self.files.open(&path, Access::Read) else {
            return noted;
        };
        let seed = Seed::new(self.salt, sequence);
        let mut bytes = vec![0; NOTES_CHUNK_BYTES];
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
        noted
    }

    /// What a file holds; `None` when nothing of it is left.
    fn segment(
        &mut self,
        candidate: &Candidate,
        next: Option<Header>,
        noted: &Noted,
        notes: &mut Notes,
    ) -> Option<Segment> {
        let seed = Seed::new(self.salt, candidate.sequence);
        let mut segment = Segment {
            sequence: candidate.sequence,
            file_bytes: candidate.len,
            is_damaged: candidate.header.is_none(),
            ..Segment::default()
        };
        if let Some(footer) = self.footer(candidate, seed) {
            segment.amount = Amount {
                records: footer.records.into(),
                weight: footer.weight,
            };
            segment.end = footer.end;
            segment.first_at = footer.first_at;
            self.mark_done(&mut segment, noted, None, notes, seed);
            return Some(segment);
        }
        let mut durable = noted.durable;
        if let (Some(own), Some(next)) = (candidate.header, next) {
            durable = durable.max(Amount {
                records: next.records_before.saturating_sub(own.records_before),
                weight: next.weight_before.saturating_sub(own.weight_before),
            });
        }
        let scanned = match scan(candidate, seed, durable) {
            Ok(scanned) => scanned,
            Err(error) => {
                let path = segment_path(self.folder, candidate.sequence, "log");
                self.set_aside(&path, Reason::Unreadable(error.to_string()));
                return None;
            }
        };
        if scanned.amount.records == 0 {
            self.nothing_in(candidate);
            return None;
        }
        segment.amount = scanned.amount;
        segment.end = scanned.end;
        segment.first_at = scanned.first_at;
        self.mark_done(&mut segment, noted, Some(&scanned), notes, seed);
        self.finish(candidate, seed, &mut segment);
        Some(segment)
    }

    /// A segment without records was never answered from, unless it was made unreadable.
    fn nothing_in(&mut self, candidate: &Candidate) {
        let path = segment_path(self.folder, candidate.sequence, "log");
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = read_full(&*candidate.file, &mut bytes, 0).unwrap_or(0);
        match Header::decode(&bytes[..read]) {
            Beginning::Header(_) | Beginning::Blank => drop(self.files.remove(&path)),
            _ => self.set_aside(&path, Reason::Foreign),
        }
        let _ = self.files.remove(&path.with_extension("ack"));
    }

    fn footer(&self, candidate: &Candidate, seed: Seed) -> Option<Footer> {
        let at = candidate.len.checked_sub(FOOTER_BYTES)?;
        let mut bytes = [0; FOOTER_BYTES as usize];
        let read = read_full(&*candidate.file, &mut bytes, at).ok()?;
        let footer = Footer::decode(&bytes[..read], seed)?;
        (footer.end <= at).then_some(footer)
    }

    /// Marks what was acknowledged before, what is lost, and what was never answered.
    fn mark_done(
        &mut self,
        segment: &mut Segment,
        noted: &Noted,
        scanned: Option<&Scanned>,
        notes: &mut Notes,
        seed: Seed,
    ) {
        for (index, weight) in &noted.done {
            if u64::from(*index) < segment.amount.records {
                segment.done.insert(*index, u64::from(*weight));
            }
        }
        let mut lost = Amount::default();
        for hole in scanned.map_or(&[][..], |scanned| &scanned.holes) {
            let weights = noted
                .done
                .iter()
                .filter(|(index, _)| hole.gap.contains(*index));
            let done: HashMap<u32, u32> = weights.copied().collect();
            let done_weight: u64 = done.values().map(|weight| u64::from(*weight)).sum();
            let mut weight = hole.gap.weight.saturating_sub(done_weight);
            for index in hole.gap.first..hole.gap.first.saturating_add(hole.gap.records) {
                if segment.done.insert(index, weight) {
                    let amount = Amount { records: 1, weight };
                    if hole.was_durable {
                        lost.add(amount);
                    }
                    let weight = u32::try_from(weight).unwrap_or(u32::MAX);
                    notes
                        .pending
                        .extend_from_slice(&Note::Done { index, weight }.encode(seed));
                }
                // The weight of the hole is known as a whole, so its first record bears it.
                weight = 0;
            }
        }
        segment.done_ahead = segment.done.amount;
        if lost.records > 0 {
            segment.is_damaged = true;
            self.opened.losses.push(Loss {
                segment: segment.sequence,
                amount: lost,
            });
        }
    }

    /// Makes a scanned segment durable and gives it its footer.
    fn finish(&self, candidate: &Candidate, seed: Seed, segment: &mut Segment) {
        let footer = Footer {
            records: segment.amount.records as u32,
            weight: segment.amount.weight,
            end: segment.end,
            first_at: segment.first_at,
        };
        let at = aligned(candidate.len);
        let bytes = footer.encode(seed);
        // Best effort: without it the next start scans again.
        let written = write_all(&*candidate.file, &mut [IoSlice::new(&bytes)], at)
            .and_then(|()| candidate.file.sync_data());
        if written.is_ok() {
            segment.file_bytes = at + FOOTER_BYTES;
        }
    }
}

/// Records that are missing from a scanned segment.
struct Hole {
    gap: Gap,
    was_durable: bool,
}

struct Scanned {
    amount: Amount,
    end: u64,
    first_at: u64,
    holes: Vec<Hole>,
}

impl Gap {
    fn contains(&self, index: u32) -> bool {
        index >= self.first && index - self.first < self.records
    }

    /// The part that was durable, given what was, and the rest.
    fn split(self, before: u64, durable: Amount) -> [Hole; 2] {
        let records = durable.records.saturating_sub(self.first.into());
        let records = u32::try_from(records).unwrap_or(u32::MAX).min(self.records);
        let weight = match records {
            0 => 0,
            _ if records == self.records => self.weight,
            _ => durable.weight.saturating_sub(before).min(self.weight),
        };
        let lost = Self {
            records,
            weight,
            ..self
        };
        let rest = Self {
            first: self.first + records,
            records: self.records - records,
            weight: self.weight - weight,
        };
        [
            Hole {
                gap: lost,
                was_durable: true,
            },
            Hole {
                gap: rest,
                was_durable: false,
            },
        ]
    }
}

/// Reads a segment to its end. `durable` is what is known to have been durable of it.
fn scan(candidate: &Candidate, seed: Seed, durable: Amount) -> io::Result<Scanned> {
    let start = Place::start(candidate.sequence).cursor;
    let file = Arc::clone(&candidate.file);
    let mut scanner = Scanner::new(file, seed, start, candidate.len);
    let mut scanned = Scanned {
        amount: Amount::default(),
        end: start.offset,
        first_at: 0,
        holes: Vec::new(),
    };
    loop {
        match scanner.step()? {
            Step::Record(found) => {
                if scanned.first_at == 0 {
                    scanned.first_at = found.head.appended_at;
                }
                scanned.end = scanner.cursor.offset;
                scanned.amount = Amount {
                    records: scanner.cursor.index.into(),
                    weight: scanner.cursor.before,
                };
            }
            Step::Gap { gap, next } => {
                let known = durable.max(Amount {
                    records: next.durable_records.into(),
                    weight: next.durable_weight,
                });
                let before = next.before - gap.weight.min(next.before);
                scanned.holes.extend(gap.split(before, known));
            }
            Step::End => break,
        }
    }
    if durable.records > scanned.amount.records {
        let missing = durable.less(scanned.amount);
        scanned.holes.push(Hole {
            gap: Gap {
                first: scanned.amount.records as u32,
                records: u32::try_from(missing.records).unwrap_or(u32::MAX),
                weight: missing.weight,
            },
            was_durable: true,
        });
        scanned.amount = durable;
    }
    Ok(scanned)
}

/// Why a file was set aside.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("it was written by version {0} of the format, which this program does not read")]
    Version(u32),
    #[error("it holds nothing that a queue wrote")]
    Foreign,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// The files of a folder that were set aside by earlier starts.
pub(crate) fn set_aside_before(entries: &[crate::files::Entry], folder: &Path) -> Vec<PathBuf> {
    let is_aside = |name: &str| {
        parse_name(name).is_some_and(|(_, ending)| {
            ending.starts_with("version-") || matches!(ending, "foreign" | "unreadable" | "damaged")
        })
    };
    entries
        .iter()
        .filter(|entry| is_aside(&entry.name))
        .map(|entry| folder.join(&entry.name))
        .collect()
}
