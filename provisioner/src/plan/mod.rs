//! What would be done, decided before anything is.
//!
//! Goes in: desired resources and observed facts. Comes out: a [`HostPlan`] per host. Invariant:
//! pure; the same facts give the same plan.

pub mod bootstrap;
mod desired;
pub mod drift;
pub mod removal;
pub mod saved;
#[cfg(test)]
mod tests;
pub mod undo;

pub use desired::{Desired, HostDesired, Part, PlayDesired, resolve};

use std::collections::BTreeSet;

use provision_protocol::fact::Fact;
use provision_protocol::message::Hello;
use provision_protocol::operation::{Operation, Reboot, operation};
use serde::Serialize;

use crate::resource::{Change, Observed, REBOOT, Refusal, Resource};

/// What would be done on one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostPlan {
    /// The host.
    pub host: String,
    /// Its changes, in the order of plays and resources.
    pub changes: Vec<ResourceChange>,
    /// What must not be done, with the resource.
    pub refusals: Vec<ResourceRefusal>,
    /// What could not be done now, and is looked at again after an opaque change that may lift
    /// the reason.
    pub undecided: Vec<ResourceRefusal>,
    /// What left the playbook and stays on the host all the same, each with the reason.
    pub stays: Vec<String>,
}

/// One change, with the resource that it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceChange {
    /// The resource, for instance `file /etc/motd`.
    pub resource: String,
    /// The play.
    pub play: String,
    /// The opaque resource after which it is looked at again, because its facts may change.
    pub unknown_after: Option<String>,
    /// It takes away what no play speaks of any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub left_playbook: bool,
    /// The change as it looks now.
    #[serde(flatten)]
    pub change: Change,
}

/// One refusal, with the resource that it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceRefusal {
    /// The resource.
    pub resource: String,
    /// The play.
    pub play: String,
    /// Why.
    #[serde(flatten)]
    pub refusal: Refusal,
}

impl HostPlan {
    /// Whether anything would be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refusals.is_empty()
    }

    /// Whether the plan showed this change, or one that can be taken back in its stead.
    #[must_use]
    pub fn showed(&self, entry: &ResourceChange) -> bool {
        let planned = self
            .changes
            .iter()
            .find(|planned| planned.resource == entry.resource);
        let undecided = self
            .undecided
            .iter()
            .any(|known| known.resource == entry.resource);
        // A boot stops what does not start by itself, and empties what lasts no longer.
        let reboots = self.changes.iter().any(ResourceChange::may_reboot);
        match planned {
            Some(planned) => planned.change.irreversible || !entry.change.irreversible,
            None => (undecided || reboots) && !entry.change.irreversible,
        }
    }

    /// The changes of one play.
    pub fn of_play<'a>(&'a self, play: &'a str) -> impl Iterator<Item = &'a ResourceChange> {
        self.changes
            .iter()
            .filter(move |change| change.play == play)
    }
}

/// How many hosts a play changes.
pub fn hosts_changed_by(plans: &[HostPlan], play: &str) -> usize {
    let changed = plans
        .iter()
        .filter(|plan| plan.of_play(play).next().is_some());
    changed.count()
}

impl ResourceChange {
    /// Whether it reboots the host, for certain or if something before it has that needed.
    #[must_use]
    pub fn may_reboot(&self) -> bool {
        self.resource == REBOOT
    }

    /// The reboot that it is, where it is one for certain.
    #[must_use]
    pub fn reboot(&self) -> Option<&Reboot> {
        self.change
            .steps
            .iter()
            .find_map(|step| match &step.operation {
                operation::Kind::Reboot(reboot) => Some(reboot),
                _ => None,
            })
    }

    /// The operations that carry it out.
    #[must_use]
    pub fn operations(&self, environment: &str) -> Vec<Operation> {
        self.change
            .steps
            .iter()
            .map(|step| Operation {
                resource: self.resource.clone(),
                environment: environment.to_owned(),
                play: self.play.clone(),
                guards: step.guards.clone(),
                kind: Some(step.operation.clone()),
            })
            .collect()
    }
}

/// Resources of one play of a host, in order.
pub type PlayResources<'a> = (&'a str, &'a [Box<dyn Resource>]);

/// Decides for one host. `facts` holds the answers to all queries of all resources, in order.
#[must_use]
pub fn decide(host: &str, plays: &[PlayResources<'_>], facts: &[Fact], hello: &Hello) -> HostPlan {
    let mut plan = HostPlan {
        host: host.to_owned(),
        changes: Vec::new(),
        refusals: Vec::new(),
        undecided: Vec::new(),
        stays: Vec::new(),
    };
    let mut changed_paths = BTreeSet::new();
    let mut opaque: Option<String> = None;
    let mut rest = facts;
    for (play, resources) in plays {
        for resource in *resources {
            let count = resource.queries().len();
            let (answers, tail) = rest.split_at(count.min(rest.len()));
            rest = tail;
            let observed = Observed {
                hello,
                changed_paths: &changed_paths,
                after_opaque: opaque.is_some(),
            };
            match resource.diff(answers, &observed) {
                Ok(None) => {}
                Ok(Some(change)) => {
                    changed_paths.extend(change.changed_paths.iter().cloned());
                    let unknown_after = opaque.clone();
                    if change.opaque {
                        opaque = Some(resource.id().to_owned());
                    }
                    plan.changes.push(ResourceChange {
                        resource: resource.id().to_owned(),
                        play: (*play).to_owned(),
                        unknown_after,
                        left_playbook: false,
                        change,
                    });
                }
                Err(refusal) => {
                    // What an opaque change may lift cannot be refused before it.
                    let liftable = opaque.is_some() && !refusal.lasting;
                    let list = if liftable {
                        &mut plan.undecided
                    } else {
                        &mut plan.refusals
                    };
                    list.push(ResourceRefusal {
                        resource: resource.id().to_owned(),
                        play: (*play).to_owned(),
                        refusal,
                    });
                }
            }
        }
    }
    plan
}
