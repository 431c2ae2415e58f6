//! Protobuf's wire format: reading fields from bytes, and writing them.
//!
//! In: bytes of one message. Out: its fields one by one, or a [`WireError`] with an offset.
//! Invariant: a [`Field`]'s `raw` is the exact bytes of the field, so copying it changes nothing.

use crate::error::{WireError, WireFault};

/// How many messages and groups may stand inside one another, as in other protobuf runtimes.
pub const MAX_DEPTH: usize = 100;

/// A field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The field's number, never zero.
    pub number: u32,
    /// The field's value.
    pub value: Value<'a>,
    /// The field whole: tag, length and value.
    pub raw: &'a [u8],
    /// Where `raw` begins, counted from the start of what the [`Fields`] read.
    pub offset: usize,
}

/// A field's value, by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4: a group; the bytes between its two tags.
    Group(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Reads the fields of one message, in wire order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    /// Starts at the first field of `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self {
            bytes: message,
            position: 0,
        }
    }

    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let offset = self.position;
        let tag = read_varint(self.bytes, &mut self.position)?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(WireError::new(offset, WireFault::FieldNumber))?;
        let value = match tag & 7 {
            0 => Value::Varint(read_varint(self.bytes, &mut self.position)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Value::Bytes(self.prefixed()?),
            3 => Value::Group(self.group(number)?),
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            4 => return Err(WireError::new(offset, WireFault::UnbalancedGroup)),
            _ => return Err(WireError::new(offset, WireFault::WireType)),
        };
        Ok(Field {
            number,
            value,
            raw: &self.bytes[offset..self.position],
            offset,
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let end = self
            .position
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(WireError::new(self.position, WireFault::Truncated))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let position = self.position;
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| WireError::new(position, WireFault::Truncated))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], WireError> {
        let position = self.position;
        let length = read_varint(self.bytes, &mut self.position)?;
        let length =
            usize::try_from(length).map_err(|_| WireError::new(position, WireFault::Truncated))?;
        self.take(length)
    }

    /// Skips a group without recursion: `open` holds the numbers of the groups not yet closed.
    fn group(&mut self, number: u32) -> Result<&'a [u8], WireError> {
        let start = self.position;
        let mut open = vec![u64::from(number)];
        loop {
            let offset = self.position;
            let tag = read_varint(self.bytes, &mut self.position)?;
            match tag & 7 {
                0 => drop(read_varint(self.bytes, &mut self.position)?),
                1 => drop(self.take(8)?),
                2 => drop(self.prefixed()?),
                3 if open.len() < MAX_DEPTH => open.push(tag >> 3),
                3 => return Err(WireError::new(offset, WireFault::TooDeep)),
                4 if open.pop() != Some(tag >> 3) => {
                    return Err(WireError::new(offset, WireFault::UnbalancedGroup));
                }
                4 if open.is_empty() => return Ok(&self.bytes[start..offset]),
                4 => {}
                5 => drop(self.take(4)?),
                _ => return Err(WireError::new(offset, WireFault::WireType)),
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.position = self.bytes.len();
        }
        Some(field)
    }
}

/// Reads a varint at `position` and moves it past; at most ten bytes that fit 64 bits.
#[inline]
pub fn read_varint(bytes: &[u8], position: &mut usize) -> Result<u64, WireError> {
    match bytes.get(*position) {
        Some(&byte) if byte < 0x80 => {
            *position += 1;
            Ok(u64::from(byte))
        }
        _ => read_long_varint(bytes, position),
    }
}

fn read_long_varint(bytes: &[u8], position: &mut usize) -> Result<u64, WireError> {
    let start = *position;
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some(&byte) = bytes.get(*position) else {
            return Err(WireError::new(start, WireFault::Truncated));
        };
        *position += 1;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(WireError::new(start, WireFault::Varint))
}

/// Appends a varint.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag: field number and wire type.
pub fn write_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    write_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends a length-delimited field: a string, bytes or a message.
pub fn write_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    write_tag(out, number, 2);
    write_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a varint field.
pub fn write_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    write_tag(out, number, 0);
    write_varint(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> WireFault {
        Fields::of(bytes).find_map(Result::err).unwrap().fault
    }

    #[test]
    fn reads_every_wire_type() {
        let bytes = [
            8, 150, 1, 17, 1, 0, 0, 0, 0, 0, 0, 0, 26, 2, 7, 8, 37, 1, 0, 0, 0, 43, 8, 1, 44,
        ];
        let values: Vec<_> = Fields::of(&bytes)
            .map(|field| field.unwrap().value)
            .collect();
        assert_eq!(
            values,
            [
                Value::Varint(150),
                Value::Fixed64(1),
                Value::Bytes(&[7, 8]),
                Value::Fixed32(1),
                Value::Group(&[8, 1]),
            ]
        );
    }

    #[test]
    fn refuses_malformed_fields() {
        assert_eq!(fault(&[0x80]), WireFault::Truncated);
        assert_eq!(
            fault(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            WireFault::Varint
        );
        assert_eq!(fault(&[10, 5, 1]), WireFault::Truncated);
        assert_eq!(fault(&[0, 1]), WireFault::FieldNumber);
        assert_eq!(fault(&[14, 1]), WireFault::WireType);
        assert_eq!(fault(&[12]), WireFault::UnbalancedGroup);
        assert_eq!(fault(&[11, 20]), WireFault::UnbalancedGroup);
        assert_eq!(fault(&[11]), WireFault::Truncated);
        assert_eq!(fault(&[11; 200]), WireFault::TooDeep);
        assert_eq!(
            fault(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            WireFault::Truncated
        );
    }

    #[test]
    fn writes_what_it_reads() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, value);
            let mut position = 0;
            assert_eq!(read_varint(&bytes, &mut position), Ok(value));
            assert_eq!(position, bytes.len());
        }
    }
}
