//! The keys of the `resource` processor.
//!
//! In: its section. Out: edits to the attributes of every resource.
//! Invariant: at least one edit, each with a key and, unless it deletes, one source.
//!
//! | key | default | |
//! |---|---|---|
//! | `attributes` | required | a list, applied in order |
//! | `attributes[].key` | required | |
//! | `attributes[].action` | `upsert` | `insert`, `update`, `upsert`, `delete` |
//! | `attributes[].value` | | a string, boolean, integer or number |
//! | `attributes[].from_attribute` | | another attribute of the resource, instead of `value` |
//!
//! A quoted value is a string; an unquoted one has the type that YAML gives it.
//! Not supported yet, and refused: `extract`, `hash` and `convert`, `from_context`, `pattern`
//! and `converted_type`. otelcol has no default action; `upsert` here is an addition.

use collector_otlp::edit::{Action, Edit, Literal, Source};

use crate::config::Section;
use crate::config::diagnostic::did_you_mean;
use crate::config::yaml::Value;

/// A configured `resource` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What to do, in order.
    pub edits: Vec<Edit>,
}

/// What an entry wants done.
#[derive(Clone, Copy)]
enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let nodes = section.list("attributes");
        if nodes.is_empty() {
            section.error(
                "attributes",
                "a resource processor needs at least one entry in attributes",
            );
        }
        let diagnostics = section.diagnostics();
        let read = |node| edit(&Section::of(node, node.position, diagnostics));
        Self {
            edits: nodes.iter().filter_map(read).collect(),
        }
    }
}

fn edit(section: &Section<'_>) -> Option<Edit> {
    section.unsupported(&["from_context", "pattern", "converted_type"]);
    let key = section.text("key");
    if key.is_none() {
        section.error("key", "an entry of attributes needs a key");
    }
    let verb = verb(section);
    let source = source(section);
    let action = match (verb?, source) {
        (Verb::Delete, _) => Action::Delete,
        (_, None) => {
            section.error("value", "this entry needs value or from_attribute");
            return None;
        }
        (Verb::Insert, Some(source)) => Action::Insert(source),
        (Verb::Update, Some(source)) => Action::Update(source),
        (Verb::Upsert, Some(source)) => Action::Upsert(source),
    };
    Some(Edit { key: key?, action })
}

fn verb(section: &Section<'_>) -> Option<Verb> {
    let verbs = [
        ("insert", Verb::Insert),
        ("update", Verb::Update),
        ("upsert", Verb::Upsert),
        ("delete", Verb::Delete),
    ];
    let Some(text) = section.text("action") else {
        return Some(Verb::Upsert);
    };
    let found = verbs
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    if found.is_none() {
        if ["extract", "hash", "convert"].contains(&text.as_str()) {
            section.error("action", format!("action: {text} is not supported yet"));
        } else {
            let help = did_you_mean(&text, verbs.map(|(word, _)| word));
            let position = section
                .get("action")
                .map_or(section.position(), |(_, n)| n.position);
            let message = format!("action must be insert, update, upsert or delete, not {text:?}");
            section
                .diagnostics()
                .error_with_help(position, message, help);
        }
    }
    found.map(|(_, verb)| *verb)
}

fn source(section: &Section<'_>) -> Option<Source> {
    let attribute = section.text("from_attribute");
    let (_, node) = match (section.get("value"), attribute) {
        (Some(found), None) => found,
        (None, attribute) => return attribute.map(Source::Attribute),
        (Some(_), Some(_)) => {
            section.error("value", "write either value or from_attribute, not both");
            return None;
        }
    };
    match &node.value {
        Value::Scalar { text, quoted } => Some(Source::Literal(literal(text, *quoted))),
        Value::Null => Some(Source::Literal(Literal::String(String::new()))),
        _ => {
            let message = format!("value must be a single value, not {}", node.describe());
            section.error("value", message);
            None
        }
    }
}

fn literal(text: &str, quoted: bool) -> Literal {
    let string = || Literal::String(text.to_owned());
    if quoted {
        return string();
    }
    match text {
        "true" | "True" | "TRUE" => return Literal::Bool(true),
        "false" | "False" | "FALSE" => return Literal::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return Literal::Int(number);
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse() {
        Ok(number) if numeric => Literal::Double(number),
        _ => string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_type_that_yaml_gives_it() {
        assert_eq!(literal("7", false), Literal::Int(7));
        assert_eq!(literal("7", true), Literal::String("7".to_owned()));
        assert_eq!(literal("7.5", false), Literal::Double(7.5));
        assert_eq!(literal("true", false), Literal::Bool(true));
        for text in ["production", "1.2.3", "nan", "inf", "e3"] {
            assert_eq!(literal(text, false), Literal::String(text.to_owned()));
        }
    }
}
