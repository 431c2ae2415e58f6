//! The keys of the `headers_setter` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: every entry says where its value comes from,
//! unless it deletes.
//!
//! | key | default | |
//! |---|---|---|
//! | `headers[].action` | `upsert` | `insert` (only where absent), `update` (only where present), `upsert`, `delete` |
//! | `headers[].key` | required | the header's name |
//! | `headers[].value` | | a fixed value |
//! | `headers[].from_context` | | the name of a header that the telemetry came with; its receiver needs `include_metadata: true` |
//! | `headers[].default_value` | empty | when it came without |
//!
//! Not supported yet, and refused: `headers[].from_attribute`, `headers[].value_file`,
//! `additional_auth`.

use hyper::header::{HeaderName, HeaderValue};

use crate::config::Section;

/// A configured `headers_setter` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to do, in order.
    pub headers: Vec<Setting>,
}

/// What to do with one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The header.
    pub key: HeaderName,
    /// When to set it.
    pub action: Action,
    /// What to set it to.
    pub value: Value,
}

/// When a header is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Where it is absent.
    Insert,
    /// Where it is present.
    Update,
    /// Always.
    Upsert,
    /// It is removed.
    Delete,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The configuration.
    Fixed(HeaderValue),
    /// What the telemetry came with.
    Context {
        /// The name there, in lower case.
        name: String,
        /// The value without it.
        otherwise: Option<HeaderValue>,
    },
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["additional_auth"]);
        let nodes = section.list("headers");
        if nodes.is_empty() {
            section.error("headers", "headers_setter needs at least one of headers");
        }
        let read = |node| {
            setting(&Section::of(
                node,
                section.position(),
                section.diagnostics(),
            ))
        };
        Self {
            headers: nodes.iter().filter_map(read).collect(),
        }
    }
}

fn setting(section: &Section<'_>) -> Option<Setting> {
    section.unsupported(&["from_attribute", "value_file"]);
    let actions = [
        ("", Action::Upsert),
        ("insert", Action::Insert),
        ("update", Action::Update),
        ("upsert", Action::Upsert),
        ("delete", Action::Delete),
    ];
    let action = section.choice("action", &actions);
    let action = action.unwrap_or(Action::Upsert);
    let header = |key| {
        let text = section.text(key)?;
        let value = HeaderValue::from_str(&text);
        if value.is_err() {
            section.error(key, format!("{key} is not a valid header value"));
        }
        value.ok()
    };
    let fixed = header("value");
    let otherwise = header("default_value");
    let name = section.text("from_context");
    let name = name.filter(|name| !name.is_empty());
    let key = section.text("key").unwrap_or_default();
    let Ok(key) = key.parse::<HeaderName>() else {
        section.error("key", "each of headers needs a key, the name of a header");
        return None;
    };
    let value = match (fixed, name) {
        (Some(_), Some(_)) => {
            section.error("from_context", "value and from_context exclude each other");
            return None;
        }
        (Some(fixed), None) => Value::Fixed(fixed),
        (None, Some(name)) => Value::Context {
            name: name.to_ascii_lowercase(),
            otherwise,
        },
        (None, None) if action == Action::Delete => Value::Fixed(HeaderValue::from_static("")),
        (None, None) => {
            section.error("key", "each of headers needs value or from_context");
            return None;
        }
    };
    Some(Setting { key, action, value })
}
