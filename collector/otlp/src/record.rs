//! One message whose fields are indexed once, to be read and edited any number of times.
//!
//! In: a message's place in a validated request. Out: its fields and attributes as they are
//! after the edits made so far, and the edits as changes to the bytes.
//! Invariant: a field that nobody edited is never rewritten, and keeps its place.

use crate::any_value::AnyValue;
use crate::error::WireError;
use crate::parts::{Part, Parts};
use crate::rewrite::{Rewriter, varint_width};
use crate::schema::Message;
use crate::wire::{self, write_tag, write_varint};

/// One message of a request, being read and edited.
#[derive(Debug)]
pub struct Record<'a> {
    source: &'a [u8],
    start: u32,
    end: u32,
    message: Option<&'static Message>,
    slots: Vec<Slot>,
    edits: Vec<Edit<'a>>,
    scratch: Vec<u8>,
    changed: bool,
}

/// A field of the message, in wire order, or one that was added.
#[derive(Clone, Copy, Debug)]
struct Slot {
    part: Part,
    /// Where an attribute's key stands; of an edited one only its length counts.
    key: (u32, u32),
    /// Where an attribute's `AnyValue` stands.
    value: (u32, u32),
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Kept,
    Removed,
    Edited(u32),
    /// Not edited, but put together from several parts in order to be read.
    Joined(u32),
}

/// What stands in a slot instead of the source's bytes.
#[derive(Clone, Copy, Debug)]
enum Edit<'a> {
    /// An attribute.
    Attribute {
        key: Content<'a>,
        value: Content<'a>,
    },
    /// A whole field, in `scratch`.
    Field(u32, u32),
}

/// The bytes of an `AnyValue`.
#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Borrowed(&'a [u8]),
    Scratch(u32, u32),
}

/// One field of a [`Record`], as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// A place that no attribute of the source can have.
const NOWHERE: Part = Part {
    number: 0,
    wire_type: 2,
    start: u32::MAX,
    length: u32::MAX,
    value: u32::MAX,
    end: u32::MAX,
};

impl<'a> Record<'a> {
    pub(crate) fn of(source: &'a [u8]) -> Self {
        Self {
            source,
            start: 0,
            end: 0,
            message: None,
            slots: Vec::with_capacity(32),
            edits: Vec::new(),
            scratch: Vec::new(),
            changed: false,
        }
    }

    /// Indexes another message, which forgets the one before.
    pub(crate) fn load(
        &mut self,
        message: &'static Message,
        start: u32,
        end: u32,
    ) -> Result<(), WireError> {
        self.slots.clear();
        self.edits.clear();
        self.scratch.clear();
        self.changed = false;
        (self.start, self.end, self.message) = (start, end, Some(message));
        let attributes = message.plan.attributes;
        let mut parts = Parts::of(self.source, start, end);
        // Slots are made from registers: copying one that was just written stalls the processor.
        while let Some(part) = match parts.usual() {
            Some(part) => Some(part),
            None => parts.any()?,
        } {
            let is_attribute = part.number == attributes && part.wire_type == 2;
            match is_attribute.then(|| self.usual_attribute(part.value, part.end)) {
                None => self.push(part, (0, 0), (0, 0)),
                Some(Some((key, value))) => self.push(part, key, value),
                Some(None) => {
                    let mut slot = Slot {
                        part,
                        key: (0, 0),
                        value: (0, 0),
                        state: State::Kept,
                    };
                    self.index_attribute(&mut slot)?;
                    self.slots.push(slot);
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, part: Part, key: (u32, u32), value: (u32, u32)) {
        self.slots.push(Slot {
            part,
            key,
            value,
            state: State::Kept,
        });
    }

    /// Where key and value stand in an attribute of the usual shape.
    #[inline(always)]
    fn usual_attribute(&self, start: u32, end: u32) -> Option<((u32, u32), (u32, u32))> {
        let pair = self.source.get(start as usize..end as usize)?;
        let [0x0a, key_length @ ..0x80, after @ ..] = pair else {
            return None;
        };
        let (_, after) = after.split_at_checked(usize::from(*key_length))?;
        let [0x12, value_length @ ..0x80, value @ ..] = after else {
            return None;
        };
        if usize::from(*value_length) != value.len() {
            return None;
        }
        let key = (start + 2, start + 2 + u32::from(*key_length));
        Some((key, (end - value.len() as u32, end)))
    }

    #[inline(never)]
    fn index_attribute(&mut self, slot: &mut Slot) -> Result<(), WireError> {
        let (start, end) = (slot.part.value, slot.part.end);
        let mut parts = Parts::of(self.source, start, end);
        let mut values = 0;
        while let Some(part) = parts.next_part()? {
            match (part.number, part.wire_type) {
                (1, 2) => slot.key = (part.value, part.end),
                (2, 2) => {
                    slot.value = (part.value, part.end);
                    values += 1;
                }
                _ => {}
            }
        }
        if values > 1 {
            self.join_values(slot)?;
        }
        Ok(())
    }

    /// A value that is repeated merges, and concatenation is that merge.
    #[cold]
    fn join_values(&mut self, slot: &mut Slot) -> Result<(), WireError> {
        let start = self.scratch.len() as u32;
        let mut parts = Parts::of(self.source, slot.part.value, slot.part.end);
        while let Some(part) = parts.next_part()? {
            if (part.number, part.wire_type) == (2, 2) {
                let value = &self.source[part.value as usize..part.end as usize];
                self.scratch.extend_from_slice(value);
            }
        }
        let key = &self.source[slot.key.0 as usize..slot.key.1 as usize];
        let key = Content::Borrowed(key);
        let value = Content::Scratch(start, self.scratch.len() as u32);
        slot.state = State::Joined(self.edits.len() as u32);
        self.edits.push(Edit::Attribute { key, value });
        Ok(())
    }

    /// Whether anything was edited.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// The message's table.
    pub fn message(&self) -> Option<&'static Message> {
        self.message
    }

    fn attribute_number(&self) -> u32 {
        self.message.map_or(0, |message| message.plan.attributes)
    }

    #[inline]
    fn key_of(&self, slot: &Slot) -> Option<&[u8]> {
        match slot.state {
            State::Kept if slot.key.1 != 0 => {
                self.source.get(slot.key.0 as usize..slot.key.1 as usize)
            }
            State::Kept if slot.part.number == self.attribute_number() => Some(&[]),
            State::Edited(edit) | State::Joined(edit) => match self.edits[edit as usize] {
                Edit::Attribute { key, .. } => Some(self.content(key)),
                Edit::Field(..) => None,
            },
            _ => None,
        }
    }

    /// The first attribute with this key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<Place> {
        self.find_from(0, key)
    }

    /// The first attribute with this key behind a place.
    #[inline]
    pub fn find_after(&self, place: Place, key: &[u8]) -> Option<Place> {
        self.find_from(place.0 as usize + 1, key)
    }

    #[inline]
    fn find_from(&self, first: usize, key: &[u8]) -> Option<Place> {
        let mut slots = self.slots.get(first..)?.iter();
        // Most keys differ in their length already, which takes no look at the request.
        let found = slots.position(|slot| {
            (slot.key.1 - slot.key.0) as usize == key.len() && self.key_of(slot) == Some(key)
        });
        found.map(|index| Place((first + index) as u32))
    }

    /// Every attribute, in order.
    pub fn attributes(&self) -> impl Iterator<Item = (Place, &[u8])> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = self.key_of(slot)?;
            Some((Place(index as u32), key))
        })
    }

    /// How many attributes there are, which bounds what [`Record::nth`] takes.
    pub fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The attribute at a place, if there is one.
    pub fn nth(&self, place: u32) -> Option<(Place, &[u8])> {
        let key = self.key_of(self.slots.get(place as usize)?)?;
        Some((Place(place), key))
    }

    /// The bytes of an attribute's `AnyValue`.
    pub fn value(&self, place: Place) -> &[u8] {
        let Some(slot) = self.slots.get(place.0 as usize) else {
            return &[];
        };
        match slot.state {
            State::Edited(edit) | State::Joined(edit) => match self.edits[edit as usize] {
                Edit::Attribute { value, .. } => self.content(value),
                Edit::Field(..) => &[],
            },
            _ => &self.source[slot.value.0 as usize..slot.value.1 as usize],
        }
    }

    /// The value of the first attribute with this key.
    #[inline]
    pub fn attribute(&self, key: &[u8]) -> Option<AnyValue<'_>> {
        self.find(key).map(|place| AnyValue::of(self.value(place)))
    }

    fn content<'s>(&'s self, content: Content<'a>) -> &'s [u8] {
        match content {
            Content::Borrowed(bytes) => bytes,
            Content::Scratch(start, end) => &self.scratch[start as usize..end as usize],
        }
    }

    /// Sets an attribute's value to the bytes of an `AnyValue` that outlive the record.
    pub fn set_borrowed(&mut self, place: Option<Place>, key: &'a [u8], value: &'a [u8]) {
        self.set(place, key, Content::Borrowed(value));
    }

    /// Sets an attribute's value to the bytes of an `AnyValue` that `write` makes.
    pub fn set_written(
        &mut self,
        place: Option<Place>,
        key: &'a [u8],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let value = self.kept_in_scratch(write);
        self.set(place, key, value);
    }

    /// Replaces the value at a place, whose key stays.
    pub fn revalue(&mut self, place: Place, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some((key, _)) = self.contents(place) {
            let value = self.kept_in_scratch(write);
            self.edit(Some(place), Edit::Attribute { key, value });
        }
    }

    /// Sets an attribute to the value of another attribute.
    pub fn copy_value(&mut self, place: Option<Place>, key: &'a [u8], from: Place) {
        if let Some((_, value)) = self.contents(from) {
            self.set(place, key, value);
        }
    }

    /// Sets the attribute with this key, present or not, when neither outlives the record.
    pub fn upsert(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        match self.find(key) {
            Some(place) => self.revalue(place, write),
            None => {
                let key = self.kept_in_scratch(|scratch| scratch.extend_from_slice(key));
                let value = self.kept_in_scratch(write);
                self.edit(None, Edit::Attribute { key, value });
            }
        }
    }

    /// Gives the attribute at a place another key.
    pub fn rename(&mut self, place: Place, key: &[u8]) {
        if let Some((_, value)) = self.contents(place) {
            let key = self.kept_in_scratch(|scratch| scratch.extend_from_slice(key));
            self.edit(Some(place), Edit::Attribute { key, value });
        }
    }

    /// The key and value at a place, wherever they stand.
    fn contents(&self, place: Place) -> Option<(Content<'a>, Content<'a>)> {
        let slot = self.slots.get(place.0 as usize)?;
        match slot.state {
            State::Edited(edit) | State::Joined(edit) => match self.edits[edit as usize] {
                Edit::Attribute { key, value } => Some((key, value)),
                Edit::Field(..) => None,
            },
            _ => {
                let source = |(start, end): (u32, u32)| {
                    Content::Borrowed(&self.source[start as usize..end as usize])
                };
                Some((source(slot.key), source(slot.value)))
            }
        }
    }

    fn kept_in_scratch(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Content<'a> {
        let start = self.scratch.len() as u32;
        write(&mut self.scratch);
        Content::Scratch(start, self.scratch.len() as u32)
    }

    fn set(&mut self, place: Option<Place>, key: &'a [u8], value: Content<'a>) {
        let key = Content::Borrowed(key);
        self.edit(place, Edit::Attribute { key, value });
    }

    fn edit(&mut self, place: Option<Place>, edit: Edit<'a>) {
        self.changed = true;
        let state = State::Edited(self.edits.len() as u32);
        self.edits.push(edit);
        let length = match edit {
            Edit::Attribute { key, .. } => self.content(key).len() as u32,
            Edit::Field(..) => 0,
        };
        let key = (0, length);
        match place.and_then(|place| self.slots.get_mut(place.0 as usize)) {
            Some(slot) => (slot.state, slot.key) = (state, key),
            None => self.slots.push(Slot {
                part: NOWHERE,
                key,
                value: (0, 0),
                state,
            }),
        }
    }

    /// Removes the field or attribute at a place.
    pub fn remove(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            slot.state = State::Removed;
            self.changed = true;
        }
    }

    /// Removes every attribute with this key, and says whether there was one.
    pub fn remove_key(&mut self, key: &[u8]) -> bool {
        let mut found = false;
        while let Some(place) = self.find(key) {
            self.remove(place);
            found = true;
        }
        found
    }

    /// The last field with this number, which is the one that counts, as it is on the wire.
    pub fn field(&self, number: u32) -> Option<wire::Value<'_>> {
        let (_, field) = self.last(number)?;
        wire::Fields::of(field).next()?.ok().map(|read| read.value)
    }

    /// The number in the last varint field with this number; zero when there is none.
    pub fn varint(&self, number: u32) -> u64 {
        match self.field(number) {
            Some(wire::Value::Varint(value)) => value,
            _ => 0,
        }
    }

    /// The bytes in the last field with this number; empty when there is none.
    pub fn bytes(&self, number: u32) -> &[u8] {
        let slot = self
            .last(number)
            .map(|(place, _)| self.slots[place.0 as usize]);
        match slot {
            Some(slot) if slot.state == State::Kept && slot.part.wire_type == 2 => {
                &self.source[slot.part.value as usize..slot.part.end as usize]
            }
            _ => match self.field(number) {
                Some(wire::Value::Bytes(value)) => value,
                _ => &[],
            },
        }
    }

    /// The eight bytes in the last field with this number; zero when there is none.
    pub fn fixed64(&self, number: u32) -> u64 {
        match self.field(number) {
            Some(wire::Value::Fixed64(value)) => value,
            _ => 0,
        }
    }

    /// A singular message below, with its repetitions merged.
    pub fn merged(&self, number: u32) -> std::borrow::Cow<'_, [u8]> {
        let mut bodies = self.bodies(number);
        let Some(first) = bodies.next() else {
            return (&[][..]).into();
        };
        let mut merged = std::borrow::Cow::Borrowed(first);
        for body in bodies {
            merged.to_mut().extend_from_slice(body);
        }
        merged
    }

    /// The bytes of every field with this number, in order.
    pub fn bodies(&self, number: u32) -> impl Iterator<Item = &[u8]> {
        self.slots.iter().filter_map(move |slot| {
            let field = self.raw(slot, number)?;
            match wire::Fields::of(field).next()?.ok()?.value {
                wire::Value::Bytes(body) => Some(body),
                _ => None,
            }
        })
    }

    fn last(&self, number: u32) -> Option<(Place, &[u8])> {
        let mut slots = self.slots.iter().enumerate().rev();
        slots.find_map(|(index, slot)| Some((Place(index as u32), self.raw(slot, number)?)))
    }

    /// The whole field in a slot, if it has this number and is no edited attribute.
    #[inline]
    fn raw(&self, slot: &Slot, number: u32) -> Option<&[u8]> {
        if slot.part.number != number {
            return None;
        }
        match slot.state {
            State::Kept => Some(&self.source[slot.part.start as usize..slot.part.end as usize]),
            State::Edited(edit) => match self.edits[edit as usize] {
                Edit::Field(start, end) => Some(&self.scratch[start as usize..end as usize]),
                Edit::Attribute { .. } => None,
            },
            State::Removed | State::Joined(_) => None,
        }
    }

    /// Sets a field: `write` makes all of it, with its tag; other occurrences go.
    pub fn set_field(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let place = self.last(number).map(|(place, _)| place);
        self.remove_field(number);
        let start = self.scratch.len() as u32;
        write(&mut self.scratch);
        let end = self.scratch.len() as u32;
        self.edit(place, Edit::Field(start, end));
        let index = place.map_or(self.slots.len() - 1, |place| place.0 as usize);
        self.slots[index].part.number = number;
    }

    /// Removes every field with this number.
    pub fn remove_field(&mut self, number: u32) {
        for slot in &mut self.slots {
            if slot.part.number == number && slot.state != State::Removed {
                slot.state = State::Removed;
                self.changed = true;
            }
        }
    }

    /// Where the parts stand that were not edited, to walk into those that hold items.
    pub(crate) fn kept(&self, index: usize) -> Option<(Part, bool)> {
        let slot = self.slots.get(index)?;
        Some((slot.part, slot.state == State::Kept))
    }

    /// Writes the edits of one slot.
    pub(crate) fn flush_slot(&self, index: usize, rewriter: &mut Rewriter<'a>) {
        if let Some(slot) = self.slots.get(index) {
            self.flush_one(slot, rewriter);
        }
    }

    #[inline(always)]
    fn flush_one(&self, slot: &Slot, rewriter: &mut Rewriter<'a>) {
        let (start, end) = match slot.part.start {
            u32::MAX => (self.end, self.end),
            start => (start, slot.part.end),
        };
        match slot.state {
            State::Kept | State::Joined(_) => {}
            State::Removed if start == end => {}
            State::Removed => rewriter.remove(start, end),
            State::Edited(edit) => self.write_edit(edit, rewriter.replace(start, end)),
        }
    }

    /// Writes all edits into the message, which the rewriter has entered.
    pub(crate) fn flush(&self, rewriter: &mut Rewriter<'a>) {
        if self.changed {
            for slot in &self.slots {
                self.flush_one(slot, rewriter);
            }
        }
    }

    /// Writes the message as it is now.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for slot in &self.slots {
            match slot.state {
                State::Removed => {}
                State::Kept | State::Joined(_) => out.extend_from_slice(
                    &self.source[slot.part.start as usize..slot.part.end as usize],
                ),
                State::Edited(edit) => self.write_edit(edit, out),
            }
        }
    }

    fn write_edit(&self, edit: u32, out: &mut Vec<u8>) {
        match self.edits[edit as usize] {
            Edit::Field(start, end) => {
                out.extend_from_slice(&self.scratch[start as usize..end as usize]);
            }
            Edit::Attribute { key, value } => {
                write_attribute(
                    out,
                    self.attribute_number(),
                    self.content(key),
                    self.content(value),
                );
            }
        }
    }
}

fn write_attribute(out: &mut Vec<u8>, number: u32, key: &[u8], value: &[u8]) {
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
