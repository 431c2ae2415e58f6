//! OTTL's converters: functions that compute a value.
//!
//! In: the values of their arguments. Out: a value, or why there is none.
//! Invariant: a name and a number of arguments are checked when the configuration is read.

use std::borrow::Cow;
use std::sync::Arc;

use collector_otlp::{AnyValue, wire};
use md5::Md5;
use regex::bytes::Regex;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::calendar::{Moment, Part, SECOND, truncated};
use super::case::{camel, snake};
use super::fault::EvalFault;
use super::format::Format;
use super::layout::Layout;
use super::path::hexadecimal;
use super::syntax::Comparison;
use super::text::shown;
use super::timestamp::{Reader, write};
use super::value::Value;
use super::zone::Zone;
use crate::config::quantity::parse_duration;

/// A converter.
#[derive(Clone, Debug)]
pub(super) enum Function {
    IsMatch(Regex),
    ExtractPatterns(Regex),
    IsString,
    IsInt,
    IsDouble,
    IsBool,
    IsMap,
    IsList,
    HasPrefix,
    HasSuffix,
    Len,
    Concat,
    ToLowerCase,
    ToUpperCase,
    ToSnakeCase,
    ToCamelCase,
    Int,
    Double,
    Text,
    Bool,
    Duration,
    Substring,
    Md5,
    Sha1,
    Sha256,
    Sha512,
    ParseJson,
    ParseKeyValue,
    ParseInt,
    Index,
    Fnv,
    Trim,
    TrimPrefix,
    TrimSuffix,
    Split,
    ContainsValue,
    Hex,
    Id(usize),
    Nanoseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
    Microseconds,
    /// The time since 1970 in units of so many nanoseconds.
    Unix(i128),
    /// A part of a time.
    Part(Part),
    TruncateTime,
    Format(Arc<Format>),
    Time(Arc<Reader>),
    FormatTime(Arc<Layout>),
    /// A time from seconds since 1970.
    OfUnix,
}

type Outcome<'v> = Result<Value<'v>, EvalFault>;

impl Function {
    /// Whether the result is a boolean, so that it can stand as a condition.
    pub(super) fn is_condition(&self) -> bool {
        matches!(
            self,
            Self::IsMatch(_)
                | Self::IsString
                | Self::IsInt
                | Self::IsDouble
                | Self::IsBool
                | Self::IsMap
                | Self::IsList
                | Self::HasPrefix
                | Self::HasSuffix
                | Self::ContainsValue
                | Self::Bool
        )
    }

    /// Computes the converter's value for one argument.
    pub(super) fn one<'v>(&self, value: Value<'v>) -> Outcome<'v> {
        Ok(match self {
            Self::IsMatch(pattern) => match text_like(&value)? {
                Some(text) => Value::Bool(pattern.is_match(&text)),
                None => Value::Bool(false),
            },
            Self::IsString => Value::Bool(matches!(value, Value::Text(_))),
            Self::IsInt => Value::Bool(matches!(value, Value::Int(_))),
            Self::IsDouble => Value::Bool(matches!(value, Value::Double(_))),
            Self::IsBool => Value::Bool(matches!(value, Value::Bool(_))),
            Self::IsMap => Value::Bool(matches!(value, Value::Map(_) | Value::Attributes(_))),
            Self::IsList => Value::Bool(matches!(value, Value::List(_))),
            Self::Len => Value::Int(length(&value)? as i64),
            Self::ToLowerCase => cased(value, str::to_lowercase)?,
            Self::ToUpperCase => cased(value, str::to_uppercase)?,
            Self::ToSnakeCase => cased(value, snake)?,
            Self::ToCamelCase => cased(value, camel)?,
            Self::Int => int_like(value)?,
            Self::Double => double_like(value)?,
            Self::Bool => bool_like(value)?,
            Self::Text => match value {
                Value::Text(text) => Value::Text(text),
                value => match text_like(&value)? {
                    Some(text) => Value::Text(Cow::Owned(text.into_owned())),
                    None => Value::Nil,
                },
            },
            Self::Duration => duration(&string(value)?)?,
            Self::Md5 => Value::Text(Cow::Owned(hexadecimal(&Md5::digest(string(value)?)))),
            Self::Sha256 => Value::Text(Cow::Owned(hexadecimal(&Sha256::digest(string(value)?)))),
            Self::Sha1 => Value::Text(Cow::Owned(hexadecimal(&Sha1::digest(string(value)?)))),
            Self::Sha512 => Value::Text(Cow::Owned(hexadecimal(&Sha512::digest(string(value)?)))),
            Self::ExtractPatterns(pattern) => super::text::groups(pattern, &string(value)?),
            Self::ParseKeyValue => {
                let (delimiter, between) = super::text::DELIMITERS;
                let text = string(value)?;
                super::text::pairs(&text, delimiter.as_bytes(), between.as_bytes())?
            }
            Self::ParseJson => super::json::parse(&string(value)?)?,
            Self::OfUnix => unix(&value, &Value::Int(0))?,
            Self::Fnv => Value::Int(fnv64(&string(value)?) as i64),
            Self::Hex => Value::Text(Cow::Owned(hexadecimal(&hex_bytes(&value)?))),
            Self::Trim => Value::Text(trimmed(&string(value)?, b" ")),
            Self::Id(length) => id(value, *length)?,
            Self::Nanoseconds
            | Self::Microseconds
            | Self::Milliseconds
            | Self::Seconds
            | Self::Minutes
            | Self::Hours => self.in_unit(&value)?,
            Self::Format(format) => format.write(&[value])?,
            Self::Time(reader) => Value::Time(reader.read(&string(value)?)?),
            Self::FormatTime(layout) => match value {
                Value::Time(time) => Value::Text(Cow::Owned(write(layout, &time)?)),
                value => return Err(expected("a time", &value)),
            },
            Self::Part(part) => match value {
                Value::Time(time) => Value::Int(part.of(&time)?),
                value => return Err(expected("a time", &value)),
            },
            Self::Unix(unit) => match value {
                Value::Time(time) => Value::Int(time.nanoseconds.div_euclid(*unit) as i64),
                value => return Err(expected("a time", &value)),
            },
            _ => return Err(EvalFault::new("this function takes more arguments")),
        })
    }

    /// Computes the converter's value for any other number of arguments.
    pub(super) fn several<'v>(&self, values: Vec<Value<'v>>) -> Outcome<'v> {
        if let Self::Format(format) = self {
            return format.write(&values);
        }
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let (first, second) = (next(), next());
        Ok(match self {
            Self::HasPrefix => Value::Bool(string(first)?.starts_with(&string(second)?)),
            Self::HasSuffix => Value::Bool(string(first)?.ends_with(&string(second)?)),
            Self::Trim => Value::Text(trimmed(&string(first)?, &string(second)?)),
            Self::TrimPrefix => {
                let (text, prefix) = (string(first)?, string(second)?);
                let rest = text.strip_prefix(prefix.as_ref()).map(<[u8]>::to_vec);
                Value::Text(rest.map_or(text, Cow::Owned))
            }
            Self::TrimSuffix => {
                let (text, suffix) = (string(first)?, string(second)?);
                let rest = text.strip_suffix(suffix.as_ref()).map(<[u8]>::to_vec);
                Value::Text(rest.map_or(text, Cow::Owned))
            }
            Self::Split => split(&string(first)?, &string(second)?),
            Self::Concat => concat(&first, &string(second)?)?,
            Self::ContainsValue => match &first {
                Value::List(list) => Value::Bool(AnyValue::Array(list).elements().any(|element| {
                    Value::of(element).compares(super::syntax::Comparison::Equal, &second)
                })),
                value => return Err(expected("a list", value)),
            },
            Self::OfUnix => unix(&first, &second)?,
            Self::ParseKeyValue => {
                let or = |value, default: &'static str| match value {
                    Value::Nil => Ok(Cow::Borrowed(default.as_bytes())),
                    value => string(value),
                };
                let (delimiter, between) = super::text::DELIMITERS;
                let (delimiter, between) = (or(second, delimiter)?, or(next(), between)?);
                super::text::pairs(&string(first)?, &delimiter, &between)?
            }
            Self::TruncateTime => match (&first, &second) {
                (Value::Time(time), Value::Duration(length)) => {
                    Value::Time(time.later(truncated(time.nanoseconds, *length) - time.nanoseconds))
                }
                _ => return Err(EvalFault::new("TruncateTime takes a time and a duration")),
            },
            Self::ParseInt => parse_int(&string(first)?, &second)?,
            Self::Index => index(&first, second)?,
            Self::Substring => substring(&string(first)?, &second, &next())?,
            _ => return Err(EvalFault::new("this function takes one argument")),
        })
    }

    fn in_unit(&self, value: &Value<'_>) -> Outcome<'static> {
        let Value::Duration(nanoseconds) = value else {
            return Err(expected("a duration", value));
        };
        let seconds = *nanoseconds as f64 / 1e9;
        Ok(match self {
            Self::Nanoseconds => Value::Int(*nanoseconds as i64),
            Self::Microseconds => Value::Int((nanoseconds / 1_000) as i64),
            Self::Milliseconds => Value::Int((nanoseconds / 1_000_000) as i64),
            Self::Seconds => Value::Double(seconds),
            Self::Minutes => Value::Double(seconds / 60.0),
            _ => Value::Double(seconds / 3600.0),
        })
    }
}

fn expected(what: &str, found: &Value<'_>) -> EvalFault {
    EvalFault::new(format!("expected {what} but got {}", found.kind()))
}

/// The text of a string, and of nothing else.
pub(super) fn string<'v>(value: Value<'v>) -> Result<Cow<'v, [u8]>, EvalFault> {
    match value {
        Value::Text(text) => Ok(text),
        value => Err(expected("a string", &value)),
    }
}

/// Anything as text; `None` for nil.
fn text_like<'r>(value: &'r Value<'_>) -> Result<Option<Cow<'r, [u8]>>, EvalFault> {
    Ok(Some(match value {
        Value::Nil => return Ok(None),
        Value::Text(text) => Cow::Borrowed(text.as_ref()),
        Value::Bytes(bytes) => Cow::Owned(hexadecimal(bytes)),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::List(_) | Value::Map(_) => {
            match value.any_value() {
                Some(value) => Cow::Owned(value.text().into_owned()),
                None => return Ok(None),
            }
        }
        Value::Duration(nanoseconds) => Cow::Owned(nanoseconds.to_string().into_bytes()),
        Value::Attributes(_) | Value::Messages(_) | Value::Time(_) => {
            return Err(expected("something with a text", value));
        }
    }))
}

fn length(value: &Value<'_>) -> Result<usize, EvalFault> {
    Ok(match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => AnyValue::Array(list).elements().count(),
        Value::Map(list) => AnyValue::Map(list).pairs().count(),
        Value::Attributes(record) => record.attributes().count(),
        Value::Messages(count) => *count,
        value => return Err(expected("a string, list or map", value)),
    })
}

fn cased<'v>(value: Value<'v>, change: impl Fn(&str) -> String) -> Outcome<'v> {
    let text = string(value)?;
    let changed = change(&String::from_utf8_lossy(&text));
    Ok(Value::Text(Cow::Owned(changed.into_bytes())))
}

fn int_like<'v>(value: Value<'v>) -> Outcome<'v> {
    Ok(match value {
        Value::Int(_) | Value::Nil => value,
        Value::Double(number) => Value::Int(number as i64),
        Value::Bool(flag) => Value::Int(i64::from(flag)),
        Value::Text(text) => parsed(&text).map_or(Value::Nil, Value::Int),
        value => return Err(expected("a number or a string", &value)),
    })
}

fn double_like<'v>(value: Value<'v>) -> Outcome<'v> {
    Ok(match value {
        Value::Double(_) | Value::Nil => value,
        Value::Int(number) => Value::Double(number as f64),
        Value::Bool(flag) => Value::Double(f64::from(u8::from(flag))),
        Value::Text(text) => {
            let number = parsed(&text).ok_or_else(|| EvalFault::new("not a number"))?;
            Value::Double(number)
        }
        value => return Err(expected("a number or a string", &value)),
    })
}

fn bool_like<'v>(value: Value<'v>) -> Outcome<'v> {
    Ok(match value {
        Value::Bool(_) | Value::Nil => value,
        Value::Int(number) => Value::Bool(number != 0),
        Value::Double(number) => Value::Bool(number != 0.0),
        Value::Text(text) => match text.as_ref() {
            b"1" | b"t" | b"T" | b"true" | b"True" | b"TRUE" => Value::Bool(true),
            b"0" | b"f" | b"F" | b"false" | b"False" | b"FALSE" => Value::Bool(false),
            _ => return Err(EvalFault::new("not a boolean")),
        },
        value => return Err(expected("a boolean, number or string", &value)),
    })
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Digits of a base from 2 to 36; with base 0 a prefix says it, as in Go.
fn parse_int(text: &[u8], base: &Value<'_>) -> Outcome<'static> {
    let Value::Int(base @ (0 | 2..=36)) = base else {
        return Err(EvalFault::new("a base is a number from 2 to 36, or 0"));
    };
    let text = String::from_utf8_lossy(text);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text.as_ref()),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match (*base, lower.as_bytes()) {
        (0, [b'0', b'x', ..]) => (16, &lower[2..]),
        (0, [b'0', b'b', ..]) => (2, &lower[2..]),
        (0, [b'0', b'o', ..]) => (8, &lower[2..]),
        (0, [b'0', _, ..]) => (8, &lower[1..]),
        (0, _) => (10, lower.as_str()),
        (base, _) => (base as u32, lower.as_str()),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    let number = i64::from_str_radix(&format!("{sign}{digits}"), base);
    match number.ok().filter(|_| is_number) {
        Some(number) => Ok(Value::Int(number)),
        None => Err(EvalFault::new(format!(
            "{} is no number of base {base}",
            shown(text.as_bytes())
        ))),
    }
}

/// Where something begins in a text, or stands in a list; -1 when it does not.
fn index(target: &Value<'_>, wanted: Value<'_>) -> Outcome<'static> {
    let found = match target {
        Value::Text(text) => memchr::memmem::find(text, &string(wanted)?),
        Value::List(list) => AnyValue::Array(list)
            .elements()
            .position(|element| Value::of(element).compares(Comparison::Equal, &wanted)),
        other => return Err(expected("a string or a list", other)),
    };
    let found = found.and_then(|place| i64::try_from(place).ok());
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// The time of so many seconds and nanoseconds since 1970.
fn unix(seconds: &Value<'_>, nanoseconds: &Value<'_>) -> Outcome<'static> {
    match (seconds, nanoseconds) {
        (Value::Int(seconds), Value::Int(nanoseconds)) => Ok(Value::Time(Moment {
            nanoseconds: i128::from(*seconds) * SECOND + i128::from(*nanoseconds),
            zone: Zone::local(),
        })),
        (Value::Int(_), other) | (other, _) => Err(expected("an integer", other)),
    }
}

/// A duration as Go writes it, perhaps with a sign.
pub(super) fn duration(text: &[u8]) -> Outcome<'static> {
    let text = String::from_utf8_lossy(text);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.as_ref()),
    };
    match parse_duration(digits) {
        Some(duration) => Ok(Value::Duration(sign * duration.as_nanos() as i128)),
        None => Err(EvalFault::new(format!(
            "{} is not a duration such as 1s or 300ms",
            shown(text.as_bytes())
        ))),
    }
}

fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn hex_bytes<'r>(value: &'r Value<'_>) -> Result<Cow<'r, [u8]>, EvalFault> {
    Ok(match value {
        Value::Text(bytes) | Value::Bytes(bytes) => Cow::Borrowed(bytes.as_ref()),
        Value::Int(number) => Cow::Owned(number.to_be_bytes().to_vec()),
        Value::Double(number) => Cow::Owned(number.to_be_bytes().to_vec()),
        Value::Bool(flag) => Cow::Owned(vec![u8::from(*flag)]),
        value => return Err(expected("a string, number or bytes", value)),
    })
}

fn trimmed(text: &[u8], characters: &[u8]) -> Cow<'static, [u8]> {
    let characters: Vec<char> = String::from_utf8_lossy(characters).chars().collect();
    let text = String::from_utf8_lossy(text);
    Cow::Owned(text.trim_matches(characters.as_slice()).as_bytes().to_vec())
}

fn id(value: Value<'_>, length: usize) -> Outcome<'_> {
    match value {
        Value::Bytes(bytes) if bytes.len() == length => Ok(Value::Bytes(bytes)),
        Value::Text(text) if text.len() == length * 2 => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let pairs = text.as_chunks::<2>().0.iter();
            let bytes: Option<Vec<u8>> = pairs
                .map(|[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8))
                .collect();
            bytes
                .map(|bytes| Value::Bytes(Cow::Owned(bytes)))
                .ok_or_else(|| EvalFault::new("an id must be hexadecimal"))
        }
        _ => Err(EvalFault::new(format!("an id must have {length} bytes"))),
    }
}

fn split(text: &[u8], delimiter: &[u8]) -> Value<'static> {
    let text = String::from_utf8_lossy(text);
    let delimiter = String::from_utf8_lossy(delimiter);
    let mut list = Vec::new();
    let mut push = |part: &str| {
        let mut element = Vec::new();
        AnyValue::String(part.as_bytes()).write(&mut element);
        wire::write_bytes(&mut list, 1, &element);
    };
    match delimiter.is_empty() {
        true => text.chars().for_each(|c| push(c.encode_utf8(&mut [0; 4]))),
        false => text.split(delimiter.as_ref()).for_each(push),
    }
    Value::List(Cow::Owned(list))
}

fn concat(list: &Value<'_>, delimiter: &[u8]) -> Outcome<'static> {
    let Value::List(list) = list else {
        return Err(expected("a list", list));
    };
    let mut out = Vec::new();
    for (index, element) in AnyValue::Array(list).elements().enumerate() {
        if index > 0 {
            out.extend_from_slice(delimiter);
        }
        match text_like(&Value::of(element))? {
            Some(text) => out.extend_from_slice(&text),
            None => out.extend_from_slice(b"<nil>"),
        }
    }
    Ok(Value::Text(Cow::Owned(out)))
}

fn substring(text: &[u8], start: &Value<'_>, length: &Value<'_>) -> Outcome<'static> {
    let (Value::Int(start), Value::Int(length)) = (start, length) else {
        return Err(EvalFault::new(
            "Substring takes two integers after its text",
        ));
    };
    let start = usize::try_from(*start).ok();
    let length = usize::try_from(*length).ok().filter(|length| *length > 0);
    let range = start
        .zip(length)
        .and_then(|(start, length)| text.get(start..start.checked_add(length)?));
    match range {
        // A cut inside a character is mended, since what is sent on must be UTF-8.
        Some(part) => Ok(Value::Text(Cow::Owned(
            String::from_utf8_lossy(part).into_owned().into_bytes(),
        ))),
        None => Err(EvalFault::new(
            "the range of Substring lies outside of its text",
        )),
    }
}
