//! Writes a changed copy of a request: what did not change is copied in long runs.
//!
//! In: a request, the messages being walked through, and changes in ascending order.
//! Out: the changed bytes, or nothing when there was no change.
//! Invariant: until the first change nothing is allocated; each length prefix is right when its
//! message is left.

use crate::parts::Part;

/// How much longer than its source a copy may become before it must grow.
const HEADROOM_DIVISOR: usize = 8;

/// A changed copy in the making.
#[derive(Debug)]
pub(crate) struct Rewriter<'a> {
    source: &'a [u8],
    out: Vec<u8>,
    /// What of the source has been copied or replaced.
    copied: usize,
    frames: Vec<Frame>,
    /// How many of the frames, from the outermost, stand in `out` already.
    opened: usize,
    changed: bool,
}

/// A message that is being walked through.
#[derive(Clone, Copy, Debug)]
struct Frame {
    part: Part,
    /// Where its length begins in `out`.
    prefix: usize,
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
            let before = (self.out.len(), self.copied);
            self.copy_until(part.length as usize);
            let prefix = self.out.len();
            self.copy_until(part.value as usize);
            let frame = &mut self.frames[self.opened];
            frame.prefix = prefix;
            frame.before = before;
            self.opened += 1;
        }
    }

    fn close(&mut self, frame: Frame) {
        self.copy_until(frame.part.end as usize);
        let width = (frame.part.value - frame.part.length) as usize;
        let body = frame.prefix + width;
        let length = self.out.len() - body;
        let mut prefix = [0; 10];
        let needed = encode_varint(&mut prefix, length as u64);
        if needed > width {
            let grown = needed - width;
            self.out.resize(self.out.len() + grown, 0);
            let end = body + length;
            self.out.copy_within(body..end, body + grown);
        } else if needed < width {
            self.out.copy_within(body.., frame.prefix + needed);
            self.out.truncate(frame.prefix + needed + length);
        }
        self.out[frame.prefix..frame.prefix + needed].copy_from_slice(&prefix[..needed]);
    }

    #[inline]
    fn copy_until(&mut self, place: usize) {
        if let Some(run) = self.source.get(self.copied..place) {
            self.out.extend_from_slice(run);
            self.copied = place;
        }
    }
}

fn encode_varint(out: &mut [u8; 10], mut value: u64) -> usize {
    let mut width = 0;
    while value >= 0x80 {
        out[width] = value as u8 | 0x80;
        value >>= 7;
        width += 1;
    }
    out[width] = value as u8;
    width + 1
}

/// How many bytes a number takes as a varint.
#[inline]
pub(crate) fn varint_width(value: usize) -> usize {
    // One byte holds seven bits, and even zero takes one.
    ((value | 1).ilog2() / 7 + 1) as usize
}
