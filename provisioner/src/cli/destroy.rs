//! `provision destroy`: removes exactly what this tool put on the hosts of an environment.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::generation::Ending;
use provision_protocol::message::Commit;
use provision_protocol::operation::{ManifestEntry, ManifestKind, Operation, Remove, operation};
use serde::Serialize;

use super::apply::check_consent;
use super::context::RunContext;
use super::{FleetArgs, LockArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{BOLD, Event, Events, OutputFormat, Progress, RED, print, print_json, styled};
use crate::rollout::{HostSession, Observation, RunOptions};

/// Arguments of `destroy`.
#[derive(Debug, Clone, Args)]
pub(super) struct DestroyArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not ask before removing anything
    #[arg(long, short)]
    yes: bool,
}

/// What was removed from one host.
#[derive(Debug, Serialize)]
pub(super) struct Removal {
    host: String,
    removed: Vec<String>,
    pub(super) failure: Option<String>,
}

/// How a removal is confirmed and shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) yes: bool,
    pub(super) output: OutputFormat,
    pub(super) forks: usize,
}

impl Manner {
    /// Refuses to ask where nobody can answer.
    pub(super) fn check(self) -> Result<()> {
        check_consent(self.yes, self.output, "--yes removes without asking")
    }
}

impl DestroyArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: DestroyArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = destroy(&mut context, &args, events).await;
    progress.finish().await;
    let removals = result.map_err(|error| context.redact(error))?;
    finish(&context, args.fleet.output.output, &removals).map_err(|error| context.redact(error))
}

async fn destroy(
    context: &mut RunContext,
    args: &DestroyArgs,
    events: Events,
) -> Result<Vec<Removal>> {
    let manner = Manner {
        yes: args.yes,
        output: args.fleet.output.output,
        forks: args.fleet.forks,
    };
    manner.check()?;
    context.attach_labs(false, &events)?;
    // What a host has is in its own manifest, so nothing of the playbook is needed here.
    let hosts = context.hosts(context.without_plays(), &args.fleet.limit)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    let mut observation = context.lock(hosts, &[], &options).await?;
    let removals = remove_all(context, &mut observation, manner, &options).await;
    observation.close().await;
    removals
}

/// Removes everything that the environment put on these hosts.
pub(super) async fn remove_all(
    context: &RunContext,
    observation: &mut Observation,
    manner: Manner,
    options: &RunOptions,
) -> Result<Vec<Removal>> {
    let mut manifests = BTreeMap::new();
    for session in &mut observation.sessions {
        let entries = std::mem::take(&mut session.manifest);
        manifests.insert(session.name().to_owned(), entries);
    }
    let nothing = manifests.values().all(Vec::is_empty);
    if manner.output == OutputFormat::Text {
        Progress::clear(&options.events).await;
        print(&context.redactor, &render(&manifests))?;
    }
    if !manner.yes && !nothing {
        super::apply::confirm("Remove all of this?")?;
    }
    let manifests = &manifests;
    Ok(stream::iter(observation.sessions.iter_mut())
        .map(|session| remove(session, manifests, options))
        .buffered(manner.forks)
        .collect()
        .await)
}

async fn remove(
    session: &mut HostSession,
    manifests: &BTreeMap<String, Vec<ManifestEntry>>,
    options: &RunOptions,
) -> Removal {
    let host = session.name().to_owned();
    let entries = manifests.get(&host).map(Vec::as_slice).unwrap_or_default();
    let entries = in_order_of_removal(entries);
    let operations: Vec<Operation> = entries
        .iter()
        .copied()
        .map(|entry| Operation {
            resource: entry.resource.clone(),
            environment: entry.environment.clone(),
            play: entry.play.clone(),
            guards: Vec::new(),
            kind: Some(operation::Kind::Remove(Remove {
                entry: Some(entry.clone()),
            })),
        })
        .collect();
    let names: Vec<String> = entries.iter().copied().map(describe).collect();
    let (done, failure) = match session.remove(operations, options).await {
        (done, None) => (done, retire(session, options).await.err()),
        failed => failed,
    };
    if names.is_empty() && failure.is_none() {
        return Removal {
            host,
            removed: names,
            failure,
        };
    }
    let text = format!("{} of {} removed", done, names.len());
    let succeeded = failure.is_none();
    let _ = options.events.send(Event::Finished {
        host: host.clone(),
        succeeded,
        text,
    });
    Removal {
        host,
        removed: names.into_iter().take(done).collect(),
        failure,
    }
}

/// What came last goes first, but units that were taken over go after the files that they run with,
/// which are put back, and packages go last of all: with a package goes what it keeps, and that
/// must not reach what stands on a volume or in a directory of ours.
fn in_order_of_removal(entries: &[ManifestEntry]) -> Vec<&ManifestEntry> {
    let is_package = |entry: &&ManifestEntry| entry.kind() == ManifestKind::Package;
    let (packages, rest): (Vec<_>, Vec<_>) = entries.iter().rev().partition(is_package);
    let is_adopted = |entry: &&ManifestEntry| entry.adopted && entry.kind() == ManifestKind::Unit;
    let (adopted, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_adopted);
    rest.into_iter().chain(adopted).chain(packages).collect()
}

/// Takes the helper and what it kept off a host on which nothing is left to be managed.
async fn retire(session: &mut HostSession, options: &RunOptions) -> Result<(), String> {
    // Where other environments have something, what was removed for this one is remembered.
    let commit = Commit {
        environment: options.environment.clone(),
        ending: Ending::Applied as i32,
        note: "destroy".to_owned(),
        ..Commit::default()
    };
    if let Err(error) = session.conversation.commit(commit).await {
        return Err(words(&error));
    }
    match session.conversation.retire().await {
        Ok(_) => Ok(()),
        Err(error) => Err(words(&error)),
    }
}

fn words(error: &Error) -> String {
    let text = error.to_string();
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

pub(super) fn describe(entry: &ManifestEntry) -> String {
    let kind = match entry.kind() {
        ManifestKind::Unspecified => "something",
        ManifestKind::File => "file",
        ManifestKind::Directory => "directory",
        ManifestKind::Group => "group",
        ManifestKind::User => "user",
        ManifestKind::Package => "package",
        ManifestKind::Unit => "unit",
        ManifestKind::Sysctl => "sysctl",
        ManifestKind::Volume => "volume",
        ManifestKind::Archive => "archive",
        ManifestKind::Command => "command",
    };
    format!("{kind} {}", entry.name)
}

fn render(manifests: &BTreeMap<String, Vec<ManifestEntry>>) -> String {
    if manifests.values().all(Vec::is_empty) {
        return "nothing to remove\n".to_owned();
    }
    let mut text = String::new();
    for (host, entries) in manifests.iter().filter(|(_, entries)| !entries.is_empty()) {
        text.push_str(&format!("{}\n", styled(BOLD, host)));
        for entry in in_order_of_removal(entries) {
            let what = match (entry.existed, entry.kind()) {
                (true, ManifestKind::File) if !entry.previous_sha256.is_empty() => "put back",
                (true, ManifestKind::Unit) => "as it was",
                (true, _) => "keep",
                (false, ManifestKind::Volume) => "unmount",
                (false, _) => "remove",
            };
            text.push_str(&format!(
                "    {} {}\n",
                styled(RED, &format!("- {what}")),
                describe(entry)
            ));
        }
        text.push('\n');
    }
    text
}

/// Prints what became of a removal.
pub(super) fn finish(
    context: &RunContext,
    output: OutputFormat,
    removals: &[Removal],
) -> Result<ExitCode> {
    let failed: Vec<&Removal> = removals
        .iter()
        .filter(|removal| removal.failure.is_some())
        .collect();
    let count: usize = removals.iter().map(|removal| removal.removed.len()).sum();
    match output {
        OutputFormat::Json => print_json(&context.redactor, &removals)?,
        OutputFormat::Text | OutputFormat::Html if count == 0 => {}
        OutputFormat::Text | OutputFormat::Html => {
            print(&context.redactor, &format!("{count} removed or put back\n"))?;
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if output == OutputFormat::Json {
        // The document above says of each host what went wrong.
        return Ok(ExitCode::FAILURE);
    }
    let mut error = Error::new(ErrorKind::Host, "not everything was removed");
    for removal in failed {
        let why = removal.failure.as_deref().unwrap_or_default();
        error = error.caused_by(format!("{}: {why}", removal.host));
    }
    Err(error.hint("what was removed is out of the manifest; run it again for the rest"))
}
