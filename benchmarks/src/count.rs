//! Counts the items of an OTLP request while its bytes pass by.
//!
//! In: the bytes of one export request, in pieces of any size. Out: how many spans, log records
//! or data points they hold. Invariant: nothing is copied or kept, and nothing is validated;
//! this is the least that a program can do which knows how much it moves.

use collector_otlp::Signal;

/// The fields that lead from a request to its items, level by level.
type Path = &'static [&'static [u64]];

const SPANS_AND_RECORDS: Path = &[&[1], &[2], &[2]];
/// Resource, scope, metric, then one of the five kinds of metric, then its points.
const POINTS: Path = &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]];

#[derive(Clone, Copy)]
enum Expect {
    Tag,
    /// The length of a field that leads to items, or of another.
    Length {
        leads: bool,
    },
    /// A number, which is of no interest.
    Number,
}

/// Counts one request.
pub struct Counter {
    path: Path,
    /// Where the messages end that are being read.
    ends: Vec<u64>,
    position: u64,
    skip: u64,
    expect: Expect,
    value: u64,
    shift: u32,
    items: u64,
}

impl Counter {
    /// Passes over `prefix` bytes and reads a request of this signal.
    pub fn new(signal: Signal, prefix: u64) -> Self {
        let path = match signal {
            Signal::Traces | Signal::Logs => SPANS_AND_RECORDS,
            Signal::Metrics => POINTS,
        };
        Self {
            path,
            ends: Vec::with_capacity(path.len()),
            position: 0,
            skip: prefix,
            expect: Expect::Tag,
            value: 0,
            shift: 0,
            items: 0,
        }
    }

    /// The items that have begun so far.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Reads the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            if self.skip > 0 {
                let passed = self.skip.min(piece.len() as u64);
                piece = &piece[passed as usize..];
                self.position += passed;
                self.skip -= passed;
            } else {
                piece = rest;
                self.position += 1;
                self.value |= u64::from(byte & 0x7f) << self.shift.min(63);
                self.shift += 7;
                if byte >= 0x80 {
                    continue;
                }
                let value = std::mem::take(&mut self.value);
                self.shift = 0;
                self.step(value);
            }
            self.leave();
        }
    }

    fn step(&mut self, value: u64) {
        self.expect = match self.expect {
            Expect::Tag => match value & 7 {
                0 => Expect::Number,
                2 => Expect::Length {
                    leads: self.path[self.ends.len()].contains(&(value >> 3)),
                },
                wire_type => {
                    self.skip = if wire_type == 1 { 8 } else { 4 };
                    Expect::Tag
                }
            },
            Expect::Length { leads } => {
                let is_item = leads && self.ends.len() + 1 == self.path.len();
                self.items += u64::from(is_item);
                if leads && !is_item {
                    self.ends.push(self.position + value);
                } else {
                    self.skip = value;
                }
                Expect::Tag
            }
            Expect::Number => Expect::Tag,
        };
    }

    fn leave(&mut self) {
        while self.skip == 0 && self.ends.last().is_some_and(|end| *end <= self.position) {
            self.ends.pop();
        }
    }
}

/// Counts a request that is whole.
pub fn count(signal: Signal, request: &[u8]) -> u64 {
    let mut counter = Counter::new(signal, 0);
    counter.feed(request);
    counter.items()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{self, Content};

    #[test]
    fn counts_what_a_full_validation_counts_in_pieces_of_any_size() {
        for signal in Signal::ALL {
            let request = payload::request(signal, 100, Content::Realistic, 7);
            let parsed = collector_otlp::Request::parse(signal, request.clone().into()).unwrap();
            assert_eq!(parsed.items(), 100);
            for size in [1, 2, 3, 7, 64, 1000, request.len()] {
                let mut counter = Counter::new(signal, 5);
                counter.feed(&[1, 2, 3]);
                counter.feed(&[4, 5]);
                request.chunks(size).for_each(|piece| counter.feed(piece));
                assert_eq!(counter.items(), 100, "{signal:?} in pieces of {size}");
            }
        }
    }
}
