//! What OTTL computes with, and how two of them compare.
//!
//! In: attribute values, fields and literals. Out: values and the truth of comparisons.
//! Invariant: comparing never fails; what cannot be compared is unequal and in no order.

use std::borrow::Cow;
use std::cmp::Ordering;

use collector_otlp::{AnyValue, Record, wire};

use super::calendar::Moment;
use super::merge::{Pairs, pairs};
use super::syntax::{Comparison, Key};
use crate::matching::same;

/// A value, borrowed where possible.
#[derive(Clone, Debug)]
pub(super) enum Value<'v> {
    /// Nothing.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// UTF-8 text.
    Text(Cow<'v, [u8]>),
    /// Bytes, also those of an id.
    Bytes(Cow<'v, [u8]>),
    /// The bytes of an `ArrayValue`.
    List(Cow<'v, [u8]>),
    /// The bytes of a `KeyValueList`.
    Map(Cow<'v, [u8]>),
    /// All attributes of a record.
    Attributes(&'v Record<'v>),
    /// So many messages, which have no value of their own.
    Messages(usize),
    /// A point in time.
    Time(Moment),
    /// A span of time, in nanoseconds.
    Duration(i128),
}

impl<'v> Value<'v> {
    /// The value in an attribute.
    pub(super) fn of(value: AnyValue<'v>) -> Self {
        match value {
            AnyValue::Empty => Self::Nil,
            AnyValue::String(text) => Self::Text(Cow::Borrowed(text)),
            AnyValue::Bool(flag) => Self::Bool(flag),
            AnyValue::Int(number) => Self::Int(number),
            AnyValue::Double(number) => Self::Double(number),
            AnyValue::Array(list) => Self::List(Cow::Borrowed(list)),
            AnyValue::Map(list) => Self::Map(Cow::Borrowed(list)),
            AnyValue::Bytes(bytes) => Self::Bytes(Cow::Borrowed(bytes)),
        }
    }

    /// A map of these pairs, whose values are the bytes of an `AnyValue`.
    pub(super) fn of_pairs(pairs: &Pairs) -> Value<'static> {
        let mut map = Vec::new();
        for (key, value) in pairs {
            let mut pair = Vec::new();
            wire::write_bytes(&mut pair, 1, key);
            wire::write_bytes(&mut pair, 2, value);
            wire::write_bytes(&mut map, 1, &pair);
        }
        Value::Map(Cow::Owned(map))
    }

    /// A list of these values; what no attribute can hold is nil there.
    pub(super) fn of_list<'i>(values: impl Iterator<Item = Value<'i>>) -> Value<'static> {
        let mut list = Vec::new();
        for value in values {
            wire::write_bytes(&mut list, 1, &value.any_bytes().unwrap_or_default());
        }
        Value::List(Cow::Owned(list))
    }

    /// The same value, borrowed from nothing.
    pub(super) fn into_owned(self) -> Value<'static> {
        let own = |bytes: Cow<'v, [u8]>| Cow::Owned(bytes.into_owned());
        match self {
            Self::Nil | Self::Messages(_) => Value::Nil,
            Self::Attributes(_) => pairs(&self).map_or(Value::Nil, |pairs| Value::of_pairs(&pairs)),
            Self::Bool(flag) => Value::Bool(flag),
            Self::Int(number) => Value::Int(number),
            Self::Double(number) => Value::Double(number),
            Self::Text(text) => Value::Text(own(text)),
            Self::Bytes(bytes) => Value::Bytes(own(bytes)),
            Self::List(list) => Value::List(own(list)),
            Self::Map(list) => Value::Map(own(list)),
            Self::Time(time) => Value::Time(time),
            Self::Duration(duration) => Value::Duration(duration),
        }
    }

    /// The value as an attribute's; `None` when attributes cannot hold it.
    pub(super) fn any_value(&self) -> Option<AnyValue<'_>> {
        Some(match self {
            Self::Bool(flag) => AnyValue::Bool(*flag),
            Self::Int(number) => AnyValue::Int(*number),
            Self::Double(number) => AnyValue::Double(*number),
            Self::Text(text) => AnyValue::String(text),
            Self::Bytes(bytes) => AnyValue::Bytes(bytes),
            Self::List(list) => AnyValue::Array(list),
            Self::Map(list) => AnyValue::Map(list),
            _ => return None,
        })
    }

    /// The value as the bytes of an `AnyValue`; `None` when attributes cannot hold it.
    pub(super) fn any_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Nil => {}
            Self::Attributes(_) => {
                let map = Self::of_pairs(&pairs(self).ok()?);
                map.any_value()?.write(&mut bytes);
            }
            value => value.any_value()?.write(&mut bytes),
        }
        Some(bytes)
    }

    /// What keys lead to inside of this value; nothing when they lead nowhere.
    pub(super) fn at(self, keys: &[Key]) -> Self {
        let mut value = self;
        for key in keys {
            value = value.below(key);
        }
        value
    }

    fn below(self, key: &Key) -> Self {
        match (self, key) {
            (Self::Map(Cow::Borrowed(list)), Key::Name(name)) => pair(list, name),
            (Self::Map(Cow::Owned(list)), Key::Name(name)) => pair(&list, name).into_owned(),
            (Self::List(Cow::Borrowed(list)), Key::Index(index)) => element(list, *index),
            (Self::List(Cow::Owned(list)), Key::Index(index)) => {
                element(&list, *index).into_owned()
            }
            _ => Self::Nil,
        }
    }

    /// Whether two values compare so.
    pub(super) fn compares(&self, comparison: Comparison, other: &Self) -> bool {
        let equal = match (self, other) {
            (Self::List(_), Self::List(_)) | (Self::Map(_), Self::Map(_)) => {
                let values = self.any_value().zip(other.any_value());
                values.is_some_and(|(a, b)| same(a, b))
            }
            _ => {
                let order = self.order(other);
                return match comparison {
                    Comparison::Equal => order == Some(Ordering::Equal),
                    Comparison::NotEqual => order != Some(Ordering::Equal),
                    Comparison::Less => order == Some(Ordering::Less),
                    Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
                    Comparison::Greater => order == Some(Ordering::Greater),
                    Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
                };
            }
        };
        match comparison {
            Comparison::Equal => equal,
            Comparison::NotEqual => !equal,
            _ => false,
        }
    }

    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Nil, Self::Nil) => Some(Ordering::Equal),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Text(a), Self::Text(b)) | (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.nanoseconds.cmp(&b.nanoseconds)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// What the value is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Double(_) => "a double",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Attributes(_) => "a map",
            Self::Messages(_) => "messages",
            Self::Time(_) => "a time",
            Self::Duration(_) => "a duration",
        }
    }
}

fn pair<'v>(list: &'v [u8], name: &str) -> Value<'v> {
    let found = AnyValue::Map(list)
        .pairs()
        .find(|(key, _)| *key == name.as_bytes());
    found.map_or(Value::Nil, |(_, value)| Value::of(value))
}

fn element(list: &[u8], index: usize) -> Value<'_> {
    let found = AnyValue::Array(list).elements().nth(index);
    found.map_or(Value::Nil, Value::of)
}
