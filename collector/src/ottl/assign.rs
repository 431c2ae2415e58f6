//! Setting what a path names.
//!
//! In: a value. Out: a record, or the cache, that has it at the path.
//! Invariant: maps and lists that are written are nested no deeper than readers follow, or than
//! they were before.

use std::collections::HashMap;

use collector_otlp::{AnyValue, Record, wire};

use super::fault::EvalFault;
use super::json::DEPTH;
use super::merge::{Pairs, pairs};
use super::path::{
    BODY, Field, KIND, Path, STATUS, STATUS_CODE, STATUS_MESSAGE, id_length, is_no_id,
};
use super::syntax::Key;
use super::value::Value;

/// How many times as large `flatten` may make a map: a long key is written for all that is below.
const GROWTH: usize = 16;

/// How many bytes it may take beside that: of each record, and most records are small.
const ROOM_BYTES: usize = 2 << 10;

/// The last place that is set in a list that is not there yet, whose places before it are empty.
const LAST_NEW_PLACE: usize = 1_000;

/// What the statements of a group keep between them for one record: a `KeyValueList`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache(pub(super) Vec<u8>);

/// Sets a field; a value of a type that the field cannot have changes nothing. In otelcol such a
/// statement fails, except for all attributes and the whole cache, which stay there as well.
pub(super) fn assign(
    record: &mut Record<'_>,
    cache: &mut Cache,
    path: &Path,
    value: &Value<'_>,
) -> Result<(), EvalFault> {
    match (path.field, value) {
        (_, Value::Nil) => {}
        (Field::Attributes, value) => match path.keys.as_slice() {
            [] if is_map(value) => replace_attributes(record, pairs(value)?),
            [] => {}
            [Key::Name(key), inner @ ..] => {
                let old = record.find(key.as_bytes()).map(|place| record.value(place));
                if let Some(new) = put(old.unwrap_or_default(), inner, value)? {
                    record.upsert(key.as_bytes(), |out| out.extend_from_slice(&new));
                }
            }
            [Key::Index(_), ..] => {}
        },
        (Field::Cache, value) if path.keys.is_empty() && !is_map(value) => {}
        (Field::Cache, value) => {
            let mut old = Vec::new();
            AnyValue::Map(&cache.0).write(&mut old);
            let new = put(&old, &path.keys, value)?;
            if let Some(AnyValue::Map(map)) = new.as_deref().map(AnyValue::of) {
                cache.0 = map.to_vec();
            }
        }
        (Field::Text(number), Value::Text(text)) => {
            record.set_field(number, |out| wire::write_bytes(out, number, text));
        }
        (Field::Number(number), Value::Int(value)) => varint(record, number, *value),
        (Field::Kind, Value::Int(value)) => varint(record, KIND, *value),
        (Field::Nanoseconds(number), Value::Int(value)) => fixed64(record, number, *value as u64),
        (Field::Time(number), Value::Time(value)) => {
            fixed64(record, number, value.nanoseconds as u64)
        }
        (Field::Id(number), Value::Bytes(id)) => set_id(record, number, id)?,
        (Field::IdText(number), Value::Text(text)) => {
            let id = from_hexadecimal(text).ok_or(EvalFault::new("an id must be hexadecimal"))?;
            set_id(record, number, &id)?;
        }
        (Field::StatusCode, Value::Int(code)) => status(record, STATUS_CODE, |out| {
            wire::write_varint_field(out, STATUS_CODE, *code as u64);
        }),
        (Field::StatusMessage, Value::Text(text)) => status(record, STATUS_MESSAGE, |out| {
            wire::write_bytes(out, STATUS_MESSAGE, text);
        }),
        (Field::Body, value) | (Field::BodyText, value @ Value::Text(_)) => {
            let body = put(&record.merged(BODY), &path.keys, value)?;
            if let Some(body) = body {
                record.set_field(BODY, |out| wire::write_bytes(out, BODY, &body));
            }
        }
        (Field::IntValue, Value::Int(number)) => number_value(record, "asInt", *number as u64),
        (Field::DoubleValue, Value::Double(number)) => {
            number_value(record, "asDouble", number.to_bits());
        }
        _ => {}
    }
    Ok(())
}

fn is_map(value: &Value<'_>) -> bool {
    matches!(value, Value::Map(_) | Value::Attributes(_))
}

fn varint(record: &mut Record<'_>, number: u32, value: i64) {
    record.set_field(number, |out| {
        wire::write_varint_field(out, number, value as u64)
    });
}

fn fixed64(record: &mut Record<'_>, number: u32, bits: u64) {
    record.set_field(number, |out| {
        wire::write_tag(out, number, 1);
        out.extend_from_slice(&bits.to_le_bytes());
    });
}

fn set_id(record: &mut Record<'_>, number: u32, id: &[u8]) -> Result<(), EvalFault> {
    let length = id_length(record, number);
    if !id.is_empty() && id.len() != length {
        return Err(EvalFault::new(format!("an id must have {length} bytes")));
    }
    let id = if is_no_id(id) { &[] } else { id };
    record.set_field(number, |out| wire::write_bytes(out, number, id));
    Ok(())
}

fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

/// Sets one field of a span's status; the others stay.
fn status(record: &mut Record<'_>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    for field in wire::Fields::of(&record.merged(STATUS)).flatten() {
        if field.number != number {
            body.extend_from_slice(field.raw);
        }
    }
    write(&mut body);
    record.set_field(STATUS, |out| wire::write_bytes(out, STATUS, &body));
}

/// Sets the value of a data point that is one number; other kinds have none.
fn number_value(record: &mut Record<'_>, name: &str, bits: u64) {
    let number = |name| Some(record.message()?.field_named(name)?.number);
    if let (Some(int), Some(double)) = (number("asInt"), number("asDouble")) {
        record.remove_field(int);
        record.remove_field(double);
        fixed64(record, if name == "asInt" { int } else { double }, bits);
    }
}

/// All attributes, anew.
pub(super) fn replace_attributes(record: &mut Record<'_>, pairs: Pairs) {
    for place in 0..record.places() {
        if let Some((place, _)) = record.nth(place) {
            record.remove(place);
        }
    }
    for (key, value) in pairs {
        record.append(&key, |out| out.extend_from_slice(&value));
    }
}

/// The bytes of an `AnyValue` that has a value where keys lead in it; nothing when attributes
/// cannot hold the value.
fn put(old: &[u8], keys: &[Key], value: &Value<'_>) -> Result<Option<Vec<u8>>, EvalFault> {
    let Some(new) = value.any_bytes() else {
        return Ok(None);
    };
    let new = placed(old, keys, new)?;
    let deep = levels(AnyValue::of(&new));
    // What came in deep may be changed beside that: else nothing could be taken out of it.
    if deep > DEPTH && deep > levels(AnyValue::of(old)) {
        let message = format!("a value would be nested deeper than {DEPTH} levels");
        return Err(EvalFault::new(message));
    }
    Ok(Some(new))
}

fn placed(old: &[u8], keys: &[Key], new: Vec<u8>) -> Result<Vec<u8>, EvalFault> {
    let [key, inner @ ..] = keys else {
        return Ok(new);
    };
    let mut out = Vec::new();
    match (key, AnyValue::of(old)) {
        (Key::Name(name), map @ (AnyValue::Map(_) | AnyValue::Empty)) => {
            let mut entries = match map {
                AnyValue::Map(_) => pairs(&Value::of(map))?,
                _ => Pairs::new(),
            };
            let found = entries.iter_mut().find(|(key, _)| key == name.as_bytes());
            match found {
                Some((_, value)) => *value = placed(value, inner, new)?,
                None => entries.push((name.clone().into_bytes(), placed(&[], inner, new)?)),
            }
            if let Some(map) = Value::of_pairs(&entries).any_value() {
                map.write(&mut out);
            }
        }
        (Key::Index(index), AnyValue::Array(list)) => {
            let mut new = Some(new);
            let mut body = Vec::new();
            for (place, element) in AnyValue::Array(list).elements().enumerate() {
                let mut bytes = Vec::new();
                element.write(&mut bytes);
                if place == *index
                    && let Some(new) = new.take()
                {
                    bytes = placed(&bytes, inner, new)?;
                }
                wire::write_bytes(&mut body, 1, &bytes);
            }
            if new.is_some() {
                return Err(EvalFault::new(format!("the list has no place {index}")));
            }
            AnyValue::Array(&body).write(&mut out);
        }
        (Key::Index(index), AnyValue::Empty) => {
            if *index > LAST_NEW_PLACE {
                let message = format!("a new list has no place beyond {LAST_NEW_PLACE}");
                return Err(EvalFault::new(message));
            }
            let mut body = Vec::new();
            (0..*index).for_each(|_| wire::write_bytes(&mut body, 1, &[]));
            wire::write_bytes(&mut body, 1, &placed(&[], inner, new)?);
            AnyValue::Array(&body).write(&mut out);
        }
        (_, other) => {
            let message = format!("there are no such keys in {}", Value::of(other).kind());
            return Err(EvalFault::new(message));
        }
    }
    Ok(out)
}

/// How many maps and lists stand inside of each other; a receiver has bounded what came in.
pub(super) fn levels(value: AnyValue<'_>) -> usize {
    match value {
        AnyValue::Map(_) => {
            let inner = value.pairs().map(|(_, value)| levels(value));
            1 + inner.max().unwrap_or(0)
        }
        AnyValue::Array(_) => 1 + value.elements().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// `flatten`: what is in maps and lists under the keys that lead there, joined by dots.
pub(super) fn flat(pairs: Pairs, prefix: &str, depth: usize) -> Result<Pairs, EvalFault> {
    let length: usize = pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let mut flat = Flat {
        room: length.saturating_mul(GROWTH).saturating_add(ROOM_BYTES),
        ..Flat::default()
    };
    let prefix = match prefix.is_empty() {
        true => Vec::new(),
        false => format!("{prefix}.").into_bytes(),
    };
    for (key, value) in &pairs {
        let key = [&prefix, key.as_slice()].concat();
        flat.add(key, AnyValue::of(value), depth)?;
    }
    Ok(flat.pairs)
}

/// A map in the making, whose later values replace earlier ones.
#[derive(Default)]
struct Flat {
    pairs: Pairs,
    places: HashMap<Vec<u8>, usize>,
    /// How many bytes more it may take.
    room: usize,
}

impl Flat {
    /// Takes room; also for what is only on the way, as that costs time.
    fn take(&mut self, bytes: usize) -> Result<(), EvalFault> {
        match self.room.checked_sub(bytes) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => Err(EvalFault::new(format!(
                "flattened, this would be {GROWTH} times as large"
            ))),
        }
    }

    fn add(&mut self, key: Vec<u8>, value: AnyValue<'_>, depth: usize) -> Result<(), EvalFault> {
        self.take(key.len())?;
        let below = |name: &[u8]| [&key, &b"."[..], name].concat();
        match (value, depth.checked_sub(1)) {
            (AnyValue::Map(_), Some(depth)) => {
                for (name, value) in value.pairs() {
                    self.add(below(name), value, depth)?;
                }
            }
            (AnyValue::Array(_), Some(depth)) => {
                for (index, element) in value.elements().enumerate() {
                    self.add(below(index.to_string().as_bytes()), element, depth)?;
                }
            }
            _ => {
                let mut bytes = Vec::new();
                value.write(&mut bytes);
                self.take(bytes.len())?;
                let place = *self.places.entry(key.clone()).or_insert(self.pairs.len());
                match self.pairs.get_mut(place) {
                    Some(pair) => pair.1 = bytes,
                    None => self.pairs.push((key, bytes)),
                }
            }
        }
        Ok(())
    }
}
