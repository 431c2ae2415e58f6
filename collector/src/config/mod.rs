//! otelcol YAML to a typed configuration.
//!
//! In: a file's text and the environment. Out: a [`Config`], or every error at once, each with
//! `file:line:column` and a suggestion. Invariant: a [`Config`] exists only when there was no
//! error; no key is ignored in silence.
//!
//! - [`yaml`]: text to a tree with positions
//! - [`expand`]: `${env:NAME}` in values
//! - [`section`]: typed reading of mappings; unknown keys are found here
//! - [`service`]: pipelines and the collector's own telemetry
//! - [`diagnostic`]: errors and warnings as data, and as text
//!
//! Each component documents its keys in its own `config.rs`.

pub mod diagnostic;
pub mod expand;
pub mod quantity;
pub mod section;
pub mod service;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::component::{
    BuildExporter, BuildExtension, BuildProcessor, BuildReceiver, ComponentId, EXPORTERS,
    EXTENSIONS, Kind, PROCESSORS, RECEIVERS,
};
use diagnostic::{Diagnostic, Diagnostics, Position, Severity, did_you_mean};
pub use section::Section;
pub use service::{LogEncoding, LogsConfig, MetricsConfig, PipelineConfig, Service};
use yaml::Node;

/// A component that the configuration defines.
pub struct Defined<T> {
    /// Its identity.
    pub id: ComponentId,
    /// Where it is defined.
    pub position: Position,
    /// What it will be built from.
    pub build: T,
}

/// A whole configuration without errors.
pub struct Config {
    /// The receivers.
    pub receivers: Vec<Defined<Box<dyn BuildReceiver>>>,
    /// The processors.
    pub processors: Vec<Defined<Arc<dyn BuildProcessor>>>,
    /// The exporters.
    pub exporters: Vec<Defined<Box<dyn BuildExporter>>>,
    /// The extensions.
    pub extensions: Vec<Defined<Box<dyn BuildExtension>>>,
    /// What of them is used, and how.
    pub service: Service,
}

/// The result of reading a configuration: diagnostics always, and a configuration if possible.
pub struct Reading {
    /// The configuration, unless there was an error.
    pub config: Option<Config>,
    /// Errors and warnings, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a configuration; `lookup` finds environment variables.
pub fn read(source: &str, lookup: expand::Lookup<'_>) -> Reading {
    let diagnostics = Diagnostics::default();
    let config = match yaml::parse(source, &diagnostics) {
        Some(mut root) => {
            expand::expand(&mut root, lookup, &diagnostics);
            Some(document(&root, &diagnostics))
        }
        None if !diagnostics.is_empty() => None,
        None => {
            diagnostics.file_error("no configuration: expected receivers, exporters and service");
            None
        }
    };
    let diagnostics = diagnostics.into_sorted();
    let failed = diagnostics
        .iter()
        .any(|entry| entry.severity == Severity::Error);
    Reading {
        config: config.filter(|_| !failed),
        diagnostics,
    }
}

fn document(root: &Node, diagnostics: &Diagnostics) -> Config {
    let start = Position {
        line: 1,
        column: 1,
        width: 1,
    };
    let root = Section::of(root, start, diagnostics);
    root.unsupported(&["connectors"]);
    let receivers = components(&root, "receivers", RECEIVERS);
    let processors = components(&root, "processors", PROCESSORS);
    let exporters = components(&root, "exporters", EXPORTERS);
    let extensions = components(&root, "extensions", EXTENSIONS);
    if !root.has("service") {
        diagnostics.file_error("no service: without service.pipelines nothing would run");
    }
    let section = root.section("service");
    let service = Service::read(
        &section,
        &service::Definitions {
            receivers: ids(&receivers),
            processors: ids(&processors),
            exporters: ids(&exporters),
            extensions: ids(&extensions),
        },
    );
    Config {
        receivers: usable(receivers),
        processors: usable(processors)
            .into_iter()
            .map(
                |Defined {
                     id,
                     position,
                     build,
                 }| Defined {
                    id,
                    position,
                    build: build.into(),
                },
            )
            .collect(),
        exporters: usable(exporters),
        extensions: usable(extensions),
        service,
    }
}

/// Reads `receivers`, `processors` and so on; what has an unknown type is defined all the same,
/// so that references to it are not errors too.
fn components<T: ?Sized>(
    root: &Section<'_>,
    family: &'static str,
    kinds: &[Kind<T>],
) -> Vec<Defined<Option<Box<T>>>> {
    let diagnostics = root.diagnostics();
    let mut defined = Vec::new();
    for (key, node) in root.section(family).entries() {
        let Some(id) = ComponentId::parse(&key.text) else {
            let message = format!(
                "{:?} is not a component id: write type or type/name",
                key.text
            );
            diagnostics.error(key.position, message);
            continue;
        };
        let kind = kinds
            .iter()
            .find(|kind| kind.name == id.kind || kind.aliases.contains(&id.kind.as_str()));
        if kind.is_none() {
            let names = || {
                kinds
                    .iter()
                    .flat_map(|kind| kind.aliases.iter().copied().chain([kind.name]))
            };
            let available: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
            let help = did_you_mean(&id.kind, names())
                .unwrap_or_else(|| format!("available {family}: {}", available.join(", ")));
            let singular = family.trim_end_matches('s');
            let message = format!(
                "there is no {singular} of type {:?} in this collector",
                id.kind
            );
            diagnostics.error_with_help(key.position, message, Some(help));
        }
        let build =
            kind.map(|kind| (kind.configure)(&Section::of(node, key.position, diagnostics)));
        defined.push(Defined {
            id,
            position: key.position,
            build,
        });
    }
    defined
}

fn ids<T>(defined: &[Defined<T>]) -> Vec<(ComponentId, Position)> {
    defined
        .iter()
        .map(|component| (component.id.clone(), component.position))
        .collect()
}

fn usable<T>(defined: Vec<Defined<Option<T>>>) -> Vec<Defined<T>> {
    let built = |Defined {
                     id,
                     position,
                     build,
                 }: Defined<Option<T>>| {
        build.map(|build| Defined {
            id,
            position,
            build,
        })
    };
    defined.into_iter().filter_map(built).collect()
}
