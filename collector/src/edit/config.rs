//! The keys of one action on attributes.
//!
//! In: a list of entries. Out: [`Edit`]s, or errors at the entries.
//! Invariant: an entry has the keys that its action uses, and no others.
//!
//! | key | default | |
//! |---|---|---|
//! | `key` | required | the attribute; with `delete` and `hash` optional beside `pattern` |
//! | `action` | `upsert` | `insert`, `update`, `upsert`, `delete`, `hash`, `extract`, `convert` |
//! | `value` | | for the first three: any value, also a list or a mapping |
//! | `from_attribute` | | for the first three: another attribute, instead of `value` |
//! | `pattern` | | for `delete` and `hash`: keys; for `extract`: named groups to set |
//! | `converted_type` | | for `convert`: `int`, `double` or `string` |
//!
//! A quoted value is a string; an unquoted one has the type that YAML gives it.
//! Not supported, and refused: `from_context`. otelcol has no default action; `upsert` here is an
//! addition.

use collector_otlp::{AnyValue, wire};
use regex::bytes::Regex;

use super::{Action, Edit, Extraction, Source, Target};
use crate::config::Section;
use crate::config::yaml::{Node, Value};
use crate::pattern;

/// What an entry wants done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
    Hash,
    Extract,
    Convert,
}

const VERBS: &[(&str, Verb)] = &[
    ("insert", Verb::Insert),
    ("update", Verb::Update),
    ("upsert", Verb::Upsert),
    ("delete", Verb::Delete),
    ("hash", Verb::Hash),
    ("extract", Verb::Extract),
    ("convert", Verb::Convert),
];

const TARGETS: &[(&str, Target)] = &[
    ("int", Target::Int),
    ("double", Target::Double),
    ("string", Target::String),
];

/// Reads the entries of the list at `list`.
pub fn read(section: &Section<'_>, list: &'static str) -> Vec<Edit> {
    let nodes = section.list(list);
    if nodes.is_empty() {
        section.error(list, format!("{list} needs at least one entry"));
    }
    let diagnostics = section.diagnostics();
    let read = |node: &Node| edit(&Section::of(node, node.position, diagnostics));
    nodes.iter().filter_map(read).collect()
}

fn edit(section: &Section<'_>) -> Option<Edit> {
    section.unsupported(&["from_context"]);
    let key = section.text("key").unwrap_or_default();
    let verb = match section.has("action") {
        true => section.choice("action", VERBS),
        false => Some(Verb::Upsert),
    };
    let source = source(section);
    let pattern = compiled(section);
    let target = section.choice("converted_type", TARGETS);
    let verb = verb?;
    let uses: &[&'static str] = match verb {
        Verb::Insert | Verb::Update | Verb::Upsert => &["value", "from_attribute"],
        Verb::Delete | Verb::Hash | Verb::Extract => &["pattern"],
        Verb::Convert => &["converted_type"],
    };
    for unused in ["value", "from_attribute", "pattern", "converted_type"] {
        if !uses.contains(&unused) && section.has(unused) {
            section.error(unused, format!("this action does not use {unused}"));
        }
    }
    let by_pattern = matches!(verb, Verb::Delete | Verb::Hash);
    if key.is_empty() && !(by_pattern && section.has("pattern")) {
        let also = if by_pattern { " or a pattern" } else { "" };
        section.error("key", format!("an entry of this list needs a key{also}"));
        return None;
    }
    let action = match verb {
        Verb::Insert => Action::Insert(needed(section, source)?),
        Verb::Update => Action::Update(needed(section, source)?),
        Verb::Upsert => Action::Upsert(needed(section, source)?),
        Verb::Delete => Action::Delete,
        Verb::Hash => Action::Hash,
        Verb::Extract => Action::Extract(extraction(section, pattern.as_ref())?),
        Verb::Convert => {
            if !section.has("converted_type") {
                section.error("action", "convert needs converted_type");
            }
            Action::Convert(target?)
        }
    };
    let pattern = pattern.filter(|_| by_pattern);
    Some(Edit {
        key,
        pattern,
        action,
    })
}

fn needed(section: &Section<'_>, source: Option<Source>) -> Option<Source> {
    if source.is_none() && !section.has("value") {
        section.error("value", "this entry needs value or from_attribute");
    }
    source
}

fn compiled(section: &Section<'_>) -> Option<Regex> {
    let text = section.text("pattern")?;
    match pattern::compile(&text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            section.error("pattern", format!("pattern is not valid: {error}"));
            None
        }
    }
}

fn extraction(section: &Section<'_>, pattern: Option<&Regex>) -> Option<Extraction> {
    if !section.has("pattern") {
        section.error("action", "extract needs a pattern with named groups");
    }
    let pattern = pattern?;
    let names: Option<Vec<String>> = pattern
        .capture_names()
        .skip(1)
        .map(|name| name.map(str::to_owned))
        .collect();
    match names {
        Some(names) if !names.is_empty() => Some(Extraction {
            pattern: pattern.clone(),
            names,
        }),
        _ => {
            let message = "every group of this pattern must have a name, as in (?P<name>.*)";
            section.error("pattern", message);
            None
        }
    }
}

fn source(section: &Section<'_>) -> Option<Source> {
    let attribute = section.text("from_attribute");
    match (section.get("value"), attribute) {
        (Some(_), Some(_)) => {
            section.error("value", "write either value or from_attribute, not both");
            None
        }
        (Some((_, node)), None) => {
            let mut bytes = Vec::new();
            literal(node, &mut bytes);
            Some(Source::Literal(bytes))
        }
        (None, attribute) => attribute.map(Source::Attribute),
    }
}

/// Writes a value of the configuration as the bytes of an `AnyValue`.
pub(crate) fn literal(node: &Node, out: &mut Vec<u8>) {
    let mut list = Vec::new();
    match &node.value {
        Value::Null => AnyValue::String(b"").write(out),
        Value::Scalar { text, quoted } => scalar(text, *quoted).write(out),
        Value::Sequence(items) => {
            for item in items {
                let mut bytes = Vec::new();
                literal(item, &mut bytes);
                wire::write_bytes(&mut list, 1, &bytes);
            }
            AnyValue::Array(&list).write(out);
        }
        Value::Mapping(entries) => {
            for (key, value) in entries {
                let (mut pair, mut bytes) = (Vec::new(), Vec::new());
                literal(value, &mut bytes);
                wire::write_bytes(&mut pair, 1, key.text.as_bytes());
                wire::write_bytes(&mut pair, 2, &bytes);
                wire::write_bytes(&mut list, 1, &pair);
            }
            AnyValue::Map(&list).write(out);
        }
    }
}

/// A scalar of the type that YAML gives it.
pub(crate) fn scalar(text: &str, quoted: bool) -> AnyValue<'_> {
    let string = AnyValue::String(text.as_bytes());
    if quoted {
        return string;
    }
    match text {
        "true" | "True" | "TRUE" => return AnyValue::Bool(true),
        "false" | "False" | "FALSE" => return AnyValue::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return AnyValue::Int(number);
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse() {
        Ok(number) if numeric => AnyValue::Double(number),
        _ => string,
    }
}
