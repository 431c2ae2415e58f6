//! Random requests as wire bytes, with everything that protobuf allows and few writers do.
//!
//! In: a seed. Out: sound bytes: singular messages repeated, numbers packed and not, fields in
//! any order, unknown fields and groups. Invariant: the same seed makes the same bytes.

use collector_otlp::Signal;
use collector_otlp::schema::{Field, Kind, Label, Message};

/// How deep messages nest before they are left empty.
const MAX_DEPTH: usize = 9;

pub(crate) struct Generator {
    random: fastrand::Rng,
    /// The items made so far.
    pub(crate) items: usize,
}

impl Generator {
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            items: 0,
        }
    }

    pub(crate) fn request(&mut self, signal: Signal) -> Vec<u8> {
        self.message(signal.request(), 0)
    }

    fn message(&mut self, message: &'static Message, depth: usize) -> Vec<u8> {
        self.items += usize::from(message.item);
        let mut fields: Vec<Vec<u8>> = Vec::new();
        if depth < MAX_DEPTH {
            // A metric has one kind of data, since of several only the last would count.
            let choices: Vec<_> = message
                .fields
                .iter()
                .filter(|f| f.label == Label::OneOf)
                .collect();
            let chosen = match message.holds_items && !choices.is_empty() {
                true => choices.get(self.random.usize(..choices.len())).copied(),
                false => None,
            };
            for field in message.fields {
                if chosen.is_some_and(|chosen| {
                    field.label == Label::OneOf && chosen.number != field.number
                }) {
                    continue;
                }
                for _ in 0..self.count(field, message) {
                    fields.push(self.field(field, depth));
                }
            }
            if self.random.u8(..8) == 0 {
                fields.push(self.unknown());
            }
        }
        // A quarter of the messages has its fields in an unusual order.
        if self.random.bool() && self.random.bool() {
            self.random.shuffle(&mut fields);
        }
        fields.concat()
    }

    fn count(&mut self, field: &Field, message: &Message) -> usize {
        let inner = matches!(field.kind, Kind::Message(inner) if inner.item || inner.holds_items);
        match field.label {
            _ if inner && message.holds_items => self.random.usize(..4),
            Label::Repeated => self.random.usize(..3),
            _ => match self.random.u8(..10) {
                0..4 => 0,
                4..9 => 1,
                _ => 2,
            },
        }
    }

    fn field(&mut self, field: &'static Field, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let packed = field.label == Label::Repeated && self.random.bool();
        match field.kind {
            Kind::Message(inner) => {
                let body = self.message(inner, depth + 1);
                prefixed(&mut out, field.number, &body);
            }
            Kind::String => prefixed(&mut out, field.number, self.text().as_bytes()),
            Kind::Bytes => prefixed(&mut out, field.number, &[0xff, 0, 1]),
            Kind::Id(length) => {
                let byte = self.random.u8(..);
                let length = if self.random.bool() { length } else { 0 };
                prefixed(&mut out, field.number, &vec![byte; length]);
            }
            Kind::Fixed32 => number(
                &mut out,
                field.number,
                5,
                &self.random.u32(..).to_le_bytes(),
            ),
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => {
                let bytes = self.random.u64(..).to_le_bytes();
                match packed {
                    true => prefixed(&mut out, field.number, &[bytes, bytes].concat()),
                    false => number(&mut out, field.number, 1, &bytes),
                }
            }
            _ => {
                let mut value = Vec::new();
                varint(&mut value, self.random.u64(..) >> self.random.u32(..64));
                match packed {
                    true => prefixed(&mut out, field.number, &value.repeat(3)),
                    false => number(&mut out, field.number, 0, &value),
                }
            }
        }
        out
    }

    fn text(&mut self) -> String {
        let texts = ["a", "b", "c", "d", "key", "service.name", "", "äöü ✓"];
        match self.random.u8(..20) {
            0 => "long ".repeat(self.random.usize(20..60)),
            _ => texts[self.random.usize(..texts.len())].to_owned(),
        }
    }

    fn unknown(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.random.u8(..3) {
            0 => number(&mut out, 999, 0, &[0x81, 0x01]),
            1 => prefixed(&mut out, 100, b"unknown"),
            // A group with a varint and a group in it.
            _ => out.extend([0xa3, 0x06, 0x08, 0x01, 0x13, 0x14, 0xa4, 0x06]),
        }
        out
    }
}

fn number(out: &mut Vec<u8>, number: u32, wire_type: u64, value: &[u8]) {
    varint(out, u64::from(number) << 3 | wire_type);
    out.extend_from_slice(value);
}

fn prefixed(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
