//! The keys of `include` and `exclude`.
//!
//! In: their sections. Out: a [`Choice`], or errors at the keys.
//! Invariant: `match_type` decides how every text of a section is compared.
//!
//! | key | default | |
//! |---|---|---|
//! | `match_type` | required | `strict` or `regexp` |
//! | `services`, `span_names`, `span_kinds` | | lists of texts, for spans |
//! | `log_bodies`, `log_severity_texts` | | lists of texts, for log records |
//! | `log_severity_number.min`, `.match_undefined` | 0, false | for log records |
//! | `metric_names` | | a list of texts, for metrics |
//! | `attributes`, `resources` | | lists of `key` and, if it matters, `value` |
//! | `libraries` | | a list of `name` and, if it matters, `version` |
//! | `regexp.cacheenabled`, `.cachemaxnumentries` | | accepted without effect: matching is linear |
//!
//! Not supported, and refused: `match_type: expr` and `expressions`.

use super::{AttributeMatch, Choice, Expected, Library, Properties, Severity, Texts};
use crate::config::Section;
use crate::config::diagnostic::Position;
use crate::config::yaml::{Node, Value};
use crate::edit::{literal, scalar};
use crate::pattern;
use collector_otlp::AnyValue;

/// How texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchType {
    /// They are equal.
    Strict,
    /// The pattern matches a part of the text.
    Regexp,
}

const MATCH_TYPES: &[(&str, MatchType)] =
    &[("strict", MatchType::Strict), ("regexp", MatchType::Regexp)];

/// The least and the largest severity number.
const SEVERITIES: std::ops::RangeInclusive<u64> = 0..=24;

impl Choice {
    /// Reads `include` and `exclude` of a section.
    pub fn read(section: &Section<'_>) -> Self {
        let read = |key| {
            section
                .has(key)
                .then(|| properties(&section.section(key)))
                .flatten()
        };
        Self {
            include: read("include"),
            exclude: read("exclude"),
        }
    }
}

fn properties(section: &Section<'_>) -> Option<Properties> {
    section.unsupported(&["expressions"]);
    let texts = |key| move |kind| texts(section, key, kind);
    let kind = match_type(section);
    let (services, span_names) = (texts("services"), texts("span_names"));
    let (span_kinds, log_bodies) = (texts("span_kinds"), texts("log_bodies"));
    let severity_texts = texts("log_severity_texts");
    let metric_names = texts("metric_names");
    // Every key is looked at even when match_type is missing, so that none is called unknown.
    let read_as = kind.unwrap_or(MatchType::Strict);
    let properties = Properties {
        services: services(read_as),
        span_names: span_names(read_as),
        span_kinds: span_kinds(read_as),
        log_bodies: log_bodies(read_as),
        log_severity_texts: severity_texts(read_as),
        log_severity_number: severity_number(section),
        metric_names: metric_names(read_as),
        attributes: read_attributes(section, "attributes", read_as),
        resources: read_attributes(section, "resources", read_as),
        libraries: libraries(section, read_as),
    };
    kind.map(|_| properties)
}

/// `match_type`, and the settings of the cache that this collector does not need.
pub(super) fn match_type(section: &Section<'_>) -> Option<MatchType> {
    let cache = section.section("regexp");
    cache.bool("cacheenabled");
    cache.number("cachemaxnumentries");
    drop(cache);
    if section.text("match_type").as_deref() == Some("expr") {
        let message = "match_type: expr is not supported: write the condition in OTTL instead";
        section.error("match_type", message);
        return None;
    }
    if !section.has("match_type") {
        section.error("match_type", "match_type is needed: strict or regexp");
        return None;
    }
    section.choice("match_type", MATCH_TYPES)
}

/// A list of texts; `None` when the key is absent or empty.
pub(super) fn texts(section: &Section<'_>, key: &'static str, kind: MatchType) -> Option<Texts> {
    let texts = section.texts(key);
    if texts.is_empty() {
        return None;
    }
    Some(match kind {
        MatchType::Strict => Texts::Strict(texts.into_iter().map(|(text, _)| text).collect()),
        MatchType::Regexp => Texts::Regexp(
            texts
                .into_iter()
                .filter_map(|(text, position)| compiled(section, &text, position))
                .collect(),
        ),
    })
}

fn compiled(section: &Section<'_>, text: &str, position: Position) -> Option<regex::bytes::Regex> {
    match pattern::compile(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let message = format!("pattern is not valid: {error}");
            section.diagnostics().error(position, message);
            None
        }
    }
}

/// A list of attributes that must be there.
pub fn read_attributes(
    section: &Section<'_>,
    key: &'static str,
    kind: MatchType,
) -> Vec<AttributeMatch> {
    let read = |node: &Node| {
        let entry = Section::of(node, node.position, section.diagnostics());
        let value = entry
            .get("value")
            .and_then(|(_, node)| expected(&entry, node, kind));
        let key = entry.text("key").filter(|key| !key.is_empty());
        if key.is_none() {
            entry.error("key", "an attribute to match needs a key");
        }
        Some(AttributeMatch { key: key?, value })
    };
    section.list(key).iter().filter_map(read).collect()
}

fn expected(entry: &Section<'_>, node: &Node, kind: MatchType) -> Option<Expected> {
    match (kind, &node.value) {
        (_, Value::Null) => None,
        (MatchType::Strict, _) => {
            let mut bytes = Vec::new();
            literal(node, &mut bytes);
            Some(Expected::Equal(bytes))
        }
        (MatchType::Regexp, Value::Scalar { text, quoted })
            if matches!(scalar(text, *quoted), AnyValue::String(_)) =>
        {
            compiled(entry, text, node.position).map(Expected::Matching)
        }
        (MatchType::Regexp, _) => {
            let message = "with match_type: regexp the value must be a string; quote it";
            entry.error("value", message);
            None
        }
    }
}

fn severity_number(section: &Section<'_>) -> Option<Severity> {
    section.has("log_severity_number").then(|| {
        let number = section.section("log_severity_number");
        Severity {
            min: number.number_in("min", SEVERITIES).unwrap_or(0) as i32,
            match_undefined: number.bool("match_undefined").unwrap_or(false),
        }
    })
}

fn libraries(section: &Section<'_>, kind: MatchType) -> Vec<Library> {
    let read = |node: &Node| {
        let entry = Section::of(node, node.position, section.diagnostics());
        let one = |key| {
            let text = entry.text(key)?;
            let position = entry
                .get(key)
                .map_or(node.position, |(_, node)| node.position);
            Some(match kind {
                MatchType::Strict => Texts::Strict(vec![text]),
                MatchType::Regexp => {
                    Texts::Regexp(compiled(&entry, &text, position).into_iter().collect())
                }
            })
        };
        let version = one("version");
        let name = one("name").unwrap_or_else(|| Texts::Strict(vec![String::new()]));
        Library { name, version }
    };
    section.list("libraries").iter().map(read).collect()
}

/// Reads `logs.include` or `logs.exclude` of the `filter` processor, which has other names.
pub fn log_properties(section: &Section<'_>) -> Option<Properties> {
    let kind = match_type(section);
    let read_as = kind.unwrap_or(MatchType::Strict);
    let severity = section.has("severity_number").then(|| {
        let number = section.section("severity_number");
        let min = number.text("min").unwrap_or_default();
        let parsed = severity_named(&min);
        if parsed.is_none() {
            number.error(
                "min",
                format!("{min:?} is not a severity such as INFO or WARN2"),
            );
        }
        Severity {
            min: parsed.unwrap_or(0),
            match_undefined: number.bool("match_undefined").unwrap_or(false),
        }
    });
    let properties = Properties {
        resources: read_attributes(section, "resource_attributes", read_as),
        attributes: read_attributes(section, "record_attributes", read_as),
        log_severity_texts: texts(section, "severity_texts", read_as),
        log_bodies: texts(section, "bodies", read_as),
        log_severity_number: severity,
        ..Properties::default()
    };
    kind.map(|_| properties)
}

/// Reads `metrics.include` or `metrics.exclude` of the `filter` processor.
pub fn metric_properties(section: &Section<'_>) -> Option<Properties> {
    section.unsupported(&["expressions"]);
    let kind = match_type(section);
    let read_as = kind.unwrap_or(MatchType::Strict);
    let properties = Properties {
        metric_names: texts(section, "metric_names", read_as),
        resources: read_attributes(section, "resource_attributes", read_as),
        ..Properties::default()
    };
    kind.map(|_| properties)
}

/// A severity by number or by short name, in any case; nothing is zero.
fn severity_named(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    if let Ok(number) = text.parse() {
        return (1..=24).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let (name, step) = match upper.strip_suffix(['2', '3', '4']) {
        Some(name) => (name, i32::from(upper.as_bytes()[name.len()] - b'1')),
        None => (upper.as_str(), 0),
    };
    let names = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let index = names.iter().position(|known| *known == name)?;
    Some(index as i32 * 4 + 1 + step)
}
