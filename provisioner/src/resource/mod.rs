//! The kinds of things that a host can have.
//!
//! Goes in: a table of a playbook, then a host, then its facts. Comes out: a [`Spec`], then a
//! [`Resource`], then a [`Change`] or nothing. Invariant: `diff` is pure; it never reaches a host.

mod artifact;
mod attributes;
mod change;
mod command;
mod content;
mod directory;
mod fact;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod group;
mod package;
mod reboot;
mod service;
mod since;
mod sysctl;
#[cfg(test)]
mod tests;
mod user;
mod volume;

pub(crate) use artifact::shipped_programs;
pub use artifact::{Artifacts, architecture_of};
pub use attributes::Attributes;
pub use change::{Action, Change, Detail, Refusal, Step, text_diff};
pub use content::{Content, Piece};
pub(crate) use reboot::REBOOT;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use provision_protocol::fact::{Fact, Query};
use provision_protocol::message::Hello;
use provision_protocol::operation::{Adopt, Debt, ManifestKind};

use crate::document::{Diagnostics, Location, Section};
use crate::fleet::{Fleet, FleetHost};
use crate::secret::Redactor;
use crate::template::{Templates, Variables};

/// A kind of resource.
#[derive(Debug)]
pub struct Kind {
    /// The word that stands in a playbook.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Reads its table.
    pub parse: fn(&Section<'_>) -> Option<Box<dyn Spec>>,
}

/// Every kind there is.
pub const KINDS: &[Kind] = &[
    artifact::KIND,
    command::KIND,
    directory::KIND,
    file::KIND,
    group::KIND,
    package::KIND,
    reboot::KIND,
    service::KIND,
    sysctl::KIND,
    user::KIND,
    volume::KIND,
];

/// A resource as a playbook describes it, for any host.
pub trait Spec: Debug + Send + Sync {
    /// What its services are owed when a path changes.
    fn debts(&self) -> Vec<(String, Location, Debt)> {
        Vec::new()
    }

    /// The path that it puts something at.
    fn path(&self) -> Option<&str> {
        None
    }

    /// The artifact that it needs.
    fn artifact(&self) -> Option<(&str, &Location)> {
        None
    }

    /// The resource for one host. Mistakes go to the context's diagnostics.
    fn resolve(&self, location: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>>;
}

/// What a resource is resolved with.
#[derive(Debug)]
pub struct HostContext<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The host.
    pub host: &'a FleetHost,
    /// The variables of templates for this host.
    pub variables: &'a Variables<'a>,
    /// All templates.
    pub templates: &'a Templates,
    /// All artifacts that plays name.
    pub artifacts: &'a Artifacts,
    /// Finds secrets in rendered text.
    pub redactor: &'a Redactor,
    /// What services are owed when a path changes.
    pub debts: &'a BTreeMap<String, Vec<Debt>>,
    /// Where mistakes go.
    pub diagnostics: &'a Diagnostics,
}

/// A resource of one host.
pub trait Resource: Debug + Send + Sync {
    /// Kind and name, for instance `file /etc/motd`; unique on a host.
    fn id(&self) -> &str;

    /// The text that it puts on the host, where it is one.
    fn text(&self) -> Option<&str> {
        None
    }

    /// What it is on the host, in the order in which it is put there, where that can be taken over
    /// from whoever put it there before.
    fn things(&self) -> Vec<Adopt> {
        Vec::new()
    }

    /// What must be known to decide.
    fn queries(&self) -> Vec<Query>;

    /// What must change, given the answers in the order of the queries.
    ///
    /// # Errors
    /// A [`Refusal`] when it must not be done.
    fn diff(&self, facts: &[Fact], observed: &Observed<'_>) -> Result<Option<Change>, Refusal>;
}

/// A thing of this kind and name, with nothing else to be said of it.
fn thing(kind: ManifestKind, name: &str) -> Adopt {
    Adopt {
        kind: kind as i32,
        name: name.to_owned(),
        ..Adopt::default()
    }
}

/// What else a decision may rest on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Who the host is.
    pub hello: &'a Hello,
    /// The paths whose contents change earlier in the same plan.
    pub changed_paths: &'a BTreeSet<String>,
    /// Something earlier in the same plan may change what is asked of the host.
    pub after_opaque: bool,
}
