//! What commands that reach hosts begin with.
//!
//! Goes in: [`FleetArgs`]. Comes out: the fleet, what it shall be, and how its hosts are reached.
//! Invariant: every mistake in a file is found before any host is reached.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use provision_protocol::generation::{Origin, Peer};

use crate::cli::FleetArgs;
use crate::cli::ask::ask_secret;
use crate::cli::audit::AuditLog;
use crate::cli::lab;
use crate::cli::plan::unreachable;
use crate::document::{Diagnostics, Name};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Project};
use crate::host::{Endpoint, Helpers, Host, LocalHost, SshAgent};
use crate::inventory::Provider;
use crate::plan::{Desired, HostDesired, Part, resolve};
use crate::playbook::Play;
use crate::report::{Event, Events, Progress, print};
use crate::rollout::{
    Confirm, HostSession, Interrupt, Observation, RunOptions, look, observe, observe_for,
};
use crate::secret::{Redactor, Secrets};

/// How many hosts write down which hosts there are.
const KEEPERS: usize = 8;

/// To how many hosts connections are kept for the next run: each is a process of OpenSSH.
const KEPT_LIMIT: usize = 128;

/// What commands that reach hosts begin with.
#[derive(Debug)]
pub(super) struct RunContext {
    pub(super) fleet: Fleet,
    pub(super) secrets: Secrets,
    pub(super) redactor: Redactor,
    /// Where it is written down what becomes of hosts, for commands that change them.
    pub(super) audit_log: Option<AuditLog>,
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
            &ask_secret,
        )?;
        let redactor = Redactor::new(&secrets);
        redactor.guard_panics();
        Ok(Self {
            fleet,
            secrets,
            redactor,
            audit_log: None,
            project,
        })
    }

    /// Opens the audit log that the environment names, if it does.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn open_audit_log(&mut self) -> Result<()> {
        let named = self.fleet.environment.audit_log.as_ref();
        let log = named.map(|named| AuditLog::open(self.project.root(), named));
        self.audit_log = log.transpose()?;
        Ok(())
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

    /// Names the hosts that left the inventory and still have what this tool put there.
    pub(super) async fn name_left(&self, observation: &Observation, events: &Events) -> Result<()> {
        let left = self.left(observation);
        let names: Vec<&str> = left.iter().map(|peer| peer.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Progress::clear(events).await;
        let (names, first) = (names.join(", "), names[0]);
        let text = format!(
            "left the inventory and not retired: {names} (`provision retire {first}` removes what \
             is there)\n"
        );
        print(&self.redactor, &text)
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
        self.hosts_of(desired, limits, &[])
    }

    /// The same for a run that may change them, with those hosts that must attend: whose health
    /// counts in a play, and that balance for one.
    pub(super) fn hosts_of(
        &self,
        mut desired: Vec<HostDesired>,
        limits: &[String],
        plays: &[(Play, Vec<String>)],
    ) -> Result<Vec<(Box<dyn Host>, HostDesired)>> {
        let names = self.fleet.limited(limits)?;
        let attending = self.attending(plays, &names);
        for one in &mut desired {
            if !names.iter().any(|name| name == one.host.name()) {
                one.attend();
            }
        }
        desired.retain(|one| one.part == Part::Changes || attending.contains(one.host.name()));
        let mut endpoints = Vec::new();
        for one in &desired {
            endpoints.push(Endpoint::of(&one.host, &self.secrets)?);
        }
        for endpoint in endpoints.iter_mut().skip(KEPT_LIMIT) {
            endpoint.keep_connection = Duration::ZERO;
        }
        let helpers = Helpers::load()?;
        let described = self.with_bastions(&endpoints)?;
        let agent = SshAgent::prepare(&described, helpers.clone())?;
        let hosts = endpoints.into_iter().map(|endpoint| -> Box<dyn Host> {
            if endpoint.local {
                Box::new(LocalHost::new(endpoint, helpers.clone()))
            } else {
                Box::new(Arc::clone(&agent).host(endpoint))
            }
        });
        Ok(hosts.zip(desired).collect())
    }

    /// Asks every host for something that it remembers, whatever the playbook says by now.
    pub(super) async fn ask_all<T>(
        &mut self,
        args: &FleetArgs,
        events: Events,
        ask: impl AsyncFn(&mut HostSession, &RunOptions) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.attach_labs(false, &events)?;
        let hosts = self.hosts(self.without_plays(), &args.limit)?;
        let options = self.options(args, events);
        let ask = async |session: &mut HostSession| ask(session, &options).await;
        let (observation, answers) = look(hosts, &options, ask).await;
        if !observation.failures.is_empty() {
            return Err(unreachable(observation.failures));
        }
        answers.into_iter().collect()
    }

    /// Locks and observes hosts, all of which must answer but those that `plays` leave out. Where
    /// plays are given, hosts that these have nothing to do for are let go at once.
    pub(super) async fn lock(
        &self,
        hosts: Vec<(Box<dyn Host>, HostDesired)>,
        plays: &[(Play, Vec<String>)],
        options: &RunOptions,
    ) -> Result<Observation> {
        let mut observation = match plays {
            [] => observe(hosts, true, options).await,
            plays => observe_for(hosts, plays, options).await,
        };
        observation.skip_unreachable(plays);
        if observation.failures.is_empty() {
            return Ok(observation);
        }
        let failures = std::mem::take(&mut observation.failures);
        observation.close().await;
        Err(unreachable(failures))
    }

    /// The hosts without whose part the plays of these hosts cannot be rolled out.
    fn attending(&self, plays: &[(Play, Vec<String>)], names: &[String]) -> BTreeSet<String> {
        let mut attending = BTreeSet::new();
        let concerned = plays
            .iter()
            .filter(|(_, hosts)| hosts.iter().any(|host| names.contains(host)));
        for (play, hosts) in concerned {
            if play.pace.min_ready.is_some() {
                attending.extend(hosts.iter().cloned());
            }
            if let Some(balancer) = &play.pace.balancer {
                let hosts = self.fleet.group_hosts(&balancer.hosts.value);
                attending.extend(hosts.map(|host| host.name().to_owned()));
            }
        }
        attending
    }

    /// The project that was read.
    pub(super) const fn project(&self) -> &Project {
        &self.project
    }

    /// The same, and the hosts of the fleet through which they are reached.
    pub(super) fn with_bastions(&self, endpoints: &[Endpoint]) -> Result<Vec<Endpoint>> {
        let mut all = endpoints.to_vec();
        for host in &self.fleet.hosts {
            let known = |one: &Endpoint| one.name == host.name();
            let leads = |one: &Endpoint| one.jump.as_deref() == Some(host.name());
            if endpoints.iter().any(leads) && !endpoints.iter().any(known) {
                all.push(Endpoint::of(host, &self.secrets)?);
            }
        }
        Ok(all)
    }

    /// All hosts without anything that they shall be: what they have is in their own manifests.
    pub(super) fn without_plays(&self) -> Vec<HostDesired> {
        let hosts = self.fleet.hosts.iter();
        hosts
            .map(|host| HostDesired::without_plays(host.clone()))
            .collect()
    }

    /// A host that only other hosts remember. What it shall be is nothing.
    pub(super) fn peer(&self, peer: &Peer) -> Result<(Box<dyn Host>, HostDesired)> {
        let endpoint = Endpoint::of_peer(peer, &self.secrets)?;
        let Some(mut host) = self.fleet.hosts.first().cloned() else {
            return Err(Error::configuration("this environment has no host"));
        };
        host.host.name = peer.name.parse().map_err(Error::host)?;
        let desired = HostDesired::without_plays(host);
        let helpers = Helpers::load()?;
        let reached: Box<dyn Host> = if endpoint.local {
            Box::new(LocalHost::new(endpoint, helpers))
        } else {
            let agent = SshAgent::prepare(std::slice::from_ref(&endpoint), helpers)?;
            Box::new(agent.host(endpoint))
        };
        Ok((reached, desired))
    }

    /// How this run is made.
    pub(super) fn options(&self, args: &FleetArgs, events: Events) -> RunOptions {
        RunOptions {
            redactor: self.redactor.clone(),
            environment: self.fleet.environment.name.to_string(),
            forks: args.forks,
            run: run_name(),
            origin: Origin {
                who: who(),
                commit: commit_of(self.project.root()),
            },
            peers: self.fleet.hosts.iter().filter_map(Endpoint::peer).collect(),
            keepers: self.keepers(),
            rollback: true,
            lock_timeout: Duration::ZERO,
            interrupt: Interrupt::default(),
            confirm: Confirm::default(),
            events,
        }
    }

    /// The hosts that write down which hosts there are.
    pub(super) fn keepers(&self) -> BTreeSet<String> {
        let hosts = self.fleet.hosts.iter().take(KEEPERS);
        hosts.map(|host| host.name().to_owned()).collect()
    }

    /// Hosts that were written down and are in no inventory any more.
    pub(super) fn left(&self, observation: &Observation) -> Vec<Peer> {
        let mut left: Vec<Peer> = Vec::new();
        for peer in observation
            .sessions
            .iter()
            .flat_map(|session| &session.peers)
        {
            let is_known = left.iter().any(|known| known.name == peer.name);
            if !is_known && self.fleet.host(&peer.name).is_none() {
                left.push(peer.clone());
            }
        }
        left
    }
}

/// Who runs what, where and when, for locks and journals. Arguments may hold anything, so only the
/// command's name is in it.
fn run_name() -> String {
    let started = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    format!(
        "{}, process {}, since {started}, provision {}",
        who(),
        std::process::id(),
        command_name()
    )
}

/// The name of the command that this is.
pub(super) fn command_name() -> String {
    let command = std::env::args().nth(1);
    let command = command.filter(|word| !word.starts_with('-'));
    command.unwrap_or_else(|| "apply".to_owned())
}

/// The git commit of a folder, with `+` behind it where files differ from it.
fn commit_of(folder: &Path) -> String {
    let arguments = [
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=+",
        "--exclude=*",
    ];
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}

/// Who runs this, and where.
fn who() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| "someone".to_owned());
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{user}@{machine}")
}
