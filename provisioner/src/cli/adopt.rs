//! `provision adopt`: takes over hosts that others have configured.

use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::fact::{Query, fact_kind, query};
use provision_protocol::generation::Ending;
use provision_protocol::message::{Commit, Perform};
use provision_protocol::operation::{Adopt, ManifestEntry, Operation, operation};
use serde::Serialize;

use super::apply::check_consent;
use super::context::RunContext;
use super::{FleetArgs, LockArgs};
use crate::error::{Error, Result};
use crate::plan::Desired;
use crate::report::{
    BOLD, DIM, Event, Events, GREEN, OutputFormat, Progress, RED, YELLOW, print, print_json,
    render_details, styled,
};
use crate::resource::{Action, Detail};
use crate::rollout::{HostSession, Observation, RunOptions};

/// Exit code where hosts are not all as the playbook says.
const DIFFERS: u8 = 2;

/// Arguments of `adopt`.
#[derive(Debug, Clone, Args)]
pub(super) struct AdoptArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not ask before anything is written down
    #[arg(long, short)]
    yes: bool,
}

/// What stands on one host.
#[derive(Debug, Serialize)]
struct Found {
    host: String,
    resources: Vec<Standing>,
    /// What was written down of it, by path or name.
    adopted: Vec<String>,
}

/// How one resource stands.
#[derive(Debug, Serialize)]
struct Standing {
    resource: String,
    play: String,
    state: State,
    /// What `apply` would change of it.
    details: Vec<Detail>,
    /// Why it is somebody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    things: Vec<Adopt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It is as the playbook says.
    AlreadySo,
    /// It is there, and another one.
    WouldChange,
    /// It is not there.
    WouldBeNew,
    /// It is not touched: it belongs to another environment, or must not be replaced.
    SomebodyElses,
}

impl AdoptArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: AdoptArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = adopt(&mut context, &args, events).await;
    progress.finish().await;
    let found = result.map_err(|error| context.redact(error))?;
    match args.output() {
        OutputFormat::Json => print_json(&context.redactor, &found)?,
        OutputFormat::Text | OutputFormat::Html => {
            let count: usize = found.iter().map(|host| host.adopted.len()).sum();
            let text = format!("{count} taken over, and left as they are\n");
            print(&context.redactor, &text)?;
        }
    }
    let mut resources = found.iter().flat_map(|host| &host.resources);
    Ok(if resources.all(|one| one.state == State::AlreadySo) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERS)
    })
}

async fn adopt(context: &mut RunContext, args: &AdoptArgs, events: Events) -> Result<Vec<Found>> {
    let hint = "--yes takes over without asking; `provision plan` only shows";
    check_consent(args.yes, args.output(), hint)?;
    context.resolve()?;
    context.attach_labs(false, &events)?;
    let Desired { hosts, .. } = context.resolve()?;
    let hosts = context.hosts(hosts, &args.fleet.limit)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    let mut observation = context.lock(hosts, &[], &options).await?;
    let result = adopt_all(context, args, &mut observation, &options).await;
    observation.close().await;
    result
}

async fn adopt_all(
    context: &RunContext,
    args: &AdoptArgs,
    observation: &mut Observation,
    options: &RunOptions,
) -> Result<Vec<Found>> {
    let unfinished = |session: &&HostSession| session.is_unfinished();
    if let Some(session) = observation.sessions.iter().find(unfinished) {
        let message = format!("{}: an earlier run is unfinished", session.name());
        return Err(Error::host(message)
            .hint("`provision apply` completes it, `provision rollback` takes it back"));
    }
    let mut found = Vec::new();
    for session in &mut observation.sessions {
        found.push(look_at(session, options).await?);
    }
    if args.output() == OutputFormat::Text {
        Progress::clear(&options.events).await;
        print(
            &context.redactor,
            &render(&found, args.fleet.output.verbose),
        )?;
    }
    if !args.yes {
        super::apply::confirm("Write down what is there? Nothing else is changed.")?;
    }
    let hosts = observation.sessions.iter_mut().zip(found);
    stream::iter(hosts)
        .map(|(session, found)| write_down(session, found, options))
        .buffered(args.fleet.forks)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

/// How every resource of a host stands.
async fn look_at(session: &mut HostSession, options: &RunOptions) -> Result<Found> {
    let every_environment = Query {
        kind: Some(query::Kind::Manifest(String::new())),
    };
    let mut facts = session.conversation.ask(vec![every_environment]).await?;
    let entries = match facts.pop().and_then(|fact| fact.kind) {
        Some(fact_kind::Kind::Manifest(manifest)) => manifest.entries,
        _ => Vec::new(),
    };
    let foreign: Vec<&ManifestEntry> = entries
        .iter()
        .filter(|entry| entry.environment != options.environment)
        .collect();
    let mut resources = Vec::new();
    for play in &session.desired.plays {
        for resource in &play.resources {
            let mut standing = Standing {
                resource: resource.id().to_owned(),
                play: play.play.to_string(),
                state: State::AlreadySo,
                details: Vec::new(),
                reason: None,
                things: resource.things(),
            };
            standing.judge(session, &foreign);
            resources.push(standing);
        }
    }
    Ok(Found {
        host: session.name().to_owned(),
        resources,
        adopted: Vec::new(),
    })
}

impl Standing {
    fn judge(&mut self, session: &HostSession, foreign: &[&ManifestEntry]) {
        let theirs = foreign.iter().find(|entry| {
            let mut things = self.things.iter();
            things.any(|thing| (thing.kind, &thing.name) == (entry.kind, &entry.name))
        });
        let plan = &session.plan;
        let mut refusals = plan.refusals.iter().chain(&plan.undecided);
        let refused = refusals.find(|entry| entry.resource == self.resource);
        let mut changes = plan.changes.iter();
        let change = changes.find(|entry| entry.resource == self.resource);
        if let Some(entry) = theirs {
            self.state = State::SomebodyElses;
            let environment = &entry.environment;
            self.reason = Some(format!("environment {environment} has put it there"));
        } else if let Some(entry) = refused {
            self.state = State::SomebodyElses;
            self.reason = Some(entry.refusal.message.clone());
        } else if let Some(entry) = change {
            self.state = match entry.change.action {
                Action::Create | Action::Install | Action::Format => State::WouldBeNew,
                _ => State::WouldChange,
            };
            self.details.clone_from(&entry.change.details);
        }
    }
}

/// Has a host write down how each thing of ours stands.
async fn write_down(
    session: &mut HostSession,
    mut found: Found,
    options: &RunOptions,
) -> Result<Found> {
    let before = names(&session.manifest);
    let ours = found
        .resources
        .iter()
        .filter(|one| one.state != State::SomebodyElses);
    let operations = ours.flat_map(|one| {
        one.things.iter().map(|thing| Operation {
            resource: one.resource.clone(),
            environment: options.environment.clone(),
            play: one.play.clone(),
            guards: Vec::new(),
            kind: Some(operation::Kind::Adopt(thing.clone())),
        })
    });
    let perform = Perform {
        run: options.run.clone(),
        operations: operations.collect(),
        origin: Some(options.origin.clone()),
    };
    let performed = session.conversation.perform(perform, |_| {}).await?;
    let host = session.name().to_owned();
    if let Some(failure) = performed.failure {
        let (resource, message) = (failure.resource, failure.message);
        return Err(Error::host(format!("{host}: {resource}: {message}"))
            .hint("what was written down before it stays so; run it again for the rest"));
    }
    let commit = Commit {
        environment: options.environment.clone(),
        ending: Ending::Applied as i32,
        note: "adopt".to_owned(),
        ..Commit::default()
    };
    session.conversation.commit(commit).await?;
    let own = Query {
        kind: Some(query::Kind::Manifest(options.environment.clone())),
    };
    let facts = session.conversation.ask(vec![own]).await?;
    if let Some(Some(fact_kind::Kind::Manifest(now))) = facts.first().map(|fact| &fact.kind) {
        found.adopted = names(&now.entries);
        found.adopted.retain(|name| !before.contains(name));
    }
    let _ = options.events.send(Event::Finished {
        host,
        succeeded: true,
        text: format!("{} taken over", found.adopted.len()),
    });
    Ok(found)
}

fn names(entries: &[ManifestEntry]) -> Vec<String> {
    entries.iter().map(super::destroy::describe).collect()
}

fn render(found: &[Found], verbose: bool) -> String {
    let mut text = String::new();
    for host in found {
        text.push_str(&format!("{}\n", styled(BOLD, &host.host)));
        let mut play = "";
        for one in &host.resources {
            if one.play != play {
                play = &one.play;
                text.push_str(&format!("  {}\n", styled(DIM, &format!("play {play}"))));
            }
            let sign = match one.state {
                State::AlreadySo => styled(DIM, "= already so"),
                State::WouldChange => styled(YELLOW, "~ would change"),
                State::WouldBeNew => styled(GREEN, "+ would be new"),
                State::SomebodyElses => styled(RED, "! is somebody else's"),
            };
            text.push_str(&format!("    {sign} {}\n", one.resource));
            if let Some(reason) = &one.reason {
                text.push_str(&format!("        {reason}\n"));
            }
            let new = one.state == State::WouldBeNew;
            render_details(&mut text, &one.details, new, verbose);
        }
        text.push('\n');
    }
    text
}
