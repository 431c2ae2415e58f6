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
//! | `telemetry` | | see [`own_telemetry`](super::own_telemetry) |

use collector_otlp::Signal;

use super::connections::{self, ConnectorDefinition, Side, Use};
use super::diagnostic::{Diagnostics, Need, Position, did_you_mean};
use super::own_telemetry::Telemetry;
use super::section::Section;
use crate::component::{ComponentId, Offer};

/// What runs.
pub struct Service {
    /// The extensions, in start order.
    pub extensions: Vec<ComponentId>,
    /// The pipelines.
    pub pipelines: Vec<PipelineConfig>,
    /// How the collector shows itself.
    pub telemetry: Telemetry,
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

/// The ids that a configuration defines, with their places.
pub struct Definitions<'c> {
    /// Under `receivers`.
    pub receivers: Vec<(ComponentId, Position)>,
    /// Under `processors`.
    pub processors: Vec<(ComponentId, Position)>,
    /// Under `exporters`.
    pub exporters: Vec<(ComponentId, Position)>,
    /// Under `connectors`.
    pub connectors: Vec<ConnectorDefinition<'c>>,
    /// Under `extensions`.
    pub extensions: Vec<(ComponentId, Position)>,
    /// What the extensions of known types can do for others.
    pub offers: Vec<(ComponentId, &'static [Offer])>,
}

impl Service {
    /// Reads the section and checks every reference.
    pub fn read(section: &Section<'_>, defined: &Definitions<'_>) -> Self {
        let diagnostics = section.diagnostics();
        let extensions = references(section, "extensions", "extension", &[&defined.extensions]);
        let extensions = only_ids(extensions);
        let connectors = connectors_alone(diagnostics, defined);
        let mut uses = Vec::new();
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
            pipelines.push(pipeline(
                &key.text,
                *signal,
                &inner,
                (defined, &connectors),
                &mut uses,
            ));
        }
        if pipelines.is_empty() && section.is_present() {
            section.error(
                "pipelines",
                "service.pipelines must name at least one pipeline",
            );
        }
        check_needed(diagnostics, &extensions, defined);
        connections::check(diagnostics, &defined.connectors, &uses);
        warn_of_unused(diagnostics, &pipelines, &extensions, defined);
        Self {
            extensions,
            pipelines,
            telemetry: Telemetry::read(&section.section("telemetry")),
        }
    }
}

/// The connectors' ids; one that something else in the same list could be meant by is an error.
fn connectors_alone(
    diagnostics: &Diagnostics,
    defined: &Definitions<'_>,
) -> Vec<(ComponentId, Position)> {
    let families = [
        ("a receiver", &defined.receivers),
        ("an exporter", &defined.exporters),
    ];
    for ConnectorDefinition { id, position, .. } in &defined.connectors {
        for (family, others) in families {
            if others.iter().any(|(other, _)| other == id) {
                let message = format!("\"{id}\" is a connector and {family} as well");
                let help = format!("name the connector otherwise, such as \"{id}/connector\"");
                diagnostics.error_with_help(*position, message, Some(help));
            }
        }
    }
    let connectors = defined.connectors.iter();
    connectors
        .map(|connector| (connector.id.clone(), connector.position))
        .collect()
}

fn pipeline(
    name: &str,
    signal: Signal,
    section: &Section<'_>,
    (defined, connectors): (&Definitions<'_>, &Vec<(ComponentId, Position)>),
    uses: &mut Vec<Use>,
) -> PipelineConfig {
    let sources = [&defined.receivers, connectors];
    let targets = [&defined.exporters, connectors];
    let receivers = references(section, "receivers", "receiver", &sources);
    let processors = references(section, "processors", "processor", &[&defined.processors]);
    let exporters = references(section, "exporters", "exporter", &targets);
    for (key, side, listed) in [
        ("receivers", Side::Receiver, &receivers),
        ("exporters", Side::Exporter, &exporters),
    ] {
        if listed.is_empty() && section.list(key).is_empty() {
            let message = format!("pipeline {name:?} has no {key}");
            section.diagnostics().error(section.position(), message);
        }
        for (id, position) in listed {
            if connectors.iter().any(|(connector, _)| connector == id) {
                uses.push(Use {
                    connector: id.clone(),
                    pipeline: name.to_owned(),
                    signal,
                    side,
                    position: *position,
                });
            }
        }
    }
    PipelineConfig {
        name: name.to_owned(),
        signal,
        receivers: only_ids(receivers),
        processors: only_ids(processors),
        exporters: only_ids(exporters),
    }
}

fn only_ids(listed: Vec<(ComponentId, Position)>) -> Vec<ComponentId> {
    listed.into_iter().map(|(id, _)| id).collect()
}

/// The ids in a list, each checked against what is defined.
fn references(
    section: &Section<'_>,
    key: &'static str,
    family: &str,
    defined: &[&Vec<(ComponentId, Position)>],
) -> Vec<(ComponentId, Position)> {
    let defined = || {
        defined
            .iter()
            .flat_map(|list| list.iter())
            .map(|(id, _)| id)
    };
    let names: Vec<String> = defined().map(ToString::to_string).collect();
    let mut found: Vec<(ComponentId, Position)> = Vec::new();
    for (text, position) in section.texts(key) {
        match ComponentId::parse(&text) {
            Some(id) if found.iter().any(|(other, _)| *other == id) => {
                section
                    .diagnostics()
                    .error(position, format!("{family} {text:?} is listed twice"));
            }
            Some(id) if defined().any(|other| *other == id) => {
                found.push((id, position));
            }
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

/// Checks that the extensions which components work with are defined, started and of use to them.
fn check_needed(diagnostics: &Diagnostics, started: &[ComponentId], defined: &Definitions<'_>) {
    for Need {
        id,
        wanted,
        position,
    } in diagnostics.needed_extensions()
    {
        let offering = |(other, offers): &&(ComponentId, &'static [Offer])| {
            started.contains(other) && offers.contains(&wanted)
        };
        let fitting = defined.offers.iter().filter(offering);
        let fitting: Vec<String> = fitting.map(|(other, _)| other.to_string()).collect();
        let of_this = defined.offers.iter().find(|(other, _)| *other == id);
        let (message, help) = if !defined.extensions.iter().any(|(other, _)| *other == id) {
            let names = defined
                .extensions
                .iter()
                .map(|(other, _)| other.to_string());
            let names: Vec<String> = names.collect();
            let help = did_you_mean(&id.to_string(), names.iter().map(String::as_str));
            let otherwise = || "define it under extensions, and list it in service.extensions";
            (
                format!("extension \"{id}\" is not defined"),
                help.unwrap_or_else(|| otherwise().to_owned()),
            )
        } else if of_this.is_some_and(|(_, offers)| !offers.contains(&wanted)) {
            let help = match fitting.as_slice() {
                [] => format!("name an extension that {wanted}"),
                fitting => format!("an extension that {wanted}: {}", fitting.join(", ")),
            };
            (format!("extension \"{id}\" is not one that {wanted}"), help)
        } else if !started.contains(&id) {
            let message = format!("extension \"{id}\" is not started");
            (message, "list it in service.extensions".to_owned())
        } else {
            continue;
        };
        diagnostics.error_with_help(position, message, Some(help));
    }
}

fn warn_of_unused(
    diagnostics: &Diagnostics,
    pipelines: &[PipelineConfig],
    extensions: &[ComponentId],
    defined: &Definitions<'_>,
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
