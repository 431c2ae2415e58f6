//! What validation does for each tag, as a table that one byte indexes.
//!
//! In: the fields of a message. Out: a [`Plan`], made when the program is compiled.
//! Invariant: a tag that is not one byte, not known here, or not of the field's usual wire type
//! is [`Step::Rare`], so that the table can only ever speak for sound fields.

use super::{Field, Kind, Label, Message};

/// What to do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look closer.
    Rare,
    /// A varint.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// Four bytes.
    Fixed32,
    /// Text, which must be UTF-8.
    String,
    /// Any bytes.
    Bytes,
    /// A trace id, or none.
    TraceId,
    /// A span id, or none.
    SpanId,
    /// A message.
    Message,
    /// An attribute, by far the most frequent message.
    KeyValue,
    /// Packed numbers of eight bytes.
    Packed64,
}

/// A step for each byte that can be a tag, and the messages below.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By tag.
    pub(crate) steps: [Step; 256],
    /// By field number, as far as tags of one byte go.
    pub(crate) inner: [Option<&'static Message>; 16],
    /// The number of the field that holds attributes; zero when there is none.
    pub(crate) attributes: u32,
}

impl Plan {
    pub(super) const fn of(fields: &'static [Field]) -> Self {
        let mut plan = Self {
            steps: [Step::Rare; 256],
            inner: [None; 16],
            attributes: 0,
        };
        let mut index = 0;
        while index < fields.len() {
            let field = &fields[index];
            index += 1;
            if field.number > 15 {
                continue;
            }
            let repeated = matches!(field.label, Label::Repeated);
            let (wire_type, step) = match field.kind {
                Kind::Message(inner) => {
                    plan.inner[field.number as usize] = Some(inner);
                    let step = step_into(field.name);
                    if matches!(step, Step::KeyValue) {
                        plan.attributes = field.number;
                    }
                    (2, step)
                }
                Kind::String => (2, Step::String),
                Kind::Bytes => (2, Step::Bytes),
                Kind::Id(16) => (2, Step::TraceId),
                Kind::Id(8) => (2, Step::SpanId),
                Kind::Id(_) => (2, Step::Rare),
                Kind::Fixed32 => (5, Step::Fixed32),
                Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => (1, Step::Fixed64),
                _ => (0, Step::Varint),
            };
            plan.steps[(field.number as usize) << 3 | wire_type] = step;
            if repeated && matches!(step, Step::Fixed64) {
                plan.steps[(field.number as usize) << 3 | 2] = Step::Packed64;
            }
        }
        plan
    }
}

/// Attributes are known by their name, since a constant cannot compare addresses.
const fn step_into(name: &str) -> Step {
    match name.as_bytes() {
        b"attributes" => Step::KeyValue,
        _ => Step::Message,
    }
}
