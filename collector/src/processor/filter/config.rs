//! The keys of the `filter` processor.
//!
//! In: its section. Out: conditions on what is dropped, for each signal.
//! Invariant: a signal has OTTL conditions or `include` and `exclude`, not both.
//!
//! | key | default | |
//! |---|---|---|
//! | `error_mode` | `propagate` | `ignore`, `silent` or `propagate`, which refuses the batch |
//! | `traces.{resource,span,spanevent}` | | OTTL conditions; what fulfils one is dropped |
//! | `metrics.{resource,metric,datapoint}` | | the same |
//! | `logs.{resource,log_record}` | | the same |
//! | `spans.{include,exclude}` | | the older form; its keys stand in [`crate::matching`] |
//! | `metrics.{include,exclude}` | | `match_type`, `metric_names`, `resource_attributes` |
//! | `logs.{include,exclude}` | | `match_type`, `bodies`, `severity_texts`, `severity_number.min`, `.match_undefined`, `record_attributes`, `resource_attributes` |
//!
//! What OTTL can do here stands in [`crate::ottl`]. Not supported, and refused: `profiles`, and
//! `match_type: expr`.

use crate::config::Section;
use crate::matching::{AttributeMatch, Choice, Properties, log_properties, metric_properties};
use crate::ottl::{Conditions, Context, ERROR_MODES, ErrorMode};

/// A configured `filter` processor.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do when a condition cannot be computed.
    pub error_mode: ErrorMode,
    /// For traces.
    pub traces: Rules,
    /// For metrics.
    pub metrics: Rules,
    /// For logs.
    pub logs: Rules,
}

/// What is dropped of one signal.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Resources.
    pub resource: Conditions,
    /// Spans, log records or metrics.
    pub child: Conditions,
    /// Span events or data points.
    pub inner: Conditions,
    /// What stays, in the older form.
    pub choice: Choice,
    /// Resources that go, in the older form.
    pub without: Vec<AttributeMatch>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["profiles"]);
        Self {
            error_mode: section
                .choice("error_mode", ERROR_MODES)
                .unwrap_or_default(),
            traces: traces(section),
            metrics: metrics(section),
            logs: logs(section),
        }
    }
}

fn traces(section: &Section<'_>) -> Rules {
    let (traces, spans) = (section.section("traces"), section.section("spans"));
    let rules = Rules {
        resource: conditions(&traces, "resource", Context::Resource),
        child: conditions(&traces, "span", Context::Span),
        inner: conditions(&traces, "spanevent", Context::SpanEvent),
        choice: Choice::read(&spans),
        without: Vec::new(),
    };
    one_form(&rules, &spans);
    rules
}

fn metrics(section: &Section<'_>) -> Rules {
    let metrics = section.section("metrics");
    let cache = metrics.section("regexp");
    cache.bool("cacheenabled");
    cache.number("cachemaxnumentries");
    let mut choice = choice(&metrics, metric_properties);
    let without = choice
        .exclude
        .as_mut()
        .map(|exclude| std::mem::take(&mut exclude.resources))
        .unwrap_or_default();
    choice.exclude = choice.exclude.filter(|exclude| !exclude.is_empty());
    let rules = Rules {
        resource: conditions(&metrics, "resource", Context::Resource),
        child: conditions(&metrics, "metric", Context::Metric),
        inner: conditions(&metrics, "datapoint", Context::DataPoint),
        choice,
        without,
    };
    one_form(&rules, &metrics);
    rules
}

fn logs(section: &Section<'_>) -> Rules {
    let logs = section.section("logs");
    let rules = Rules {
        resource: conditions(&logs, "resource", Context::Resource),
        child: conditions(&logs, "log_record", Context::Log),
        choice: choice(&logs, log_properties),
        ..Rules::default()
    };
    one_form(&rules, &logs);
    rules
}

fn choice(section: &Section<'_>, read: fn(&Section<'_>) -> Option<Properties>) -> Choice {
    let read = |key| match section.has(key) {
        true => read(&section.section(key)).filter(|properties| !properties.is_empty()),
        false => None,
    };
    Choice {
        include: read("include"),
        exclude: read("exclude"),
    }
}

fn conditions(section: &Section<'_>, key: &'static str, context: Context) -> Conditions {
    Conditions::compile(&section.texts(key), context, section.diagnostics())
}

fn one_form(rules: &Rules, older: &Section<'_>) {
    if rules.has_conditions() && !(rules.choice.is_everything() && rules.without.is_empty()) {
        let message = "OTTL conditions and include or exclude cannot be used together";
        for key in ["include", "exclude"] {
            if older.has(key) {
                older.error(key, message);
            }
        }
    }
}

impl Rules {
    /// Whether there are OTTL conditions.
    pub fn has_conditions(&self) -> bool {
        !(self.resource.is_empty() && self.child.is_empty() && self.inner.is_empty())
    }

    /// Whether nothing is ever dropped.
    pub fn is_empty(&self) -> bool {
        !self.has_conditions() && self.choice.is_everything() && self.without.is_empty()
    }
}
