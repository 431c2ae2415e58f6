//! Damaged, foreign and made-up files: the queue opens, hands out what is sound, and says exactly
//! what is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::memory::Memory;
use super::power::{Core, FOLDER, bounds, number, record};
use crate::writer::Bounds;
use crate::{Amount, Opened};

/// How many damaged queues are opened.
const RUNS: u64 = 1000;

/// How many made-up queues are opened.
const FUZZ_RUNS: u64 = 1000;

struct Outcome {
    opened: Opened,
    seen: BTreeMap<u64, u64>,
    lost: Amount,
}

/// Appends records, acknowledges some, and ends the session.
fn fill(memory: &Memory, bounds: &Bounds, rng: &mut Rng, close: bool) -> BTreeMap<u64, u64> {
    let (mut core, _) = Core::open(memory, bounds.clone()).expect("a queue");
    let mut owed = BTreeMap::new();
    let mut next = 0;
    while next < 60 {
        let numbers = next..next + rng.u64(1..5);
        next = numbers.end;
        let records: Vec<_> = numbers.clone().map(record).collect();
        for (number, answer) in numbers.zip(core.writer.commit(&records)) {
            if answer.is_ok() {
                owed.insert(number, u64::from(record(number).weight));
            }
        }
    }
    let mut receipts = Vec::new();
    while let Some(delivery) = core.next() {
        if rng.u32(0..3) == 0 {
            owed.remove(&number(&delivery.record));
            receipts.push(delivery.receipt);
        }
    }
    core.writer.finish(&receipts);
    core.writer.tidy();
    if close {
        core.writer.close();
    }
    owed
}

fn drain(memory: &Memory, bounds: &Bounds) -> Outcome {
    let (mut core, opened) = Core::open(memory, bounds.clone()).expect("a queue");
    let mut seen = BTreeMap::new();
    let mut receipts = Vec::new();
    while let Some(delivery) = core.next() {
        let number = number(&delivery.record);
        assert_eq!(delivery.record, record(number), "a record that was changed");
        seen.insert(number, u64::from(delivery.record.weight));
        receipts.push(delivery.receipt);
    }
    core.writer.finish(&receipts);
    let lost = core.lost();
    core.writer.close();
    let (mut core, again) = Core::open(memory, bounds.clone()).expect("a queue");
    assert!(
        core.next().is_none() && again.losses.is_empty(),
        "a loss is said once: {again:?}"
    );
    Outcome { opened, seen, lost }
}

fn files(memory: &Memory, ending: &str) -> Vec<PathBuf> {
    let is_it = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    memory.paths().into_iter().filter(is_it).collect()
}

fn flip(memory: &Memory, path: &Path, rng: &mut Rng, count: usize) {
    memory.edit(path, |bytes| {
        for _ in 0..count {
            let at = rng.usize(0..bytes.len());
            bytes[at] ^= 1 << rng.u32(0..8);
        }
    });
}

#[test]
fn a_flipped_bit_costs_what_is_said_and_nothing_else() {
    for seed in 0..RUNS {
        let mut rng = Rng::with_seed(seed);
        let memory = Memory::new(seed);
        let bounds = Bounds {
            max_bytes: 1 << 20,
            ..bounds(&memory, &mut rng)
        };
        let close = rng.bool();
        let owed = fill(&memory, &bounds, &mut rng, close);
        let logs = files(&memory, "log");
        let log = rng.choice(&logs).expect("a segment");
        let count = rng.usize(1..4);
        flip(&memory, log, &mut rng, count);
        let outcome = drain(&memory, &bounds);
        let missing = owed
            .iter()
            .filter(|(number, _)| !outcome.seen.contains_key(number));
        let mut lost = Amount::default();
        missing.for_each(|(_, weight)| {
            lost.add(Amount {
                records: 1,
                weight: *weight,
            })
        });
        assert_eq!(
            outcome.lost, lost,
            "seed {seed}, {log:?}, {:?}",
            outcome.opened
        );
        let extra: Vec<_> = outcome
            .seen
            .keys()
            .filter(|number| !owed.contains_key(number))
            .collect();
        assert!(extra.is_empty(), "seed {seed}: {extra:?} were acknowledged");
    }
}

#[test]
fn damaged_notes_cost_no_record() {
    for seed in 0..RUNS / 4 {
        let mut rng = Rng::with_seed(seed);
        let memory = Memory::new(seed);
        let bounds = Bounds {
            max_bytes: 1 << 20,
            ..bounds(&memory, &mut rng)
        };
        let owed = fill(&memory, &bounds, &mut rng, true);
        for path in files(&memory, "ack") {
            flip(&memory, &path, &mut rng, 3);
        }
        flip(&memory, &Path::new(FOLDER).join("queue"), &mut rng, 1);
        let outcome = drain(&memory, &bounds);
        assert_eq!(outcome.lost, Amount::default(), "seed {seed}");
        assert!(
            owed.keys().all(|number| outcome.seen.contains_key(number)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_segment_that_is_wholly_overwritten_is_set_aside_and_its_records_are_said_to_be_lost() {
    let mut rng = Rng::with_seed(1);
    let memory = Memory::new(1);
    let bounds = Bounds {
        max_bytes: 1 << 20,
        segment_bytes: 8 << 10,
        ..bounds(&memory, &mut rng)
    };
    let owed = fill(&memory, &bounds, &mut rng, true);
    let logs = files(&memory, "log");
    memory.edit(&logs[1], |bytes| {
        bytes.iter_mut().for_each(|byte| *byte = rng.u8(..))
    });
    let outcome = drain(&memory, &bounds);
    let missing = owed
        .iter()
        .filter(|(number, _)| !outcome.seen.contains_key(number));
    let weight = missing.clone().map(|(_, weight)| weight).sum();
    let lost = Amount {
        records: missing.count() as u64,
        weight,
    };
    assert!(
        lost.records > 0 && outcome.lost == lost,
        "{lost:?} {:?}",
        outcome.opened
    );
    let aside: Vec<_> = outcome
        .opened
        .set_aside
        .iter()
        .map(|aside| &aside.path)
        .collect();
    assert_eq!(
        aside,
        [&logs[1].with_extension("foreign")],
        "{:?}",
        outcome.opened
    );
}

#[test]
fn another_version_is_set_aside_and_named() {
    let mut rng = Rng::with_seed(2);
    let memory = Memory::new(2);
    let bounds = Bounds {
        max_bytes: 1 << 20,
        segment_bytes: 8 << 10,
        ..bounds(&memory, &mut rng)
    };
    fill(&memory, &bounds, &mut rng, true);
    let logs = files(&memory, "log");
    memory.edit(&logs[0], |bytes| {
        bytes[12..16].copy_from_slice(&7u32.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[12..64]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    });
    let outcome = drain(&memory, &bounds);
    let aside = &outcome.opened.set_aside[0];
    assert_eq!(aside.path, logs[0].with_extension("version-7"));
    assert!(aside.reason.contains("version 7"), "{}", aside.reason);
    assert!(memory.paths().contains(&aside.path), "it is kept");
}

/// Opens a folder of made-up files and reads what there is: it ends, and does not panic.
fn open_anything(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let memory = Memory::new(seed);
    let bounds = Bounds {
        max_bytes: 1 << 20,
        ..bounds(&memory, &mut rng)
    };
    if rng.bool() {
        fill(&memory, &bounds, &mut rng, seed.is_multiple_of(2));
    }
    for _ in 0..rng.u32(0..4) {
        let ending = rng.choice(["log", "ack", "spare", "damaged"]).expect("one");
        let path = crate::writer::segment_path(Path::new(FOLDER), rng.u64(0..20), ending);
        let files: &dyn crate::Files = &memory;
        files.open(&path, crate::Access::Create).expect("a file");
        let len = rng.usize(0..9000);
        memory.edit(&path, |bytes| {
            *bytes = (0..len).map(|_| rng.u8(..)).collect()
        });
    }
    for path in memory.paths() {
        let other = rng.choice(memory.paths()).expect("a path");
        let mut donor = Vec::new();
        memory.edit(&other, |bytes| donor.clone_from(bytes));
        memory.edit(&path, |bytes| match rng.u32(0..6) {
            0 => bytes.truncate(rng.usize(0..=bytes.len())),
            1 => bytes.extend((0..rng.usize(0..500)).map(|_| rng.u8(..))),
            2 => *bytes = donor,
            3 if !bytes.is_empty() => {
                let at = rng.usize(0..bytes.len());
                bytes.splice(at..at, donor.into_iter().take(700));
            }
            4 if !bytes.is_empty() => {
                let from = rng.usize(0..bytes.len());
                let until = rng.usize(from..bytes.len());
                bytes[from..until].fill(0);
            }
            _ => {}
        });
    }
    let (mut core, _) = Core::open(&memory, bounds.clone()).expect("it opens");
    while core.next().is_some() {}
    let answers = core.writer.commit(&[record(1)]);
    assert!(answers[0].is_ok(), "seed {seed}: {answers:?}");
    core.writer.close();
    drop(core);
    Core::open(&memory, bounds).expect("it opens again");
}

#[test]
fn opens_whatever_the_files_hold() {
    for seed in 0..FUZZ_RUNS {
        if let Err(panic) = std::panic::catch_unwind(|| open_anything(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A file of ones with a hole that cannot be read.
struct Holed(std::ops::Range<u64>);

impl crate::File for Holed {
    fn read_at(&self, into: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if offset < self.0.end && self.0.start < offset + into.len() as u64 {
            return Err(std::io::Error::from_raw_os_error(5));
        }
        into.fill(1);
        Ok(into.len())
    }

    fn write_vectored_at(&self, _: &[std::io::IoSlice<'_>], _: u64) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn size(&self) -> std::io::Result<u64> {
        Ok(1 << 20)
    }
}

#[test]
fn a_bad_sector_is_read_around_and_a_disk_that_is_gone_is_not() {
    let read = |hole| {
        let file: std::sync::Arc<dyn crate::File> = std::sync::Arc::new(Holed(hole));
        let mut bytes = vec![7; 20_000];
        let file = crate::salvage::Salvaged(file);
        crate::File::read_at(&file, &mut bytes, 100).map(|read| (read, bytes))
    };
    let (len, bytes) = read(5000..5001).expect("it is read around");
    assert_eq!(len, 20_000);
    // The block from 4096 to 8192, seen from offset 100.
    let is_given_up = |at: usize| (4096 - 100..8192 - 100).contains(&at);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == u8::from(!is_given_up(at)))
    );
    assert!(read(0..1 << 20).is_err(), "nothing can be read");
}
