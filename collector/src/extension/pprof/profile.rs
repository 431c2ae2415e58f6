//! Profiles in the format of `profile.proto`, which `go tool pprof` reads.
//!
//! In: what each thread has worked. Out: a gzipped profile.
//! Invariant: each sample's stack is a mode, `user` or `system`, called by a thread's name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector_otlp::wire::{write_bytes, write_varint, write_varint_field};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::threads::Share;

/// Fields of `Profile`.
const SAMPLE_TYPE: u32 = 1;
const SAMPLE: u32 = 2;
const LOCATION: u32 = 4;
const FUNCTION: u32 = 5;
const STRING_TABLE: u32 = 6;
const TIME_NANOS: u32 = 9;
const DURATION_NANOS: u32 = 10;
const PERIOD_TYPE: u32 = 11;
const PERIOD: u32 = 12;

/// The texts of a profile; a function, and the one place in it, has its text's number as its id.
struct Texts {
    numbers: BTreeMap<String, u64>,
    all: Vec<String>,
}

impl Texts {
    /// The table begins with an empty text.
    fn new() -> Self {
        Self {
            numbers: [(String::new(), 0)].into(),
            all: vec![String::new()],
        }
    }

    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.all.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        self.all.push(text.to_owned());
        number
    }
}

/// A profile of what threads have worked, from a moment on and for a while.
pub(super) fn write(
    shares: &[Share],
    from: SystemTime,
    taken: Duration,
) -> std::io::Result<Vec<u8>> {
    let (mut texts, mut out) = (Texts::new(), Vec::new());
    let kind = pair(texts.number("cpu"), texts.number("nanoseconds"));
    let thread = texts.number("thread");
    write_bytes(&mut out, SAMPLE_TYPE, &kind);
    let mut functions = BTreeSet::new();
    for share in shares {
        let modes = [("user", share.work.user), ("system", share.work.system)];
        for (mode, time) in modes.into_iter().filter(|(_, time)| !time.is_zero()) {
            let mut stack = Vec::new();
            for name in [mode, &share.name] {
                let number = texts.number(name);
                functions.insert(number);
                write_varint(&mut stack, number);
            }
            let mut value = Vec::new();
            write_varint(&mut value, nanoseconds(time));
            let mut sample = Vec::new();
            write_bytes(&mut sample, 1, &stack);
            write_bytes(&mut sample, 2, &value);
            if let Some(id) = share.thread {
                let mut label = Vec::new();
                write_varint_field(&mut label, 1, thread);
                write_varint_field(&mut label, 3, id);
                write_bytes(&mut sample, 3, &label);
            }
            write_bytes(&mut out, SAMPLE, &sample);
        }
    }
    for number in functions {
        let mut line = Vec::new();
        write_varint_field(&mut line, 1, number);
        let mut location = Vec::new();
        write_varint_field(&mut location, 1, number);
        write_bytes(&mut location, 4, &line);
        write_bytes(&mut out, LOCATION, &location);
        write_bytes(&mut out, FUNCTION, &pair(number, number));
    }
    for text in &texts.all {
        write_bytes(&mut out, STRING_TABLE, text.as_bytes());
    }
    let since = from.duration_since(UNIX_EPOCH).unwrap_or_default();
    write_varint_field(&mut out, TIME_NANOS, nanoseconds(since));
    write_varint_field(&mut out, DURATION_NANOS, nanoseconds(taken));
    write_bytes(&mut out, PERIOD_TYPE, &kind);
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    write_varint_field(&mut out, PERIOD, tick);
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(&out)?;
    zipped.finish()
}

/// A message with two numbers: a `ValueType`, or the begin of a `Function`.
fn pair(first: u64, second: u64) -> Vec<u8> {
    let mut message = Vec::new();
    write_varint_field(&mut message, 1, first);
    write_varint_field(&mut message, 2, second);
    message
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
