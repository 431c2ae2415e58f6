//! What each group of hosts shall be.
//!
//! Goes in: `playbooks/NAME.toml` and the files that it includes. Comes out: [`Play`]s in order,
//! whose resources have been parsed but not yet resolved for a host. Invariant: a playbook has no
//! conditions and no loops; what differs between hosts is in their variables.

mod play;

pub use play::{BatchSize, Health, PlannedResource, Play};

use std::path::Path;

use crate::document::{
    Diagnostics, Entry, Location, Name, Section, read_source, suggestion, with_document,
};
use crate::error::Result;
use crate::fleet::Project;

/// How deep playbooks may include each other.
const INCLUDE_DEPTH_LIMIT: usize = 8;

/// The plays of an environment, in order.
#[derive(Debug, Default)]
pub struct Playbook {
    /// The plays.
    pub plays: Vec<Play>,
}

impl Playbook {
    /// Reads a playbook and all that it includes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn load(
        project: &Project,
        name: &Entry<String>,
        diagnostics: &Diagnostics,
    ) -> Result<Self> {
        let mut playbook = Self::default();
        playbook.include(project, name, diagnostics, 0)?;
        playbook.check_names(diagnostics);
        Ok(playbook)
    }

    fn include(
        &mut self,
        project: &Project,
        name: &Entry<String>,
        diagnostics: &Diagnostics,
        depth: usize,
    ) -> Result<()> {
        let known = project.names("playbooks");
        if !known.contains(&name.value) {
            let hint = suggestion(&name.value, known.iter().map(String::as_str));
            let message = format!("there is no playbook `{}`", name.value);
            diagnostics.error(name.location.clone(), message, hint);
            return Ok(());
        }
        if depth > INCLUDE_DEPTH_LIMIT {
            let message =
                format!("playbooks include each other more than {INCLUDE_DEPTH_LIMIT} deep");
            diagnostics.error(
                name.location.clone(),
                message,
                Some("does one include itself?".to_owned()),
            );
            return Ok(());
        }
        let file = format!("playbooks/{}.toml", name.value);
        let source = read_source(project.root(), Path::new(&file))?;
        let (includes, plays) = with_document(&source, diagnostics, parse);
        for include in includes {
            self.include(project, &include, diagnostics, depth + 1)?;
        }
        self.plays.extend(plays);
        Ok(())
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
