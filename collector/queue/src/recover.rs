//! Opens the files of a queue, whatever they hold.
//!
//! In: a folder. Out: a writer that goes on behind them, and what was found. Invariant: it fails
//! only when the folder cannot be listed; what it does not understand it sets aside and names.
//!
//! A segment with a footer is not read. One without was being written to when the process ended:
//! it is scanned, made durable and given its footer. What is missing of the records that were
//! durable is lost and counted; what was never durable was never answered, and is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{Access, File, Files, read_full, write_all};
use crate::format::{
    Beginning, FOOTER_BYTES, Footer, HEADER_BYTES, Header, IDENTITY_BYTES, Note, RECORD_BYTES,
    Seed, aligned, decode_identity, encode_identity,
};
use crate::ledger::{Ledger, Place, Segment, Shared};
use crate::notes::{Noted, Notes};
use crate::scan::{Gap, Scanner, Step};
use crate::writer::{Bounds, Writer, segment_path};
use crate::{Amount, Loss, Opened, SetAside};

/// The file with the queue's identity.
pub(crate) const IDENTITY: &str = "queue";

/// How much of an unconfirmed end is written again at once.
const REWRITE_CHUNK_BYTES: usize = 1 << 20;

/// More records than any segment has; who says so is damaged.
const MAX_SEGMENT_RECORDS: u64 = 1 << 21;

/// A file that holds a segment.
struct Candidate {
    sequence: u64,
    file: Arc<dyn File>,
    len: u64,
    header: Option<Header>,
    /// Whether nothing at its beginning is of a queue.
    is_foreign: bool,
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
        is_durable: true,
    };
    let found = recovery.candidates(&sequences);
    recovery.salt = recovery.identity(&found)?;
    let (segments, notes, appended) = recovery.segments(found);
    let salt = recovery.salt;
    // A gap in the sequences keeps the next header from vouching for what precedes it.
    let next_sequence = if recovery.is_durable {
        last + 1
    } else {
        last + 2
    };

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
        next_sequence,
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
    /// Whether all that was found is durable now.
    is_durable: bool,
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
        let beginning = Header::decode(&bytes[..read]);
        let header = match beginning {
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
            is_foreign: beginning == Beginning::Foreign,
        }))
    }

    fn set_aside(&mut self, path: &Path, reason: Reason) {
        let ending = match &reason {
            Reason::Version(version) => Some(format!("version-{version}")),
            Reason::Foreign => Some("foreign".into()),
            Reason::Unreadable(_) => None,
        };
        let to = ending.map_or_else(|| path.to_owned(), |ending| path.with_extension(ending));
        let moved = to != path && self.files.rename(path, &to).is_ok();
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
        let mut last = None;
        for (place, candidate) in found.iter().enumerate() {
            let next = found
                .get(place + 1)
                .filter(|next| next.sequence == candidate.sequence + 1);
            let next = next.and_then(|next| next.header);
            let next = next.map(|header| header.before());
            // What counts is the difference between a segment and the next. Where the header is
            // damaged, the segment before it says the same.
            let follows = |last: u64| last.checked_add(1) == Some(candidate.sequence);
            let before = match candidate.header {
                Some(header) => Some(header.before()),
                None => last.is_some_and(follows).then_some(appended),
            };
            last = Some(candidate.sequence);
            appended = before.unwrap_or(appended);
            let noted = Noted::read(&**self.files, self.folder, self.salt, candidate.sequence);
            let mut notes = Notes {
                len: noted.len,
                is_on_disk: noted.is_on_disk,
                ..Notes::default()
            };
            // It says how much was durable; what is there beyond that was refused.
            let exact = before.zip(next).map(|(before, next)| next.less(before));
            if let Some(segment) = self.segment(candidate, exact, &noted, &mut notes) {
                appended.add(segment.amount);
                segments.push_back(segment);
                if notes.is_on_disk || !notes.pending.is_empty() {
                    all_notes.insert(candidate.sequence, notes);
                }
            }
        }
        (segments, all_notes, appended)
    }

    /// What a file holds; `None` when nothing of it is left.
    fn segment(
        &mut self,
        candidate: &Candidate,
        exact: Option<Amount>,
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
        let is_possible = |amount: &Amount| amount.records <= MAX_SEGMENT_RECORDS;
        let exact = exact.filter(is_possible);
        let durable = exact.unwrap_or(noted.durable);
        let durable = Some(durable).filter(is_possible).unwrap_or_default();
        let scanned = match scan(candidate, seed, durable, exact.is_some()) {
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
        let is_foreign = scanned.end == HEADER_BYTES && candidate.is_foreign;
        segment.amount = scanned.amount;
        segment.end = scanned.end;
        segment.first_at = scanned.first_at;
        self.mark_done(&mut segment, noted, Some(&scanned), notes, seed);
        if is_foreign {
            self.nothing_in(candidate);
            return None;
        }
        self.finish(candidate, seed, &mut segment, &scanned);
        Some(segment)
    }

    /// A segment without records was never answered from, unless it was made unreadable.
    fn nothing_in(&mut self, candidate: &Candidate) {
        let path = segment_path(self.folder, candidate.sequence, "log");
        let mut bytes = [0; (HEADER_BYTES + RECORD_BYTES) as usize];
        let read = read_full(&*candidate.file, &mut bytes, 0).unwrap_or(0);
        let (header, first) = bytes[..read].split_at(read.min(HEADER_BYTES as usize));
        let is_torn = Header::begins(header) && first.iter().all(|byte| *byte == 0);
        match Header::decode(header) {
            Beginning::Header(_) | Beginning::Blank => drop(self.files.remove(&path)),
            _ if is_torn => drop(self.files.rename(&path, &path.with_extension("damaged"))),
            _ => self.set_aside(&path, Reason::Foreign),
        }
        let _ = self.files.remove(&path.with_extension("ack"));
    }

    fn footer(&self, candidate: &Candidate, seed: Seed) -> Option<Footer> {
        let at = candidate.len.checked_sub(FOOTER_BYTES)?;
        let mut bytes = [0; FOOTER_BYTES as usize];
        let read = read_full(&*candidate.file, &mut bytes, at).ok()?;
        let footer = Footer::decode(&bytes[..read], seed)?;
        let has_room = u64::from(footer.records) * RECORD_BYTES <= footer.end;
        (footer.end <= at && has_room).then_some(footer)
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
            let mut weight = hole.gap.weight.saturating_sub(noted.weight_in(hole.gap));
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
                } else {
                    continue;
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
    fn finish(
        &mut self,
        candidate: &Candidate,
        seed: Seed,
        segment: &mut Segment,
        scanned: &Scanned,
    ) {
        let is_torn = |hole: &Hole| !hole.was_durable && hole.gap.records > 0;
        if scanned.holes.iter().any(is_torn) {
            // Records behind a tear are worth having, yet nothing may say that the torn one was
            // ever there.
            self.is_durable = false;
            return;
        }
        let footer = Footer {
            records: segment.amount.records as u32,
            weight: segment.amount.weight,
            end: segment.end,
            first_at: segment.first_at,
        };
        let at = aligned(candidate.len);
        let bytes = footer.encode(seed);
        // The footer vouches for what may not have been durable until now. An fsync alone would
        // not do: where one failed, the system takes for written what is not.
        let rewritten = rewrite(&*candidate.file, scanned.unconfirmed, segment.end)
            .and_then(|()| candidate.file.sync_data());
        if rewritten.is_err() {
            self.is_durable = false;
            return;
        }
        // Best effort: without it the next start scans again.
        if write_all(&*candidate.file, &mut [IoSlice::new(&bytes)], at).is_ok() {
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
    /// Where what was perhaps never made durable begins.
    unconfirmed: u64,
}

impl Gap {
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

/// Reads a segment to its end. `durable` is what is known to have been durable of it, or all
/// that is wanted of it.
fn scan(candidate: &Candidate, seed: Seed, durable: Amount, is_all: bool) -> io::Result<Scanned> {
    let start = Place::start(candidate.sequence).cursor;
    let file = Arc::clone(&candidate.file);
    let mut scanner = Scanner::new(file, seed, start, candidate.len);
    let mut scanned = Scanned {
        amount: Amount::default(),
        end: start.offset,
        first_at: 0,
        holes: Vec::new(),
        unconfirmed: start.offset,
    };
    let mut group = 0;
    while !is_all || scanned.amount.records < durable.records {
        match scanner.step()? {
            Step::Record(found) => {
                if scanned.first_at == 0 {
                    scanned.first_at = found.head.appended_at;
                }
                if group != found.head.durable_records {
                    group = found.head.durable_records;
                    scanned.unconfirmed = found.offset;
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
    if durable.records >= scanned.amount.records {
        scanned.unconfirmed = scanned.end;
    }
    Ok(scanned)
}

/// Writes a part of a file again as it is.
fn rewrite(file: &dyn File, from: u64, until: u64) -> io::Result<()> {
    let mut bytes = vec![0; REWRITE_CHUNK_BYTES];
    let mut at = from;
    while at < until {
        let len = usize::try_from(until - at)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let read = read_full(file, &mut bytes[..len], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all(file, &mut [IoSlice::new(&bytes[..read])], at)?;
        at += read as u64;
    }
    Ok(())
}

/// Why a file was set aside.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("it was written by version {0} of the format, which this program does not read")]
    Version(u32),
    #[error("it holds nothing that a queue wrote")]
    Foreign,
    #[error("it cannot be read, and stays for the next start: {0}")]
    Unreadable(String),
}

/// The files of a folder that were set aside by earlier starts.
pub(crate) fn set_aside_before(entries: &[crate::files::Entry], folder: &Path) -> Vec<PathBuf> {
    let is_aside = |name: &str| {
        parse_name(name).is_some_and(|(_, ending)| {
            ending.starts_with("version-") || matches!(ending, "foreign" | "damaged")
        })
    };
    entries
        .iter()
        .filter(|entry| is_aside(&entry.name))
        .map(|entry| folder.join(&entry.name))
        .collect()
}
