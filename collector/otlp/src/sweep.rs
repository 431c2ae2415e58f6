//! Validation's fast path: checks and counts what a sound request holds.
//!
//! In: bytes from anyone. Out: their [`Summary`], or `None`, which says nothing more than that
//! somebody must look closer. Invariant: what passes here passes [`examine`] with the same
//! summary.
//!
//! [`examine`]: crate::validate::examine

use crate::pass::HEADED_LEVELS;
use crate::schema::{ANY_VALUE, KEY_VALUE, Kind, Message, Step};
use crate::validate::{Summary, scatters};
use crate::wire::{Fields, MAX_DEPTH, Value, read_varint};

/// Checks `bytes` against `message` at every level, and counts.
pub(crate) fn sweep(bytes: &[u8], message: &'static Message) -> Option<Summary> {
    let mut summary = Summary::default();
    branch(bytes, message, 0, &mut summary)?;
    Some(summary)
}

/// The messages above the items, where it counts what stands first; what is below need not know.
fn branch(
    bytes: &[u8],
    message: &'static Message,
    depth: usize,
    summary: &mut Summary,
) -> Option<()> {
    let mut rest = bytes;
    while let [tag, after @ ..] = rest {
        rest = match message.plan.steps[usize::from(*tag)] {
            Step::Message => {
                let (body, next) = prefixed(after)?;
                let number = u32::from(*tag >> 3);
                let is_first = rest.len() == bytes.len();
                summary.scattered |= scatters(message, depth, number, is_first);
                let inner = message.plan.inner[number as usize]?;
                match inner.holds_items && depth < HEADED_LEVELS {
                    true => branch(body, inner, depth + 1, summary)?,
                    false => visit(body, inner, depth + 1, summary)?,
                }
                next
            }
            _ => {
                let read = Fields::of(rest).next()?.ok()?;
                // A message behind a long tag is rare enough to be read twice.
                if let Some(Kind::Message(_)) = message.field(read.number).map(|field| field.kind) {
                    return None;
                }
                visit(read.raw, message, depth, summary)?;
                rest.get(read.raw.len()..)?
            }
        };
    }
    Some(())
}

fn visit(
    mut rest: &[u8],
    message: &'static Message,
    depth: usize,
    summary: &mut Summary,
) -> Option<()> {
    if depth >= MAX_DEPTH {
        return None;
    }
    summary.items += usize::from(message.item);
    while let [tag, after @ ..] = rest {
        rest = match message.plan.steps[usize::from(*tag)] {
            Step::KeyValue => {
                let mut after = after;
                // Attributes stand side by side.
                loop {
                    let (pair, next) = prefixed(after)?;
                    key_value(pair, depth + 1, summary)?;
                    match next {
                        [another, rest @ ..] if another == tag => after = rest,
                        _ => break next,
                    }
                }
            }
            Step::String => {
                let (text, next) = prefixed(after)?;
                check_text(text, summary);
                next
            }
            Step::Varint => skip_varint(after)?,
            Step::Fixed64 => after.get(8..)?,
            Step::TraceId => skip_id(after, 16)?,
            Step::SpanId => skip_id(after, 8)?,
            Step::Message => {
                let (body, next) = prefixed(after)?;
                let inner = message.plan.inner[usize::from(*tag >> 3)]?;
                visit(body, inner, depth + 1, summary)?;
                next
            }
            Step::Fixed32 => after.get(4..)?,
            Step::Bytes => prefixed(after)?.1,
            Step::Packed64 => {
                let (list, next) = prefixed(after)?;
                list.len().is_multiple_of(8).then_some(next)?
            }
            Step::Rare => rare(rest, message, depth, summary)?,
        };
    }
    Some(())
}

/// An attribute; the usual shape, a key and one value of a simple type, needs no recursion.
#[inline]
fn key_value(pair: &[u8], depth: usize, summary: &mut Summary) -> Option<()> {
    // Nesting is left to the general way, which knows how deep is too deep.
    if depth + 1 < MAX_DEPTH
        && let [0x0a, key_length @ ..0x80, after @ ..] = pair
        && let Some((key, [0x12, value_length @ ..0x80, value @ ..])) =
            after.split_at_checked(usize::from(*key_length))
        && usize::from(*value_length) == value.len()
    {
        match value {
            [0x0a, length @ ..0x80, text @ ..] if usize::from(*length) == text.len() => {
                // Tags and lengths are below 0x80 as well, so one look is enough for both.
                if !is_ascii(pair) {
                    check_text(key, summary);
                    check_text(text, summary);
                }
                return Some(());
            }
            [0x10 | 0x18, number @ ..] if skip_varint(number).is_some_and(<[u8]>::is_empty) => {
                check_text(key, summary);
                return Some(());
            }
            [0x21, number @ ..] if number.len() == 8 => {
                check_text(key, summary);
                return Some(());
            }
            _ => {
                check_text(key, summary);
                return visit(value, &ANY_VALUE, depth + 1, summary);
            }
        }
    }
    visit(pair, &KEY_VALUE, depth, summary)
}

/// A field with a long tag, an unknown field, or one of an unusual wire type.
#[cold]
#[inline(never)]
fn wide<'a>(
    rest: &'a [u8],
    message: &'static Message,
    depth: usize,
    summary: &mut Summary,
) -> Option<&'a [u8]> {
    let read = Fields::of(rest).next()?.ok()?;
    let next = rest.get(read.raw.len()..)?;
    let Some(field) = message.field(read.number) else {
        return Some(next);
    };
    match (field.kind, read.value) {
        (Kind::Message(inner), Value::Bytes(body)) => visit(body, inner, depth + 1, summary)?,
        (Kind::String, Value::Bytes(text)) => check_text(text, summary),
        (Kind::Fixed32, Value::Fixed32(_)) | (Kind::Fixed64, Value::Fixed64(_)) => {}
        // Whatever else it is, it is rare enough to be read twice.
        _ => return None,
    }
    Some(next)
}

#[inline]
fn rare<'a>(
    rest: &'a [u8],
    message: &'static Message,
    depth: usize,
    summary: &mut Summary,
) -> Option<&'a [u8]> {
    match rest {
        // `flags`, field 16 of a span, which every current SDK sets.
        [0x85, 0x01, after @ ..] if matches!(message.field(16)?.kind, Kind::Fixed32) => {
            after.get(4..)
        }
        _ => wide(rest, message, depth, summary),
    }
}

#[inline]
fn check_text(text: &[u8], summary: &mut Summary) {
    if !is_ascii(text) {
        summary.invalid_strings += usize::from(std::str::from_utf8(text).is_err());
    }
}

/// Whether no byte has its highest bit; the last bytes may be looked at twice.
#[inline(always)]
fn is_ascii(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<16>();
    let mut seen = 0u128;
    for chunk in chunks {
        seen |= u128::from_le_bytes(*chunk);
    }
    let seen = (seen | seen >> 64) as u64;
    let tail = match (text.last_chunk::<16>(), rest) {
        (_, []) => 0,
        (Some(last), _) => {
            let last = u128::from_le_bytes(*last);
            (last | last >> 64) as u64
        }
        (None, _) => match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) => u64::from_le_bytes(*first) | u64::from_le_bytes(*last),
            _ => rest.iter().fold(0, |seen, byte| seen | u64::from(*byte)),
        },
    };
    (seen | tail) & 0x8080_8080_8080_8080 == 0
}

/// What a length stands in front of, and what follows.
#[inline]
fn prefixed(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    match rest {
        [length @ ..0x80, after @ ..] => after.split_at_checked(usize::from(*length)),
        [low, high @ ..0x80, after @ ..] => {
            after.split_at_checked(usize::from(*low & 0x7f) | usize::from(*high) << 7)
        }
        _ => {
            let mut position = 0;
            let length = usize::try_from(read_varint(rest, &mut position).ok()?).ok()?;
            rest.get(position..)?.split_at_checked(length)
        }
    }
}

#[inline]
fn skip_varint(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [..0x80, after @ ..] | [_, ..0x80, after @ ..] => Some(after),
        _ => {
            let mut position = 0;
            read_varint(rest, &mut position).ok()?;
            rest.get(position..)
        }
    }
}

#[inline]
fn skip_id(rest: &[u8], expected: u8) -> Option<&[u8]> {
    match rest {
        [length, after @ ..] if *length == expected => after.get(usize::from(expected)..),
        [0, after @ ..] => Some(after),
        _ => None,
    }
}
