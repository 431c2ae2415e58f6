//! `service`: extensions, pipelines and the collector's own telemetry.
//!
//! In: the `service` section and the ids that are defined. Out: a [`Service`].
//! Invariant: without an error, every reference names a defined component and every pipeline
//! has a receiver and an exporter.
//!
//! | key | default | |
//! |---|---|---|
//! | `extensions` | none | ids |
//! | `pipelines.<signal>[/name]` | required | `receivers`, `processors`, `exporters`: ids |
//! | `telemetry.logs.level` | `info` | `debug`, `info`, `warn`, `error` |
//! | `telemetry.logs.encoding` | `console` | `console`, `json` |
//! | `telemetry.metrics.level` | `normal` | `none` serves no metrics; the others serve all |
//! | `telemetry.metrics.address` | `localhost:8888` | |
//! | `telemetry.metrics.readers` | | one `pull.exporter.prometheus` with `host` and `port` |
//!
//! Metric names have no `_total`, as with `address` in otelcol; `without_type_suffix`,
//! `without_units` and `without_scope_info` may only be `true`. `telemetry.traces`,
//! `telemetry.resource` and other readers are refused as not supported yet.

use collector_otlp::Signal;

use super::diagnostic::{Diagnostics, Position, did_you_mean};
use super::section::Section;
use crate::component::ComponentId;

/// What runs.
pub struct Service {
    /// The extensions, in start order.
    pub extensions: Vec<ComponentId>,
    /// The pipelines.
    pub pipelines: Vec<PipelineConfig>,
    /// How the collector logs.
    pub logs: LogsConfig,
    /// How the collector shows its metrics.
    pub metrics: MetricsConfig,
}

/// A pipeline: what it moves, and through which components.
pub struct PipelineConfig {
    /// Its key, such as `traces` or `traces/slow`.
    pub name: String,
    /// What it moves.
    pub signal: Signal,
    /// Where batches come from.
    pub receivers: Vec<ComponentId>,
    /// What they pass through, in order.
    pub processors: Vec<ComponentId>,
    /// Where they go.
    pub exporters: Vec<ComponentId>,
}

/// How the collector logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogsConfig {
    /// The least severe level that is shown.
    pub level: tracing::Level,
    /// The shape of a line.
    pub encoding: LogEncoding,
}

/// The shape of a line of the collector's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEncoding {
    /// For people.
    Console,
    /// One JSON object.
    Json,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            encoding: LogEncoding::Console,
        }
    }
}

/// Where the collector shows its metrics; `None` when it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The address of the Prometheus endpoint.
    pub address: Option<String>,
}

/// The ids that a configuration defines, with their places.
pub struct Definitions {
    /// Under `receivers`.
    pub receivers: Vec<(ComponentId, Position)>,
    /// Under `processors`.
    pub processors: Vec<(ComponentId, Position)>,
    /// Under `exporters`.
    pub exporters: Vec<(ComponentId, Position)>,
    /// Under `connectors`.
    pub connectors: Vec<(ComponentId, Position)>,
    /// Under `extensions`.
    pub extensions: Vec<(ComponentId, Position)>,
}

impl Service {
    /// Reads the section and checks every reference.
    pub fn read(section: &Section<'_>, defined: &Definitions) -> Self {
        let diagnostics = section.diagnostics();
        let extensions = references(section, "extensions", "extension", &[&defined.extensions]);
        let mut pipelines: Vec<PipelineConfig> = Vec::new();
        for (key, node) in section.section("pipelines").entries() {
            let kind = key.text.split('/').next().unwrap_or_default();
            let found = Signal::ALL.iter().find(|signal| signal.name() == kind);
            let Some(signal) = found.filter(|_| ComponentId::parse(&key.text).is_some()) else {
                let help = did_you_mean(kind, Signal::ALL.map(Signal::name));
                let message = format!(
                    "{:?} is no pipeline: its name must begin with traces, metrics or logs",
                    key.text
                );
                diagnostics.error_with_help(key.position, message, help);
                continue;
            };
            let inner = Section::of(node, key.position, diagnostics);
            pipelines.push(pipeline(&key.text, *signal, &inner, defined));
        }
        if pipelines.is_empty() && section.is_present() {
            section.error(
                "pipelines",
                "service.pipelines must name at least one pipeline",
            );
        }
        warn_of_unused(diagnostics, &pipelines, &extensions, defined);
        let telemetry = section.section("telemetry");
        telemetry.unsupported(&["traces", "resource"]);
        let logs = logs(&telemetry.section("logs"));
        let metrics = metrics(&telemetry.section("metrics"));
        Self {
            extensions,
            pipelines,
            logs,
            metrics,
        }
    }
}

fn pipeline(
    name: &str,
    signal: Signal,
    section: &Section<'_>,
    defined: &Definitions,
) -> PipelineConfig {
    let connectors = &defined.connectors;
    let sources = [&defined.receivers, connectors];
    let targets = [&defined.exporters, connectors];
    let receivers = references(section, "receivers", "receiver", &sources);
    let processors = references(section, "processors", "processor", &[&defined.processors]);
    let exporters = references(section, "exporters", "exporter", &targets);
    for (key, listed) in [("receivers", &receivers), ("exporters", &exporters)] {
        if listed.is_empty() && section.list(key).is_empty() {
            let message = format!("pipeline {name:?} has no {key}");
            section.diagnostics().error(section.position(), message);
        }
    }
    PipelineConfig {
        name: name.to_owned(),
        signal,
        receivers,
        processors,
        exporters,
    }
}

/// The ids in a list, each checked against what is defined.
fn references(
    section: &Section<'_>,
    key: &'static str,
    family: &str,
    defined: &[&Vec<(ComponentId, Position)>],
) -> Vec<ComponentId> {
    let defined = || {
        defined
            .iter()
            .flat_map(|list| list.iter())
            .map(|(id, _)| id)
    };
    let names: Vec<String> = defined().map(ToString::to_string).collect();
    let mut found = Vec::new();
    for (text, position) in section.texts(key) {
        match ComponentId::parse(&text) {
            Some(id) if found.contains(&id) => {
                section
                    .diagnostics()
                    .error(position, format!("{family} {text:?} is listed twice"));
            }
            Some(id) if defined().any(|other| *other == id) => found.push(id),
            _ => {
                let help = did_you_mean(&text, names.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("define it under {key}"));
                let message = format!("{family} {text:?} is not defined");
                section
                    .diagnostics()
                    .error_with_help(position, message, Some(help));
            }
        }
    }
    found
}

fn warn_of_unused(
    diagnostics: &Diagnostics,
    pipelines: &[PipelineConfig],
    extensions: &[ComponentId],
    defined: &Definitions,
) {
    type List = fn(&PipelineConfig) -> &Vec<ComponentId>;
    let used =
        |list: List, id: &ComponentId| pipelines.iter().any(|pipeline| list(pipeline).contains(id));
    let families: [(&str, List, _); 3] = [
        (
            "receiver",
            |pipeline| &pipeline.receivers,
            &defined.receivers,
        ),
        (
            "processor",
            |pipeline| &pipeline.processors,
            &defined.processors,
        ),
        (
            "exporter",
            |pipeline| &pipeline.exporters,
            &defined.exporters,
        ),
    ];
    for (family, list, ids) in families {
        for (id, position) in ids {
            if !used(list, id) {
                let message = format!("{family} {:?} is in no pipeline", id.to_string());
                diagnostics.warning(*position, message);
            }
        }
    }
    for (id, position) in &defined.connectors {
        for (family, list) in [
            ("exporter", (|pipeline| &pipeline.exporters) as List),
            ("receiver", |pipeline| &pipeline.receivers),
        ] {
            if !used(list, id) {
                let message = format!(
                    "connector {:?} is the {family} of no pipeline",
                    id.to_string()
                );
                diagnostics.warning(*position, message);
            }
        }
    }
    for (id, position) in &defined.extensions {
        if !extensions.contains(id) {
            let message = format!(
                "extension {:?} is not in service.extensions",
                id.to_string()
            );
            diagnostics.warning(*position, message);
        }
    }
}

fn logs(section: &Section<'_>) -> LogsConfig {
    use tracing::Level;
    let default = LogsConfig::default();
    section.unsupported(&[
        "development",
        "disable_caller",
        "disable_stacktrace",
        "error_output_paths",
        "initial_fields",
        "output_paths",
        "processors",
        "sampling",
    ]);
    let levels = [
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
    ];
    let encodings = [
        ("console", LogEncoding::Console),
        ("json", LogEncoding::Json),
    ];
    LogsConfig {
        level: section.choice("level", &levels).unwrap_or(default.level),
        encoding: section
            .choice("encoding", &encodings)
            .unwrap_or(default.encoding),
    }
}

fn metrics(section: &Section<'_>) -> MetricsConfig {
    section.unsupported(&["views"]);
    let levels = [
        ("none", false),
        ("basic", true),
        ("normal", true),
        ("detailed", true),
    ];
    let shown = section.choice("level", &levels).unwrap_or(true);
    let address = section.text("address");
    let readers = section.list("readers");
    if address.is_some() && !readers.is_empty() {
        section.error("address", "write either address or readers, not both");
    }
    if readers.len() > 1 {
        section.error("readers", "more than one reader is not supported yet");
    }
    let read = readers.first().and_then(|node| {
        let reader = Section::of(node, node.position, section.diagnostics());
        prometheus_reader(&reader)
    });
    let address = address
        .or(read)
        .unwrap_or_else(|| "localhost:8888".to_owned());
    MetricsConfig {
        address: shown.then_some(address),
    }
}

fn prometheus_reader(reader: &Section<'_>) -> Option<String> {
    reader.unsupported(&["periodic"]);
    if !reader.has("pull") {
        return None;
    }
    let exporter = reader
        .section("pull")
        .section("exporter")
        .section("prometheus");
    for key in ["without_type_suffix", "without_units", "without_scope_info"] {
        if exporter.bool(key) == Some(false) {
            exporter.error(key, format!("{key}: false is not supported yet"));
        }
    }
    exporter.unsupported(&["with_resource_constant_labels"]);
    let host = exporter
        .text("host")
        .unwrap_or_else(|| "localhost".to_owned());
    let port = exporter.number_in("port", 0..=65535).unwrap_or(8888);
    Some(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}
