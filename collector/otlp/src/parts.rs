//! The fields of a message as places in the whole request, which is what edits work on.
//!
//! In: a request that has been validated, and the place of a message in it. Out: [`Part`]s.
//! Invariant: places are 32-bit, so a request that is edited is shorter than 4 GiB.

use crate::error::{WireError, WireFault};
use crate::wire::{Fields, Value, read_varint};

/// Where a field stands, counted from the start of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The field's number and wire type.
    pub(crate) tag: Tag,
    /// Where its tag begins.
    pub(crate) start: u32,
    /// Where its length begins, if it has one; else where its value begins.
    pub(crate) length: u32,
    /// Where its value begins.
    pub(crate) value: u32,
    /// Where it ends.
    pub(crate) end: u32,
}

/// A field's number and wire type, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    #[inline]
    pub(crate) const fn of(number: u32, wire_type: u8) -> Self {
        Self(number << 3 | wire_type as u32)
    }

    /// A string, bytes or a message in the field with this number.
    #[inline]
    pub(crate) const fn bytes(number: u32) -> Self {
        Self::of(number, 2)
    }

    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0 >> 3
    }

    #[inline]
    pub(crate) fn wire_type(self) -> u8 {
        (self.0 & 7) as u8
    }
}

/// Reads the parts of one message, in wire order.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'a> {
    source: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Parts<'a> {
    /// The parts between two places.
    pub(crate) fn of(source: &'a [u8], start: u32, end: u32) -> Self {
        Self {
            source,
            position: start as usize,
            end: end as usize,
        }
    }

    /// The next part; `None` at the end of the message.
    #[inline]
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, WireError> {
        match self.usual() {
            Some(part) => Ok(Some(part)),
            None => self.any(),
        }
    }

    /// A part with a tag of one byte, and a length of one or two if it has any; else `None`.
    #[inline(always)]
    pub(crate) fn usual(&mut self) -> Option<Part> {
        let rest = self.source.get(self.position..self.end)?;
        let (&tag, after) = rest.split_first()?;
        let (width, size) = match (tag, after) {
            (0x80.., _) => return None,
            (_, [low, high, ..]) if tag & 7 == 2 => match (*low, *high) {
                (..0x80, _) => (1, usize::from(*low)),
                (_, ..0x80) => (2, usize::from(*low & 0x7f) | usize::from(*high) << 7),
                _ => return None,
            },
            (_, [..0x80, ..]) if tag & 7 == 0 => (0, 1),
            _ if tag & 7 == 1 => (0, 8),
            _ => return None,
        };
        if width + size > after.len() {
            return None;
        }
        let start = self.position as u32;
        self.position += 1 + width + size;
        Some(Part {
            tag: Tag(u32::from(tag)),
            start,
            length: start + 1,
            value: start + 1 + width as u32,
            end: self.position as u32,
        })
    }

    /// Any part; `None` at the end of the message.
    #[inline(never)]
    pub(crate) fn any(&mut self) -> Result<Option<Part>, WireError> {
        let start = self.position;
        if start >= self.end {
            return Ok(None);
        }
        let Some(&tag) = self.source.get(start) else {
            return Err(WireError::new(start, WireFault::Truncated));
        };
        if tag >= 0x80 {
            return self.wide().map(Some);
        }
        let wire_type = tag & 7;
        let mut value = start + 1;
        let end = match wire_type {
            0 => {
                let mut end = value;
                read_varint(self.source, &mut end)?;
                end
            }
            1 => value + 8,
            2 => {
                let length = read_varint(self.source, &mut value)?;
                usize::try_from(length)
                    .ok()
                    .and_then(|length| value.checked_add(length))
                    .ok_or(WireError::new(start, WireFault::Truncated))?
            }
            5 => value + 4,
            _ => return self.wide().map(Some),
        };
        if end > self.end {
            return Err(WireError::new(start, WireFault::Truncated));
        }
        self.position = end;
        Ok(Some(Part {
            tag: Tag(u32::from(tag)),
            start: start as u32,
            length: start as u32 + 1,
            value: value as u32,
            end: end as u32,
        }))
    }

    /// A part with a long tag, or a group.
    #[cold]
    fn wide(&mut self) -> Result<Part, WireError> {
        let start = self.position;
        let truncated = WireError::new(start, WireFault::Truncated);
        let message = self.source.get(start..self.end).ok_or(truncated)?;
        let read = Fields::of(message).next().ok_or(truncated)?;
        let read = read.map_err(|error| error.shifted(start))?;
        let mut length = start;
        let tag = read_varint(self.source, &mut length)?;
        let mut value = length;
        if matches!(read.value, Value::Bytes(_)) {
            read_varint(self.source, &mut value)?;
        }
        self.position = start + read.raw.len();
        Ok(Part {
            tag: Tag::of(read.number, (tag & 7) as u8),
            start: start as u32,
            length: length as u32,
            value: value as u32,
            end: self.position as u32,
        })
    }
}
