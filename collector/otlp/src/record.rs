//! One message whose fields are indexed once, to be read and edited any number of times.
//!
//! In: a message's place in a validated request. Out: its fields and attributes as they are
//! after the edits made so far, and the edits as changes to the bytes.
//! Invariant: a field that nobody edited is never rewritten, and keeps its place.

use std::ops::Range;

use crate::any_value::AnyValue;
use crate::error::WireError;
use crate::parts::{Part, Parts, Tag};
use crate::rewrite::{Rewriter, write_attribute};
use crate::schema::Message;
use crate::wire;

/// One message of a request, being read and edited.
#[derive(Debug)]
pub struct Record<'a> {
    source: &'a [u8],
    start: u32,
    end: u32,
    message: Option<&'static Message>,
    slots: Vec<Slot>,
    /// The first slot that holds an attribute, if any does.
    first_attribute: usize,
    edits: Vec<Edit<'a>>,
    scratch: Vec<u8>,
    changed: bool,
}

/// A field of the message, in wire order, or one that was added.
#[derive(Clone, Copy, Debug)]
struct Slot {
    part: Part,
    /// The length of an attribute's key; [`NO_KEY`] for what is not there, or no attribute.
    key: u32,
    state: State,
}

/// No key is as long: requests that are edited are shorter than 4 GiB.
const NO_KEY: u32 = u32::MAX;

impl Slot {
    /// Where the key stands in an attribute whose tags and lengths are one byte each.
    #[inline]
    fn usual_key(&self) -> Range<usize> {
        let start = self.part.value as usize + 2;
        start..start + self.key as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Kept,
    Removed,
    Edited(u32),
    /// Not edited, but an attribute of an unusual shape: where it is read from is in `edits`.
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
    tag: Tag::bytes(0),
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
            first_attribute: usize::MAX,
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
        self.first_attribute = usize::MAX;
        let attribute = Tag::bytes(message.plan.attributes);
        let mut parts = Parts::of(self.source, start, end);
        loop {
            // Slots are made from registers: what is put together in memory and copied from there
            // at once stalls the processor. So nothing here takes a part by reference.
            while let Some(part) = parts.usual() {
                self.index(part, attribute)?;
            }
            match parts.any()? {
                Some(part) => self.index(part, attribute)?,
                None => return Ok(()),
            }
        }
    }

    #[inline(always)]
    fn index(&mut self, part: Part, attribute: Tag) -> Result<(), WireError> {
        if part.tag != attribute {
            self.push(part, NO_KEY, State::Kept);
            return Ok(());
        }
        self.first_attribute = self.first_attribute.min(self.slots.len());
        let key = self.usual_key(part.value, part.end);
        self.push(part, key.unwrap_or(NO_KEY), State::Kept);
        match key {
            Some(_) => Ok(()),
            None => self.index_unusual(),
        }
    }

    #[inline(always)]
    fn push(&mut self, part: Part, key: u32, state: State) {
        self.slots.push(Slot { part, key, state });
    }

    /// The length of the key of an attribute of the usual shape.
    #[inline(always)]
    fn usual_key(&self, start: u32, end: u32) -> Option<u32> {
        let pair = self.source.get(start as usize..end as usize)?;
        let [0x0a, key_length @ ..0x80, after @ ..] = pair else {
            return None;
        };
        let (_, after) = after.split_at_checked(usize::from(*key_length))?;
        let [0x12, value_length @ ..0x80, value @ ..] = after else {
            return None;
        };
        (usize::from(*value_length) == value.len()).then(|| u32::from(*key_length))
    }

    /// Finds key and value of the last slot's attribute, whatever its shape.
    #[inline(never)]
    fn index_unusual(&mut self) -> Result<(), WireError> {
        let Some(part) = self.slots.last().map(|slot| slot.part) else {
            return Ok(());
        };
        let mut inner = Parts::of(self.source, part.value, part.end);
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        let (mut values, joined) = (0, self.scratch.len() as u32);
        while let Some(field) = inner.next_part()? {
            let content = &self.source[field.value as usize..field.end as usize];
            if field.tag == Tag::bytes(1) {
                key = content;
            } else if field.tag == Tag::bytes(2) {
                // A value that is repeated merges, and concatenation is that merge.
                match values {
                    0 => {}
                    1 => self.scratch.extend([value, content].concat()),
                    _ => self.scratch.extend_from_slice(content),
                }
                (value, values) = (content, values + 1);
            }
        }
        let value = match values {
            ..2 => Content::Borrowed(value),
            _ => Content::Scratch(joined, self.scratch.len() as u32),
        };
        if let Some(slot) = self.slots.last_mut() {
            slot.key = key.len() as u32;
            slot.state = State::Joined(self.edits.len() as u32);
        }
        let key = Content::Borrowed(key);
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
            State::Kept if slot.key != NO_KEY => self.source.get(slot.usual_key()),
            _ => self.contents_of(slot).map(|(key, _)| self.content(key)),
        }
    }

    /// The first attribute with this key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<Place> {
        self.find_from(self.first_attribute, key)
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
        let is_it = |found: &[u8]| is_same(found, key);
        let found = slots.position(|slot| {
            slot.key as usize == key.len() && self.key_of(slot).is_some_and(is_it)
        });
        found.map(|index| Place((first + index) as u32))
    }

    /// Every attribute, in order.
    pub fn attributes(&self) -> impl Iterator<Item = (Place, &[u8])> {
        (0..self.places()).filter_map(|place| self.nth(place))
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
        let contents = self.contents(place);
        contents.map_or(&[], |(_, value)| self.content(value))
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
            None => drop(self.append(key, write)),
        }
    }

    /// Adds an attribute, wherever its key stands already, and says where it is.
    pub fn append(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Place {
        let key = self.kept_in_scratch(|scratch| scratch.extend_from_slice(key));
        let value = self.kept_in_scratch(write);
        self.edit(None, Edit::Attribute { key, value });
        Place(self.slots.len() as u32 - 1)
    }

    /// Gives the attribute at a place another key.
    pub fn rename(&mut self, place: Place, key: &[u8]) {
        if let Some((_, value)) = self.contents(place) {
            let key = self.kept_in_scratch(|scratch| scratch.extend_from_slice(key));
            self.edit(Some(place), Edit::Attribute { key, value });
        }
    }

    #[inline]
    fn contents(&self, place: Place) -> Option<(Content<'a>, Content<'a>)> {
        self.contents_of(self.slots.get(place.0 as usize)?)
    }

    /// The key and value of an attribute, wherever they stand.
    #[inline]
    fn contents_of(&self, slot: &Slot) -> Option<(Content<'a>, Content<'a>)> {
        match slot.state {
            _ if slot.key == NO_KEY => None,
            State::Edited(edit) | State::Joined(edit) => match self.edits[edit as usize] {
                Edit::Attribute { key, value } => Some((key, value)),
                Edit::Field(..) => None,
            },
            State::Kept | State::Removed => {
                let key = slot.usual_key();
                let value = key.end + 2..slot.part.end as usize;
                let source = |range| Content::Borrowed(&self.source[range]);
                Some((source(key), source(value)))
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

    // In line, so that an edit is made where it is kept.
    #[inline(always)]
    fn edit(&mut self, place: Option<Place>, edit: Edit<'a>) {
        self.changed = true;
        let state = State::Edited(self.edits.len() as u32);
        self.edits.push(edit);
        let key = match edit {
            Edit::Attribute { key, .. } => self.content(key).len() as u32,
            Edit::Field(..) => NO_KEY,
        };
        let index = place.map_or(self.slots.len(), |place| place.0 as usize);
        if key != NO_KEY {
            self.first_attribute = self.first_attribute.min(index);
        }
        match self.slots.get_mut(index) {
            Some(slot) => (slot.state, slot.key) = (state, key),
            None => self.push(NOWHERE, key, state),
        }
    }

    /// Removes the field or attribute at a place.
    pub fn remove(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            (slot.state, slot.key) = (State::Removed, NO_KEY);
            self.changed = true;
        }
    }

    /// Removes every attribute with this key, and says whether there was one.
    pub fn remove_key(&mut self, key: &[u8]) -> bool {
        let mut next = self.find(key);
        let found = next.is_some();
        while let Some(place) = next {
            self.remove(place);
            next = self.find_after(place, key);
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
            Some(slot) if slot.state == State::Kept && slot.part.tag.wire_type() == 2 => {
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
        if slot.part.tag.number() != number {
            return None;
        }
        match slot.state {
            State::Kept | State::Joined(_) => {
                Some(&self.source[slot.part.start as usize..slot.part.end as usize])
            }
            State::Edited(edit) => match self.edits[edit as usize] {
                Edit::Field(start, end) => Some(&self.scratch[start as usize..end as usize]),
                Edit::Attribute { .. } => None,
            },
            State::Removed => None,
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
        self.slots[index].part.tag = Tag::bytes(number);
    }

    /// Removes every field with this number.
    pub fn remove_field(&mut self, number: u32) {
        for slot in &mut self.slots {
            if slot.part.tag.number() == number && slot.state != State::Removed {
                (slot.state, slot.key) = (State::Removed, NO_KEY);
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

/// Whether two keys are the same; those of usual lengths are compared without a call.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ends = |key: &[u8]| Some((*key.first_chunk::<8>()?, *key.last_chunk::<8>()?));
    match (ends(a), ends(b)) {
        (Some(a_ends), Some(b_ends)) if a.len() <= 16 => a_ends == b_ends,
        _ => a == b,
    }
}
