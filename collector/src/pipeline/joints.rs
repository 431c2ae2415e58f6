//! How connectors join pipelines.
//!
//! In: the pipelines and connectors of a configuration, which form no circle. Out: which pipeline
//! feeds which. Invariant: each pipeline comes after those that it feeds.

use std::sync::Arc;

use super::{Batching, Output};
use crate::component::{BuildConnector, ComponentId};
use crate::config::{Defined, PipelineConfig};

/// The connectors between pipelines.
pub(super) struct Joints<'c> {
    pub(super) pipelines: &'c [PipelineConfig],
    pub(super) connectors: &'c [Defined<Arc<dyn BuildConnector>>],
}

impl<'c> Joints<'c> {
    /// The connector of this id, if it is one.
    pub(super) fn connector(&self, id: &ComponentId) -> Option<&'c dyn BuildConnector> {
        let found = self.connectors.iter().find(|defined| defined.id == *id);
        found.map(|defined| defined.build.as_ref())
    }

    /// The pipelines that a connector feeds with what it gets from `from`.
    pub(super) fn behind(&self, id: &ComponentId, from: &PipelineConfig) -> Vec<usize> {
        let Some(connector) = self.connector(id) else {
            return Vec::new();
        };
        let fed = |to: &PipelineConfig| {
            to.receivers.contains(id) && connector.joins(from.signal, to.signal)
        };
        let numbered = self.pipelines.iter().enumerate();
        numbered
            .filter(|(_, to)| fed(to))
            .map(|(to, _)| to)
            .collect()
    }

    /// All pipelines, each after those that it feeds.
    pub(super) fn downstream_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        // Each round finishes at least one, as there is no circle.
        for _ in self.pipelines {
            for (number, pipeline) in self.pipelines.iter().enumerate() {
                let fed = pipeline
                    .exporters
                    .iter()
                    .flat_map(|id| self.behind(id, pipeline));
                if !order.contains(&number) && fed.into_iter().all(|fed| order.contains(&fed)) {
                    order.push(number);
                }
            }
        }
        order
    }

    /// The rules by which what leaves this pipeline may be joined: its own, or those of the
    /// pipelines before it.
    pub(super) fn rules(&self, number: usize, outputs: &[Output]) -> Vec<Arc<Batching>> {
        let (mut rules, mut seen) = (Vec::new(), vec![number]);
        let mut next = 0;
        while let Some(&number) = seen.get(next) {
            next += 1;
            match outputs
                .get(number)
                .and_then(|output| output.batching.clone())
            {
                Some(own) => rules.push(own),
                None => {
                    for (before, from) in self.pipelines.iter().enumerate() {
                        let mut behind = from.exporters.iter().flat_map(|id| self.behind(id, from));
                        if behind.any(|fed| fed == number) && !seen.contains(&before) {
                            seen.push(before);
                        }
                    }
                }
            }
        }
        rules
    }
}
