//! Seeded runs of the queue's core over a file system that loses, tears and refuses writes, with
//! the power cut or the process killed at any call.
//!
//! `QUEUE_RUNS=10000 cargo test -p collector-queue power` runs as many seeds as it says;
//! `QUEUE_SEED=N` runs one. What fails names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::memory::{Faults, Memory};
use crate::reader::Reader;
use crate::recover::recover;
use crate::writer::{Bounds, Writer};
use crate::{Amount, Delivery, Files, Opened, Overflow, Record, Space};

/// How many seeds an ordinary test runs.
const RUNS: u64 = 2000;

pub(super) const FOLDER: &str = "/queue";

/// A queue without its threads.
pub(super) struct Core {
    pub(super) writer: Writer,
    reader: Reader,
}

impl Core {
    pub(super) fn open(memory: &Memory, bounds: Bounds) -> Option<(Self, Opened)> {
        let files: Arc<dyn Files> = Arc::new(memory.clone());
        let (writer, opened) = recover(files, Path::new(FOLDER), bounds).ok()?;
        let reader = Reader::new(&writer);
        Some((Self { writer, reader }, opened))
    }

    pub(super) fn next(&mut self) -> Option<Delivery> {
        // Losses are applied before the next turn, as the writer's thread would.
        for _ in 0..10_000 {
            if let Some(delivery) = self.writer.shared.ledger().pop() {
                return Some(delivery);
            }
            match self.reader.turn() {
                Ok(turn) => {
                    self.writer.finish(&turn.lost);
                    if !turn.moved {
                        return self.writer.shared.ledger().pop();
                    }
                }
                Err(_) => {
                    self.reader.scanner = None;
                    return None;
                }
            }
        }
        panic!("reading does not end");
    }

    pub(super) fn lost(&self) -> Amount {
        self.writer.shared.ledger().lost
    }
}

pub(super) fn bounds(memory: &Memory, rng: &mut Rng) -> Bounds {
    let files: Arc<dyn Files> = Arc::new(memory.clone());
    let segment_bytes = rng.u64(1..=8) << 11;
    Bounds {
        max_bytes: segment_bytes * rng.u64(2..=12),
        segment_bytes,
        damaged_bytes: 1 << 20,
        overflow: Overflow::Refuse,
        space: Arc::new(Space::new(files, Path::new(FOLDER)).expect("space")),
    }
}

/// The record with a number, always the same.
pub(super) fn record(number: u64) -> Record {
    let mut rng = Rng::with_seed(number);
    let len = match rng.u32(0..4) {
        0 => rng.usize(0..40),
        1 => rng.usize(0..3000),
        _ => rng.usize(0..400),
    };
    let payload: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    let meta = Bytes::copy_from_slice(&number.to_le_bytes());
    Record {
        meta,
        payload: payload.into(),
        weight: rng.u32(0..1000),
    }
}

pub(super) fn number(record: &Record) -> u64 {
    u64::from_le_bytes(record.meta[..].try_into().expect("a number"))
}

#[derive(Default)]
struct Model {
    next_number: u64,
    /// Answered with `Ok` and not acknowledged since.
    owed: BTreeSet<u64>,
    /// Acknowledged in a session that was closed cleanly.
    done: BTreeSet<u64>,
}

struct Session<'a> {
    model: &'a mut Model,
    rng: &'a mut Rng,
    core: Core,
    held: BTreeMap<u64, Delivery>,
    delivered: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

impl<'a> Session<'a> {
    fn new(model: &'a mut Model, rng: &'a mut Rng, core: Core) -> Self {
        let (held, delivered, acknowledged) = Default::default();
        Self {
            model,
            rng,
            core,
            held,
            delivered,
            acknowledged,
        }
    }

    fn append(&mut self) {
        let count = self.rng.u64(1..6);
        let numbers = self.model.next_number..self.model.next_number + count;
        self.model.next_number += count;
        let records: Vec<_> = numbers.clone().map(record).collect();
        for (number, answer) in numbers.zip(self.core.writer.commit(&records)) {
            if answer.is_ok() {
                self.model.owed.insert(number);
            }
        }
    }

    fn take(&mut self) -> bool {
        let Some(delivery) = self.core.next() else {
            return false;
        };
        let number = number(&delivery.record);
        assert!(
            number < self.model.next_number,
            "a record that was never appended"
        );
        assert_eq!(delivery.record, record(number), "a record that was changed");
        assert!(
            self.delivered.insert(number),
            "record {number} was handed out twice"
        );
        let is_done = self.model.done.contains(&number);
        assert!(!is_done, "record {number} came back after a close");
        self.held.insert(number, delivery);
        true
    }

    fn acknowledge(&mut self) {
        let Some(number) = self
            .rng
            .choice(self.held.keys().copied().collect::<Vec<_>>())
        else {
            return;
        };
        let delivery = self.held.remove(&number).expect("held");
        self.model.owed.remove(&number);
        self.acknowledged.insert(number);
        self.core.writer.finish(&[delivery.receipt]);
    }

    fn act(&mut self) {
        match self.rng.u32(0..20) {
            0..7 => self.append(),
            7..13 => drop(self.take()),
            13..19 => self.acknowledge(),
            _ => self.core.writer.tidy(),
        }
    }

    /// Everything that is owed and not held comes.
    fn drain(&mut self) {
        while self.take() {}
        let missing: Vec<_> = self.model.owed.difference(&self.delivered).collect();
        assert!(
            missing.is_empty(),
            "acknowledged to the sender and lost: {missing:?}"
        );
        assert_eq!(self.core.lost(), Amount::default(), "a loss that is none");
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut some = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
    Faults {
        write: some(100),
        sync: some(200),
        names: some(100),
        read: some(20),
    }
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let memory = Memory::new(rng.u64(..));
    let bounds = bounds(&memory, &mut rng);
    let mut model = Model::default();
    for _ in 0..rng.u32(1..6) {
        let is_cut = rng.u32(0..4) > 0;
        if is_cut {
            memory.cut_after(rng.u64(1..400));
        }
        if let Some((core, opened)) = Core::open(&memory, bounds.clone()) {
            if !memory.is_off() {
                assert_eq!(opened.losses, [], "nothing was damaged");
                assert_eq!(opened.set_aside, [], "nothing is foreign");
            }
            let mut session = Session::new(&mut model, &mut rng, core);
            session.act_until_the_end(&memory);
        }
        if is_cut && rng.bool() {
            memory.power_cycle();
        } else {
            memory.restart();
        }
    }
    let (core, opened) = Core::open(&memory, bounds).expect("it opens");
    assert_eq!(opened.losses, [], "nothing was damaged");
    let mut session = Session::new(&mut model, &mut rng, core);
    session.drain();
    for (_, delivery) in std::mem::take(&mut session.held) {
        session.core.writer.finish(&[delivery.receipt]);
    }
    session.core.writer.close();
    let is_left = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("log" | "ack" | "spare"))
    };
    let left: Vec<_> = memory.paths().into_iter().filter(is_left).collect();
    assert!(left.is_empty(), "files are left: {left:?}");
}

impl Session<'_> {
    fn act_until_the_end(&mut self, memory: &Memory) {
        let steps = self.rng.u32(1..120);
        for step in 0..steps {
            if step % 20 == 10 {
                memory.set_faults(if self.rng.bool() {
                    faults(self.rng)
                } else {
                    Faults::default()
                });
            }
            if self.rng.u32(0..60) == 0 {
                memory.set_capacity(self.rng.u64(0..40_000));
            }
            self.act();
            if memory.is_off() {
                return;
            }
        }
        memory.set_faults(Faults::default());
        memory.set_capacity(1 << 40);
        if self.rng.bool() {
            self.drain_unless_off(memory);
        }
        if !memory.is_off() {
            self.core.writer.close();
        }
        if !memory.is_off() {
            self.model.done.append(&mut self.acknowledged);
        }
    }

    fn drain_unless_off(&mut self, memory: &Memory) {
        while self.take() {}
        if !memory.is_off() {
            self.drain();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts_kills_and_faults() {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse().expect("a number"))
    };
    if let Some(seed) = variable("QUEUE_SEED") {
        run(seed);
        return;
    }
    for seed in 0..variable("QUEUE_RUNS").unwrap_or(RUNS) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("QUEUE_SEED={seed} repeats this");
            std::panic::resume_unwind(panic);
        }
    }
}
