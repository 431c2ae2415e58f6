//! What each group of hosts shall be.
//!
//! Goes in: `playbooks/NAME.toml` and the files that it includes, or those that an environment has
//! instead. Comes out: [`Play`]s in order, whose resources have been parsed but not yet resolved
//! for a host. Invariant: a playbook has no conditions and no loops; what differs between hosts is
//! in their variables.

mod pace;
mod play;

pub use pace::{Balancer, Canary, CanaryHosts, Order, Pace, Pause, Unreachable};
pub use play::{BatchSize, Health, OpenPort, PlannedResource, Play};

use std::collections::BTreeSet;
use std::path::Path;

use crate::document::{
    Diagnostics, Entry, Location, Name, Section, read_source, suggestion, with_document,
};
use crate::error::Result;
use crate::fleet::{Environment, Project};

/// How deep playbooks may include each other.
const INCLUDE_DEPTH_LIMIT: usize = 8;

/// The plays of an environment, in order.
#[derive(Debug, Default)]
pub struct Playbook {
    /// The plays.
    pub plays: Vec<Play>,
}

impl Playbook {
    /// Reads the playbooks of an environment and all that they include.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn load(
        project: &Project,
        environment: &Environment,
        diagnostics: &Diagnostics,
    ) -> Result<Self> {
        let mut reading = Reading {
            project,
            environment,
            diagnostics,
            replaced: BTreeSet::new(),
            plays: Vec::new(),
        };
        for name in &environment.playbooks {
            reading.include(name, 0)?;
        }
        let Reading {
            replaced, plays, ..
        } = reading;
        for (name, other) in &environment.instead {
            if !replaced.contains(name.as_str()) {
                let message = format!("no playbook `{name}` is included, so none can stand for it");
                diagnostics.error(other.location.clone(), message, None);
            }
        }
        let playbook = Self { plays };
        playbook.check_names(diagnostics);
        Ok(playbook)
    }

    fn check_names(&self, diagnostics: &Diagnostics) {
        let mut seen: Vec<(&Name, &Location)> = Vec::new();
        for play in &self.plays {
            if let Some((_, first)) = seen.iter().find(|(name, _)| *name == &play.name) {
                let message = format!("play `{}` is described a second time", play.name);
                diagnostics.error(
                    play.location.clone(),
                    message,
                    Some(format!("first at {first}")),
                );
            }
            seen.push((&play.name, &play.location));
        }
    }
}

/// What is gathered while playbooks include each other.
struct Reading<'a> {
    project: &'a Project,
    environment: &'a Environment,
    diagnostics: &'a Diagnostics,
    replaced: BTreeSet<String>,
    plays: Vec<Play>,
}

impl Reading<'_> {
    fn include(&mut self, name: &Entry<String>, depth: usize) -> Result<()> {
        let instead = &self.environment.instead;
        let other = instead.iter().find(|(old, _)| old.as_str() == name.value);
        let name = match other {
            Some((old, other)) => {
                self.replaced.insert(old.to_string());
                other
            }
            None => name,
        };
        let known = self.project.names("playbooks");
        if !known.contains(&name.value) {
            let hint = suggestion(&name.value, known.iter().map(String::as_str));
            let message = format!("there is no playbook `{}`", name.value);
            self.diagnostics.error(name.location.clone(), message, hint);
            return Ok(());
        }
        if depth > INCLUDE_DEPTH_LIMIT {
            let message =
                format!("playbooks include each other more than {INCLUDE_DEPTH_LIMIT} deep");
            self.diagnostics.error(
                name.location.clone(),
                message,
                Some("does one include itself?".to_owned()),
            );
            return Ok(());
        }
        let file = format!("playbooks/{}.toml", name.value);
        let source = read_source(self.project.root(), Path::new(&file))?;
        let (includes, plays) = with_document(&source, self.diagnostics, parse);
        for include in includes {
            self.include(&include, depth + 1)?;
        }
        self.plays.extend(plays);
        Ok(())
    }
}

pub(crate) fn parse(section: Section<'_>) -> (Vec<Entry<String>>, Vec<Play>) {
    let includes = section.strings("include");
    let plays = section
        .sections("play")
        .into_iter()
        .filter_map(Play::parse)
        .collect();
    section.finish();
    (includes, plays)
}
