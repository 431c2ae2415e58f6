//! OTLP/JSON to protobuf bytes.
//!
//! In: a JSON object from anyone. Out: the bytes of the message that it spells.
//! Invariant: unknown keys are ignored, `null` is absent, and everything else that does not fit
//! the schema is an error that names line and column.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::JsonError;
use crate::schema::{Field, Kind, Label, Message};
use crate::wire;

/// Reads `json` as a `message`; nesting is bounded by serde_json's own limit of 128.
pub(crate) fn decode(json: &[u8], message: &'static Message) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(json);
    Body {
        message,
        out: &mut out,
    }
    .deserialize(&mut reader)?;
    reader.end()?;
    Ok(out)
}

/// A JSON object that becomes the body of a message, appended to `out`.
struct Body<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a JSON object for {}", self.message.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.message.field_named(&key) {
                Some(field) => map.next_value_seed(Content {
                    field,
                    out: self.out,
                })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The value of a key: one value, or an array of them when the field repeats.
struct Content<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Content { field, out } = self;
        match (field.label, field.kind) {
            (Label::Repeated, _) => deserializer.deserialize_option(Items { field, out }),
            _ => deserializer.deserialize_any(Single { field, out }),
        }
    }
}

/// An array for a field that repeats, or `null`.
struct Items<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an array for {:?}", self.field.name)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { field, out } = self;
        while items.next_element_seed(Item { field, out })?.is_some() {}
        Ok(())
    }
}

/// One element of an array.
struct Item<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Single {
            field: self.field,
            out: self.out,
        })
    }
}

/// One value, written with its tag.
struct Single<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl Single<'_> {
    fn unfit<E: Error>(&self, what: impl fmt::Display) -> E {
        E::custom(format!("{what} does not fit {:?}", self.field.name))
    }

    fn fixed64(self, bits: u64) {
        wire::write_tag(self.out, self.field.number, 1);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::Uint32 if u32::try_from(value).is_ok() => {
                wire::write_varint_field(self.out, number, value as u64);
            }
            Kind::Uint64 if u64::try_from(value).is_ok() => {
                wire::write_varint_field(self.out, number, value as u64);
            }
            Kind::Int64 if i64::try_from(value).is_ok() => {
                wire::write_varint_field(self.out, number, value as i64 as u64);
            }
            Kind::Enum(_) if i32::try_from(value).is_ok() => {
                wire::write_varint_field(self.out, number, value as i64 as u64);
            }
            Kind::Sint32 if i32::try_from(value).is_ok() => {
                let value = value as i32;
                let zigzag = (value << 1 ^ value >> 31) as u32;
                wire::write_varint_field(self.out, number, u64::from(zigzag));
            }
            Kind::Fixed32 if u32::try_from(value).is_ok() => {
                wire::write_tag(self.out, number, 5);
                self.out.extend_from_slice(&(value as u32).to_le_bytes());
            }
            Kind::Fixed64 if u64::try_from(value).is_ok() => self.fixed64(value as u64),
            Kind::Sfixed64 if i64::try_from(value).is_ok() => self.fixed64(value as i64 as u64),
            Kind::Double => self.fixed64((value as f64).to_bits()),
            _ => return Err(self.unfit(value)),
        }
        Ok(())
    }

    fn text<E: Error>(self, text: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::String => wire::write_bytes(self.out, number, text.as_bytes()),
            Kind::Bytes => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|error| self.unfit::<E>(error))?;
                wire::write_bytes(self.out, number, &bytes);
            }
            Kind::Id(length) => {
                let bytes = from_hexadecimal(text)
                    .filter(|bytes| bytes.is_empty() || bytes.len() == length);
                let Some(bytes) = bytes else {
                    return Err(self.unfit(format_args!("{text:?}")));
                };
                wire::write_bytes(self.out, number, &bytes);
            }
            Kind::Double => match text.parse::<f64>() {
                Ok(value) => self.fixed64(value.to_bits()),
                Err(_) => return Err(self.unfit(format_args!("{text:?}"))),
            },
            Kind::Enum(names) if names.iter().any(|(name, _)| *name == text) => {
                let value = names
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map_or(0, |row| row.1);
                return self.integer(i128::from(value));
            }
            Kind::Bool | Kind::Message(_) => return Err(self.unfit(format_args!("{text:?}"))),
            _ => match text.parse::<i128>() {
                Ok(value) => return self.integer(value),
                Err(_) => return Err(self.unfit(format_args!("{text:?}"))),
            },
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Single<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a value for {:?}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(self.unfit(value));
        }
        wire::write_varint_field(self.out, self.field.number, u64::from(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            self.fixed64(value.to_bits());
            return Ok(());
        }
        // JavaScript may write a whole number as 1e3.
        if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
            return self.integer(value as i128);
        }
        Err(self.unfit(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(self.unfit("a JSON object"));
        };
        let mut body = Vec::new();
        Body {
            message,
            out: &mut body,
        }
        .visit_map(map)?;
        wire::write_bytes(self.out, self.field.number, &body);
        Ok(())
    }
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
