//! Typed reading of one mapping.
//!
//! In: a mapping's entries. Out: typed values, by key. Invariant: when a section is dropped,
//! every key that nobody asked for has been reported, with the closest known key.

use std::cell::RefCell;
use std::time::Duration;

use super::diagnostic::{Diagnostics, Need, Position, did_you_mean};
use super::quantity::parse_duration;
use super::yaml::{Key, Node, Value};
use crate::component::{ComponentId, Offer};

/// One mapping of the configuration, being read.
#[derive(Debug)]
pub struct Section<'n> {
    entries: &'n [(Key, Node)],
    position: Position,
    is_present: bool,
    diagnostics: &'n Diagnostics,
    known: RefCell<Vec<&'static str>>,
}

impl<'n> Section<'n> {
    /// The mapping in `node`; nothing there reads as an empty mapping.
    pub fn of(node: &'n Node, position: Position, diagnostics: &'n Diagnostics) -> Self {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            _ => {
                let message = format!("expected a mapping, found {}", node.describe());
                diagnostics.error(node.position, message);
                &[]
            }
        };
        Self {
            entries,
            position,
            is_present: true,
            diagnostics,
            known: RefCell::default(),
        }
    }

    /// A mapping with nothing in it.
    pub fn empty(position: Position, diagnostics: &'n Diagnostics) -> Self {
        Self {
            entries: &[],
            position,
            is_present: false,
            diagnostics,
            known: RefCell::default(),
        }
    }

    /// Where the mapping's key stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether the mapping's key is there, even if nothing follows it.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Where the errors go.
    pub fn diagnostics(&self) -> &'n Diagnostics {
        self.diagnostics
    }

    /// The entry of a key, which is known from now on.
    pub fn get(&self, key: &'static str) -> Option<(&'n Key, &'n Node)> {
        self.known.borrow_mut().push(key);
        self.entries
            .iter()
            .find(|(found, _)| found.text == key)
            .map(|(key, node)| (key, node))
    }

    /// Whether the key is there.
    pub fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// All entries, for mappings whose keys the user chooses; all keys are known from now on.
    pub fn entries(&mut self) -> &'n [(Key, Node)] {
        std::mem::take(&mut self.entries)
    }

    /// A string.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.scalar(key, "a string")
            .map(|(text, _)| text.to_owned())
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &'static str) -> Option<bool> {
        self.parsed(key, "true or false", |text| match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        })
    }

    /// A whole number of zero or more.
    pub fn number(&self, key: &'static str) -> Option<u64> {
        self.parsed(key, "a whole number of zero or more", |text| {
            text.replace('_', "").parse().ok()
        })
    }

    /// A number that may have a fraction.
    pub fn float(&self, key: &'static str) -> Option<f64> {
        self.parsed(key, "a number", |text| {
            text.parse().ok().filter(|value: &f64| value.is_finite())
        })
    }

    /// A whole number in a range.
    pub fn number_in(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = self.number(key)?;
        if !range.contains(&number) {
            let message = format!(
                "{key} must be from {} to {}, not {number}",
                range.start(),
                range.end()
            );
            self.error(key, message);
            return None;
        }
        Some(number)
    }

    /// A duration as Go writes it: `300ms`, `1m30s`, `0`.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.parsed(key, "a duration such as 200ms, 5s or 1m30s", parse_duration)
    }

    /// One of several words, in any case.
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let (text, position) = self.scalar(key, "a word")?;
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let all: Vec<_> = words
                .iter()
                .map(|(word, _)| *word)
                .filter(|w| !w.is_empty())
                .collect();
            let message = format!("{key} must be one of {}, not {text:?}", all.join(", "));
            let help = did_you_mean(text, all);
            self.diagnostics.error_with_help(position, message, help);
        }
        found.map(|(_, value)| *value)
    }

    /// A mapping below this one; empty when absent.
    pub fn section(&self, key: &'static str) -> Self {
        match self.get(key) {
            Some((found, node)) => Self::of(node, found.position, self.diagnostics),
            None => Self::empty(self.position, self.diagnostics),
        }
    }

    /// A list; empty when absent.
    pub fn list(&self, key: &'static str) -> &'n [Node] {
        match self.get(key) {
            None => &[],
            Some((_, node)) => match &node.value {
                Value::Sequence(items) => items,
                Value::Null => &[],
                _ => {
                    let message = format!("{key} must be a list, not {}", node.describe());
                    self.diagnostics.error(node.position, message);
                    &[]
                }
            },
        }
    }

    /// A list of strings, each with its place.
    pub fn texts(&self, key: &'static str) -> Vec<(String, Position)> {
        let mut texts = Vec::new();
        for node in self.list(key) {
            match &node.value {
                Value::Scalar { text, .. } => texts.push((text.clone(), node.position)),
                _ => {
                    let message = format!("expected a string, found {}", node.describe());
                    self.diagnostics.error(node.position, message);
                }
            }
        }
        texts
    }

    /// The id of an extension that this component works with; whether it is there and offers what
    /// is wanted of it is checked when everything has been read.
    pub fn extension(&self, key: &'static str, wanted: Offer) -> Option<ComponentId> {
        let (text, position) = self.scalar(key, "the id of an extension")?;
        let id = ComponentId::parse(text);
        match &id {
            Some(id) => self.diagnostics.needs_extension(Need {
                id: id.clone(),
                wanted,
                position,
            }),
            None => self.error(key, format!("{text:?} is not a component id")),
        }
        id
    }

    /// A key that otelcol has and this collector does not act on: an error if it is there.
    pub fn unsupported(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some((found, _)) = self.get(key) {
                self.diagnostics
                    .error(found.position, format!("{key} is not supported yet"));
            }
        }
    }

    /// Keys that otelcol has and that need no action here.
    pub fn accept(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend(keys);
    }

    /// Reports an error at the value of `key`, or at this section when the key is absent.
    pub fn error(&self, key: &'static str, message: impl Into<String>) {
        let position = self
            .get(key)
            .map_or(self.position, |(_, node)| node.position);
        self.diagnostics.error(position, message);
    }

    fn scalar(&self, key: &'static str, expected: &str) -> Option<(&'n str, Position)> {
        let (_, node) = self.get(key)?;
        match &node.value {
            Value::Scalar { text, .. } => Some((text, node.position)),
            Value::Null => None,
            _ => {
                let message = format!("{key} must be {expected}, not {}", node.describe());
                self.diagnostics.error(node.position, message);
                None
            }
        }
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (text, position) = self.scalar(key, expected)?;
        let value = parse(text);
        if value.is_none() {
            let message = format!("{key} must be {expected}, not {text:?}");
            self.diagnostics.error(position, message);
        }
        value
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let known = self.known.borrow();
        for (key, _) in self.entries {
            if !known.contains(&key.text.as_str()) {
                let help = did_you_mean(&key.text, known.iter().copied()).or_else(|| {
                    let mut names = known.clone();
                    names.sort_unstable();
                    names.dedup();
                    (!names.is_empty()).then(|| format!("known keys: {}", names.join(", ")))
                });
                let message = format!("unknown key {:?}", key.text);
                self.diagnostics
                    .error_with_help(key.position, message, help);
            }
        }
    }
}
