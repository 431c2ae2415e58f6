//! An attribute's value or a log's body, read from the bytes of an `AnyValue`.
//!
//! In: the bytes of an `AnyValue` of a validated request. Out: what it holds.
//! Invariant: of several values the last one counts, as protobuf has it.

use crate::wire::{self, Fields, Value};

/// What an `AnyValue` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AnyValue<'a> {
    /// Nothing.
    Empty,
    /// UTF-8 text.
    String(&'a [u8]),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// The bytes of an `ArrayValue`.
    Array(&'a [u8]),
    /// The bytes of a `KeyValueList`.
    Map(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads the bytes of an `AnyValue`.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Self {
        match bytes {
            [] => Self::Empty,
            [0x0a, length @ ..0x80, text @ ..] if usize::from(*length) == text.len() => {
                Self::String(text)
            }
            [0x18, number @ ..0x80] => Self::Int(i64::from(*number)),
            [0x10, flag @ ..0x80] => Self::Bool(*flag != 0),
            _ => Self::any(bytes),
        }
    }

    fn any(bytes: &'a [u8]) -> Self {
        let mut value = Self::Empty;
        for read in Fields::of(bytes).flatten() {
            value = match (read.number, read.value) {
                (1, Value::Bytes(text)) => Self::String(text),
                (2, Value::Varint(flag)) => Self::Bool(flag != 0),
                (3, Value::Varint(number)) => Self::Int(number as i64),
                (4, Value::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Value::Bytes(list)) => Self::Array(list),
                (6, Value::Bytes(list)) => Self::Map(list),
                (7, Value::Bytes(bytes)) => Self::Bytes(bytes),
                _ => value,
            };
        }
        value
    }

    /// Writes the bytes of an `AnyValue` that holds this.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Empty => {}
            Self::String(text) => wire::write_bytes(out, 1, text),
            Self::Bool(flag) => wire::write_varint_field(out, 2, u64::from(flag)),
            Self::Int(number) => wire::write_varint_field(out, 3, number as u64),
            Self::Double(number) => {
                wire::write_tag(out, 4, 1);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Array(list) => wire::write_bytes(out, 5, list),
            Self::Map(list) => wire::write_bytes(out, 6, list),
            Self::Bytes(bytes) => wire::write_bytes(out, 7, bytes),
        }
    }

    /// The elements, if this is an array.
    pub fn elements(&self) -> impl Iterator<Item = AnyValue<'a>> + use<'a> {
        let list: &[u8] = match *self {
            Self::Array(list) => list,
            _ => &[],
        };
        Fields::of(list)
            .flatten()
            .filter_map(|read| match (read.number, read.value) {
                (1, Value::Bytes(element)) => Some(AnyValue::of(element)),
                _ => None,
            })
    }

    /// The pairs, if this is a map.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], AnyValue<'a>)> + use<'a> {
        let list: &[u8] = match *self {
            Self::Map(list) => list,
            _ => &[],
        };
        Fields::of(list)
            .flatten()
            .filter_map(|read| match (read.number, read.value) {
                (1, Value::Bytes(pair)) => Some(pair_of(pair)),
                _ => None,
            })
    }
}

/// The key and value of a `KeyValue`.
fn pair_of(pair: &[u8]) -> (&[u8], AnyValue<'_>) {
    let mut key: &[u8] = &[];
    let mut value = AnyValue::Empty;
    for read in Fields::of(pair).flatten() {
        match (read.number, read.value) {
            (1, Value::Bytes(text)) => key = text,
            (2, Value::Bytes(bytes)) => value = AnyValue::of(bytes),
            _ => {}
        }
    }
    (key, value)
}
