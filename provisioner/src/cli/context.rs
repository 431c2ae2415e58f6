//! What commands that reach hosts begin with.
//!
//! Goes in: [`FleetArgs`]. Comes out: the fleet, what it shall be, and how its hosts are reached.
//! Invariant: every mistake in a file is found before any host is reached.

use std::sync::Arc;

use crate::cli::FleetArgs;
use crate::cli::lab;
use crate::document::{Diagnostics, Name};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Project};
use crate::host::{Endpoint, Helpers, Host, LocalHost, SshAgent};
use crate::inventory::Provider;
use crate::plan::{Desired, HostDesired, resolve};
use crate::report::{Event, Events};
use crate::rollout::RunOptions;
use crate::secret::{Redactor, Secrets};

/// What commands that reach hosts begin with.
#[derive(Debug)]
pub(super) struct RunContext {
    pub(super) fleet: Fleet,
    pub(super) secrets: Secrets,
    pub(super) redactor: Redactor,
    project: Project,
}

impl RunContext {
    /// Reads the project's files and gets the secrets.
    pub(super) fn load(args: &FleetArgs) -> Result<Self> {
        let project = Project::find(args.project.project.as_deref())?;
        let diagnostics = Diagnostics::default();
        let fleet = project.fleet(&args.env, &args.overrides, &diagnostics)?;
        // Mistakes in playbooks and templates are shown together with those found so far, where
        // that does not depend on secrets.
        if !diagnostics.is_empty() {
            let none = Secrets::default();
            resolve(&project, &fleet, &none, &Redactor::default(), &diagnostics)?;
            return Err(Error::from_diagnostics(diagnostics));
        }
        let secrets = Secrets::resolve(
            &fleet.environment.secrets,
            project.root(),
            &args.identities.identities(),
        )?;
        let redactor = Redactor::new(&secrets);
        redactor.guard_panics();
        Ok(Self {
            fleet,
            secrets,
            redactor,
            project,
        })
    }

    /// The labs of this environment: brought up where `up`, asked for their addresses and keys.
    pub(super) fn attach_labs(&mut self, up: bool, events: &Events) -> Result<()> {
        let labs: Vec<Name> = self
            .fleet
            .providers
            .iter()
            .filter(|(_, provider)| matches!(provider, Provider::Lab(_)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in labs {
            let say = |text: String| {
                let _ = events.send(Event::Note(text));
            };
            lab::attach(&mut self.fleet, &name, up, &say)?;
        }
        Ok(())
    }

    /// What every host shall be.
    pub(super) fn resolve(&self) -> Result<Desired> {
        let diagnostics = Diagnostics::default();
        let resolved = resolve(
            &self.project,
            &self.fleet,
            &self.secrets,
            &self.redactor,
            &diagnostics,
        );
        let desired = resolved?;
        diagnostics
            .into_result()
            .map_err(|error| self.redact(error))?;
        Ok(desired)
    }

    /// The same error without secrets.
    pub(super) fn redact(&self, mut error: Error) -> Error {
        error.message = self.redactor.redact(&error.message);
        for text in error.causes.iter_mut().chain(&mut error.hints) {
            *text = self.redactor.redact(text);
        }
        for diagnostic in &mut error.diagnostics {
            diagnostic.message = self.redactor.redact(&diagnostic.message);
            diagnostic.location.line_text = self.redactor.redact(&diagnostic.location.line_text);
        }
        error
    }

    /// The hosts with what they shall be, ready to be connected to.
    pub(super) fn hosts(
        &self,
        desired: Vec<HostDesired>,
        limits: &[String],
    ) -> Result<Vec<(Box<dyn Host>, HostDesired)>> {
        let names = self.fleet.limited(limits)?;
        let desired: Vec<HostDesired> = desired
            .into_iter()
            .filter(|one| names.iter().any(|name| name == one.host.name()))
            .collect();
        let mut endpoints = Vec::new();
        for one in &desired {
            endpoints.push(Endpoint::of(&one.host, &self.secrets)?);
        }
        let helpers = Helpers::load()?;
        let agent = SshAgent::prepare(&endpoints, helpers.clone())?;
        let hosts = endpoints.into_iter().map(|endpoint| -> Box<dyn Host> {
            if endpoint.local {
                Box::new(LocalHost::new(endpoint, helpers.clone()))
            } else {
                Box::new(Arc::clone(&agent).host(endpoint))
            }
        });
        Ok(hosts.zip(desired).collect())
    }

    /// How this run is made.
    pub(super) fn options(&self, args: &FleetArgs, events: Events) -> RunOptions {
        RunOptions {
            environment: self.fleet.environment.name.to_string(),
            forks: args.forks,
            run: run_name(),
            events,
        }
    }
}

/// Who runs this, where and when, for locks and journals.
fn run_name() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| "someone".to_owned());
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let started = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    format!(
        "{user}@{machine}, process {}, since {started}",
        std::process::id()
    )
}
