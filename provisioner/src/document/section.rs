//! A table of a TOML file, read key by key.
//!
//! Goes in: a parsed table. Comes out: typed values; `None` where a value is absent or wrong.
//! Invariant: [`Section::finish`] refuses every key that nobody asked for.

use std::any::TypeId;
use std::cell::RefCell;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostics, Location, SharedSource, suggestion};
use super::shape::{ANY_NAME, Recorder, Step, ValueKind};
use super::value::{ByteSize, Duration, Name, to_json};

/// One table while it is being read.
#[derive(Debug)]
pub struct Section<'a> {
    source: &'a SharedSource,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    diagnostics: &'a Diagnostics,
    asked: RefCell<Vec<String>>,
    watcher: Option<Watcher<'a>>,
}

/// Who writes down what is asked of a table.
#[derive(Clone, Debug)]
struct Watcher<'a> {
    recorder: &'a Recorder,
    path: Vec<Step>,
    /// There is no document: every way of the reader is gone.
    exploring: bool,
    /// The table's keys are names.
    names: std::cell::Cell<bool>,
}

impl Watcher<'_> {
    fn below(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(
            if self.names.get() && (key == ANY_NAME || !self.exploring) {
                Step::Any
            } else {
                Step::Key(key.to_owned())
            },
        );
        path
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub location: Location,
}

impl<'a> Section<'a> {
    pub(super) const fn root(
        source: &'a SharedSource,
        table: &'a DeTable<'a>,
        diagnostics: &'a Diagnostics,
    ) -> Self {
        Self {
            source,
            table,
            span: 0..0,
            diagnostics,
            asked: RefCell::new(Vec::new()),
            watcher: None,
        }
    }

    /// The root of no document, for a reader whose questions are written down.
    pub(super) fn exploring(
        source: &'a SharedSource,
        table: &'a DeTable<'a>,
        diagnostics: &'a Diagnostics,
        recorder: &'a Recorder,
    ) -> Self {
        recorder.visit(&[]);
        Self {
            watcher: Some(Watcher {
                recorder,
                path: Vec::new(),
                exploring: true,
                names: false.into(),
            }),
            ..Self::root(source, table, diagnostics)
        }
    }

    /// The root of a document, for a reader whose questions are written down.
    #[cfg(test)]
    pub(super) fn watched(
        source: &'a SharedSource,
        table: &'a DeTable<'a>,
        diagnostics: &'a Diagnostics,
        recorder: &'a Recorder,
    ) -> Self {
        let mut root = Self::exploring(source, table, diagnostics, recorder);
        if let Some(watcher) = &mut root.watcher {
            watcher.exploring = false;
        }
        root
    }

    /// The watcher, where there is no document.
    fn explorer(&self) -> Option<&Watcher<'a>> {
        self.watcher.as_ref().filter(|watcher| watcher.exploring)
    }

    fn watch(&self, key: &str, kind: ValueKind) {
        if let Some(watcher) = &self.watcher {
            watcher.recorder.record(&watcher.below(key), kind);
        }
    }

    /// Where the table stands.
    #[must_use]
    pub fn location(&self) -> Location {
        self.source.locate(self.span.clone())
    }

    /// Adds a mistake about the whole table.
    pub fn error(&self, message: impl Into<String>, hint: Option<String>) {
        self.diagnostics.error(self.location(), message, hint);
    }

    /// Adds a mistake about one of its keys.
    pub fn error_at(&self, location: &Location, message: impl Into<String>, hint: Option<String>) {
        self.diagnostics.error(location.clone(), message, hint);
    }

    /// Whether the key is there. Does not count as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        if let Some(watcher) = self.explorer() {
            return watcher.recorder.choose(&watcher.below(key), "has", 2) == 1;
        }
        self.table.get(key).is_some()
    }

    /// All keys with their places, in the order of the alphabet; for tables whose keys are names.
    /// All of them count as asked for.
    pub fn keys(&self) -> Vec<Entry<String>> {
        if let Some(watcher) = &self.watcher {
            watcher.names.set(true);
        }
        if self.explorer().is_some() {
            return vec![Entry {
                value: ANY_NAME.to_owned(),
                location: self.location(),
            }];
        }
        let keys: Vec<_> = self
            .table
            .iter()
            .map(|(key, _)| Entry {
                value: key.get_ref().to_string(),
                location: self.source.locate(key.span()),
            })
            .collect();
        self.asked
            .borrow_mut()
            .extend(keys.iter().map(|key| key.value.clone()));
        keys
    }

    /// A text.
    pub fn string(&self, key: &str) -> Option<Entry<String>> {
        self.watch(key, ValueKind::Text);
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.entry(value, text.to_string())),
            other => self.wrong_type(value, key, "a string", other),
        }
    }

    /// A text that must be there.
    pub fn require_string(&self, key: &str) -> Option<Entry<String>> {
        self.require(key, None);
        self.string(key)
    }

    /// Says that a key is missing, unless it is there.
    pub fn require(&self, key: &str, hint: Option<&str>) {
        if let Some(watcher) = &self.watcher {
            watcher.recorder.require(&watcher.path, key);
        }
        if self.explorer().is_none() && !self.has(key) {
            let hint = hint.map(ToOwned::to_owned);
            self.error(format!("`{key}` is missing"), hint);
        }
    }

    /// The one key of a table that has exactly one, and is one of these; the mistake otherwise.
    ///
    /// # Errors
    /// The key that is none of these, where there is exactly one.
    pub fn one_key(&self, names: &[&str]) -> Result<String, Option<Entry<String>>> {
        if let Some(watcher) = self.explorer() {
            watcher.recorder.one_key(&watcher.path);
            let way = watcher
                .recorder
                .choose(&watcher.path, "one_key", names.len());
            return names.get(way).map(ToString::to_string).ok_or(None);
        }
        let mut keys: Vec<Entry<String>> = self
            .table
            .iter()
            .map(|(key, _)| Entry {
                value: key.get_ref().to_string(),
                location: self.source.locate(key.span()),
            })
            .collect();
        match keys.pop() {
            Some(key) if keys.is_empty() && names.contains(&key.value.as_str()) => Ok(key.value),
            Some(key) if keys.is_empty() => Err(Some(key)),
            _ => Err(None),
        }
    }

    /// A value that is written as text or number and parsed; `ByteSize`, `Duration`, `Name`, ….
    pub fn parse<T: FromStr<Err = String> + 'static>(&self, key: &str) -> Option<Entry<T>> {
        self.watch(key, kind_of::<T>());
        let value = self.ask(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            number @ DeValue::Integer(_) => to_json(number).to_string(),
            other => return self.wrong_type(value, key, "a string", other),
        };
        match text.parse() {
            Ok(parsed) => Some(self.entry(value, parsed)),
            Err(message) => {
                self.diagnostics
                    .error(self.source.locate(value.span()), message, None);
                None
            }
        }
    }

    /// One of several words.
    pub fn choice<T: Clone>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        if let Some(watcher) = &self.watcher {
            let path = watcher.below(key);
            let words = choices.iter().map(|(name, _)| *name);
            watcher.recorder.words(&path, words);
            watcher.recorder.record(&path, ValueKind::Text);
            if watcher.exploring {
                let way = watcher.recorder.choose(&path, "choice", choices.len());
                return choices.get(way).map(|(_, value)| value.clone());
            }
        }
        let text = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(value.clone());
        }
        let hint = suggestion(&text.value, choices.iter().map(|(name, _)| *name));
        let message = format!(
            "`{}` is not one of the words that `{key}` takes",
            text.value
        );
        self.diagnostics.error(text.location, message, hint);
        None
    }

    /// A whole number between two bounds.
    pub fn integer(&self, key: &str, bounds: std::ops::RangeInclusive<i64>) -> Option<Entry<i64>> {
        self.watch(key, ValueKind::Integer);
        if let Some(watcher) = &self.watcher {
            watcher.recorder.bounds(&watcher.below(key), &bounds);
        }
        let value = self.ask(key)?;
        let DeValue::Integer(_) = value.get_ref() else {
            return self.wrong_type(value, key, "a whole number", value.get_ref());
        };
        match to_json(value.get_ref()).as_i64() {
            Some(number) if bounds.contains(&number) => Some(self.entry(value, number)),
            _ => {
                let message = format!(
                    "`{key}` must be between {} and {}",
                    bounds.start(),
                    bounds.end()
                );
                self.diagnostics
                    .error(self.source.locate(value.span()), message, None);
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.watch(key, ValueKind::Boolean);
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.wrong_type(value, key, "true or false", other),
        }
    }

    /// A list of texts; empty when absent.
    pub fn strings(&self, key: &str) -> Vec<Entry<String>> {
        self.watch(key, ValueKind::Texts);
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(value, key, "a list of strings", value.get_ref());
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(self.entry(item, text.to_string())),
                other => {
                    self.wrong_type::<()>(item, key, "a list of strings", other);
                }
            }
        }
        texts
    }

    /// A text, or a list of texts; empty when absent.
    pub fn one_or_more_strings(&self, key: &str) -> Vec<Entry<String>> {
        self.watch(key, ValueKind::Text);
        self.watch(key, ValueKind::Texts);
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(_)) => self.string(key).into_iter().collect(),
            _ => self.strings(key),
        }
    }

    /// A list of numbers and texts, as text; empty when absent.
    pub fn scalars(&self, key: &str) -> Vec<Entry<String>> {
        self.watch(key, ValueKind::Scalars);
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let single = std::slice::from_ref(value);
        let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => single.iter().collect(),
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(self.entry(item, text.to_string())),
                number @ DeValue::Integer(_) => {
                    texts.push(self.entry(item, to_json(number).to_string()));
                }
                other => {
                    self.wrong_type::<()>(item, key, "numbers or strings", other);
                }
            }
        }
        texts
    }

    /// A table inside this one.
    pub fn section(&self, key: &str) -> Option<Self> {
        if self.explorer().is_some() {
            return Some(self.child(key, None, self.table, 0..0));
        }
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                let span = self.key_span(key).unwrap_or_else(|| value.span());
                Some(self.child(key, None, table, span))
            }
            other => self.wrong_type(value, key, "a table", other),
        }
    }

    /// A list of tables; empty when absent.
    pub fn sections(&self, key: &str) -> Vec<Self> {
        if self.explorer().is_some() {
            return vec![self.child(key, Some(Step::Item), self.table, 0..0)];
        }
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(value, key, "a list of tables", value.get_ref());
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(self.child(key, Some(Step::Item), table, item.span()));
                }
                other => {
                    self.wrong_type::<()>(item, key, "a list of tables", other);
                }
            }
        }
        sections
    }

    /// Any table, as JSON; an empty object when absent.
    pub fn json(&self, key: &str) -> serde_json::Value {
        self.watch(key, ValueKind::OpenTable);
        let empty = serde_json::Value::Object(serde_json::Map::new());
        let Some(value) = self.ask(key) else {
            return empty;
        };
        match value.get_ref() {
            table @ DeValue::Table(_) => to_json(table),
            other => self
                .wrong_type(value, key, "a table", other)
                .unwrap_or(empty),
        }
    }

    /// Whether the value of a key is a table. Does not count as asking for it.
    #[must_use]
    pub fn is_table(&self, key: &str) -> bool {
        if let Some(watcher) = self.explorer() {
            let way = watcher.recorder.choose(&watcher.below(key), "is_table", 2);
            return way == 1;
        }
        matches!(
            self.table.get(key).map(Spanned::get_ref),
            Some(DeValue::Table(_))
        )
    }

    /// Whether the value of a key is a list. Does not count as asking for it.
    #[must_use]
    pub fn is_list(&self, key: &str) -> bool {
        if let Some(watcher) = self.explorer() {
            let way = watcher.recorder.choose(&watcher.below(key), "is_list", 2);
            return way == 1;
        }
        matches!(
            self.table.get(key).map(Spanned::get_ref),
            Some(DeValue::Array(_))
        )
    }

    /// Refuses the keys that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if !asked.iter().any(|known| known == name) {
                let hint = suggestion(name, asked.iter().map(String::as_str));
                let location = self.source.locate(key.span());
                self.diagnostics
                    .error(location, format!("unknown key `{name}`"), hint);
            }
        }
    }

    fn ask(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key.to_owned());
        self.table.get(key)
    }

    fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    fn child(
        &self,
        key: &str,
        item: Option<Step>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        let watcher = self.watcher.as_ref().map(|watcher| {
            let mut path = watcher.below(key);
            path.extend(item);
            watcher.recorder.visit(&path);
            Watcher {
                path,
                names: false.into(),
                ..watcher.clone()
            }
        });
        Self {
            watcher,
            source: self.source,
            table,
            span,
            diagnostics: self.diagnostics,
            asked: RefCell::new(Vec::new()),
        }
    }

    fn entry<T>(&self, at: &Spanned<DeValue<'_>>, value: T) -> Entry<T> {
        Entry {
            value,
            location: self.source.locate(at.span()),
        }
    }

    fn wrong_type<T>(
        &self,
        at: &Spanned<DeValue<'_>>,
        key: &str,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let found = match found.type_str() {
            "integer" => "a whole number",
            "array" => "a list",
            "table" => "a table",
            "string" => "a string",
            other => other,
        };
        let message = format!("`{key}` must be {expected}, not {found}");
        self.diagnostics
            .error(self.source.locate(at.span()), message, None);
        None
    }
}

/// What a type is written as.
fn kind_of<T: 'static>() -> ValueKind {
    let wanted = TypeId::of::<T>();
    let known = [
        (TypeId::of::<ByteSize>(), ValueKind::Size),
        (TypeId::of::<Duration>(), ValueKind::Duration),
        (TypeId::of::<Name>(), ValueKind::Name),
    ];
    let found = known.iter().find(|(known, _)| *known == wanted);
    found.map_or(ValueKind::Parsed, |(_, kind)| *kind)
}
