//! OTTL's editors: functions that change an item.
//!
//! In: a record and what it stands in. Out: the record, edited.
//! Invariant: an editor changes nothing but the record that its context is about.

use std::borrow::Cow;

use collector_otlp::{AnyValue, Record, wire};
use regex::bytes::Regex;

use super::arguments::{Arguments, count, items};
use super::assign::{Cache, assign, flat, levels, replace_attributes};
use super::compile::{Compiler, literal_text};
use super::evaluate::Getter;
use super::fault::{EvalFault, ParseFault};
use super::json::DEPTH;
use super::merge::{Strategy, merge, merge_pairs, pairs};
use super::parameters::Parameters;
use super::path::{Field, Path, Setting, View};
use super::syntax::{Call, Expr, Key};
use super::text::boundary;
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
    Flatten(String, usize),
    /// One of these, or `merge_maps`, on a map that is not all attributes.
    InMap(Path, Box<Self>),
    TruncateAll(usize),
    ReplacePattern(Path, Regex, String),
    ReplaceMatch(Path, Regex, String),
    ReplaceAllMatches(Regex, String),
    ReplaceAllValues(Regex, String),
    ReplaceAllKeys(Regex, String),
    Limit(usize, Vec<String>),
    MergeMaps(Getter, Strategy),
    Append(Path, Vec<Getter>),
}

/// The editors, with the names that otelcol has for their parameters.
const EDITORS: &[(&str, Parameters)] = &[
    (
        "append",
        Parameters::first(1, &["target", "value", "values"]),
    ),
    ("delete_key", Parameters::all(&["target", "key"])),
    ("delete_matching_keys", PATTERN),
    (
        "flatten",
        Parameters::first(1, &["target", "prefix", "depth"]),
    ),
    ("keep_keys", Parameters::all(&["target", "keys"])),
    ("keep_matching_keys", PATTERN),
    (
        "limit",
        Parameters::all(&["target", "limit", "priority_keys"]),
    ),
    (
        "merge_maps",
        Parameters::all(&["target", "source", "strategy"]),
    ),
    ("replace_all_matches", MATCH),
    (
        "replace_all_patterns",
        Parameters::all(&["target", "mode", "regex_pattern", "replacement"]),
    ),
    ("replace_match", MATCH),
    (
        "replace_pattern",
        Parameters::all(&["target", "regex_pattern", "replacement"]),
    ),
    ("set", Parameters::all(&["target", "value"])),
    ("truncate_all", Parameters::all(&["target", "limit"])),
];

const PATTERN: Parameters = Parameters::all(&["target", "pattern"]);
const MATCH: Parameters = Parameters::all(&["target", "pattern", "replacement"]);

/// Editors that otelcol has and this collector does not.
const UNSUPPORTED: &[&str] = &[
    "aggregate_on_attribute_value",
    "aggregate_on_attributes",
    "convert_exponential_histogram_to_histogram",
    "convert_gauge_to_sum",
    "convert_sum_to_gauge",
    "convert_summary_count_val_to_sum",
    "convert_summary_quantile_val_to_gauge",
    "convert_summary_sum_val_to_sum",
    "copy_metric",
    "extract_count_metric",
    "extract_sum_metric",
    "merge_histogram_buckets",
    "scale_metric",
    "set_semconv_span_name",
];

impl Editor {
    pub(super) fn compile(compiler: &mut Compiler, call: Call) -> Result<Self, ParseFault> {
        let (name, column, context) = (call.name.as_str(), call.column, compiler.context);
        let Some((_, parameters)) = EDITORS.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(name, column));
        };
        let mut arguments = Arguments::of(name, column, context, call.arguments, *parameters)?;
        Ok(match name {
            "set" => set(compiler, &mut arguments)?,
            "append" => append(compiler, &mut arguments)?,
            "delete_key"
            | "delete_matching_keys"
            | "keep_keys"
            | "keep_matching_keys"
            | "merge_maps"
            | "flatten" => of_map(compiler, &mut arguments)?,
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
            _ => return Err(unknown(name, column)),
        })
    }

    /// Changes the record.
    pub(super) fn apply<'a>(
        &'a self,
        record: &mut Record<'a>,
        setting: Setting<'_>,
        cache: &mut Cache,
    ) -> Result<(), EvalFault> {
        match self {
            Self::Set(path, getter) => {
                let view = View::of(setting.with(&cache.0), record);
                let value = getter.read(&view)?.into_owned();
                assign(record, cache, path, &value)?;
            }
            Self::InMap(path, editor) => editor.in_map(record, setting, cache, path)?,
            Self::Flatten(prefix, depth) => {
                let flat = flat(pairs(&Value::Attributes(record))?, prefix, *depth)?;
                replace_attributes(record, flat);
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
                replace(record, path, setting, cache, |text| {
                    let is_there = pattern.is_match(text);
                    is_there.then(|| pattern.replace_all(text, replacement.as_bytes()))
                })?;
            }
            Self::ReplaceMatch(path, pattern, replacement) => {
                replace(record, path, setting, cache, |text| {
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
            Self::ReplaceAllKeys(pattern, replacement) => rename_all(record, pattern, replacement),
            Self::Limit(most, keys) => limit(record, *most, keys),
            Self::MergeMaps(source, strategy) => {
                let view = View::of(setting.with(&cache.0), record);
                let pairs = pairs(&source.read(&view)?)?;
                merge(record, pairs, *strategy);
            }
            Self::Append(path, added) => {
                let view = View::of(setting.with(&cache.0), record);
                let list = appended(path.read(&view), added, &view)?;
                assign(record, cache, path, &list)?;
            }
        }
        Ok(())
    }
}

impl Editor {
    /// Changes the map at a path.
    fn in_map(
        &self,
        record: &mut Record<'_>,
        setting: Setting<'_>,
        cache: &mut Cache,
        path: &Path,
    ) -> Result<(), EvalFault> {
        let view = View::of(setting.with(&cache.0), record);
        let mut map = pairs(&path.read(&view))?;
        match self {
            Self::DeleteKey(key) => map.retain(|(found, _)| found != key.as_bytes()),
            Self::DeleteMatchingKeys(pattern) => map.retain(|(key, _)| !pattern.is_match(key)),
            Self::KeepMatchingKeys(pattern) => map.retain(|(key, _)| pattern.is_match(key)),
            Self::KeepKeys(keys) => {
                map.retain(|(key, _)| keys.iter().any(|kept| kept.as_bytes() == key));
            }
            Self::Flatten(prefix, depth) => map = flat(map, prefix, *depth)?,
            Self::MergeMaps(source, strategy) => {
                let source = pairs(&source.read(&view)?)?;
                merge_pairs(&mut map, source, *strategy);
            }
            _ => {}
        }
        assign(record, cache, path, &Value::of_pairs(&map))
    }
}

fn set(compiler: &mut Compiler, arguments: &mut Arguments) -> Result<Editor, ParseFault> {
    let path = arguments.settable()?;
    let value = arguments.next()?;
    let column = value.column;
    let getter = compiler.getter(value)?;
    if let (Field::Attributes, [Key::Name(key)]) = (path.field, path.keys.as_slice())
        && let Getter::Literal(value) = &getter
        && let Some(value) = value.any_value()
    {
        if levels(value) > DEPTH {
            let message = format!("this is nested deeper than {DEPTH} levels");
            return Err(ParseFault::new(column, message));
        }
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        return Ok(Editor::SetConstant(key.clone(), bytes));
    }
    Ok(Editor::Set(path, getter))
}

/// An editor of a map.
fn of_map(compiler: &mut Compiler, arguments: &mut Arguments) -> Result<Editor, ParseFault> {
    let path = arguments.map()?;
    let editor = match arguments.name.as_str() {
        "delete_key" => Editor::DeleteKey(arguments.text("a key")?),
        "delete_matching_keys" => Editor::DeleteMatchingKeys(arguments.pattern()?),
        "keep_keys" => Editor::KeepKeys(arguments.texts()?),
        "keep_matching_keys" => Editor::KeepMatchingKeys(arguments.pattern()?),
        "flatten" => {
            let prefix = match arguments.optional() {
                None => String::new(),
                Some(prefix) => literal_text(prefix, "a prefix")?,
            };
            let column = arguments.column;
            let depth = match arguments.optional() {
                None => usize::MAX,
                Some(depth) => count(depth)?,
            };
            if depth == 0 {
                return Err(ParseFault::new(column, "a depth of flatten is 1 or more"));
            }
            Editor::Flatten(prefix, depth)
        }
        _ => {
            let source = compiler.getter(arguments.next()?)?;
            Editor::MergeMaps(source, arguments.strategy()?)
        }
    };
    Ok(match path {
        Some(path) => Editor::InMap(path, Box::new(editor)),
        None => editor,
    })
}

fn append(compiler: &mut Compiler, arguments: &mut Arguments) -> Result<Editor, ParseFault> {
    let path = arguments.settable()?;
    let (value, values) = (arguments.optional(), arguments.optional());
    if value.is_none() && values.is_none() {
        let message = "append takes a value or values";
        return Err(ParseFault::new(arguments.column, message));
    }
    let mut added: Vec<Expr> = value.into_iter().collect();
    if let Some(values) = values {
        added.extend(items(values)?);
    }
    Ok(Editor::Append(path, compiler.getters(added)?))
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
    let help = did_you_mean(name, EDITORS.iter().map(|(known, _)| *known));
    let message = format!("there is no function {name:?} that changes anything");
    ParseFault::new(column, message).with_help(help)
}

/// A list of what is there, and of what is added to it.
fn appended(
    there: Value<'_>,
    added: &[Getter],
    view: &View<'_>,
) -> Result<Value<'static>, EvalFault> {
    let mut list = match there {
        Value::Nil => Vec::new(),
        Value::List(list) => list.into_owned(),
        Value::Map(_) | Value::Attributes(_) => {
            return Err(EvalFault::new("cannot append to a map"));
        }
        one => element(&one)?,
    };
    for getter in added {
        list.extend_from_slice(&element(&getter.read(view)?)?);
    }
    Ok(Value::List(Cow::Owned(list)))
}

/// A value as it stands among the bytes of an `ArrayValue`.
fn element(value: &Value<'_>) -> Result<Vec<u8>, EvalFault> {
    let Some(bytes) = value.any_bytes() else {
        return Err(EvalFault::new(format!(
            "a list cannot hold {}",
            value.kind()
        )));
    };
    let mut element = Vec::new();
    wire::write_bytes(&mut element, 1, &bytes);
    Ok(element)
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
    cache: &mut Cache,
    change: impl Fn(&[u8]) -> Option<Cow<'_, [u8]>>,
) -> Result<(), EvalFault> {
    let value = path.read(&View::of(setting.with(&cache.0), record));
    let changed = match &value {
        Value::Text(text) => change(text).map(|text| text.into_owned()),
        _ => None,
    };
    match changed {
        Some(text) => assign(record, cache, path, &Value::Text(Cow::Owned(text))),
        None => Ok(()),
    }
}

fn rename_all(record: &mut Record<'_>, pattern: &Regex, replacement: &str) {
    for place in 0..record.places() {
        let Some((place, key)) = record.nth(place) else {
            continue;
        };
        if pattern.is_match(key) {
            let key = pattern.replace_all(key, replacement.as_bytes());
            let key = key.into_owned();
            record.rename(place, &key);
        }
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
