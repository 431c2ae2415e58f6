//! Actions on attributes, shared by the `resource` and the `attributes` processor.
//!
//! In: a record and a list of [`Edit`]s. Out: the record with its attributes edited, in order.
//! Invariant: what an action removes or hashes is removed or hashed wherever its key stands, also
//! when a key is there twice; other actions take the first.

mod config;
#[cfg(test)]
mod tests;

use collector_otlp::{AnyValue, Place, Record};
use regex::bytes::Regex;
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

pub use config::read;
pub(crate) use config::{literal, scalar};

/// A change to one attribute, or to those that match a pattern.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The attribute's key; empty when only the pattern counts.
    pub key: String,
    /// Which other keys are concerned, when removing and hashing.
    pub pattern: Option<Regex>,
    /// What to do.
    pub action: Action,
}

/// What an [`Edit`] does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Adds the attribute if it is absent.
    Insert(Source),
    /// Sets the attribute if it is present.
    Update(Source),
    /// Sets the attribute, present or not.
    Upsert(Source),
    /// Removes the attribute.
    Delete,
    /// Replaces the value by its SHA-256, as hexadecimal text.
    Hash,
    /// Sets an attribute for each named group of the pattern that the value matches.
    Extract(Extraction),
    /// Changes the type of the value.
    Convert(Target),
}

/// Where an attribute's new value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The bytes of an `AnyValue` from the configuration.
    Literal(Vec<u8>),
    /// The value of another attribute; nothing happens if it is absent.
    Attribute(String),
}

/// A pattern and the attributes that its groups set.
#[derive(Clone, Debug)]
pub struct Extraction {
    /// The pattern, all of whose groups are named.
    pub pattern: Regex,
    /// The names of the groups, from the first.
    pub names: Vec<String>,
}

/// The type to convert to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An integer.
    Int,
    /// A floating-point number.
    Double,
    /// A string.
    String,
}

/// Applies `edits` in order.
pub fn apply<'a>(edits: &'a [Edit], record: &mut Record<'a>) {
    for edit in edits {
        edit.apply(record);
    }
}

impl Edit {
    fn apply<'a>(&'a self, record: &mut Record<'a>) {
        match &self.action {
            Action::Insert(source) => {
                if record.find(self.key.as_bytes()).is_none() {
                    self.set(record, None, source);
                }
            }
            Action::Update(source) => {
                if let Some(place) = record.find(self.key.as_bytes()) {
                    self.set(record, Some(place), source);
                }
            }
            Action::Upsert(source) => {
                let place = record.find(self.key.as_bytes());
                self.set(record, place, source);
            }
            Action::Delete => self.each(record, |record, place| record.remove(place)),
            Action::Hash => self.each(record, hash),
            Action::Extract(extraction) => self.extract(record, extraction),
            Action::Convert(target) => {
                if let Some(place) = record.find(self.key.as_bytes()) {
                    convert(record, place, *target);
                }
            }
        }
    }

    fn set<'a>(&'a self, record: &mut Record<'a>, place: Option<Place>, source: &'a Source) {
        let key = self.key.as_bytes();
        match source {
            Source::Literal(value) => match place {
                // What is set to what it is already stays as it is, and costs no copy.
                Some(place) if record.value(place) == value.as_slice() => {}
                _ => record.set_borrowed(place, key, value),
            },
            Source::Attribute(from) => {
                if let Some(from) = record.find(from.as_bytes()) {
                    record.copy_value(place, key, from);
                }
            }
        }
    }

    fn each<'a>(&self, record: &mut Record<'a>, act: impl Fn(&mut Record<'a>, Place)) {
        let Some(pattern) = &self.pattern else {
            let key = self.key.as_bytes();
            let mut found = record.find(key);
            while let Some(place) = found {
                act(record, place);
                found = record.find_after(place, key);
            }
            return;
        };
        for place in 0..record.places() {
            let Some((place, key)) = record.nth(place) else {
                continue;
            };
            let named = !self.key.is_empty() && key == self.key.as_bytes();
            if named || pattern.is_match(key) {
                act(record, place);
            }
        }
    }

    fn extract<'a>(&self, record: &mut Record<'a>, extraction: &'a Extraction) {
        let Some(AnyValue::String(text)) = record.attribute(self.key.as_bytes()) else {
            return;
        };
        let Some(captures) = extraction.pattern.captures(text) else {
            return;
        };
        let found: Vec<Vec<u8>> = captures
            .iter()
            .skip(1)
            .map(|group| group.map_or_else(Vec::new, |group| group.as_bytes().to_vec()))
            .collect();
        for (name, text) in extraction.names.iter().zip(found) {
            let place = record.find(name.as_bytes());
            let write = |out: &mut Vec<u8>| AnyValue::String(&text).write(out);
            record.set_written(place, name.as_bytes(), write);
        }
    }
}

/// Puts the SHA-256 of a value in its place; what has no bytes of its own becomes empty text.
fn hash(record: &mut Record<'_>, place: Place) {
    let digest = match AnyValue::of(record.value(place)) {
        AnyValue::String([]) => None,
        AnyValue::String(text) => Some(sha256(text)),
        AnyValue::Bool(flag) => Some(sha256(&[u8::from(flag)])),
        AnyValue::Int(number) => Some(sha256(&number.to_le_bytes())),
        AnyValue::Double(number) => Some(sha256(&number.to_le_bytes())),
        AnyValue::Empty | AnyValue::Array(_) | AnyValue::Map(_) | AnyValue::Bytes(_) => None,
    };
    record.revalue(place, |out| match digest {
        Some(digest) => AnyValue::String(&hexadecimal(digest)).write(out),
        None => AnyValue::String(&[]).write(out),
    });
}

/// The words of a SHA-256 before the first block (FIPS 180-4, 5.3.3).
const SHA256_INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The words of a text's SHA-256.
fn sha256(text: &[u8]) -> [u32; 8] {
    let mut block = [0; 64];
    // A text that fits into one block with its padding, as most do, costs that block alone;
    // what a hasher keeps to take a text in pieces would cost half as much again.
    let (Some(start), true) = (block.get_mut(..text.len()), text.len() < 56) else {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let words = digest.as_chunks().0;
        return std::array::from_fn(|word| u32::from_be_bytes(words[word]));
    };
    start.copy_from_slice(text);
    block[text.len()] = 0x80;
    block[56..].copy_from_slice(&(8 * text.len() as u64).to_be_bytes());
    let mut words = SHA256_INITIAL;
    compress256(&mut words, std::slice::from_ref(&block));
    words
}

/// Words as hexadecimal digits, their highest first.
fn hexadecimal(words: [u32; 8]) -> [u8; 64] {
    let mut text = [0; 64];
    for (eight, word) in text.as_chunks_mut().0.iter_mut().zip(words) {
        *eight = digits(word);
    }
    text
}

/// A word as eight hexadecimal digits, all at once.
fn digits(word: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(word);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & (0x0f * EACH);
    // Six more than ten, and the next bit is set.
    let letters = (digits + 6 * EACH) >> 4 & EACH;
    let to_letter = u64::from(b'a' - b'0' - 10);
    (digits + u64::from(b'0') * EACH + letters * to_letter).to_be_bytes()
}

/// Converts a value; what cannot be converted stays as it is.
fn convert(record: &mut Record<'_>, place: Place, target: Target) {
    let value = AnyValue::of(record.value(place));
    let converted = match (target, value) {
        (Target::String, AnyValue::String(_))
        | (Target::Int, AnyValue::Int(_))
        | (Target::Double, AnyValue::Double(_)) => return,
        (Target::String, value) => {
            let text = value.text().into_owned();
            return record.revalue(place, |out| AnyValue::String(&text).write(out));
        }
        (Target::Int, AnyValue::Double(number)) => AnyValue::Int(number as i64),
        (Target::Int, AnyValue::Bool(flag)) => AnyValue::Int(i64::from(flag)),
        (Target::Int, AnyValue::String(text)) => match parsed(text) {
            Some(number) => AnyValue::Int(number),
            None => return,
        },
        (Target::Double, AnyValue::Int(number)) => AnyValue::Double(number as f64),
        (Target::Double, AnyValue::Bool(flag)) => AnyValue::Double(f64::from(u8::from(flag))),
        (Target::Double, AnyValue::String(text)) => match parsed(text) {
            Some(number) => AnyValue::Double(number),
            None => return,
        },
        _ => return,
    };
    record.revalue(place, |out| converted.write(out));
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
