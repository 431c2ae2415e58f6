//! A request decoded in full, without the code that is under test.
//!
//! In: sound bytes. Out: a tree in which singular messages are merged, the last scalar and the
//! last of a choice have won, and packed numbers stand one by one.
//! Invariant: two requests that mean the same have equal trees; unknown fields count.

use collector_otlp::schema::{Kind, Label, Message};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Known fields, by number; what repeats stays in order.
    fields: Vec<(u32, Value)>,
    /// Unknown fields, as they stand on the wire.
    unknown: Vec<Vec<u8>>,
    /// The number of the field that holds attributes.
    attributes: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Plain(Vec<u8>),
    Message(Node),
}

/// An item with everything that stands above it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) above: Vec<Node>,
    pub(crate) node: Node,
}

/// A field as it stands on the wire.
struct Raw<'a> {
    number: u32,
    wire_type: u64,
    value: &'a [u8],
    whole: &'a [u8],
}

impl Node {
    pub(crate) fn decode(bytes: &[u8], message: &'static Message) -> Self {
        // Bodies of messages are put together first, since merging is concatenation.
        let mut known: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut unknown = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let raw = read(&mut rest);
            let Some(field) = message.field(raw.number) else {
                unknown.push(raw.whole.to_vec());
                continue;
            };
            let number = raw.number;
            let is_message = matches!(field.kind, Kind::Message(_));
            if field.label == Label::OneOf {
                let other = |number: u32| {
                    message
                        .field(number)
                        .is_some_and(|f| f.label == Label::OneOf)
                };
                known.retain(|(known, _)| *known == number || !other(*known));
            }
            match field.label {
                Label::Repeated => {
                    known.extend(
                        unpacked(&raw, field.kind)
                            .into_iter()
                            .map(|value| (number, value)),
                    );
                }
                _ => match known.iter_mut().find(|(known, _)| *known == number) {
                    Some((_, value)) if is_message => value.extend_from_slice(raw.value),
                    Some((_, value)) => *value = raw.value.to_vec(),
                    None => known.push((number, raw.value.to_vec())),
                },
            }
        }
        known.sort_by_key(|(number, _)| *number);
        let value = |number: u32, bytes: Vec<u8>| match message.field(number).map(|f| f.kind) {
            Some(Kind::Message(inner)) => Value::Message(Self::decode(&bytes, inner)),
            _ => Value::Plain(bytes),
        };
        let named = message.field_named("attributes");
        Self {
            fields: known
                .into_iter()
                .map(|(number, bytes)| (number, value(number, bytes)))
                .collect(),
            unknown,
            attributes: named.map_or(0, |field| field.number),
        }
    }

    /// An `AnyValue` that holds a string.
    pub(crate) fn string(text: &[u8]) -> Self {
        Self {
            fields: vec![(1, Value::Plain(text.to_vec()))],
            unknown: Vec::new(),
            attributes: 0,
        }
    }

    fn empty(attributes: u32) -> Self {
        Self {
            fields: Vec::new(),
            unknown: Vec::new(),
            attributes,
        }
    }

    fn messages(&self, number: u32) -> impl Iterator<Item = &Self> {
        self.fields
            .iter()
            .filter_map(move |(found, value)| match value {
                Value::Message(node) if *found == number => Some(node),
                _ => None,
            })
    }

    fn messages_mut(&mut self, number: u32) -> impl Iterator<Item = &mut Self> {
        self.fields
            .iter_mut()
            .filter_map(move |(found, value)| match value {
                Value::Message(node) if *found == number => Some(node),
                _ => None,
            })
    }

    fn key(&self) -> &[u8] {
        let key = self.fields.iter().find(|(number, _)| *number == 1);
        match key {
            Some((_, Value::Plain(key))) => key,
            _ => &[],
        }
    }

    fn is_attribute(&self, number: u32, value: &Value, key: &[u8]) -> bool {
        number == self.attributes && matches!(value, Value::Message(pair) if pair.key() == key)
    }

    pub(crate) fn attribute(&self, key: &[u8]) -> Option<Self> {
        let pair = self
            .messages(self.attributes)
            .find(|pair| pair.key() == key)?;
        Some(
            pair.messages(2)
                .next()
                .cloned()
                .unwrap_or_else(|| Self::empty(0)),
        )
    }

    pub(crate) fn remove_attribute(&mut self, key: &[u8]) {
        let node = Self::empty(self.attributes);
        self.fields
            .retain(|(number, value)| !node.is_attribute(*number, value, key));
    }

    pub(crate) fn set_attribute(&mut self, key: &[u8], value: Self) {
        let pair = Self {
            fields: vec![(1, Value::Plain(key.to_vec())), (2, Value::Message(value))],
            unknown: Vec::new(),
            attributes: 0,
        };
        let attributes = self.attributes;
        if let Some(found) = self.messages_mut(attributes).find(|pair| pair.key() == key) {
            *found = pair;
            return;
        }
        let end = self
            .fields
            .iter()
            .rposition(|(number, _)| *number <= attributes);
        let place = end.map_or(0, |end| end + 1);
        self.fields
            .insert(place, (attributes, Value::Message(pair)));
    }

    pub(crate) fn rename_attribute(&mut self, key: &[u8], to: &[u8]) {
        if let Some(value) = self.attribute(key) {
            let attributes = self.attributes;
            if let Some(pair) = self.messages_mut(attributes).find(|pair| pair.key() == key) {
                pair.fields = vec![(1, Value::Plain(to.to_vec())), (2, Value::Message(value))];
                pair.unknown.clear();
            }
        }
    }

    /// Edits every resource, scope, item and span event of a request.
    pub(crate) fn edit_request(&mut self, edit: &dyn Fn(&mut Self)) {
        for entry in self.messages_mut(1) {
            entry.edit_head(1, edit);
            for scope_entry in entry.messages_mut(2) {
                scope_entry.edit_head(3, edit);
                for child in scope_entry.messages_mut(2) {
                    child.edit_child(edit);
                }
            }
        }
    }

    /// Edits the resource or scope in front, which comes into being if need be.
    fn edit_head(&mut self, attributes: u32, edit: &dyn Fn(&mut Self)) {
        if self.messages(1).next().is_none() {
            self.fields
                .insert(0, (1, Value::Message(Self::empty(attributes))));
        }
        self.messages_mut(1).for_each(edit);
    }

    fn edit_child(&mut self, edit: &dyn Fn(&mut Self)) {
        if self.attributes != 0 {
            // Only spans have events, and a log record's field 11 is a number.
            self.messages_mut(11)
                .filter(|node| node.attributes == 3)
                .for_each(edit);
            return edit(self);
        }
        for number in [5, 7, 9, 10, 11] {
            for data in self.messages_mut(number) {
                data.messages_mut(1).for_each(edit);
            }
        }
    }

    /// Every item with what stands above it.
    pub(crate) fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for entry in self.messages(1) {
            for scope_entry in entry.messages(2) {
                for child in scope_entry.messages(2) {
                    // Unknown fields of the request itself belong to no item.
                    let above = vec![entry.without(&[2]), scope_entry.without(&[2])];
                    child.items_below(above, &mut items);
                }
            }
        }
        items
    }

    fn items_below(&self, mut above: Vec<Self>, items: &mut Vec<Item>) {
        if self.attributes != 0 {
            let node = self.clone();
            return items.push(Item { above, node });
        }
        let data = [5, 7, 9, 10, 11];
        above.push(self.without(&data));
        for number in data {
            for data in self.messages(number) {
                for point in data.messages(1) {
                    let mut above = above.clone();
                    above.push(data.without(&[1]));
                    items.push(Item {
                        above,
                        node: point.clone(),
                    });
                }
            }
        }
    }

    fn without(&self, numbers: &[u32]) -> Self {
        let mut node = self.clone();
        node.fields.retain(|(number, _)| !numbers.contains(number));
        node
    }
}

fn unpacked(raw: &Raw<'_>, kind: Kind) -> Vec<Vec<u8>> {
    let is_number = !matches!(
        kind,
        Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Id(_)
    );
    if !is_number || raw.wire_type != 2 {
        return vec![raw.value.to_vec()];
    }
    let mut values = Vec::new();
    let mut rest = raw.value;
    while !rest.is_empty() {
        let length = match kind {
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 8,
            Kind::Fixed32 => 4,
            _ => rest
                .iter()
                .position(|byte| *byte < 0x80)
                .map_or(rest.len(), |end| end + 1),
        };
        let (value, after) = rest.split_at(length);
        values.push(value.to_vec());
        rest = after;
    }
    values
}

fn read<'a>(rest: &mut &'a [u8]) -> Raw<'a> {
    let whole = *rest;
    let tag = varint(rest);
    let wire_type = tag & 7;
    let before = *rest;
    let value = match wire_type {
        0 => {
            varint(rest);
            &before[..before.len() - rest.len()]
        }
        1 => take(rest, 8),
        5 => take(rest, 4),
        2 => {
            let length = varint(rest) as usize;
            take(rest, length)
        }
        3 => {
            while varint(&mut { *rest }) & 7 != 4 {
                read(rest);
            }
            varint(rest);
            &before[..before.len() - rest.len()]
        }
        _ => unreachable!("the generator makes no such wire type"),
    };
    Raw {
        number: (tag >> 3) as u32,
        wire_type,
        value,
        whole: &whole[..whole.len() - rest.len()],
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            break;
        }
    }
    value
}
