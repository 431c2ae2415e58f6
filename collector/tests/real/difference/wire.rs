//! Protobuf written by hand, so that also what no library writes can be sent.
//!
//! In: field numbers and values. Out: bytes. Invariant: nothing is checked.

/// A message's bytes.
pub(crate) type Bytes = Vec<u8>;

pub(crate) fn raw_varint(mut value: u64) -> Bytes {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

fn key(field: u64, kind: u64) -> Bytes {
    raw_varint(field << 3 | kind)
}

/// A varint field.
pub(crate) fn varint(field: u64, value: u64) -> Bytes {
    [key(field, 0), raw_varint(value)].concat()
}

/// A fixed64 field.
pub(crate) fn fixed64(field: u64, value: u64) -> Bytes {
    [key(field, 1), value.to_le_bytes().to_vec()].concat()
}

/// A double field.
pub(crate) fn double(field: u64, value: f64) -> Bytes {
    fixed64(field, value.to_bits())
}

/// A fixed32 field.
pub(crate) fn fixed32(field: u64, value: u32) -> Bytes {
    [key(field, 5), value.to_le_bytes().to_vec()].concat()
}

/// A field of bytes, a string, or a message of these parts.
pub(crate) fn bytes(field: u64, parts: &[impl AsRef<[u8]>]) -> Bytes {
    let length = parts.iter().map(|part| part.as_ref().len()).sum::<usize>();
    let mut out = [key(field, 2), raw_varint(length as u64)].concat();
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_ref()));
    out
}

/// A string field.
pub(crate) fn text(field: u64, value: &str) -> Bytes {
    bytes(field, &[value])
}

/// An empty message or string.
pub(crate) fn empty(field: u64) -> Bytes {
    bytes(field, &[""])
}

/// A group of these parts.
pub(crate) fn group(field: u64, parts: &[Bytes]) -> Bytes {
    [key(field, 3), parts.concat(), key(field, 4)].concat()
}

/// An attribute, at `field` of its message, with an `AnyValue` of these parts.
pub(crate) fn attribute(field: u64, name: &str, value: &[Bytes]) -> Bytes {
    bytes(field, &[text(1, name), bytes(2, value)])
}
