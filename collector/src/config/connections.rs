//! How connectors join pipelines.
//!
//! In: the pipelines, with the places where they name connectors. Out: errors.
//! Invariant: without an error, each connector that ends a pipeline begins another one that takes
//! what it gives, the other way round too, and no batch can come round to where it was.

use collector_otlp::Signal;

use super::diagnostic::{Diagnostics, Position};
use crate::component::{BuildConnector, ComponentId};

/// A connector that the configuration defines.
pub struct ConnectorDefinition<'c> {
    /// Its identity.
    pub id: ComponentId,
    /// Where it is defined.
    pub position: Position,
    /// What it can join; `None` when its type is unknown, which is an error of its own.
    pub connector: Option<&'c dyn BuildConnector>,
}

/// Where a pipeline names a connector.
#[derive(Clone, Debug)]
pub struct Use {
    /// The connector.
    pub connector: ComponentId,
    /// The pipeline.
    pub pipeline: String,
    /// What the pipeline moves.
    pub signal: Signal,
    /// Whether it stands at the pipeline's end.
    pub side: Side,
    /// Where.
    pub position: Position,
}

/// Which end of a pipeline a connector stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The pipeline's end.
    Exporter,
    /// The pipeline's beginning.
    Receiver,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Exporter => "an exporter",
            Self::Receiver => "a receiver",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Exporter => "exporters",
            Self::Receiver => "receivers",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Exporter => Self::Receiver,
            Self::Receiver => Self::Exporter,
        }
    }
}

/// Checks every use of every connector.
pub fn check(diagnostics: &Diagnostics, connectors: &[ConnectorDefinition<'_>], uses: &[Use]) {
    let joins = |from: &Use, to: &Use| {
        let same = |other: &&ConnectorDefinition<'_>| other.id == from.connector;
        from.connector == to.connector
            && (from.side, to.side) == (Side::Exporter, Side::Receiver)
            && connectors
                .iter()
                .find(same)
                .and_then(|defined| defined.connector)
                .is_some_and(|connector| connector.joins(from.signal, to.signal))
    };
    for ConnectorDefinition {
        id,
        position,
        connector,
    } in connectors
    {
        let mut of_this = uses
            .iter()
            .filter(|found| found.connector == *id)
            .peekable();
        if of_this.peek().is_none() {
            diagnostics.warning(*position, format!("connector \"{id}\" is in no pipeline"));
        }
        if connector.is_none() {
            continue;
        }
        for found in of_this {
            if !uses
                .iter()
                .any(|other| joins(found, other) || joins(other, found))
            {
                let (side, other) = (found.side.name(), found.side.other());
                let (pipeline, signal) = (&found.pipeline, found.signal.name());
                let message = format!(
                    "connector \"{id}\" is {side} of pipeline {pipeline:?} and {} of no pipeline \
                     that it could join {signal} with",
                    other.name(),
                );
                let help = format!("list it under {} of another pipeline", other.key());
                diagnostics.error_with_help(found.position, message, Some(help));
            }
        }
    }
    for found in uses.iter().filter(|found| found.side == Side::Exporter) {
        let cycle = come_round(&mut vec![found], &mut Vec::new(), uses, &joins);
        if let Some(cycle) = cycle {
            let message = format!("pipelines feed each other in a circle: {cycle}");
            diagnostics.error(found.position, message);
            // Its other pipelines are in the same circle; one place is enough.
            break;
        }
    }
}

/// The pipelines through which what leaves by the first of `way` comes to it again; what was `seen`
/// leads elsewhere.
fn come_round<'u>(
    way: &mut Vec<&'u Use>,
    seen: &mut Vec<&'u str>,
    uses: &'u [Use],
    joins: &dyn Fn(&Use, &Use) -> bool,
) -> Option<String> {
    let (first, last) = (*way.first()?, *way.last()?);
    for entered in uses.iter().filter(|other| joins(last, other)) {
        if entered.pipeline == first.pipeline {
            let steps = way.iter();
            let steps = steps.map(|step| format!("{} → {} → ", step.pipeline, step.connector));
            return Some(steps.collect::<String>() + &first.pipeline);
        }
        if seen.contains(&entered.pipeline.as_str()) {
            continue;
        }
        seen.push(&entered.pipeline);
        let leaving =
            |other: &&Use| other.side == Side::Exporter && other.pipeline == entered.pipeline;
        for next in uses.iter().filter(leaving) {
            way.push(next);
            if let Some(cycle) = come_round(way, seen, uses, joins) {
                return Some(cycle);
            }
            way.pop();
        }
    }
    None
}
