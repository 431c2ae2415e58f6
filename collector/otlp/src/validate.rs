//! One pass over a request that checks every level and counts the items.
//!
//! In: protobuf bytes from anyone. Out: a [`Summary`], or the first [`WireError`].
//! Invariant: bytes that pass can be merged with others without harming them, except that
//! `invalid_strings` of their strings are not UTF-8, which [`replace_invalid_strings`] mends.

use crate::error::{WireError, WireFault};
use crate::pass::HEADED_LEVELS;
use crate::schema::{Field, Kind, Label, Message};
use crate::sweep::sweep;
use crate::wire::{self, Fields, MAX_DEPTH, Value, read_varint};

/// What a validated request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Spans, log records or data points.
    pub items: usize,
    /// Strings that are not UTF-8.
    pub invalid_strings: usize,
    /// Whether it is not in its [`normal_form`](crate::pass::normal_form).
    pub scattered: bool,
}

/// Whether a field is a resource or scope that does not stand at the front of what belongs to it.
#[inline]
pub(crate) fn scatters(message: &Message, depth: usize, number: u32, is_first: bool) -> bool {
    number == 1 && !is_first && message.holds_items && (1..=HEADED_LEVELS).contains(&depth)
}

/// Checks `bytes` against `message` at every level, and counts.
pub fn validate(bytes: &[u8], message: &'static Message) -> Result<Summary, WireError> {
    match sweep(bytes, message) {
        Some(summary) => Ok(summary),
        None => examine(bytes, message),
    }
}

/// The same as [`validate`], slower: field by field, so that it can name the place of a fault.
pub(crate) fn examine(bytes: &[u8], message: &'static Message) -> Result<Summary, WireError> {
    let mut summary = Summary::default();
    visit(bytes, message, 0, &mut summary)?;
    Ok(summary)
}

fn visit(
    bytes: &[u8],
    message: &'static Message,
    depth: usize,
    summary: &mut Summary,
) -> Result<(), WireError> {
    if depth >= MAX_DEPTH {
        return Err(WireError::new(0, WireFault::TooDeep));
    }
    summary.items += usize::from(message.item);
    for read in Fields::of(bytes) {
        let read = read?;
        let Some(field) = message.field(read.number) else {
            continue;
        };
        let wrong = WireFault::FieldType {
            message: message.name,
            field: field.name,
        };
        match (field.kind, read.value) {
            (Kind::Message(inner), Value::Bytes(value)) => {
                summary.scattered |= scatters(message, depth, read.number, read.offset == 0);
                // The value is the end of the field, so this is where it starts.
                let start = read.offset + read.raw.len() - value.len();
                visit(value, inner, depth + 1, summary).map_err(|error| error.shifted(start))?;
            }
            (Kind::String, Value::Bytes(value)) => {
                summary.invalid_strings += usize::from(std::str::from_utf8(value).is_err());
            }
            (Kind::Id(expected), Value::Bytes(value)) => {
                let length = value.len();
                if length != 0 && length != expected {
                    let (message, field) = (message.name, field.name);
                    let fault = WireFault::IdLength {
                        message,
                        field,
                        length,
                        expected,
                    };
                    return Err(WireError::new(read.offset, fault));
                }
            }
            (kind, value) if is_scalar(field, kind, value) => {}
            _ => return Err(WireError::new(read.offset, wrong)),
        }
    }
    Ok(())
}

/// Whether the value has the wire type of the field's kind, or is a well-formed packed list.
fn is_scalar(field: &Field, kind: Kind, value: Value<'_>) -> bool {
    match (kind, value) {
        (Kind::Bytes, Value::Bytes(_)) => true,
        (
            Kind::Bool | Kind::Uint32 | Kind::Uint64 | Kind::Int64 | Kind::Sint32 | Kind::Enum(_),
            Value::Varint(_),
        )
        | (Kind::Fixed32, Value::Fixed32(_))
        | (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, Value::Fixed64(_)) => true,
        (_, Value::Bytes(list)) if field.label == Label::Repeated => match kind {
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => list.len().is_multiple_of(8),
            Kind::Fixed32 => list.len().is_multiple_of(4),
            Kind::Uint64 | Kind::Int64 => {
                let mut position = 0;
                while position < list.len() {
                    if read_varint(list, &mut position).is_err() {
                        return false;
                    }
                }
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Rewrites a validated request so that each invalid part of a string becomes U+FFFD.
pub fn replace_invalid_strings(
    bytes: &[u8],
    message: &'static Message,
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for read in Fields::of(bytes) {
        let read = read?;
        match (
            message.field(read.number).map(|field| field.kind),
            read.value,
        ) {
            (Some(Kind::Message(inner)), Value::Bytes(value)) => {
                let mended = replace_invalid_strings(value, inner)?;
                wire::write_bytes(&mut out, read.number, &mended);
            }
            (Some(Kind::String), Value::Bytes(value)) => {
                let mended = String::from_utf8_lossy(value);
                wire::write_bytes(&mut out, read.number, mended.as_bytes());
            }
            _ => out.extend_from_slice(read.raw),
        }
    }
    Ok(out)
}

/// Counts the items of a message that has been validated.
pub(crate) fn count(bytes: &[u8], message: &'static Message) -> Result<usize, WireError> {
    if message.item {
        return Ok(1);
    }
    let mut items = 0;
    if message.holds_items {
        for read in Fields::of(bytes) {
            let read = read?;
            if let (Some(inner), Value::Bytes(value)) =
                (item_path(message, read.number), read.value)
            {
                items += count(value, inner)?;
            }
        }
    }
    Ok(items)
}

/// The message in this field if items are, or stand below, that field.
pub(crate) fn item_path(message: &Message, number: u32) -> Option<&'static Message> {
    match message.field(number)?.kind {
        Kind::Message(inner) if inner.item || inner.holds_items => Some(inner),
        _ => None,
    }
}
