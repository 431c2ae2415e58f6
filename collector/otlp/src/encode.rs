//! Protobuf bytes to OTLP/JSON.
//!
//! In: a validated message. Out: one JSON object without line breaks.
//! Invariant: what is on the wire is written, zero or not; ids are hexadecimal, 64-bit integers
//! are strings, enums are numbers, and fields that OTLP does not define are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::WireError;
use crate::schema::{Field, Kind, Label, Message};
use crate::wire::{Fields, Value, read_varint};

/// Writes `bytes`, a `message`, as JSON.
pub(crate) fn encode(bytes: &[u8], message: &'static Message) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    object(&mut out, bytes, message)?;
    Ok(out)
}

fn object(out: &mut Vec<u8>, bytes: &[u8], message: &'static Message) -> Result<(), WireError> {
    let mut found: Vec<(&'static Field, Value<'_>)> = Vec::new();
    for read in Fields::of(bytes) {
        let read = read?;
        if let Some(field) = message.field(read.number) {
            found.push((field, read.value));
        }
    }
    keep_last_choice(&mut found);
    found.sort_by_key(|(field, _)| field.number);
    out.push(b'{');
    for (index, group) in found.chunk_by(|a, b| a.0.number == b.0.number).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let field = group[0].0;
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b"\":");
        match field.label {
            Label::Repeated => array(out, field, group)?,
            Label::Single | Label::OneOf => single(out, field, group)?,
        }
    }
    out.push(b'}');
    Ok(())
}

/// Of the fields that exclude one another, only the one that came last counts.
fn keep_last_choice(found: &mut Vec<(&'static Field, Value<'_>)>) {
    let last = found
        .iter()
        .rev()
        .find(|(field, _)| field.label == Label::OneOf);
    if let Some(last) = last.map(|(field, _)| field.number) {
        found.retain(|(field, _)| field.label != Label::OneOf || field.number == last);
    }
}

fn single(
    out: &mut Vec<u8>,
    field: &'static Field,
    group: &[(&'static Field, Value<'_>)],
) -> Result<(), WireError> {
    if let (Kind::Message(inner), true) = (field.kind, group.len() > 1) {
        let mut merged = Vec::new();
        for (_, value) in group {
            if let Value::Bytes(part) = value {
                merged.extend_from_slice(part);
            }
        }
        return object(out, &merged, inner);
    }
    value(out, field.kind, group[group.len() - 1].1)
}

fn array(
    out: &mut Vec<u8>,
    field: &'static Field,
    group: &[(&'static Field, Value<'_>)],
) -> Result<(), WireError> {
    out.push(b'[');
    let start = out.len();
    for (_, item) in group {
        match (field.kind, *item) {
            (Kind::Fixed64 | Kind::Double, Value::Bytes(list)) => {
                for chunk in list.as_chunks::<8>().0 {
                    separate(out, start);
                    value(out, field.kind, Value::Fixed64(u64::from_le_bytes(*chunk)))?;
                }
            }
            (Kind::Uint64, Value::Bytes(list)) => {
                let mut position = 0;
                while position < list.len() {
                    let number = read_varint(list, &mut position)?;
                    separate(out, start);
                    value(out, field.kind, Value::Varint(number))?;
                }
            }
            (kind, item) => {
                separate(out, start);
                value(out, kind, item)?;
            }
        }
    }
    out.push(b']');
    Ok(())
}

fn separate(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

fn value(out: &mut Vec<u8>, kind: Kind, value: Value<'_>) -> Result<(), WireError> {
    match (kind, value) {
        (Kind::Message(inner), Value::Bytes(bytes)) => return object(out, bytes, inner),
        (Kind::String, Value::Bytes(bytes)) => string(out, &String::from_utf8_lossy(bytes)),
        (Kind::Bytes, Value::Bytes(bytes)) => string(out, &STANDARD.encode(bytes)),
        (Kind::Id(_), Value::Bytes(bytes)) => hexadecimal(out, bytes),
        (Kind::Bool, Value::Varint(number)) => {
            out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
        }
        (Kind::Uint32, Value::Varint(number)) => plain(out, number as u32),
        (Kind::Enum(_), Value::Varint(number)) => plain(out, number as i32),
        (Kind::Sint32, Value::Varint(number)) => {
            let number = number as u32;
            plain(out, (number >> 1) as i32 ^ -((number & 1) as i32));
        }
        (Kind::Uint64, Value::Varint(number)) => quoted(out, number),
        (Kind::Int64, Value::Varint(number)) => quoted(out, number as i64),
        (Kind::Fixed32, Value::Fixed32(number)) => plain(out, number),
        (Kind::Fixed64, Value::Fixed64(number)) => quoted(out, number),
        (Kind::Sfixed64, Value::Fixed64(number)) => quoted(out, number as i64),
        (Kind::Double, Value::Fixed64(bits)) => double(out, f64::from_bits(bits)),
        // Validation has refused every other pair.
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

fn plain(out: &mut Vec<u8>, number: impl Into<i64>) {
    out.extend_from_slice(number.into().to_string().as_bytes());
}

fn quoted(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    out.extend_from_slice(format!("\"{number}\"").as_bytes());
}

fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        // Writing a number to memory cannot fail.
        let _ = serde_json::to_writer(out, &number);
    } else if number.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if number > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}
