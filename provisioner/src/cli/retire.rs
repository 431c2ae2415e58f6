//! `provision retire`: removes what this tool put on a host that left the inventory.

use std::process::ExitCode;

use clap::Args;
use provision_protocol::generation::Peer;
use provision_protocol::message::Commit;

use super::context::RunContext;
use super::destroy::{self, Manner, Removal};
use super::plan::unreachable;
use super::{FleetArgs, LockArgs};
use crate::document::suggestion;
use crate::error::{Error, Result};
use crate::report::{Events, OutputFormat, Progress};
use crate::rollout::{Observation, RunOptions, observe};

/// Arguments of `retire`.
#[derive(Debug, Clone, Args)]
pub(super) struct RetireArgs {
    /// The host, by the name that it had in the inventory
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not reach it any more: it is gone, and shall only be named no longer
    #[arg(long)]
    forget: bool,
    /// Do not ask before removing anything
    #[arg(long, short)]
    yes: bool,
}

impl RetireArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: RetireArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = retire(&mut context, &args, events).await;
    progress.finish().await;
    let removals = result.map_err(|error| context.redact(error))?;
    destroy::finish(&context, args.output(), &removals).map_err(|error| context.redact(error))
}

async fn retire(
    context: &mut RunContext,
    args: &RetireArgs,
    events: Events,
) -> Result<Vec<Removal>> {
    let manner = Manner {
        yes: args.yes,
        output: args.output(),
        forks: args.fleet.forks,
    };
    manner.check()?;
    let name = &args.host;
    if context.fleet.host(name).is_some() {
        return Err(
            Error::usage(format!("{name} is still in the inventory")).hint(format!(
                "take it out first, or `provision destroy --limit {name}`"
            )),
        );
    }
    context.attach_labs(false, &events)?;
    let keepers: Vec<String> = context.keepers().into_iter().collect();
    let hosts = context.hosts(context.without_plays(), &keepers)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    let mut keepers = observe(hosts, true, &options).await;
    let result = match find(context, &keepers, name) {
        Ok(peer) => remove(context, args, (&peer, manner), &options).await,
        Err(error) => Err(error),
    };
    let removals = match result {
        // What could not be removed is named until it is.
        Ok(removals) if removals.iter().any(|removal| removal.failure.is_some()) => Ok(removals),
        Ok(removals) => forget(context, &mut keepers, name, &options)
            .await
            .map(|()| removals),
        Err(error) => Err(error),
    };
    keepers.close().await;
    removals
}

fn find(context: &RunContext, keepers: &Observation, name: &str) -> Result<Peer> {
    let left = context.left(keepers);
    if let Some(peer) = left.iter().find(|peer| peer.name == name) {
        return Ok(peer.clone());
    }
    let error = Error::usage(format!(
        "no host remembers a host `{name}` of this environment"
    ));
    let known = left.iter().map(|peer| peer.name.as_str());
    Err(match (suggestion(name, known), left.as_slice()) {
        (Some(hint), _) => error.hint(hint),
        (None, []) => error.hint("no host has left the inventory since something was changed"),
        (None, left) => {
            let names: Vec<&str> = left.iter().map(|peer| peer.name.as_str()).collect();
            error.hint(format!(
                "these have left the inventory: {}",
                names.join(", ")
            ))
        }
    })
}

async fn remove(
    context: &RunContext,
    args: &RetireArgs,
    (peer, manner): (&Peer, Manner),
    options: &RunOptions,
) -> Result<Vec<Removal>> {
    if args.forget {
        return Ok(Vec::new());
    }
    let host = context.peer(peer)?;
    let mut observation = observe(vec![host], true, options).await;
    if !observation.failures.is_empty() {
        let failures = std::mem::take(&mut observation.failures);
        return Err(unreachable(failures)
            .hint("`--forget` leaves it as it is, where it does not exist any more"));
    }
    let removals = destroy::remove_all(context, &mut observation, manner, options).await;
    observation.close().await;
    removals
}

/// Has every keeper strike the host out.
async fn forget(
    context: &RunContext,
    keepers: &mut Observation,
    name: &str,
    options: &RunOptions,
) -> Result<()> {
    let mut peers = options.peers.clone();
    peers.extend(context.left(keepers));
    peers.retain(|peer| peer.name != name);
    for session in &mut keepers.sessions {
        let commit = Commit {
            environment: options.environment.clone(),
            peers: peers.clone(),
            ..Commit::default()
        };
        // An unfinished generation stays what it is.
        if session.open.is_none() {
            session.conversation.commit(commit).await?;
        }
    }
    let failures = std::mem::take(&mut keepers.failures);
    if failures.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failures.iter().map(|(host, _)| host.as_str()).collect();
    Err(Error::host(format!(
        "{name} is retired, and {} could not be told and will name it again",
        names.join(", ")
    ))
    .hint("`provision retire --forget` tells them later"))
}
