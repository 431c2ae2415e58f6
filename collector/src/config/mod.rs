//! otelcol YAML to a typed configuration.
//!
//! In: texts and the environment. Out: a [`Config`], or every error at once, each with
//! `file:line:column` and a suggestion. Invariant: a [`Config`] exists only when there was no
//! error; no key is ignored in silence.
//!
//! - [`source`]: the texts, and how several are laid over each other
//! - [`yaml`]: text to a tree with positions
//! - [`expand`]: `${env:NAME}` and its like in values
//! - [`section`]: typed reading of mappings; unknown keys are found here
//! - [`connections`]: how connectors join pipelines
//! - [`service`]: pipelines; [`own_telemetry`], [`periodic`]: the collector's own logs and metrics
//! - [`contrib`]: what otelcol-contrib has and this collector may not have
//! - [`diagnostic`]: errors and warnings as data, and as text
//! - [`print`]: the tree as text again
//!
//! Each component documents its keys in its own `config.rs`.

pub mod connections;
pub mod contrib;
pub mod diagnostic;
pub mod expand;
pub mod own_telemetry;
pub mod periodic;
pub mod print;
pub mod quantity;
pub mod section;
pub mod service;
pub mod source;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::component::{
    BuildConnector, BuildExporter, BuildExtension, BuildProcessor, BuildReceiver, CONNECTORS,
    ComponentId, EXPORTERS, EXTENSIONS, Kind, Offer, PROCESSORS, RECEIVERS,
};
use connections::ConnectorDefinition;
use diagnostic::{Diagnostic, Diagnostics, Position, did_you_mean};
pub use own_telemetry::{
    LogEncoding, LogOutput, LogSampling, LogsConfig, Naming, Patterns, ReaderConfig, Telemetry,
};
pub use periodic::{OwnExporter, PeriodicConfig};
pub use section::Section;
pub use service::{PipelineConfig, Service};
use source::Sources;
pub use source::{Source, Surroundings};
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
    /// The connectors.
    pub connectors: Vec<Defined<Arc<dyn BuildConnector>>>,
    /// The extensions.
    pub extensions: Vec<Defined<Box<dyn BuildExtension>>>,
    /// What of them is used, and how.
    pub service: Service,
}

/// The result of reading a configuration: diagnostics always, and a configuration if possible.
pub struct Reading {
    /// The configuration, unless there was an error.
    pub config: Option<Config>,
    /// Errors and warnings, in the order of the texts.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts, by the numbers in the diagnostics' positions.
    pub sources: Vec<Source>,
    /// The merged and expanded tree, when there was one.
    pub tree: Option<Node>,
}

impl Reading {
    /// The diagnostics as text for a terminal.
    pub fn render(&self) -> String {
        diagnostic::render(&self.diagnostics, &self.sources)
    }
}

/// Reads a configuration from one text; `variable` finds environment variables, and there are
/// no files.
pub fn read(text: &str, variable: expand::Lookup<'_>) -> Reading {
    let surroundings = Surroundings {
        variable,
        file: &|path| match path {
            "config.yaml" => Ok(text.to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    };
    read_all(&["config.yaml".to_owned()], &[], surroundings)
}

/// Reads a configuration from its `--config` locations, each laid over those before, and its
/// `--set` arguments, laid over all of them.
pub fn read_all(locations: &[String], sets: &[String], surroundings: Surroundings<'_>) -> Reading {
    let (diagnostics, sources) = (Diagnostics::default(), Sources::default());
    let loaded = locations
        .iter()
        .map(|location| source::load(location, surroundings, &sources, &diagnostics));
    let set = sets
        .iter()
        .map(|argument| source::set(argument, &sources, &diagnostics));
    let mut tree: Option<Node> = None;
    for node in loaded.chain(set).flatten() {
        match &mut tree {
            Some(below) => source::merge(below, node),
            None => tree = Some(node),
        }
    }
    if let Some(root) = &mut tree {
        expand::expand(root, surroundings, &sources, &diagnostics);
    }
    let config = tree.as_ref().map(|root| document(root, &diagnostics));
    if config.is_none() && !diagnostics.has_error() {
        diagnostics.file_error("no configuration: expected receivers, exporters and service");
    }
    let failed = diagnostics.has_error();
    Reading {
        config: config.filter(|_| !failed),
        diagnostics: diagnostics.into_sorted(),
        sources: sources.into_inner(),
        tree,
    }
}

/// Reads a configuration from a tree that was merged and expanded before.
pub fn from_tree(tree: &Node) -> Option<Config> {
    let diagnostics = Diagnostics::default();
    let config = document(tree, &diagnostics);
    (!diagnostics.has_error()).then_some(config)
}

fn document(root: &Node, diagnostics: &Diagnostics) -> Config {
    let start = Position {
        line: 1,
        column: 1,
        width: 1,
        ..root.position
    };
    let root = Section::of(root, start, diagnostics);
    let receivers = components(&root, "receivers", RECEIVERS);
    let processors = components(&root, "processors", PROCESSORS);
    let exporters = components(&root, "exporters", EXPORTERS);
    let extensions = components(&root, "extensions", EXTENSIONS);
    let connectors = components(&root, "connectors", CONNECTORS);
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
            connectors: connector_definitions(&connectors),
            extensions: ids(&extensions),
            offers: offers(&extensions),
        },
    );
    Config {
        receivers: usable(receivers),
        processors: usable(processors).into_iter().map(shared).collect(),
        exporters: usable(exporters),
        connectors: usable(connectors).into_iter().map(shared).collect(),
        extensions: usable(extensions),
        service,
    }
}

fn shared<T: ?Sized>(defined: Defined<Box<T>>) -> Defined<Arc<T>> {
    Defined {
        id: defined.id,
        position: defined.position,
        build: defined.build.into(),
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
            unknown(&id, key.position, family, kinds, diagnostics);
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

/// Says that there is no such component, and whether it is a typo.
fn unknown<T: ?Sized>(
    id: &ComponentId,
    position: Position,
    family: &str,
    kinds: &[Kind<T>],
    diagnostics: &Diagnostics,
) {
    let singular = family.trim_end_matches('s');
    let kind = &id.kind;
    if contrib::has(family, kind) {
        let message = format!(
            "the {singular} {kind:?} is a component of otelcol-contrib that this collector does \
             not have"
        );
        return diagnostics.error(position, message);
    }
    let names = kinds
        .iter()
        .flat_map(|kind| kind.aliases.iter().copied().chain([kind.name]));
    let available: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    let elsewhere = || {
        let name = diagnostic::closest(kind, contrib::names(family))?;
        Some(format!(
            "otelcol-contrib has {name:?}, which this collector does not have"
        ))
    };
    let list = || {
        let list = available.join(", ");
        (!list.is_empty()).then(|| format!("available {family}: {list}"))
    };
    let help = did_you_mean(kind, names).or_else(elsewhere).or_else(list);
    let message = format!("there is no {singular} of type {kind:?} in this collector");
    diagnostics.error_with_help(position, message, help);
}

fn ids<T>(defined: &[Defined<T>]) -> Vec<(ComponentId, Position)> {
    defined
        .iter()
        .map(|component| (component.id.clone(), component.position))
        .collect()
}

fn connector_definitions(
    connectors: &[Defined<Option<Box<dyn BuildConnector>>>],
) -> Vec<ConnectorDefinition<'_>> {
    let connectors = connectors.iter();
    connectors
        .map(|defined| ConnectorDefinition {
            id: defined.id.clone(),
            position: defined.position,
            connector: defined.build.as_deref(),
        })
        .collect()
}

fn offers(
    extensions: &[Defined<Option<Box<dyn BuildExtension>>>],
) -> Vec<(ComponentId, &'static [Offer])> {
    let known = extensions.iter();
    let known = known.filter_map(|defined| Some((defined.id.clone(), defined.build.as_ref()?)));
    known.map(|(id, build)| (id, build.offers())).collect()
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
