//! The keys of the `transform` processor.
//!
//! In: its section. Out: groups of statements, for each signal.
//! Invariant: a group's context is one that its signal has.
//!
//! | key | default | |
//! |---|---|---|
//! | `error_mode` | `propagate` | `ignore`, `silent` or `propagate`, which refuses the batch |
//! | `trace_statements`, `metric_statements`, `log_statements` | | lists of groups, or of statements |
//! | `…[].context` | what the paths name | `resource`, `scope`, `span`, `spanevent`, `metric`, `datapoint`, `log` |
//! | `…[].conditions` | | OTTL conditions; of those at least one must hold for the group |
//! | `…[].statements` | required | OTTL statements, done in turn |
//! | `…[].error_mode` | as above | for the group |
//!
//! Statements without a context must name it in their paths, as in `span.attributes["a"]`.
//! What OTTL can do here stands in [`crate::ottl`]. Not supported, and refused:
//! `profile_statements` and `flatten_data`.

use collector_otlp::Signal;

use crate::config::Section;
use crate::config::diagnostic::Position;
use crate::config::yaml::{Node, Value};
use crate::ottl::{Conditions, Context, ERROR_MODES, ErrorMode, Statements, infer};

/// A configured `transform` processor.
#[derive(Clone, Debug)]
pub struct Config {
    /// For traces.
    pub traces: Vec<Group>,
    /// For metrics.
    pub metrics: Vec<Group>,
    /// For logs.
    pub logs: Vec<Group>,
}

/// Statements about one context.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are about.
    pub context: Context,
    /// When to do them; always, when there are none.
    pub conditions: Conditions,
    /// The statements.
    pub statements: Statements,
    /// What to do when one cannot be done.
    pub error_mode: ErrorMode,
}

const CONTEXTS: &[(&str, Context)] = &[
    ("resource", Context::Resource),
    ("scope", Context::Scope),
    ("span", Context::Span),
    ("spanevent", Context::SpanEvent),
    ("metric", Context::Metric),
    ("datapoint", Context::DataPoint),
    ("log", Context::Log),
];

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["profile_statements", "flatten_data"]);
        let mode = section
            .choice("error_mode", ERROR_MODES)
            .unwrap_or_default();
        Self {
            traces: groups(section, "trace_statements", Signal::Traces, mode),
            metrics: groups(section, "metric_statements", Signal::Metrics, mode),
            logs: groups(section, "log_statements", Signal::Logs, mode),
        }
    }
}

fn groups(section: &Section<'_>, key: &'static str, signal: Signal, mode: ErrorMode) -> Vec<Group> {
    let nodes = section.list(key);
    let mut plain = Vec::new();
    let mut groups = Vec::new();
    for node in nodes {
        match &node.value {
            Value::Scalar { text, .. } => plain.push((text.clone(), node.position)),
            _ => groups.extend(group(section, node, signal, mode)),
        }
    }
    if !plain.is_empty() && plain.len() < nodes.len() {
        section.error(
            key,
            format!("{key} must have groups or statements, not both"),
        );
    }
    if let Some((_, position)) = plain.first() {
        let written = Written {
            position: *position,
            context: None,
            conditions: Vec::new(),
            statements: plain,
        };
        groups.extend(compiled(section, written, signal, mode));
    }
    groups
}

fn group(section: &Section<'_>, node: &Node, signal: Signal, mode: ErrorMode) -> Option<Group> {
    let group = Section::of(node, node.position, section.diagnostics());
    let context = group.choice("context", CONTEXTS);
    let written = Written {
        position: node.position,
        context,
        conditions: group.texts("conditions"),
        statements: group.texts("statements"),
    };
    let mode = group.choice("error_mode", ERROR_MODES).unwrap_or(mode);
    if written.statements.is_empty() {
        group.error("statements", "a group needs at least one statement");
        return None;
    }
    if context.is_none() && group.has("context") {
        return None;
    }
    compiled(section, written, signal, mode)
}

/// A group as it was typed.
struct Written {
    position: Position,
    context: Option<Context>,
    conditions: Vec<(String, Position)>,
    statements: Vec<(String, Position)>,
}

fn compiled(
    section: &Section<'_>,
    written: Written,
    signal: Signal,
    mode: ErrorMode,
) -> Option<Group> {
    let diagnostics = section.diagnostics();
    let texts = || {
        written
            .statements
            .iter()
            .chain(&written.conditions)
            .map(|(text, _)| text.as_str())
    };
    let Some(context) = written.context.or_else(|| infer(texts())) else {
        let message = "these statements do not say what they are about";
        let help = "write context: span, or span.attributes instead of attributes";
        diagnostics.error_with_help(written.position, message, Some(help.to_owned()));
        return None;
    };
    if !belongs(context, signal) {
        let message = format!("{} has no context {}", signal.name(), context.name());
        diagnostics.error(written.position, message);
        return None;
    }
    Some(Group {
        context,
        conditions: Conditions::compile(&written.conditions, context, diagnostics),
        statements: Statements::compile(&written.statements, context, diagnostics),
        error_mode: mode,
    })
}

fn belongs(context: Context, signal: Signal) -> bool {
    match context {
        Context::Resource | Context::Scope => true,
        Context::Span | Context::SpanEvent => signal == Signal::Traces,
        Context::Metric | Context::DataPoint => signal == Signal::Metrics,
        Context::Log => signal == Signal::Logs,
    }
}
