//! What readers ask of a file, found by letting them read.
//!
//! Goes in: a reader, which is run on an empty document whose every question is written down.
//! Comes out: a [`Shape`], from which a JSON Schema is made. Invariant: there is no second list of
//! keys; where a reader takes one of several ways, each of them is gone once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::diagnostic::{Diagnostics, Source};
use super::section::Section;

/// The most ways that one reader may have.
const WAYS_LIMIT: usize = 1000;

/// Stands for every key of a table whose keys are names.
pub(super) const ANY_NAME: &str = "any";

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueKind {
    Text,
    Integer,
    Boolean,
    Texts,
    Scalars,
    OpenTable,
    Size,
    Duration,
    Name,
    Parsed,
}

/// What readers ask of one value.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    kinds: BTreeSet<ValueKind>,
    words: BTreeSet<String>,
    bounds: Option<(i64, i64)>,
    /// How often it was read as a table; 0 where it is none.
    visits: usize,
    keys: BTreeMap<String, Self>,
    required: BTreeMap<String, usize>,
    any: Option<Box<Self>>,
    item: Option<Box<Self>>,
    one_key: bool,
}

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Any,
    Item,
}

/// Writes down what is asked, and chooses the way where there are several.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    shape: RefCell<Shape>,
    chosen: BTreeMap<String, usize>,
    /// Each fork of this run with the number of its ways.
    forks: RefCell<BTreeMap<String, usize>>,
}

impl Recorder {
    pub(super) fn visit(&self, path: &[Step]) {
        self.shape.borrow_mut().at(path).visits += 1;
    }

    pub(super) fn record(&self, path: &[Step], kind: ValueKind) {
        self.shape.borrow_mut().at(path).kinds.insert(kind);
    }

    pub(super) fn words<'w>(&self, path: &[Step], words: impl Iterator<Item = &'w str>) {
        let mut shape = self.shape.borrow_mut();
        shape.at(path).words.extend(words.map(ToOwned::to_owned));
    }

    pub(super) fn bounds(&self, path: &[Step], bounds: &RangeInclusive<i64>) {
        self.shape.borrow_mut().at(path).bounds = Some((*bounds.start(), *bounds.end()));
    }

    pub(super) fn require(&self, path: &[Step], key: &str) {
        let mut shape = self.shape.borrow_mut();
        *shape.at(path).required.entry(key.to_owned()).or_default() += 1;
    }

    pub(super) fn one_key(&self, path: &[Step]) {
        self.shape.borrow_mut().at(path).one_key = true;
    }

    /// Which of several ways a reader goes now.
    pub(super) fn choose(&self, path: &[Step], fork: &str, ways: usize) -> usize {
        let name = format!("{path:?} {fork}");
        let way = self.chosen.get(&name).copied().unwrap_or(0);
        self.forks.borrow_mut().insert(name, ways);
        way.min(ways.saturating_sub(1))
    }
}

impl Shape {
    /// What a reader asks, over all its ways.
    pub fn of_reader<T>(read: impl Fn(Section<'_>, &Diagnostics) -> T) -> Self {
        let source = Arc::new(Source::new(String::new(), String::new()));
        let table = DeTable::new();
        let mut all = Self::default();
        let mut known: BTreeSet<(String, usize)> = BTreeSet::new();
        let mut waiting = VecDeque::from([BTreeMap::new()]);
        for _ in 0..WAYS_LIMIT {
            let Some(chosen) = waiting.pop_front() else {
                break;
            };
            let recorder = Recorder {
                chosen,
                ..Recorder::default()
            };
            // On an empty document mistakes mean nothing.
            let diagnostics = Diagnostics::default();
            read(
                Section::exploring(&source, &table, &diagnostics, &recorder),
                &diagnostics,
            );
            all.merge(recorder.shape.into_inner());
            for (fork, ways) in recorder.forks.into_inner() {
                for way in 1..ways {
                    if known.insert((fork.clone(), way)) {
                        let mut chosen = recorder.chosen.clone();
                        chosen.insert(fork.clone(), way);
                        waiting.push_back(chosen);
                    }
                }
            }
        }
        all
    }

    fn at(&mut self, path: &[Step]) -> &mut Self {
        path.iter().fold(self, |shape, step| match step {
            Step::Key(key) => shape.keys.entry(key.clone()).or_default(),
            Step::Any => shape.any.get_or_insert_default(),
            Step::Item => shape.item.get_or_insert_default(),
        })
    }

    fn merge(&mut self, other: Self) {
        self.kinds.extend(other.kinds);
        self.words.extend(other.words);
        self.bounds = self.bounds.or(other.bounds);
        self.visits += other.visits;
        self.one_key |= other.one_key;
        for (key, count) in other.required {
            *self.required.entry(key).or_default() += count;
        }
        for (key, shape) in other.keys {
            self.keys.entry(key).or_default().merge(shape);
        }
        if let Some(any) = other.any {
            self.any.get_or_insert_default().merge(*any);
        }
        if let Some(item) = other.item {
            self.item.get_or_insert_default().merge(*item);
        }
    }

    /// As a JSON Schema. `describe` is asked for a text about each key, by its dotted path: `*`
    /// stands for a name, `[]` for an element of a list.
    #[must_use]
    pub fn schema(&self, describe: &dyn Fn(&str) -> Option<String>) -> Value {
        self.schema_at("", describe)
    }

    fn schema_at(&self, path: &str, describe: &dyn Fn(&str) -> Option<String>) -> Value {
        let mut ways: Vec<Value> = self.kinds.iter().map(|kind| self.value(*kind)).collect();
        if self.visits > 0 {
            ways.push(self.table(path, describe));
        }
        if let Some(item) = &self.item {
            let items = item.schema_at(&format!("{path}[]"), describe);
            ways.push(json!({ "type": "array", "items": items }));
        }
        let mut schema = if ways.len() == 1 {
            ways.remove(0)
        } else {
            json!({ "anyOf": ways })
        };
        if let (Some(text), Some(schema)) = (describe(path), schema.as_object_mut()) {
            schema.insert("description".to_owned(), Value::String(text));
        }
        schema
    }

    fn value(&self, kind: ValueKind) -> Value {
        match kind {
            ValueKind::Text if !self.words.is_empty() => json!({ "enum": self.words }),
            ValueKind::Text => json!({ "type": "string" }),
            ValueKind::Integer => {
                let mut schema = json!({ "type": "integer" });
                if let (Some((least, most)), Some(schema)) = (self.bounds, schema.as_object_mut()) {
                    schema.insert("minimum".to_owned(), least.into());
                    if most < i64::MAX {
                        schema.insert("maximum".to_owned(), most.into());
                    }
                }
                schema
            }
            ValueKind::Boolean => json!({ "type": "boolean" }),
            ValueKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            ValueKind::Scalars => {
                let one = json!({ "type": ["string", "integer"] });
                json!({ "anyOf": [one, { "type": "array", "items": one }] })
            }
            ValueKind::OpenTable => json!({ "type": "object" }),
            ValueKind::Size => json!({
                "type": ["string", "integer"],
                "pattern": "^[0-9]+ *([KMGT]i?B|B)?$",
                "examples": ["500GiB", "64MiB"]
            }),
            ValueKind::Duration => json!({ "type": "string", "examples": ["30s", "5m", "14d"] }),
            ValueKind::Name => json!({
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
            }),
            ValueKind::Parsed => json!({ "type": ["string", "integer"] }),
        }
    }

    fn table(&self, path: &str, describe: &dyn Fn(&str) -> Option<String>) -> Value {
        let below = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        let properties: Map<String, Value> = self
            .keys
            .iter()
            .map(|(key, shape)| (key.clone(), shape.schema_at(&below(key), describe)))
            .collect();
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        let others = match &self.any {
            Some(any) => any.schema_at(&below("*"), describe),
            None => Value::Bool(false),
        };
        schema.insert("additionalProperties".to_owned(), others);
        // What is required on one way alone is not required by the schema.
        let always = self
            .required
            .iter()
            .filter(|(_, count)| **count >= self.visits);
        let always: Vec<&String> = always.map(|(key, _)| key).collect();
        if !always.is_empty() {
            schema.insert("required".to_owned(), json!(always));
        }
        if self.one_key {
            schema.insert("minProperties".to_owned(), 1.into());
            schema.insert("maxProperties".to_owned(), 1.into());
        }
        Value::Object(schema)
    }

    /// The dotted paths of all keys; `*` stands for a name, `[]` for an element of a list.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut BTreeSet<String>) {
        let named = self.keys.iter().map(|(key, shape)| (key.as_str(), shape));
        let any = self.any.iter().map(|shape| ("*", &**shape));
        for (key, shape) in named.chain(any) {
            let below = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            shape.collect_paths(&below, paths);
            paths.insert(below);
        }
        if let Some(item) = &self.item {
            item.collect_paths(&format!("{path}[]"), paths);
        }
    }
}

/// The shape of what a reader asked of a real document.
#[cfg(test)]
pub(crate) fn asked_of_document(
    text: &str,
    read: impl FnOnce(Section<'_>, &Diagnostics),
) -> (Shape, Vec<super::Diagnostic>) {
    let source = Arc::new(Source::new("document".to_owned(), text.to_owned()));
    let table = DeTable::parse(text).expect("TOML");
    let diagnostics = Diagnostics::default();
    let recorder = Recorder::default();
    let root = Section::watched(&source, table.get_ref(), &diagnostics, &recorder);
    read(root, &diagnostics);
    (recorder.shape.into_inner(), diagnostics.into_list())
}
