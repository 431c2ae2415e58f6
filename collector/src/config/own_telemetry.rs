//! `service.telemetry`: the collector's own logs and metrics.
//!
//! In: the section. Out: [`Telemetry`]. Invariant: without an error there is a reader for every
//! address that was written, and an output for every path.
//!
//! | key | default | |
//! |---|---|---|
//! | `logs.level` | `info` | `debug`, `info`, `warn`, `error` (also for `dpanic`, `panic`, `fatal`) |
//! | `logs.encoding` | `console` | `console`, `json` |
//! | `logs.output_paths` | `[stderr]` | `stderr`, `stdout`, files as a path or `file:///path` |
//! | `logs.initial_fields` | none | put into every line |
//! | `logs.sampling` | 10 in 10 s, then 1 in 100 | `enabled`, `tick`, `initial`, `thereafter`, for each message; errors are always shown |
//! | `logs.disable_zap_resource` | `false` | leaves `resource` out of the lines |
//! | `metrics.level` | `normal` | `none` serves no metrics; the others serve all |
//! | `metrics.address` | `localhost:8888` | names without suffixes |
//! | `metrics.readers[].pull.exporter.prometheus` | | `host`, `port`, `without_type_suffix`, `without_units`, `without_scope_info`, `with_resource_constant_labels` |
//! | `metrics.readers[].periodic` | | see [`periodic`](super::periodic) |
//! | `resource` | | attributes, by name; `null` removes one that is there by itself |
//! | `traces.level` | | only `none` |
//!
//! As in otelcol, a reader that is written names counters with `_total` and everything with its
//! unit unless told otherwise, while `address`, and what is served when neither is written, do
//! not. Accepted without effect, as there are no callers and no stack traces in the lines:
//! `logs.development`, `logs.disable_caller`, `logs.disable_stacktrace`,
//! `logs.error_output_paths`. Refused as not supported yet: `logs.processors`, `metrics.views` and
//! `traces`.

use std::path::PathBuf;
use std::time::Duration;

use super::periodic::{self, PeriodicConfig};
use super::print;
use super::section::Section;
use super::yaml::Value;

/// How the collector shows itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// How it logs.
    pub logs: LogsConfig,
    /// Where it shows its metrics; nowhere if empty.
    pub readers: Vec<ReaderConfig>,
    /// Where it sends them.
    pub periodic: Vec<PeriodicConfig>,
    /// What describes it; `None` removes an attribute that is there by itself.
    pub resource: Vec<(String, Option<String>)>,
}

/// How the collector logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsConfig {
    /// The least severe level that is shown.
    pub level: tracing::Level,
    /// The shape of a line.
    pub encoding: LogEncoding,
    /// Where lines go.
    pub outputs: Vec<LogOutput>,
    /// What is in every line.
    pub initial_fields: Vec<(String, serde_json::Value)>,
    /// How often the same message is shown.
    pub sampling: Option<LogSampling>,
    /// Whether the configured resource is in every line.
    pub shows_resource: bool,
}

/// The shape of a line of the collector's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEncoding {
    /// For people.
    Console,
    /// One JSON object.
    Json,
}

/// Where the lines of the log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// The standard error.
    Stderr,
    /// The standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl LogOutput {
    /// Reads `stderr`, `stdout`, a path or `file:///path`.
    pub fn parse(path: &str) -> Self {
        match path {
            "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            path => Self::File(path.strip_prefix("file://").unwrap_or(path).into()),
        }
    }
}

/// How often the same message is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSampling {
    /// The length of a period.
    pub tick: Duration,
    /// How many are shown in each.
    pub initial: u64,
    /// After those, one in so many; 0 for none.
    pub thereafter: u64,
}

impl Default for LogSampling {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(10),
            initial: 10,
            thereafter: 100,
        }
    }
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            encoding: LogEncoding::Console,
            outputs: vec![LogOutput::Stderr],
            initial_fields: Vec::new(),
            sampling: Some(LogSampling::default()),
            shows_resource: true,
        }
    }
}

/// An endpoint that Prometheus reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderConfig {
    /// Where it listens.
    pub address: String,
    /// How metrics are called there.
    pub naming: Naming,
}

/// How metrics are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Whether a counter's name ends in `_total`.
    pub has_type_suffix: bool,
    /// Whether a name ends in its unit.
    pub has_units: bool,
    /// Whether labels say which part of the collector counts.
    pub has_scope: bool,
    /// Which attributes of the resource are labels.
    pub resource_labels: Patterns,
}

/// Names to take, and of those, names not to take; `*` and `?` as in file names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Names to take.
    pub included: Vec<String>,
    /// Names not to take.
    pub excluded: Vec<String>,
}

impl Patterns {
    /// Whether a name is taken.
    pub fn takes(&self, name: &str) -> bool {
        let among = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, name));
        among(&self.included) && !among(&self.excluded)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let tail = rest.as_str();
            fits(tail, name)
                || name
                    .char_indices()
                    .any(|(at, c)| fits(tail, &name[at + c.len_utf8()..]))
        }
        Some(wanted) => {
            let mut left = name.chars();
            left.next().is_some_and(|c| {
                (wanted == '?' || wanted == c) && fits(rest.as_str(), left.as_str())
            })
        }
    }
}

impl Telemetry {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let traces = section.section("traces");
        if traces.is_present() && traces.choice("level", &[("none", ())]).is_none() {
            section.error(
                "traces",
                "traces of the collector itself are not supported yet",
            );
        }
        traces.accept(&["processors", "propagators", "sampler", "limits"]);
        let (readers, periodic) = metrics(&section.section("metrics"));
        Self {
            logs: logs(&section.section("logs")),
            readers,
            periodic,
            resource: resource(section.section("resource")),
        }
    }
}

fn resource(mut section: Section<'_>) -> Vec<(String, Option<String>)> {
    let diagnostics = section.diagnostics();
    let mut attributes = Vec::new();
    for (key, node) in section.entries() {
        match &node.value {
            Value::Null => attributes.push((key.text.clone(), None)),
            Value::Scalar { text, .. } => attributes.push((key.text.clone(), Some(text.clone()))),
            _ => {
                let message = format!("expected a single value, found {}", node.describe());
                diagnostics.error(node.position, message);
            }
        }
    }
    attributes
}

fn logs(section: &Section<'_>) -> LogsConfig {
    use tracing::Level;
    let default = LogsConfig::default();
    section.unsupported(&["processors"]);
    section.accept(&[
        "development",
        "disable_caller",
        "disable_stacktrace",
        "error_output_paths",
    ]);
    let levels = [
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
        ("dpanic", Level::ERROR),
        ("panic", Level::ERROR),
        ("fatal", Level::ERROR),
    ];
    let encodings = [
        ("console", LogEncoding::Console),
        ("json", LogEncoding::Json),
    ];
    let paths = section.texts("output_paths");
    let outputs = paths.iter().map(|(path, _)| LogOutput::parse(path));
    let outputs = match section.has("output_paths") {
        true => outputs.collect(),
        false => default.outputs,
    };
    let fields = section.section("initial_fields").entries().iter();
    LogsConfig {
        level: section.choice("level", &levels).unwrap_or(default.level),
        encoding: section
            .choice("encoding", &encodings)
            .unwrap_or(default.encoding),
        outputs,
        initial_fields: fields
            .map(|(key, node)| (key.text.clone(), print::json(node)))
            .collect(),
        sampling: sampling(&section.section("sampling")),
        shows_resource: !section.bool("disable_zap_resource").unwrap_or(false),
    }
}

fn sampling(section: &Section<'_>) -> Option<LogSampling> {
    let default = LogSampling::default();
    let sampling = LogSampling {
        tick: section.duration("tick").unwrap_or(default.tick),
        initial: section.number("initial").unwrap_or(default.initial),
        thereafter: section.number("thereafter").unwrap_or(default.thereafter),
    };
    section.bool("enabled").unwrap_or(true).then_some(sampling)
}

fn metrics(section: &Section<'_>) -> (Vec<ReaderConfig>, Vec<PeriodicConfig>) {
    section.unsupported(&["views"]);
    let levels = [
        ("none", false),
        ("basic", true),
        ("normal", true),
        ("detailed", true),
    ];
    let is_shown = section.choice("level", &levels).unwrap_or(true);
    let address = section.text("address");
    let nodes = section.list("readers");
    if address.is_some() && !nodes.is_empty() {
        section.error("address", "write either address or readers, not both");
    }
    if is_shown && section.has("readers") && nodes.is_empty() {
        section.error(
            "readers",
            "without a reader there are no metrics: write level: none if that is meant",
        );
    }
    let (mut readers, mut sent) = (Vec::new(), Vec::new());
    for node in nodes {
        let reader = Section::of(node, node.position, section.diagnostics());
        match (reader.has("periodic"), reader.has("pull")) {
            (true, true) => reader.error("periodic", "a reader is either pull or periodic"),
            (true, false) => sent.extend(periodic::read(&reader.section("periodic"))),
            (false, _) => readers.extend(prometheus(&reader)),
        }
    }
    if nodes.is_empty() {
        readers.push(ReaderConfig {
            address: address.unwrap_or_else(|| "localhost:8888".to_owned()),
            naming: Naming::default(),
        });
    }
    match is_shown {
        true => (readers, sent),
        false => Default::default(),
    }
}

fn prometheus(reader: &Section<'_>) -> Option<ReaderConfig> {
    let pull = reader.section("pull");
    pull.unsupported(&["cardinality_limits", "producers"]);
    let exporter = pull.section("exporter");
    if !exporter.has("prometheus") {
        reader.error("pull", "a reader needs pull.exporter.prometheus");
        return None;
    }
    let exporter = exporter.section("prometheus");
    let without = |key| exporter.bool(key).unwrap_or(false);
    let labels = exporter.section("with_resource_constant_labels");
    let names = |key| {
        labels
            .texts(key)
            .into_iter()
            .map(|(text, _)| text)
            .collect()
    };
    let naming = Naming {
        has_type_suffix: !without("without_type_suffix"),
        has_units: !without("without_units"),
        has_scope: !without("without_scope_info"),
        resource_labels: Patterns {
            included: names("included"),
            excluded: names("excluded"),
        },
    };
    let host = exporter.text("host");
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = exporter.number_in("port", 0..=65535).unwrap_or(8888);
    let address = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    Some(ReaderConfig { address, naming })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_file_names() {
        assert!(fits("*", "") && fits("*", "a.b") && fits("service.*", "service.name"));
        assert!(fits("a?c*e", "abcde") && !fits("a?c", "ac") && !fits("host", "hosts"));
        let patterns = Patterns {
            included: vec!["*".to_owned()],
            excluded: vec!["service.version".to_owned()],
        };
        assert!(patterns.takes("cluster") && !patterns.takes("service.version"));
        assert!(!Patterns::default().takes("cluster"));
    }
}
