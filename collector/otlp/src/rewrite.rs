//! Writes a changed copy of a request: what did not change is copied in long runs.
//!
//! In: a request, the messages being walked through, and changes in ascending order.
//! Out: the changed bytes, or nothing when there was no change.
//! Invariant: until the first change nothing is allocated; each length prefix is right, and as
//! short as it can be, when its message is left.

use crate::parts::Part;
use crate::wire::{self, write_tag, write_varint};

/// How much longer than its source a copy may become before it must grow.
const HEADROOM_DIVISOR: usize = 4;

/// A changed copy in the making.
#[derive(Debug)]
pub(crate) struct Rewriter<'a> {
    source: &'a [u8],
    out: Vec<u8>,
    /// What of the source has been copied or replaced; what follows is copied with what comes next.
    copied: usize,
    frames: Vec<Frame>,
    /// How many of the frames, from the outermost, have a place in `out` already.
    opened: usize,
    changed: bool,
}

/// A message that is being walked through.
#[derive(Clone, Copy, Debug)]
struct Frame {
    part: Part,
    /// Where its length begins in `out`.
    prefix: usize,
    /// How many bytes are kept for its length.
    width: usize,
    /// What `out` and `copied` were before it was opened.
    before: (usize, usize),
}

impl<'a> Rewriter<'a> {
    pub(crate) fn of(source: &'a [u8]) -> Self {
        Self {
            source,
            out: Vec::new(),
            copied: 0,
            frames: Vec::with_capacity(8),
            opened: 0,
            changed: false,
        }
    }

    /// Walks into a message.
    #[inline]
    pub(crate) fn enter(&mut self, part: Part) {
        self.frames.push(Frame {
            part,
            prefix: 0,
            width: 0,
            before: (0, 0),
        });
    }

    /// Leaves the innermost message, which keeps what has been changed in it.
    #[inline]
    pub(crate) fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        if self.frames.len() < self.opened {
            self.opened = self.frames.len();
            self.close(frame);
        }
    }

    /// Leaves the innermost message and removes it whole.
    pub(crate) fn abandon(&mut self) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        if self.frames.len() < self.opened {
            self.opened = self.frames.len();
            let (length, copied) = frame.before;
            self.out.truncate(length);
            self.copied = copied;
        }
        self.remove(frame.part.start, frame.part.end);
    }

    /// Leaves a part of the source out.
    #[inline]
    pub(crate) fn remove(&mut self, start: u32, end: u32) {
        self.replace(start, end);
    }

    /// Leaves a part of the source out, and returns where to write what stands there instead.
    #[inline]
    pub(crate) fn replace(&mut self, start: u32, end: u32) -> &mut Vec<u8> {
        if self.opened < self.frames.len() || !self.changed {
            self.open();
        }
        self.copy_until(start as usize);
        self.copied = end as usize;
        &mut self.out
    }

    /// The changed copy; `None` when nothing was changed.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if !self.changed {
            return None;
        }
        self.copy_until(self.source.len());
        // What is left of a large request may be little, and may wait for long.
        if self.out.len() < self.out.capacity() / 2 {
            self.out.shrink_to_fit();
        }
        Some(self.out)
    }

    fn open(&mut self) {
        if !self.changed {
            self.changed = true;
            let length = self.source.len();
            self.out.reserve(length + length / HEADROOM_DIVISOR + 64);
        }
        while self.opened < self.frames.len() {
            let part = self.frames[self.opened].part;
            let (length, value) = (part.length as usize, part.value as usize);
            let before = (self.out.len(), self.copied);
            let width = self.expected_width(part.end as usize - value);
            let prefix = if width == value - length {
                // The length is copied with what stands around it.
                self.out.len() + (length - self.copied)
            } else {
                self.copy_until(length);
                let prefix = self.out.len();
                self.out.resize(prefix + width, 0);
                self.copied = value;
                prefix
            };
            let frame = &mut self.frames[self.opened];
            (frame.prefix, frame.width, frame.before) = (prefix, width, before);
            self.opened += 1;
        }
    }

    /// How many bytes a message's length will take if the message grows as all before it did.
    fn expected_width(&self, length: usize) -> usize {
        let (width, copied) = (varint_width(length), self.copied.max(1));
        // A division takes long, and messages that double in length are not worth one.
        if self.out.len() <= copied || varint_width(2 * length) == width {
            return width;
        }
        varint_width(length * self.out.len() / copied)
    }

    fn close(&mut self, frame: Frame) {
        let body = frame.prefix + frame.width;
        let end = frame.part.end as usize;
        let length = self.out.len() - body + (end - self.copied);
        let needed = varint_width(length);
        if needed != frame.width {
            self.copy_until(end);
            if needed > frame.width {
                self.out.resize(body + length + needed - frame.width, 0);
            }
            let whole = body..body + length;
            self.out.copy_within(whole, frame.prefix + needed);
            self.out.truncate(frame.prefix + needed + length);
        }
        let mut left = length;
        for byte in &mut self.out[frame.prefix..frame.prefix + needed] {
            *byte = left as u8 | 0x80;
            left >>= 7;
        }
        self.out[frame.prefix + needed - 1] &= 0x7f;
    }

    #[inline]
    fn copy_until(&mut self, place: usize) {
        if let Some(run) = self.source.get(self.copied..place) {
            if !run.is_empty() {
                self.out.extend_from_slice(run);
            }
            self.copied = place;
        }
    }
}

/// How many bytes a number takes as a varint.
#[inline]
pub(crate) fn varint_width(value: usize) -> usize {
    // One byte holds seven bits, and even zero takes one.
    ((value | 1).ilog2() / 7 + 1) as usize
}

/// Writes an attribute into the field with this number, from its key and the bytes of its value.
pub(crate) fn write_attribute(out: &mut Vec<u8>, number: u32, key: &[u8], value: &[u8]) {
    let length = 2 + varint_width(key.len()) + key.len() + varint_width(value.len()) + value.len();
    if let (..16, ..0x80) = (number, length) {
        // The usual case: every tag and length is one byte.
        let tag = (number << 3 | 2) as u8;
        out.extend_from_slice(&[tag, length as u8, 0x0a, key.len() as u8]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(value);
    } else {
        write_tag(out, number, 2);
        write_varint(out, length as u64);
        wire::write_bytes(out, 1, key);
        wire::write_bytes(out, 2, value);
    }
}
