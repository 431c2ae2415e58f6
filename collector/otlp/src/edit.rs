//! Edits the attributes of every Resource in a request, on the bytes.
//!
//! In: a validated request and a list of [`Edit`]s. Out: the request with only its Resource
//! messages rewritten. Invariant: unknown fields, and every field outside of a Resource's
//! attributes, survive byte for byte.

use crate::error::WireError;
use crate::wire::{self, Fields, Value};

/// A change to one attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The attribute's key.
    pub key: String,
    /// What to do with it.
    pub action: Action,
}

/// What an [`Edit`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Adds the attribute if it is absent.
    Insert(Source),
    /// Sets the attribute if it is present.
    Update(Source),
    /// Sets the attribute, present or not.
    Upsert(Source),
    /// Removes the attribute.
    Delete,
}

/// Where an attribute's new value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A value from the configuration.
    Literal(Literal),
    /// The value of another attribute of the same resource; nothing happens if it is absent.
    Attribute(String),
}

/// An attribute value that a configuration can spell.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A string.
    String(String),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
}

impl Literal {
    /// The value as the bytes of an `AnyValue`.
    fn any_value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::String(text) => wire::write_bytes(&mut out, 1, text.as_bytes()),
            Self::Bool(value) => wire::write_varint_field(&mut out, 2, u64::from(*value)),
            Self::Int(value) => wire::write_varint_field(&mut out, 3, *value as u64),
            Self::Double(value) => {
                wire::write_tag(&mut out, 4, 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        out
    }
}

/// Applies `edits` in order to the resource of each entry of an export request.
pub fn edit_resources(request: &[u8], edits: &[Edit]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(request.len() + 64);
    for read in Fields::of(request) {
        let read = read?;
        match (read.number, read.value) {
            (1, Value::Bytes(entry)) => {
                wire::write_bytes(&mut out, 1, &edit_entry(entry, edits)?);
            }
            _ => out.extend_from_slice(read.raw),
        }
    }
    Ok(out)
}

fn edit_entry(entry: &[u8], edits: &[Edit]) -> Result<Vec<u8>, WireError> {
    // A singular message that is repeated merges, and concatenation is that merge.
    let mut resource = Vec::new();
    let mut rest = Vec::with_capacity(entry.len());
    for read in Fields::of(entry) {
        let read = read?;
        match (read.number, read.value) {
            (1, Value::Bytes(part)) => resource.extend_from_slice(part),
            _ => rest.extend_from_slice(read.raw),
        }
    }
    let edited = edit_resource(&resource, edits)?;
    let mut out = Vec::with_capacity(edited.len() + rest.len() + 8);
    wire::write_bytes(&mut out, 1, &edited);
    out.extend_from_slice(&rest);
    Ok(out)
}

/// One field of a Resource: an attribute, or anything else.
enum Part<'a> {
    Kept(&'a [u8]),
    Attribute { key: &'a [u8], field: &'a [u8] },
    Set { key: &'a [u8], value: Vec<u8> },
}

fn edit_resource<'a>(resource: &'a [u8], edits: &'a [Edit]) -> Result<Vec<u8>, WireError> {
    let mut parts = Vec::new();
    for read in Fields::of(resource) {
        let read = read?;
        parts.push(match (read.number, read.value) {
            (1, Value::Bytes(pair)) => Part::Attribute {
                key: key_of(pair)?,
                field: read.raw,
            },
            _ => Part::Kept(read.raw),
        });
    }
    for edit in edits {
        apply(&mut parts, edit)?;
    }
    let mut out = Vec::with_capacity(resource.len() + 64);
    for part in &parts {
        match part {
            Part::Kept(field) | Part::Attribute { field, .. } => out.extend_from_slice(field),
            Part::Set { key, value } => {
                let mut pair = Vec::with_capacity(key.len() + value.len() + 8);
                wire::write_bytes(&mut pair, 1, key);
                wire::write_bytes(&mut pair, 2, value);
                wire::write_bytes(&mut out, 1, &pair);
            }
        }
    }
    Ok(out)
}

fn apply<'a>(parts: &mut Vec<Part<'a>>, edit: &'a Edit) -> Result<(), WireError> {
    let position = find(parts, &edit.key);
    let source = match &edit.action {
        Action::Delete => {
            let wanted = edit.key.as_bytes();
            parts.retain(|part| part.key() != Some(wanted));
            return Ok(());
        }
        Action::Insert(source) if position.is_none() => source,
        Action::Update(source) if position.is_some() => source,
        Action::Upsert(source) => source,
        _ => return Ok(()),
    };
    let value = match source {
        Source::Literal(literal) => Some(literal.any_value()),
        Source::Attribute(key) => match find(parts, key) {
            Some(found) => Some(parts[found].value()?),
            None => None,
        },
    };
    let Some(value) = value else { return Ok(()) };
    let set = Part::Set {
        key: edit.key.as_bytes(),
        value,
    };
    match position {
        Some(position) => parts[position] = set,
        None => parts.push(set),
    }
    Ok(())
}

impl<'a> Part<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        match self {
            Self::Kept(_) => None,
            Self::Attribute { key, .. } | Self::Set { key, .. } => Some(key),
        }
    }

    /// The bytes of the attribute's `AnyValue`.
    fn value(&self) -> Result<Vec<u8>, WireError> {
        let mut value = Vec::new();
        match self {
            Self::Kept(_) => {}
            Self::Set { value: set, .. } => value.clone_from(set),
            Self::Attribute { field, .. } => {
                for outer in Fields::of(field) {
                    let Value::Bytes(pair) = outer?.value else {
                        continue;
                    };
                    for inner in Fields::of(pair) {
                        if let (2, Value::Bytes(part)) = {
                            let f = inner?;
                            (f.number, f.value)
                        } {
                            value.extend_from_slice(part);
                        }
                    }
                }
            }
        }
        Ok(value)
    }
}

fn find(parts: &[Part<'_>], key: &str) -> Option<usize> {
    parts
        .iter()
        .position(|part| part.key() == Some(key.as_bytes()))
}

fn key_of(pair: &[u8]) -> Result<&[u8], WireError> {
    let mut key: &[u8] = &[];
    for read in Fields::of(pair) {
        let read = read?;
        if let (1, Value::Bytes(text)) = (read.number, read.value) {
            key = text;
        }
    }
    Ok(key)
}
