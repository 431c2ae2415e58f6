//! The older way to choose telemetry: `include` and `exclude` with lists of properties.
//!
//! In: a resource, a scope and an item. Out: whether the properties match them.
//! Invariant: properties that are not configured match everything; of those that are, all must
//! match, and of a list of names one must.

mod config;
#[cfg(test)]
mod tests;

use collector_otlp::pass::Above;
use collector_otlp::{AnyValue, Record, Signal};
use regex::bytes::Regex;

pub use config::{MatchType, log_properties, metric_properties, read_attributes};

/// Texts of which one must match.
#[derive(Clone, Debug)]
pub enum Texts {
    /// The whole text.
    Strict(Vec<String>),
    /// Any part of the text.
    Regexp(Vec<Regex>),
}

impl Texts {
    /// Whether one of the texts or patterns matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Strict(texts) => texts.iter().any(|known| known.as_bytes() == text),
            Self::Regexp(patterns) => patterns.iter().any(|pattern| pattern.is_match(text)),
        }
    }
}

/// An attribute that must be there.
#[derive(Clone, Debug)]
pub struct AttributeMatch {
    /// Its key.
    pub key: String,
    /// What its value must be; any value will do when there is none.
    pub value: Option<Expected>,
}

/// What an attribute's value must be.
#[derive(Clone, Debug)]
pub enum Expected {
    /// The bytes of an equal `AnyValue`.
    Equal(Vec<u8>),
    /// A pattern that matches its text.
    Matching(Regex),
}

/// A scope that must match.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its name.
    pub name: Texts,
    /// Its version; any version will do when there is none.
    pub version: Option<Texts>,
}

/// The least severity that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severity {
    /// The number.
    pub min: i32,
    /// Whether records without a severity match.
    pub match_undefined: bool,
}

/// Properties of telemetry.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// The resource's `service.name`.
    pub services: Option<Texts>,
    /// A span's name.
    pub span_names: Option<Texts>,
    /// A span's kind, as `SPAN_KIND_SERVER`.
    pub span_kinds: Option<Texts>,
    /// A log record's body as text.
    pub log_bodies: Option<Texts>,
    /// A log record's severity text.
    pub log_severity_texts: Option<Texts>,
    /// A log record's severity.
    pub log_severity_number: Option<Severity>,
    /// A metric's name.
    pub metric_names: Option<Texts>,
    /// The item's attributes.
    pub attributes: Vec<AttributeMatch>,
    /// The resource's attributes.
    pub resources: Vec<AttributeMatch>,
    /// The scope.
    pub libraries: Vec<Library>,
}

/// Which telemetry a processor acts on.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What must match.
    pub include: Option<Properties>,
    /// What must not match.
    pub exclude: Option<Properties>,
}

/// The numbers of the fields that properties look at.
mod field {
    pub(super) const SCOPE_NAME: u32 = 1;
    pub(super) const SCOPE_VERSION: u32 = 2;
    pub(super) const SPAN_NAME: u32 = 5;
    pub(super) const SPAN_KIND: u32 = 6;
    pub(super) const LOG_SEVERITY_NUMBER: u32 = 2;
    pub(super) const LOG_SEVERITY_TEXT: u32 = 3;
    pub(super) const LOG_BODY: u32 = 5;
    pub(super) const METRIC_NAME: u32 = 1;
}

impl Choice {
    /// Whether there is nothing to choose by.
    pub fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the choice takes a span, log record or metric.
    pub fn takes(&self, signal: Signal, above: &Above<'_, '_>, item: &Record<'_>) -> bool {
        let matches = |properties: &Properties| properties.matches(signal, above, item);
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }

    /// What is wrong with the choice for one signal.
    pub fn fault(&self, signal: Signal) -> Option<&'static str> {
        let both = [&self.include, &self.exclude];
        both.into_iter()
            .flatten()
            .find_map(|properties| properties.fault(signal))
    }
}

impl Properties {
    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        Signal::ALL
            .into_iter()
            .all(|signal| self.fault(signal).is_some())
    }

    fn matches(&self, signal: Signal, above: &Above<'_, '_>, item: &Record<'_>) -> bool {
        let own = match signal {
            Signal::Traces => self.matches_span(above, item),
            Signal::Logs => self.matches_log(item),
            Signal::Metrics => {
                return matches(&self.metric_names, || item.bytes(field::METRIC_NAME).into())
                    && all_match(&self.resources, above.resource);
            }
        };
        own && self
            .libraries
            .iter()
            .all(|library| library.matches(above.scope))
            && all_match(&self.resources, above.resource)
            && all_match(&self.attributes, item)
    }

    fn matches_span(&self, above: &Above<'_, '_>, span: &Record<'_>) -> bool {
        let service = || match above.resource.attribute(b"service.name") {
            Some(name) => name.text(),
            None => b"<nil-service-name>"[..].into(),
        };
        matches(&self.services, service)
            && matches(&self.span_names, || span.bytes(field::SPAN_NAME).into())
            && matches(&self.span_kinds, || {
                kind_name(span.varint(field::SPAN_KIND)).into()
            })
    }

    fn matches_log(&self, record: &Record<'_>) -> bool {
        let body = record.merged(field::LOG_BODY);
        matches(&self.log_bodies, || AnyValue::of(&body).text())
            && matches(&self.log_severity_texts, || {
                record.bytes(field::LOG_SEVERITY_TEXT).into()
            })
            && self.log_severity_number.is_none_or(|severity| {
                match record.varint(field::LOG_SEVERITY_NUMBER) as i32 {
                    0 => severity.match_undefined,
                    number => number >= severity.min,
                }
            })
    }

    /// What these properties cannot do for a signal.
    fn fault(&self, signal: Signal) -> Option<&'static str> {
        let for_spans =
            self.services.is_some() || self.span_names.is_some() || self.span_kinds.is_some();
        let for_logs = self.log_bodies.is_some()
            || self.log_severity_texts.is_some()
            || self.log_severity_number.is_some();
        let for_metrics = self.metric_names.is_some();
        let items = !self.attributes.is_empty() || !self.libraries.is_empty();
        let shared = items || !self.resources.is_empty();
        match signal {
            Signal::Traces if for_logs || for_metrics => Some(
                "log_bodies, log_severity_texts, log_severity_number and metric_names do not apply to spans",
            ),
            Signal::Traces if !for_spans && !shared => {
                Some("include and exclude need at least one property that spans have")
            }
            Signal::Logs if for_spans || for_metrics => Some(
                "services, span_names, span_kinds and metric_names do not apply to log records",
            ),
            Signal::Logs if !for_logs && !shared => {
                Some("include and exclude need at least one property that log records have")
            }
            Signal::Metrics if for_spans || for_logs || items => {
                Some("for metrics, include and exclude can only have metric_names and resources")
            }
            Signal::Metrics if !for_metrics && self.resources.is_empty() => {
                Some("include and exclude need metric_names or resources for metrics")
            }
            _ => None,
        }
    }
}

impl Library {
    fn matches(&self, scope: &Record<'_>) -> bool {
        self.name.matches(scope.bytes(field::SCOPE_NAME))
            && self
                .version
                .as_ref()
                .is_none_or(|version| version.matches(scope.bytes(field::SCOPE_VERSION)))
    }
}

fn matches<'t>(texts: &Option<Texts>, text: impl FnOnce() -> std::borrow::Cow<'t, [u8]>) -> bool {
    texts.as_ref().is_none_or(|texts| texts.matches(&text()))
}

/// Whether a record has all these attributes.
pub fn all_match(expected: &[AttributeMatch], record: &Record<'_>) -> bool {
    expected.iter().all(|expected| {
        let Some(place) = record.find(expected.key.as_bytes()) else {
            return false;
        };
        let value = AnyValue::of(record.value(place));
        match &expected.value {
            None => true,
            Some(Expected::Equal(bytes)) => same(value, AnyValue::of(bytes)),
            Some(Expected::Matching(pattern)) => match value {
                AnyValue::String(_)
                | AnyValue::Bool(_)
                | AnyValue::Int(_)
                | AnyValue::Double(_) => pattern.is_match(&value.text()),
                _ => false,
            },
        }
    })
}

/// Whether two values are equal, whatever bytes spell them; the order of a map does not count.
pub fn same(a: AnyValue<'_>, b: AnyValue<'_>) -> bool {
    match (a, b) {
        (AnyValue::Array(_), AnyValue::Array(_)) => {
            a.elements().count() == b.elements().count()
                && a.elements().zip(b.elements()).all(|(a, b)| same(a, b))
        }
        (AnyValue::Map(_), AnyValue::Map(_)) => {
            a.pairs().count() == b.pairs().count()
                && a.pairs().all(|(key, value)| {
                    b.pairs()
                        .any(|(other, also)| key == other && same(value, also))
                })
        }
        _ => a == b,
    }
}

/// A span kind as `include` and `exclude` spell it.
pub fn kind_name(kind: u64) -> &'static [u8] {
    match kind {
        0 => b"SPAN_KIND_UNSPECIFIED",
        1 => b"SPAN_KIND_INTERNAL",
        2 => b"SPAN_KIND_SERVER",
        3 => b"SPAN_KIND_CLIENT",
        4 => b"SPAN_KIND_PRODUCER",
        5 => b"SPAN_KIND_CONSUMER",
        _ => b"",
    }
}
