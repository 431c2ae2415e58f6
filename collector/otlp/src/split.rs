//! Cuts a request into requests of at most so many items.
//!
//! In: a validated request. Out: requests that together hold the same items in the same order.
//! Invariant: what stands above a cut (resource, scope, metric, unknown fields) is in every piece.

use crate::error::WireError;
use crate::schema::{Label, Message};
use crate::validate::{count, item_path};
use crate::wire::{self, Fields, Value};

/// One piece of a message, with the number of items in it.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: usize,
}

/// Splits into pieces: the first holds at most `first` items, the others at most `most`.
///
/// `first` may be less than `most` because the first piece goes where others stand already;
/// both must be at least one.
pub(crate) fn split(
    bytes: &[u8],
    message: &'static Message,
    first: usize,
    most: usize,
) -> Result<Vec<Piece>, WireError> {
    if let Some(joined) = joined(bytes, message)? {
        return split(&joined, message, first, most);
    }
    let mut above = Vec::new();
    for read in Fields::of(bytes) {
        let read = read?;
        if item_path(message, read.number).is_none() {
            above.extend_from_slice(read.raw);
        }
    }
    let mut pieces = vec![Piece {
        bytes: above.clone(),
        items: 0,
    }];
    let mut current = 0;
    let mut room = first;
    for read in Fields::of(bytes) {
        let read = read?;
        let (Some(inner), Value::Bytes(value)) = (item_path(message, read.number), read.value)
        else {
            continue;
        };
        let items = count(value, inner)?;
        if items <= room {
            pieces[current].bytes.extend_from_slice(read.raw);
            pieces[current].items += items;
            room -= items;
            continue;
        }
        if room == 0 {
            pieces.push(Piece {
                bytes: above.clone(),
                items: 0,
            });
            current += 1;
            room = most;
        }
        for (index, part) in parts(value, inner, items, room, most)?.iter().enumerate() {
            if index > 0 {
                pieces.push(Piece {
                    bytes: above.clone(),
                    items: 0,
                });
                current += 1;
                room = most;
            }
            wire::write_bytes(&mut pieces[current].bytes, read.number, &part.bytes);
            pieces[current].items += part.items;
            room -= part.items;
        }
    }
    Ok(pieces)
}

/// A child's pieces; a child that is whole after all (an item, or few enough) is one piece.
fn parts(
    value: &[u8],
    inner: &'static Message,
    items: usize,
    room: usize,
    most: usize,
) -> Result<Vec<Piece>, WireError> {
    if items <= room {
        return Ok(vec![Piece {
            bytes: value.to_vec(),
            items,
        }]);
    }
    split(value, inner, room, most)
}

/// The message with the parts of a repeated singular child put together; `None` when there is no
/// such child. Only a metric's data can be one, and each piece must have all that it says.
fn joined(bytes: &[u8], message: &'static Message) -> Result<Option<Vec<u8>>, WireError> {
    let is_singular = |number| {
        item_path(message, number).is_some()
            && message
                .field(number)
                .is_some_and(|field| field.label != Label::Repeated)
    };
    if !message.fields.iter().any(|field| is_singular(field.number)) {
        return Ok(None);
    }
    let mut rest = Vec::new();
    let mut children: Vec<(u32, Vec<u8>, usize)> = Vec::new();
    for read in Fields::of(bytes) {
        let read = read?;
        match read.value {
            Value::Bytes(body) if is_singular(read.number) => {
                match children
                    .iter_mut()
                    .find(|(number, ..)| *number == read.number)
                {
                    Some((_, joined, parts)) => {
                        joined.extend_from_slice(body);
                        *parts += 1;
                    }
                    None => children.push((read.number, body.to_vec(), 1)),
                }
            }
            _ => rest.extend_from_slice(read.raw),
        }
    }
    if children.iter().all(|(_, _, parts)| *parts == 1) {
        return Ok(None);
    }
    for (number, body, _) in children {
        wire::write_bytes(&mut rest, number, &body);
    }
    Ok(Some(rest))
}
