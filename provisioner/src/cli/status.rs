//! `provision status`: what runs on every host.

use std::process::ExitCode;

use clap::Args;
use provision_protocol::fact::{Query, UnitFact, fact_kind, query};
use serde::Serialize;

use super::FleetArgs;
use super::context::RunContext;
use crate::error::Result;
use crate::report::{
    Events, GREEN, OutputFormat, Progress, RED, print, print_json, render_table, styled,
};
use crate::rollout::{self, HostSession};

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Serialize)]
struct HostStatus {
    host: String,
    groups: Vec<String>,
    address: Option<String>,
    reachable: bool,
    error: Option<String>,
    os: Option<String>,
    /// Changes that `plan` would show.
    pending: usize,
    services: Vec<ServiceStatus>,
    health: Vec<HealthStatus>,
}

#[derive(Debug, Serialize)]
struct ServiceStatus {
    unit: String,
    state: String,
    restarts: u32,
    invocation_id: String,
}

#[derive(Debug, Serialize)]
struct HealthStatus {
    target: String,
    healthy: bool,
    detail: String,
}

impl StatusArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: StatusArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = status(&mut context, &args, events).await;
    progress.finish().await;
    let statuses = result.map_err(|error| context.redact(error))?;
    match args.fleet.output.output {
        OutputFormat::Json => print_json(&context.redactor, &statuses)?,
        OutputFormat::Text | OutputFormat::Html => print(&context.redactor, &render(&statuses))?,
    }
    let well = statuses
        .iter()
        .all(|status| status.reachable && status.health.iter().all(|h| h.healthy));
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn status(
    context: &mut RunContext,
    args: &StatusArgs,
    events: Events,
) -> Result<Vec<HostStatus>> {
    context.attach_labs(false, &events)?;
    let desired = context.resolve()?;
    let hosts = context.hosts(desired.hosts, &args.fleet.limit)?;
    let options = context.options(&args.fleet, events);
    let (mut observation, mut statuses) = rollout::look(hosts, &options, look).await;
    for (name, error) in std::mem::take(&mut observation.failures) {
        let host = context.fleet.host(&name);
        statuses.push(HostStatus {
            groups: host
                .map(|h| h.groups.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            address: host.and_then(|h| h.host.address.clone()),
            host: name,
            reachable: false,
            error: Some(error.causes.first().cloned().unwrap_or(error.message)),
            os: None,
            pending: 0,
            services: Vec::new(),
            health: Vec::new(),
        });
    }
    if args.output() == OutputFormat::Text {
        context.name_left(&observation, &options.events).await?;
    }
    observation.close().await;
    Ok(statuses)
}

async fn look(session: &mut HostSession) -> HostStatus {
    let names = session.desired.units();
    let unit = |name: &String| Query {
        kind: Some(query::Kind::Unit(name.clone())),
    };
    let queries = names.iter().map(unit).collect();
    let facts = session.conversation.ask(queries).await.unwrap_or_default();
    let services = names
        .into_iter()
        .zip(facts)
        .map(|(unit, fact)| match fact.kind {
            Some(fact_kind::Kind::Unit(fact)) => service(unit, fact),
            _ => service(unit, UnitFact::default()),
        })
        .collect();
    let targets = session.desired.health().map(|health| health.target.clone());
    let health = targets
        .zip(&session.health)
        .map(|(target, seen)| HealthStatus {
            target,
            healthy: seen.healthy,
            detail: seen.detail.clone(),
        })
        .collect();
    let hello = session.conversation.hello();
    HostStatus {
        host: session.name().to_owned(),
        groups: session
            .desired
            .host
            .groups
            .iter()
            .map(ToString::to_string)
            .collect(),
        address: session.desired.host.host.address.clone(),
        reachable: true,
        error: None,
        os: Some(format!(
            "{} {} {}",
            hello.os_id, hello.os_version, hello.architecture
        )),
        pending: session.plan.changes.len() + session.plan.refusals.len(),
        services,
        health,
    }
}

fn service(unit: String, fact: UnitFact) -> ServiceStatus {
    let state = match (fact.load_state.as_str(), fact.active_state.as_str()) {
        ("not-found" | "", _) => "absent".to_owned(),
        (_, active) => format!("{active} ({})", fact.sub_state),
    };
    ServiceStatus {
        unit,
        state,
        restarts: fact.restarts,
        invocation_id: fact.invocation_id,
    }
}

fn render(statuses: &[HostStatus]) -> String {
    let mut rows = Vec::new();
    for status in statuses {
        let services: Vec<String> = status
            .services
            .iter()
            .map(|service| {
                format!(
                    "{} {}",
                    service.unit.trim_end_matches(".service"),
                    service.state
                )
            })
            .collect();
        let health = match (
            status.reachable,
            status.health.iter().all(|health| health.healthy),
        ) {
            (false, _) => "unreachable".to_owned(),
            (true, _) if status.health.is_empty() => "-".to_owned(),
            (true, true) => "healthy".to_owned(),
            (true, false) => "not healthy".to_owned(),
        };
        rows.push(vec![
            status.host.clone(),
            status.groups.join(","),
            status.address.clone().unwrap_or_else(|| "-".to_owned()),
            health,
            status.pending.to_string(),
            if services.is_empty() {
                status.error.clone().unwrap_or_default()
            } else {
                services.join(", ")
            },
        ]);
    }
    let table = render_table(
        &["HOST", "GROUPS", "ADDRESS", "HEALTH", "PENDING", "SERVICES"],
        &rows,
    );
    table
        .lines()
        .map(|line| {
            let line = line.replace("  healthy", &format!("  {}", styled(GREEN, "healthy")));
            let line = line.replace("not healthy", &styled(RED, "not healthy"));
            line.replace("unreachable", &styled(RED, "unreachable")) + "\n"
        })
        .collect()
}
