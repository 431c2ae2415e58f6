//! What is done with a queue's files from the command line.
//!
//! In: folders. Out: what they hold; dead letters put back; files removed. Invariant: looking
//! changes nothing, also while a process has the queue; whatever changes something holds its lock.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};

use crate::error::{AppendError, OpenError};
use crate::files::{Access, Files, Lock, read_full};
use crate::format::{Beginning, FOOTER_BYTES, Footer, HEADER_BYTES, Header, Seed};
use crate::ledger::Place;
use crate::notes::Noted;
use crate::queue::{DEAD_LETTERS, LOCK, bounds};
use crate::reader::Reader;
use crate::recover::{parse_name, recover, set_aside_before};
use crate::scan::{Scanner, Step};
use crate::writer::{Writer, segment_path};
use crate::{Amount, Options, Overflow, Receipt, Record};

/// How deep below a storage directory queues are looked for.
const DEPTH: usize = 3;

/// How many records are put back at once.
const GROUP: usize = 64;

/// What a queue's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Where it is.
    pub folder: PathBuf,
    /// What is to be handed out.
    pub left: Amount,
    /// In how many segments.
    pub segments: usize,
    /// The bytes of all its files.
    pub bytes: u64,
    /// When the oldest segment that is not through was begun.
    pub oldest: Option<SystemTime>,
    /// What is in the dead letters.
    pub dead_letters: Amount,
    /// Files that are no part of it any more.
    pub set_aside: Vec<PathBuf>,
    /// Whether a process has it, and which, as far as its lock says.
    pub owner: Option<String>,
}

/// A record in a file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The segment.
    pub segment: u64,
    /// Its place in the segment.
    pub index: u32,
    /// Whether it is acknowledged.
    pub is_done: bool,
    /// When it was appended.
    pub appended_at: SystemTime,
    /// Why it is a dead letter, if it is one.
    pub reason: Option<String>,
    /// The record.
    pub record: Record,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Everything that is queued, dead letters and what was set aside.
    All,
    /// The dead letters.
    DeadLetters,
    /// What was set aside at a start.
    SetAside,
}

/// What was put back.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Records that are queued again.
    pub amount: Amount,
    /// Why the rest stayed where it is.
    pub refused: Option<AppendError>,
}

/// The queues at or below a folder.
pub fn list(files: &dyn Files, storage: &Path) -> io::Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    let mut folders = vec![(storage.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = files.list(&folder)?;
        if entries
            .iter()
            .any(|entry| entry.name == DEAD_LETTERS && entry.is_folder)
        {
            summaries.push(summarize(files, &folder)?);
        } else if depth < DEPTH {
            let below = entries.iter().filter(|entry| entry.is_folder);
            folders.extend(below.map(|entry| (folder.join(&entry.name), depth + 1)));
        }
    }
    summaries.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(summaries)
}

/// What the files of a queue hold.
pub fn summarize(files: &dyn Files, folder: &Path) -> io::Result<Summary> {
    let letters = folder.join(DEAD_LETTERS);
    let mut summary = Summary {
        folder: folder.to_owned(),
        ..Summary::default()
    };
    for part in [folder, &letters] {
        let Ok(entries) = files.list(part) else {
            continue;
        };
        for entry in entries.iter().filter(|entry| !entry.is_folder) {
            let file = files.open(&part.join(&entry.name), Access::Read);
            summary.bytes += file.and_then(|file| file.size()).unwrap_or(0);
        }
        summary.set_aside.extend(set_aside_before(&entries, part));
        for sequence in sequences(files, part)? {
            let Some(content) = Content::open(files, part, sequence)? else {
                continue;
            };
            let left = content.left(files)?;
            if part != folder {
                summary.dead_letters.add(left.amount);
            } else if left.amount.records > 0 {
                summary.left.add(left.amount);
                summary.segments += 1;
                let first = SystemTime::UNIX_EPOCH + Duration::from_micros(left.first_at);
                summary.oldest = summary.oldest.or(Some(first));
            }
        }
    }
    summary.owner = owner(files, folder);
    Ok(summary)
}

/// Who has a queue.
fn owner(files: &dyn Files, folder: &Path) -> Option<String> {
    let path = folder.join(LOCK);
    let file = files.open(&path, Access::Read).ok()?;
    let mut bytes = [0; 32];
    let read = read_full(&*file, &mut bytes, 0).ok()?;
    let process = String::from_utf8_lossy(&bytes[..read]).trim().to_owned();
    let is_free = matches!(files.is_locked(&path), Ok(false));
    (!is_free).then_some(process)
}

/// Visits the records of a queue, oldest first, or of its dead letters.
pub fn inspect(
    files: &dyn Files,
    folder: &Path,
    dead_letters: bool,
    mut visit: impl FnMut(Stored) -> ControlFlow<()>,
) -> io::Result<()> {
    let folder = if dead_letters {
        folder.join(DEAD_LETTERS)
    } else {
        folder.to_owned()
    };
    for sequence in sequences(files, &folder)? {
        let Some(content) = Content::open(files, &folder, sequence)? else {
            continue;
        };
        let mut scanner = content.scanner(files)?;
        loop {
            let found = match scanner.step()? {
                Step::Record(found) => found,
                Step::Gap { .. } => continue,
                Step::End => break,
            };
            let (reason, meta) = match dead_letters {
                true => split_letter(found.meta),
                false => (None, found.meta),
            };
            let index = found.head.index;
            let stored = Stored {
                segment: sequence,
                index,
                is_done: content
                    .noted
                    .done
                    .binary_search_by_key(&index, |done| done.0)
                    .is_ok(),
                appended_at: SystemTime::UNIX_EPOCH + Duration::from_micros(found.head.appended_at),
                reason,
                record: Record {
                    meta,
                    payload: found.payload,
                    weight: found.head.weight,
                },
            };
            if visit(stored).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The reason and the meta of a dead letter.
pub(crate) fn split_letter(mut meta: Bytes) -> (Option<String>, Bytes) {
    let whole = meta.clone();
    if meta.len() < 4 {
        return (None, whole);
    }
    let len = meta.get_u32_le() as usize;
    if len > meta.len() {
        return (None, whole);
    }
    let reason = meta.split_to(len);
    (Some(String::from_utf8_lossy(&reason).into_owned()), meta)
}

/// Puts the dead letters of a queue back into it, behind what is there.
pub fn replay_dead_letters(
    files: &Arc<dyn Files>,
    folder: &Path,
    options: &Options,
) -> Result<Replayed, OpenError> {
    let (mut queue, _lock) = open(files, folder, options)?;
    let letters = folder.join(DEAD_LETTERS);
    let bounds = bounds(options, options.dead_letter_bytes, Overflow::DropOldest);
    let unusable = |error| OpenError::Folder {
        folder: letters.clone(),
        error,
    };
    let (mut dead, _) = recover(Arc::clone(files), &letters, bounds).map_err(unusable)?;
    let mut reader = Reader::new(&dead);
    let mut replayed = Replayed::default();
    while replayed.refused.is_none() {
        let (records, receipts) = letters_of(&mut reader, &mut dead).map_err(unusable)?;
        if records.is_empty() {
            break;
        }
        let done = put_back(&mut queue, &records, &mut replayed);
        let done: Vec<Receipt> = receipts
            .into_iter()
            .zip(done)
            .filter_map(|(receipt, done)| done.then_some(receipt))
            .collect();
        dead.finish(&done);
    }
    dead.close();
    queue.close();
    Ok(replayed)
}

/// The next dead letters, as they were before.
fn letters_of(reader: &mut Reader, dead: &mut Writer) -> io::Result<(Vec<Record>, Vec<Receipt>)> {
    let (mut records, mut receipts) = (Vec::new(), Vec::new());
    while records.len() < GROUP {
        let next = dead.shared.ledger().pop();
        if let Some(delivery) = next {
            let (_, meta) = split_letter(delivery.record.meta.clone());
            records.push(Record {
                meta,
                ..delivery.record
            });
            receipts.push(delivery.receipt);
            continue;
        }
        let turn = reader.turn()?;
        dead.finish(&turn.lost);
        if !turn.moved {
            break;
        }
    }
    Ok((records, receipts))
}

/// Puts the sound records of a file that was set aside back into its queue, behind what is there.
/// The file stays: records of a `.damaged` one were handed out before and come again.
pub fn replay_file(
    files: &Arc<dyn Files>,
    folder: &Path,
    options: &Options,
    path: &Path,
) -> Result<Replayed, OpenError> {
    let (mut queue, _lock) = open(files, folder, options)?;
    let unusable = |error| OpenError::Folder {
        folder: path.to_owned(),
        error,
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let (sequence, _) = parse_name(name)
        .ok_or_else(|| unusable(io::Error::other("it is not named like a segment")))?;
    let file = files.open(path, Access::Read).map_err(unusable)?;
    let end = file.size().map_err(unusable)?;
    let seed = Seed::new(queue.salt, sequence);
    let mut scanner = Scanner::new(file, seed, Place::start(sequence).cursor, end);
    let mut replayed = Replayed::default();
    let mut records = Vec::new();
    loop {
        let step = scanner.step().map_err(unusable)?;
        let is_end = matches!(step, Step::End);
        if let Step::Record(found) = step {
            records.push(Record {
                meta: found.meta,
                payload: found.payload,
                weight: found.head.weight,
            });
        }
        if records.len() == GROUP || is_end {
            put_back(&mut queue, &records, &mut replayed);
            records.clear();
        }
        if is_end || replayed.refused.is_some() {
            break;
        }
    }
    queue.close();
    Ok(replayed)
}

/// Appends records; says which were.
fn put_back(queue: &mut Writer, records: &[Record], replayed: &mut Replayed) -> Vec<bool> {
    let mut done = Vec::with_capacity(records.len());
    for (record, answer) in records.iter().zip(queue.commit(records)) {
        done.push(answer.is_ok());
        match answer {
            Ok(()) => replayed.amount.add(Amount::of(record.weight)),
            Err(error) => replayed.refused = Some(error),
        }
    }
    done
}

/// Removes files of a queue; returns how many.
pub fn purge(files: &dyn Files, folder: &Path, what: Purge) -> Result<usize, OpenError> {
    let _lock = lock(files, folder)?;
    let letters = folder.join(DEAD_LETTERS);
    let mut removed = 0;
    for part in [folder, &letters] {
        let unusable = |error| OpenError::Folder {
            folder: part.to_owned(),
            error,
        };
        let entries = files.list(part).map_err(unusable)?;
        let aside = set_aside_before(&entries, part);
        for entry in entries.iter().filter(|entry| !entry.is_folder) {
            let path = part.join(&entry.name);
            let is_segment = parse_name(&entry.name).is_some();
            let is_meant = match what {
                Purge::All => is_segment,
                Purge::DeadLetters => is_segment && part != folder && !aside.contains(&path),
                Purge::SetAside => aside.contains(&path),
            };
            if is_meant {
                files.remove(&path).map_err(unusable)?;
                removed += 1;
            }
        }
        files.sync_folder(part).map_err(unusable)?;
    }
    Ok(removed)
}

fn lock(files: &dyn Files, folder: &Path) -> Result<Lock, OpenError> {
    let unusable = |error| OpenError::Folder {
        folder: folder.to_owned(),
        error,
    };
    // Only what is a queue already is locked, so that a mistyped folder stays as it is.
    files.list(&folder.join(DEAD_LETTERS)).map_err(unusable)?;
    let lock = files.lock(&folder.join(LOCK)).map_err(unusable)?;
    lock.ok_or_else(|| OpenError::Locked(folder.to_owned()))
}

fn open(
    files: &Arc<dyn Files>,
    folder: &Path,
    options: &Options,
) -> Result<(Writer, Lock), OpenError> {
    let lock = lock(&**files, folder)?;
    let unusable = |error| OpenError::Folder {
        folder: folder.to_owned(),
        error,
    };
    let bounds = bounds(options, options.max_bytes, Overflow::Refuse);
    let (writer, _) = recover(Arc::clone(files), folder, bounds).map_err(unusable)?;
    Ok((writer, lock))
}

/// The segments of a folder, oldest first.
fn sequences(files: &dyn Files, folder: &Path) -> io::Result<Vec<u64>> {
    let entries = files.list(folder)?;
    let logs = entries
        .iter()
        .filter_map(|entry| match parse_name(&entry.name) {
            Some((sequence, "log")) => Some(sequence),
            _ => None,
        });
    let mut sequences: Vec<_> = logs.collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// A segment as it is found.
struct Content {
    path: PathBuf,
    sequence: u64,
    seed: Seed,
    len: u64,
    footer: Option<Footer>,
    noted: Noted,
}

/// What is left of a segment.
struct Left {
    amount: Amount,
    first_at: u64,
}

impl Content {
    /// `None` for a file that is gone or that no queue of this version wrote.
    fn open(files: &dyn Files, folder: &Path, sequence: u64) -> io::Result<Option<Self>> {
        let path = segment_path(folder, sequence, "log");
        let Ok(file) = files.open(&path, Access::Read) else {
            return Ok(None);
        };
        let len = file.size()?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = read_full(&*file, &mut bytes, 0)?;
        let Beginning::Header(header) = Header::decode(&bytes[..read]) else {
            return Ok(None);
        };
        if header.sequence != sequence {
            return Ok(None);
        }
        let seed = Seed::new(header.salt, sequence);
        let mut footer = None;
        if let Some(at) = len.checked_sub(FOOTER_BYTES) {
            let read = read_full(&*file, &mut bytes, at)?;
            footer = Footer::decode(&bytes[..read], seed).filter(|footer| footer.end <= at);
        }
        let noted = Noted::read(files, folder, header.salt, sequence);
        Ok(Some(Self {
            path,
            sequence,
            seed,
            len,
            footer,
            noted,
        }))
    }

    fn scanner(&self, files: &dyn Files) -> io::Result<Scanner> {
        let file = files.open(&self.path, Access::Read)?;
        let end = self.footer.map_or(self.len, |footer| footer.end);
        Ok(Scanner::new(
            file,
            self.seed,
            Place::start(self.sequence).cursor,
            end,
        ))
    }

    fn left(&self, files: &dyn Files) -> io::Result<Left> {
        let (mut amount, mut first_at) = (Amount::default(), 0);
        match self.footer {
            Some(footer) => {
                amount = Amount {
                    records: footer.records.into(),
                    weight: footer.weight,
                };
                first_at = footer.first_at;
            }
            None => {
                let mut scanner = self.scanner(files)?;
                loop {
                    match scanner.step()? {
                        Step::Record(found) if amount.records == 0 => {
                            first_at = found.head.appended_at;
                            amount.add(Amount::of(found.head.weight));
                        }
                        Step::Record(found) => amount.add(Amount::of(found.head.weight)),
                        Step::Gap { .. } => {}
                        Step::End => break,
                    }
                }
            }
        }
        let weight = self
            .noted
            .done
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        let done = Amount {
            records: self.noted.done.len() as u64,
            weight,
        };
        Ok(Left {
            amount: amount.less(done),
            first_at,
        })
    }
}
