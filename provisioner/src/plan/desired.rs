//! What every host shall be.
//!
//! Goes in: a fleet and a playbook. Comes out: [`Desired`], the resources of every host with
//! their templates rendered. Invariant: every mistake of every file is found here, before any
//! host is reached.

use std::collections::BTreeMap;

use provision_protocol::REBOOT_UNIT;
use provision_protocol::fact::{Query, query};
use provision_protocol::operation::Debt;
use serde_json::{Map, Value, json};

use crate::document::{Diagnostics, Location, Name, suggestion};
use crate::error::Result;
use crate::fleet::{Fleet, FleetHost, Project, TlsMode};
use crate::playbook::{Balancer, CanaryHosts, Health, OpenPort, Play, Playbook};
use crate::resource::{Artifacts, HostContext, Resource};
use crate::secret::{Redactor, Secrets};
use crate::template::{SharedVariables, Templates};

/// What the fleet shall be.
#[derive(Debug)]
pub struct Desired {
    /// The plays, in order, with the names of their hosts.
    pub plays: Vec<(Play, Vec<String>)>,
    /// What each host shall be.
    pub hosts: Vec<HostDesired>,
}

/// What one host shall be.
#[derive(Debug)]
pub struct HostDesired {
    /// The host.
    pub host: FleetHost,
    /// Its plays, in order.
    pub plays: Vec<PlayDesired>,
    /// What it has to do with the run.
    pub part: Part,
    /// The balancer that runs on it, and that plays have leave hosts out.
    pub balancer: Option<Balancer>,
}

/// What a host has to do with a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It is brought to what it shall be.
    #[default]
    Changes,
    /// Nothing of it is changed: it is asked for its health, or its balancer leaves hosts out.
    Attends,
}

/// What one play asks of one host.
#[derive(Debug)]
pub struct PlayDesired {
    /// The play.
    pub play: Name,
    /// The resources, in order.
    pub resources: Vec<Box<dyn Resource>>,
    /// What must be healthy on the host.
    pub health: Vec<Health>,
}

impl HostDesired {
    /// A host of which nothing is asked: what it has is in its own manifest.
    #[must_use]
    pub const fn without_plays(host: FleetHost) -> Self {
        Self {
            host,
            plays: Vec::new(),
            part: Part::Changes,
            balancer: None,
        }
    }

    /// The same host where it only attends: its health is asked for, and nothing else.
    pub fn attend(&mut self) {
        self.part = Part::Attends;
        for play in &mut self.plays {
            play.resources.clear();
        }
    }

    /// All queries of all resources, in order.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        self.plays
            .iter()
            .flat_map(|play| play.resources.iter())
            .flat_map(|resource| resource.queries())
            .collect()
    }

    /// The units that its services are, without those that have to make room for them.
    #[must_use]
    pub fn units(&self) -> Vec<String> {
        let resources = self.plays.iter().flat_map(|play| &play.resources);
        let first = resources.filter_map(|resource| resource.queries().into_iter().next());
        first
            .filter_map(|query| match query.kind {
                Some(query::Kind::Unit(name)) => Some(name),
                _ => None,
            })
            .collect()
    }

    /// Everything that must be healthy on it.
    pub fn health(&self) -> impl Iterator<Item = &Health> {
        self.plays.iter().flat_map(|play| &play.health)
    }

    /// One play of this host.
    #[must_use]
    pub fn play(&self, name: &Name) -> Option<&PlayDesired> {
        self.plays.iter().find(|play| play.play == *name)
    }
}

/// Resolves every play for every host.
///
/// # Errors
/// A file cannot be read; mistakes in files go to `diagnostics`.
pub fn resolve(
    project: &Project,
    fleet: &Fleet,
    secrets: &Secrets,
    redactor: &Redactor,
    diagnostics: &Diagnostics,
) -> Result<Desired> {
    let playbook = Playbook::load(project, &fleet.environment, diagnostics)?;
    let templates = Templates::load(project.root(), diagnostics)?;
    if !diagnostics.is_empty() {
        // Rendering with what is broken would only add to the noise.
        return Ok(Desired {
            plays: Vec::new(),
            hosts: Vec::new(),
        });
    }
    check_groups(&playbook, fleet, diagnostics);
    check_addresses(fleet, diagnostics);
    check_certificates(fleet, diagnostics);
    if !diagnostics.is_empty() {
        return Ok(Desired {
            plays: Vec::new(),
            hosts: Vec::new(),
        });
    }
    let named = playbook
        .plays
        .iter()
        .flat_map(|play| &play.resources)
        .filter_map(|resource| resource.spec.artifact());
    let artifacts = Artifacts::load(project, &fleet.environment, named, diagnostics);
    let shared = SharedVariables::new(fleet.shared_context());
    let mut hosts = Vec::new();
    for host in &fleet.hosts {
        let plays: Vec<&Play> = playbook
            .plays
            .iter()
            .filter(|play| is_in(host, &play.hosts.value))
            .collect();
        let debts = collect_debts(&plays, diagnostics);
        check_paths(&plays, host, diagnostics);
        let mut own = host_variables(host, secrets);
        own.insert("ports".to_owned(), open_ports(&plays, fleet));
        let variables = shared.for_host(own);
        let context = HostContext {
            fleet,
            host,
            variables: &variables,
            templates: &templates,
            artifacts: &artifacts,
            redactor,
            debts: &debts,
            diagnostics,
        };
        let mut desired = resolve_host(&plays, &context);
        desired.balancer = balancer_of(&playbook, host);
        hosts.push(desired);
    }
    let named = |play: Play| {
        let hosts = fleet.group_hosts(&play.hosts.value);
        let names = hosts.map(|host| host.name().to_owned()).collect();
        (play, names)
    };
    let plays = playbook.plays.into_iter().map(named).collect();
    Ok(Desired { plays, hosts })
}

fn resolve_host(plays_of_host: &[&Play], context: &HostContext<'_>) -> HostDesired {
    let mut plays = Vec::new();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for play in plays_of_host {
        let mut resources = Vec::new();
        for planned in &play.resources {
            let Some(resource) = planned.spec.resolve(&planned.location, context) else {
                continue;
            };
            if let Some(other) = ids.insert(resource.id().to_owned(), play.name.to_string()) {
                let message = format!(
                    "`{}` is described twice for host `{}`, also in play `{other}`",
                    resource.id(),
                    context.host.name()
                );
                context
                    .diagnostics
                    .error(planned.location.clone(), message, None);
            }
            resources.push(resource);
        }
        plays.push(PlayDesired {
            play: play.name.clone(),
            resources,
            health: play.health.clone(),
        });
    }
    HostDesired {
        plays,
        ..HostDesired::without_plays(context.host.clone())
    }
}

fn is_in(host: &FleetHost, group: &str) -> bool {
    host.groups.iter().any(|name| name.as_str() == group)
}

fn balancer_of(playbook: &Playbook, host: &FleetHost) -> Option<Balancer> {
    let balancers = playbook
        .plays
        .iter()
        .filter_map(|play| play.pace.balancer.as_ref());
    balancers
        .into_iter()
        .find(|balancer| is_in(host, &balancer.hosts.value))
        .cloned()
}

fn check_groups(playbook: &Playbook, fleet: &Fleet, diagnostics: &Diagnostics) {
    for play in &playbook.plays {
        if !fleet
            .groups
            .keys()
            .any(|group| group.as_str() == play.hosts.value)
        {
            let message = format!(
                "play `{}` is for group `{}`, which no inventory has",
                play.name, play.hosts.value
            );
            let hint = suggestion(&play.hosts.value, fleet.groups.keys().map(Name::as_str));
            diagnostics.error(play.hosts.location.clone(), message, hint);
        }
        check_pace(play, fleet, diagnostics);
        for group in play.ports.iter().flat_map(|port| &port.from) {
            if !fleet
                .groups
                .keys()
                .any(|known| known.as_str() == group.value)
            {
                let message = format!(
                    "play `{}` opens a port to group `{}`, which no inventory has",
                    play.name, group.value
                );
                let hint = suggestion(&group.value, fleet.groups.keys().map(Name::as_str));
                diagnostics.error(group.location.clone(), message, hint);
            }
        }
    }
}

/// What a play says of its rollout names groups and hosts as well.
fn check_pace(play: &Play, fleet: &Fleet, diagnostics: &Diagnostics) {
    if let Some(balancer) = &play.pace.balancer {
        let group = &balancer.hosts;
        let mut groups = fleet.groups.keys().map(Name::as_str);
        if !groups.any(|name| name == group.value) {
            let message = format!(
                "play `{}` has the group `{}` balance, which no inventory has",
                play.name, group.value
            );
            let hint = suggestion(&group.value, fleet.groups.keys().map(Name::as_str));
            diagnostics.error(group.location.clone(), message, hint);
        }
    }
    let canary = play.pace.canary.as_ref().map(|canary| &canary.hosts);
    let Some(CanaryHosts::Named(names)) = canary else {
        return;
    };
    let members: Vec<&str> = fleet
        .group_hosts(&play.hosts.value)
        .map(FleetHost::name)
        .collect();
    for name in names {
        if !members.contains(&name.value.as_str()) {
            let message = format!(
                "`{}` is no host of group `{}`",
                name.value, play.hosts.value
            );
            let hint = suggestion(&name.value, members.iter().copied());
            diagnostics.error(name.location.clone(), message, hint);
        }
    }
}

/// With TLS every host needs a certificate before anything is rendered with one.
fn check_certificates(fleet: &Fleet, diagnostics: &Diagnostics) {
    let Some(mode) = &fleet.environment.tls else {
        return;
    };
    let env = &fleet.environment.name;
    let lacking: Vec<&str> = fleet
        .hosts
        .iter()
        .map(FleetHost::name)
        .filter(|host| !fleet.certificates.hosts.contains_key(*host))
        .collect();
    if mode.value == TlsMode::Off || fleet.certificates.ca.is_some() && lacking.is_empty() {
        return;
    }
    let (message, hint) = if fleet.certificates.ca.is_none() {
        let hint =
            format!("`provision tls init --env {env}`, then `provision tls issue --env {env}`");
        (
            "`tls` needs certificates, and there is no authority".to_owned(),
            hint,
        )
    } else {
        let message = format!(
            "`tls` needs certificates, and these hosts have none: {}",
            lacking.join(", ")
        );
        (
            message,
            format!("`provision tls issue --env {env}` makes them"),
        )
    };
    diagnostics.error(mode.location.clone(), message, Some(hint));
}

/// What a host serves, from all of its plays, with the addresses that may reach it.
fn open_ports(plays: &[&Play], fleet: &Fleet) -> Value {
    let one = |play: &Play, port: &OpenPort| {
        let hosts = port
            .from
            .iter()
            .flat_map(|group| fleet.group_hosts(&group.value));
        let addresses: Vec<&str> = hosts
            .filter_map(|host| host.host.address.as_deref())
            .collect();
        let (ip6, ip): (Vec<&str>, Vec<&str>) = addresses
            .into_iter()
            .partition(|address| address.contains(':'));
        json!({
            "play": play.name.as_str(),
            "port": port.port,
            "protocol": port.protocol,
            "everybody": port.from.is_empty(),
            "ip": ip,
            "ip6": ip6,
        })
    };
    let ports = plays
        .iter()
        .flat_map(|play| play.ports.iter().map(|port| one(play, port)));
    Value::Array(ports.collect())
}

/// Templates name the addresses of other hosts, so each must have one.
fn check_addresses(fleet: &Fleet, diagnostics: &Diagnostics) {
    for host in fleet
        .hosts
        .iter()
        .filter(|host| host.host.address.is_none())
    {
        let message = format!("host `{}` has no `address`", host.name());
        let hint = host.instance_type.as_ref().map(|kind| {
            format!("machines are not made by this version: make a {kind}, then write its address")
        });
        diagnostics.error(host.host.location.clone(), message, hint);
    }
}

/// What services are owed, by the path that causes it. A path that nothing is put at before its
/// service would be noticed too late or never, so it is a mistake.
fn collect_debts(plays: &[&Play], diagnostics: &Diagnostics) -> BTreeMap<String, Vec<Debt>> {
    let all = || {
        plays
            .iter()
            .flat_map(|play| &play.resources)
            .map(|planned| &planned.spec)
    };
    let mut before: Vec<&str> = Vec::new();
    let mut debts: BTreeMap<String, Vec<Debt>> = BTreeMap::new();
    for spec in all() {
        before.extend(spec.path());
        for (path, location, debt) in spec.debts() {
            if !before.contains(&path.as_str()) {
                let reboots = debt.unit == REBOOT_UNIT;
                let mut managed = all().filter_map(|spec| spec.path());
                let (message, hint) = if managed.any(|known| known == path) {
                    let (what, waits) = if reboots {
                        ("the host was rebooted", "reboot")
                    } else {
                        ("the service was started", "service")
                    };
                    let hint = Some(format!("put that resource before the {waits}"));
                    (format!("`{path}` is put there only after {what}"), hint)
                } else {
                    let hint = suggestion(&path, all().filter_map(|spec| spec.path()));
                    (
                        format!("no resource of this host puts anything at `{path}`"),
                        hint,
                    )
                };
                diagnostics.error(location, message, hint);
            }
            let list = debts.entry(path).or_default();
            if !list.contains(&debt) {
                list.push(debt);
            }
        }
    }
    debts
}

/// Two resources at one path would undo each other in every run.
fn check_paths(plays: &[&Play], host: &FleetHost, diagnostics: &Diagnostics) {
    let mut seen: BTreeMap<&str, &Location> = BTreeMap::new();
    for planned in plays.iter().flat_map(|play| &play.resources) {
        let Some(path) = planned.spec.path() else {
            continue;
        };
        if let Some(first) = seen.insert(path, &planned.location) {
            let message = format!("host `{}` gets `{path}` from two resources", host.name());
            diagnostics.error(
                planned.location.clone(),
                message,
                Some(format!("first at {first}")),
            );
        }
    }
}

fn host_variables(host: &FleetHost, secrets: &Secrets) -> Map<String, Value> {
    let secrets: Map<String, Value> = secrets
        .iter()
        .map(|(name, secret)| (name.to_string(), Value::String(secret.expose().to_owned())))
        .collect();
    let own = host.context();
    let mut variables = Map::new();
    variables.insert("settings".to_owned(), own["settings"].clone());
    variables.insert("volumes".to_owned(), own["volumes"].clone());
    variables.insert("host".to_owned(), own);
    variables.insert("secrets".to_owned(), Value::Object(secrets));
    // A host without a role has no such variable, so that a template that needs it says so.
    variables.extend(
        host.role
            .as_ref()
            .map(|(_, role)| ("role".to_owned(), json!(role))),
    );
    variables
}
