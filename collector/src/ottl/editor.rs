//! OTTL's editors: functions that change an item.
//!
//! In: a record and what it stands in. Out: the record, edited.
//! Invariant: an editor changes nothing but the record that its context is about.

use std::borrow::Cow;

use collector_otlp::{AnyValue, Record, wire};
use regex::bytes::Regex;

use super::compile::{Compiler, is_own_attributes, literal_text, regex};
use super::evaluate::Getter;
use super::fault::{EvalFault, ParseFault};
use super::merge::{Strategy, merge, pairs};
use super::path::{
    BODY, Context, Field, KIND, Path, STATUS, STATUS_CODE, STATUS_MESSAGE, Setting, View,
};
use super::syntax::{Call, Expr, Key, Node};
use super::text::glob;
use super::value::Value;
use crate::config::diagnostic::did_you_mean;

/// An editor with its arguments.
#[derive(Clone, Debug)]
pub(super) enum Editor {
    Set(Path, Getter),
    /// `set` of an attribute to a constant: the bytes of an `AnyValue`.
    SetConstant(String, Vec<u8>),
    DeleteKey(String),
    DeleteMatchingKeys(Regex),
    KeepKeys(Vec<String>),
    KeepMatchingKeys(Regex),
    TruncateAll(usize),
    ReplacePattern(Path, Regex, String),
    ReplaceMatch(Path, Regex, String),
    ReplaceAllMatches(Regex, String),
    ReplaceAllValues(Regex, String),
    ReplaceAllKeys(Regex, String),
    Limit(usize, Vec<String>),
    MergeMaps(Getter, Strategy),
}

const EDITORS: &[&str] = &[
    "set",
    "delete_key",
    "delete_matching_keys",
    "keep_keys",
    "keep_matching_keys",
    "truncate_all",
    "replace_pattern",
    "replace_all_patterns",
    "replace_match",
    "replace_all_matches",
    "limit",
    "merge_maps",
];

/// Editors that otelcol has and this collector does not.
const UNSUPPORTED: &[&str] = &[
    "append",
    "flatten",
    "convert_sum_to_gauge",
    "convert_gauge_to_sum",
    "extract_count_metric",
    "extract_sum_metric",
    "copy_metric",
    "scale_metric",
    "aggregate_on_attributes",
    "aggregate_on_attribute_value",
    "set_semconv_span_name",
];

impl Editor {
    pub(super) fn compile(compiler: &mut Compiler, call: Call) -> Result<Self, ParseFault> {
        let mut arguments = Arguments {
            name: call.name.clone(),
            column: call.column,
            context: compiler.context,
            rest: call.arguments.into_iter(),
        };
        let editor = match call.name.as_str() {
            "set" => set(compiler, &mut arguments)?,
            "delete_key" => {
                arguments.attributes()?;
                Self::DeleteKey(arguments.text("a key")?)
            }
            "delete_matching_keys" => {
                arguments.attributes()?;
                Self::DeleteMatchingKeys(arguments.pattern()?)
            }
            "keep_keys" => {
                arguments.attributes()?;
                Self::KeepKeys(arguments.texts()?)
            }
            "keep_matching_keys" => {
                arguments.attributes()?;
                Self::KeepMatchingKeys(arguments.pattern()?)
            }
            "truncate_all" => {
                arguments.attributes()?;
                Self::TruncateAll(arguments.count()?)
            }
            "replace_pattern" => {
                let path = arguments.settable()?;
                Self::ReplacePattern(path, arguments.pattern()?, arguments.text("a replacement")?)
            }
            "replace_match" => {
                let path = arguments.settable()?;
                Self::ReplaceMatch(path, arguments.glob()?, arguments.text("a replacement")?)
            }
            "replace_all_matches" => {
                arguments.attributes()?;
                Self::ReplaceAllMatches(arguments.glob()?, arguments.text("a replacement")?)
            }
            "replace_all_patterns" => replace_all(&mut arguments)?,
            "limit" => {
                arguments.attributes()?;
                let (column, most) = (arguments.column, arguments.count()?);
                let keys = arguments.texts()?;
                if keys.len() > most {
                    let message = format!("{} keys do not fit a limit of {most}", keys.len());
                    return Err(ParseFault::new(column, message));
                }
                Self::Limit(most, keys)
            }
            "merge_maps" => {
                arguments.attributes()?;
                let source = compiler.getter(arguments.next()?)?;
                Self::MergeMaps(source, arguments.strategy()?)
            }
            _ => return Err(unknown(&call.name, call.column)),
        };
        arguments.end()?;
        Ok(editor)
    }

    /// Changes the record.
    pub(super) fn apply<'a>(
        &'a self,
        record: &mut Record<'a>,
        setting: Setting<'_>,
    ) -> Result<(), EvalFault> {
        match self {
            Self::Set(path, getter) => {
                let value = getter.read(&View::of(setting, record))?.into_owned();
                assign(record, path, &value)?;
            }
            Self::SetConstant(key, value) => {
                let place = record.find(key.as_bytes());
                if place.is_none_or(|place| record.value(place) != value.as_slice()) {
                    record.set_borrowed(place, key.as_bytes(), value);
                }
            }
            Self::DeleteKey(key) => drop(record.remove_key(key.as_bytes())),
            Self::DeleteMatchingKeys(pattern) => retain(record, |key| !pattern.is_match(key)),
            Self::KeepMatchingKeys(pattern) => retain(record, |key| pattern.is_match(key)),
            Self::KeepKeys(keys) => {
                retain(record, |key| keys.iter().any(|kept| kept.as_bytes() == key));
            }
            Self::TruncateAll(most) => each_text(record, |text| {
                (text.len() > *most).then(|| Cow::Borrowed(&text[..boundary(text, *most)]))
            }),
            Self::ReplacePattern(path, pattern, replacement) => {
                replace(record, path, setting, |text| {
                    let is_there = pattern.is_match(text);
                    is_there.then(|| pattern.replace_all(text, replacement.as_bytes()))
                })?;
            }
            Self::ReplaceMatch(path, pattern, replacement) => {
                replace(record, path, setting, |text| {
                    let is_match = pattern.is_match(text);
                    is_match.then(|| Cow::Owned(replacement.clone().into_bytes()))
                })?;
            }
            Self::ReplaceAllMatches(pattern, replacement) => each_text(record, |text| {
                let is_match = pattern.is_match(text);
                is_match.then(|| Cow::Owned(replacement.clone().into_bytes()))
            }),
            Self::ReplaceAllValues(pattern, replacement) => each_text(record, |text| {
                pattern
                    .is_match(text)
                    .then(|| pattern.replace_all(text, replacement.as_bytes()))
            }),
            Self::ReplaceAllKeys(pattern, replacement) => {
                for place in 0..record.places() {
                    let Some((place, key)) = record.nth(place) else {
                        continue;
                    };
                    if pattern.is_match(key) {
                        let key = pattern
                            .replace_all(key, replacement.as_bytes())
                            .into_owned();
                        record.rename(place, &key);
                    }
                }
            }
            Self::Limit(most, keys) => limit(record, *most, keys),
            Self::MergeMaps(source, strategy) => {
                let pairs = pairs(&source.read(&View::of(setting, record))?)?;
                merge(record, pairs, *strategy);
            }
        }
        Ok(())
    }
}

fn set(compiler: &mut Compiler, arguments: &mut Arguments) -> Result<Editor, ParseFault> {
    let path = arguments.settable()?;
    let getter = compiler.getter(arguments.next()?)?;
    if let Getter::Path(source) = &getter
        && source.field == Field::Attributes
        && source.keys.is_empty()
    {
        let message = "setting something to all attributes is not supported yet";
        return Err(ParseFault::new(arguments.column, message));
    }
    if let (Field::Attributes, [Key::Name(key)]) = (path.field, path.keys.as_slice())
        && let Getter::Literal(value) = &getter
        && let Some(value) = value.any_value()
    {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        return Ok(Editor::SetConstant(key.clone(), bytes));
    }
    Ok(Editor::Set(path, getter))
}

fn replace_all(arguments: &mut Arguments) -> Result<Editor, ParseFault> {
    arguments.attributes()?;
    let column = arguments.column;
    let mode = arguments.text("the mode")?;
    let (pattern, replacement) = (arguments.pattern()?, arguments.text("a replacement")?);
    match mode.as_str() {
        "value" => Ok(Editor::ReplaceAllValues(pattern, replacement)),
        "key" => Ok(Editor::ReplaceAllKeys(pattern, replacement)),
        _ => {
            let message = format!("the mode must be \"key\" or \"value\", not {mode:?}");
            Err(ParseFault::new(column, message))
        }
    }
}

fn unknown(name: &str, column: usize) -> ParseFault {
    if UNSUPPORTED.contains(&name) {
        return ParseFault::new(column, format!("the function {name} is not supported yet"));
    }
    let help = did_you_mean(name, EDITORS.iter().copied());
    let message = format!("there is no function {name:?} that changes anything");
    ParseFault::new(column, message).with_help(help)
}

/// The arguments of an editor, taken one by one.
struct Arguments {
    name: String,
    column: usize,
    context: Context,
    rest: std::vec::IntoIter<Expr>,
}

impl Arguments {
    fn next(&mut self) -> Result<Expr, ParseFault> {
        match self.rest.next() {
            Some(expr) => Ok(expr),
            None => {
                let message = format!("{} takes more arguments", self.name);
                Err(ParseFault::new(self.column, message))
            }
        }
    }

    fn end(mut self) -> Result<(), ParseFault> {
        match self.rest.next() {
            None => Ok(()),
            Some(extra) => {
                let message = format!("{} takes fewer arguments", self.name);
                Err(ParseFault::new(extra.column, message))
            }
        }
    }

    fn text(&mut self, what: &str) -> Result<String, ParseFault> {
        literal_text(self.next()?, what)
    }

    fn pattern(&mut self) -> Result<Regex, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        regex(&literal_text(expr, "a pattern")?, column)
    }

    fn glob(&mut self) -> Result<Regex, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        regex(&glob(&literal_text(expr, "a pattern")?), column)
    }

    fn count(&mut self) -> Result<usize, ParseFault> {
        let expr = self.next()?;
        match expr.node {
            Node::Int(number) if number >= 0 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            _ => {
                let message = "expected a whole number of zero or more";
                Err(ParseFault::new(expr.column, message))
            }
        }
    }

    fn strategy(&mut self) -> Result<Strategy, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        match literal_text(expr, "a strategy")?.as_str() {
            "insert" => Ok(Strategy::Insert),
            "update" => Ok(Strategy::Update),
            "upsert" => Ok(Strategy::Upsert),
            other => {
                let message =
                    format!("a strategy is \"insert\", \"update\" or \"upsert\", not {other:?}");
                Err(ParseFault::new(column, message))
            }
        }
    }

    fn texts(&mut self) -> Result<Vec<String>, ParseFault> {
        let expr = self.next()?;
        match expr.node {
            Node::List(items) => items
                .into_iter()
                .map(|item| literal_text(item, "a key"))
                .collect(),
            _ => Err(ParseFault::new(
                expr.column,
                "expected a list such as [\"a\", \"b\"]",
            )),
        }
    }

    fn path(&mut self) -> Result<(Path, usize), ParseFault> {
        let expr = self.next()?;
        let Node::Path(segments) = &expr.node else {
            return Err(ParseFault::new(
                expr.column,
                "expected a path such as attributes",
            ));
        };
        let path = Path::resolve(self.context, segments, expr.column)?;
        if path.context != self.context {
            let (own, other) = (self.context.name(), path.context.name());
            let message = format!("a statement about a {own} cannot change the {other} above it");
            let help = Some(format!("write this statement with context: {other}"));
            return Err(ParseFault::new(expr.column, message).with_help(help));
        }
        Ok((path, expr.column))
    }

    fn attributes(&mut self) -> Result<(), ParseFault> {
        let (path, column) = self.path()?;
        match is_own_attributes(&path, self.context) {
            true => Ok(()),
            false => {
                let message = format!("{} works on attributes only, yet", self.name);
                Err(ParseFault::new(column, message))
            }
        }
    }

    fn settable(&mut self) -> Result<Path, ParseFault> {
        let (path, column) = self.path()?;
        let fine = match path.field {
            Field::Attributes => path.keys.len() == 1,
            Field::Body => path.keys.is_empty(),
            Field::Messages(_)
            | Field::KindName
            | Field::MetricType
            | Field::Temporality
            | Field::Monotonic
            | Field::Flags
            | Field::Count
            | Field::Sum => false,
            _ => true,
        };
        match fine {
            true => Ok(path),
            false => Err(ParseFault::new(column, "this path cannot be changed yet")),
        }
    }
}

/// Sets a field; a value of a type that the field cannot have changes nothing, as in otelcol.
fn assign(record: &mut Record<'_>, path: &Path, value: &Value<'_>) -> Result<(), EvalFault> {
    match (path.field, value) {
        (_, Value::Nil) => {}
        (Field::Attributes, value) => {
            if let (Some(Key::Name(key)), Some(value)) = (path.keys.first(), value.any_value()) {
                record.upsert(key.as_bytes(), |out| value.write(out));
            }
        }
        (Field::Text(number), Value::Text(text)) => {
            record.set_field(number, |out| wire::write_bytes(out, number, text));
        }
        (Field::Number(number), Value::Int(value)) => varint(record, number, *value),
        (Field::Kind, Value::Int(value)) => varint(record, KIND, *value),
        (Field::Nanoseconds(number), Value::Int(value)) => fixed64(record, number, *value as u64),
        (Field::Time(number), Value::Time(value)) => fixed64(record, number, *value as u64),
        (Field::Id(number), Value::Bytes(id)) => set_id(record, number, id)?,
        (Field::IdText(number), Value::Text(text)) => {
            let id = from_hexadecimal(text).ok_or(EvalFault::new("an id must be hexadecimal"))?;
            set_id(record, number, &id)?;
        }
        (Field::StatusCode, Value::Int(code)) => status(record, STATUS_CODE, |out| {
            wire::write_varint_field(out, STATUS_CODE, *code as u64);
        }),
        (Field::StatusMessage, Value::Text(text)) => status(record, STATUS_MESSAGE, |out| {
            wire::write_bytes(out, STATUS_MESSAGE, text);
        }),
        (Field::Body, value) | (Field::BodyText, value @ Value::Text(_)) => {
            if let Some(value) = value.any_value() {
                let mut body = Vec::new();
                value.write(&mut body);
                record.set_field(BODY, |out| wire::write_bytes(out, BODY, &body));
            }
        }
        (Field::IntValue, Value::Int(number)) => number_value(record, "asInt", *number as u64),
        (Field::DoubleValue, Value::Double(number)) => {
            number_value(record, "asDouble", number.to_bits());
        }
        _ => {}
    }
    Ok(())
}

fn varint(record: &mut Record<'_>, number: u32, value: i64) {
    record.set_field(number, |out| {
        wire::write_varint_field(out, number, value as u64)
    });
}

fn fixed64(record: &mut Record<'_>, number: u32, bits: u64) {
    record.set_field(number, |out| {
        wire::write_tag(out, number, 1);
        out.extend_from_slice(&bits.to_le_bytes());
    });
}

fn set_id(record: &mut Record<'_>, number: u32, id: &[u8]) -> Result<(), EvalFault> {
    let length = record
        .message()
        .and_then(|message| message.field(number))
        .map_or(0, |field| match field.kind {
            collector_otlp::schema::Kind::Id(length) => length,
            _ => 0,
        });
    if !id.is_empty() && id.len() != length {
        return Err(EvalFault::new(format!("an id must have {length} bytes")));
    }
    record.set_field(number, |out| wire::write_bytes(out, number, id));
    Ok(())
}

fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

/// Sets one field of a span's status; the others stay.
fn status(record: &mut Record<'_>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    for field in wire::Fields::of(&record.merged(STATUS)).flatten() {
        if field.number != number {
            body.extend_from_slice(field.raw);
        }
    }
    write(&mut body);
    record.set_field(STATUS, |out| wire::write_bytes(out, STATUS, &body));
}

/// Sets the value of a data point that is one number; other kinds have none.
fn number_value(record: &mut Record<'_>, name: &str, bits: u64) {
    let number = |name| Some(record.message()?.field_named(name)?.number);
    if let (Some(int), Some(double)) = (number("asInt"), number("asDouble")) {
        record.remove_field(int);
        record.remove_field(double);
        fixed64(record, if name == "asInt" { int } else { double }, bits);
    }
}

fn retain(record: &mut Record<'_>, keep: impl Fn(&[u8]) -> bool) {
    for place in 0..record.places() {
        if let Some((place, key)) = record.nth(place)
            && !keep(key)
        {
            record.remove(place);
        }
    }
}

/// Changes the text at a path, if there is one.
fn replace(
    record: &mut Record<'_>,
    path: &Path,
    setting: Setting<'_>,
    change: impl Fn(&[u8]) -> Option<Cow<'_, [u8]>>,
) -> Result<(), EvalFault> {
    let value = path.read(&View::of(setting, record));
    let changed = match &value {
        Value::Text(text) => change(text).map(|text| text.into_owned()),
        _ => None,
    };
    match changed {
        Some(text) => assign(record, path, &Value::Text(Cow::Owned(text))),
        None => Ok(()),
    }
}

fn each_text(record: &mut Record<'_>, change: impl Fn(&[u8]) -> Option<Cow<'_, [u8]>>) {
    for place in 0..record.places() {
        let Some((place, _)) = record.nth(place) else {
            continue;
        };
        if let AnyValue::String(text) = AnyValue::of(record.value(place))
            && let Some(changed) = change(text)
        {
            let changed = changed.into_owned();
            record.revalue(place, |out| AnyValue::String(&changed).write(out));
        }
    }
}

/// The longest part of a text that ends between two characters.
fn boundary(text: &[u8], most: usize) -> usize {
    let is_start = |index: &usize| text.get(*index).is_none_or(|byte| byte & 0xc0 != 0x80);
    (0..=most.min(text.len())).rev().find(is_start).unwrap_or(0)
}

fn limit(record: &mut Record<'_>, most: usize, keys: &[String]) {
    if record.attributes().count() <= most {
        return;
    }
    let preferred = |key: &[u8]| keys.iter().any(|known| known.as_bytes() == key);
    let mut kept = keys
        .iter()
        .filter(|key| record.find(key.as_bytes()).is_some())
        .count();
    for place in 0..record.places() {
        let Some((place, key)) = record.nth(place) else {
            continue;
        };
        if preferred(key) {
            continue;
        }
        match kept < most {
            true => kept += 1,
            false => record.remove(place),
        }
    }
}
