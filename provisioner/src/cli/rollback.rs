//! `provision rollback`: hosts as they were before the last run, or at a generation.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use provision_protocol::generation::{Ending, Generation};

use super::apply::{carry_out, check_consent, confirm, finish, report};
use super::context::RunContext;
use super::{FleetArgs, LockArgs};
use crate::error::{Error, Result};
use crate::plan::removal::REMOVAL;
use crate::plan::{Desired, undo};
use crate::report::{Events, OutputFormat, Progress, Report, print, render_plans};
use crate::rollout::{HostSession, Observation, RunOptions};

/// The most generations that are looked at; a host keeps no more.
const MAX_GENERATIONS: u32 = 1000;
/// How the note of a run that is itself a rollback begins; the generation follows.
const NOTE: &str = "rollback to ";

/// Arguments of `rollback`.
#[derive(Debug, Clone, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// The generation of each host, as `history` numbers them; 0 is before the first. Without it:
    /// back to before the last run, on the hosts that it changed
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
}

impl RollbackArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: RollbackArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = rollback(&mut context, &args, events).await;
    progress.finish().await;
    let report = result.map_err(|error| context.redact(error))?;
    let code = finish(&context, &args.fleet.output, &report)?;
    if args.output() == OutputFormat::Text && report.succeeded {
        let text = "the playbook is as it was: `provision plan` shows what it would bring back\n";
        print(&context.redactor, text)?;
    }
    Ok(code)
}

async fn rollback(context: &mut RunContext, args: &RollbackArgs, events: Events) -> Result<Report> {
    let started = Instant::now();
    let output = &args.fleet.output;
    let hint = "--yes rolls back without asking; `provision history` shows what there is";
    check_consent(args.yes, output.output, hint)?;
    context.open_audit_log()?;
    context.attach_labs(false, &events)?;
    let Desired { plays, hosts } = context.resolve()?;
    let hosts = context.hosts_of(hosts, &args.fleet.limit, &plays)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    let mut observation = context.lock(hosts, &[], &options).await?;
    options.peers.extend(context.left(&observation));
    let agreed = match decide(&mut observation, args.to, &options).await {
        Err(error) => Err(error),
        Ok(()) => agree(context, args, &observation, &options).await,
    };
    let outcomes = carry_out(agreed, observation, &plays, &options).await;
    Ok(report(context, &options, outcomes?, started))
}

async fn agree(
    context: &RunContext,
    args: &RollbackArgs,
    observation: &Observation,
    options: &RunOptions,
) -> Result<()> {
    let plans = observation.plans();
    let changes = plans.iter().any(|plan| !plan.is_empty());
    if args.output() == OutputFormat::Text {
        Progress::clear(&options.events).await;
        let verbose = args.fleet.output.verbose;
        print(&context.redactor, &render_plans(&plans, verbose))?;
    }
    if changes && !args.yes {
        confirm("Roll this back?")?;
    }
    Ok(())
}

/// Replaces each host's plan by the one that brings it back.
async fn decide(
    observation: &mut Observation,
    to: Option<u64>,
    options: &RunOptions,
) -> Result<()> {
    let mut histories = Vec::new();
    let changing = |session: &&mut HostSession| !session.attends();
    for session in observation.sessions.iter_mut().filter(changing) {
        histories.push(session.generations(MAX_GENERATIONS, options).await?);
    }
    let newest = histories.iter().filter_map(|history| history.last());
    let last_run = newest
        .max_by_key(|generation| (generation.unix_seconds, generation.number))
        .map(|generation| generation.run.clone());
    let sessions = observation.sessions.iter_mut().filter(changing);
    for (session, history) in sessions.zip(&histories) {
        session.plan.changes.clear();
        session.plan.refusals.clear();
        session.plan.undecided.clear();
        session.plan.stays.clear();
        let target = match to {
            Some(number) => Some(check_target(session.name(), history, number)?),
            None if history.last().map(|last| &last.run) == last_run.as_ref() => step_back(history),
            None => None,
        };
        if let Some(target) = target {
            plan_for(session, history, target).await?;
        }
    }
    Ok(())
}

fn check_target(host: &str, history: &[Generation], number: u64) -> Result<u64> {
    let known: Vec<u64> = history.iter().map(|generation| generation.number).collect();
    let whole = known.first() == Some(&1);
    if known.contains(&number) || (number == 0 && (whole || known.is_empty())) {
        return Ok(number);
    }
    let error = Error::usage(format!("{host} has no generation {number} to go back to"));
    Err(match (known.first(), known.last()) {
        (Some(first), Some(last)) => error.hint(format!(
            "it remembers {first} to {last}; each host counts its own, and --limit names one"
        )),
        _ => error.hint("nothing was ever changed there for this environment"),
    })
}

/// The generation before the last run; before what an earlier rollback went back to, if that was
/// the last run.
fn step_back(history: &[Generation]) -> Option<u64> {
    let last = history.last()?;
    let base = match last.note.strip_prefix(NOTE).and_then(|to| to.parse().ok()) {
        Some(to) if last.ending() == Ending::Applied => to,
        _ => last.number,
    };
    if base == 0 {
        return None;
    }
    let stands = |generation: &&Generation| {
        generation.number < base
            && generation.ending() == Ending::Applied
            && !generation.note.starts_with(NOTE)
    };
    Some(
        history
            .iter()
            .rev()
            .find(stands)
            .map_or(0, |generation| generation.number),
    )
}

async fn plan_for(session: &mut HostSession, history: &[Generation], target: u64) -> Result<()> {
    // What was rolled back already is as it was before.
    let after: Vec<Generation> = history
        .iter()
        .filter(|one| one.number > target && one.ending() != Ending::RolledBack)
        .cloned()
        .collect();
    let net = undo::net(&after);
    let facts = session.conversation.ask(undo::queries(&net)).await?;
    let seen = undo::Seen::new(&net, &facts);
    let undo = undo::undo(&net, &session.manifest, Some(&seen));
    session.plan.changes = undo.changes;
    session.plan.stays = undo.stays;
    for entry in &mut session.plan.changes {
        let plays = &session.desired.plays;
        if !plays.iter().any(|play| play.play.as_str() == entry.play) {
            REMOVAL.clone_into(&mut entry.play);
        }
    }
    session.goes_back = true;
    session.note = format!("{NOTE}{target}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64, ending: Ending, note: &str) -> Generation {
        Generation {
            number,
            ending: ending as i32,
            note: note.to_owned(),
            ..Generation::default()
        }
    }

    #[test]
    fn each_rollback_goes_one_run_further_back() {
        use Ending::{Applied, RolledBack, Unfinished};
        let mut history = vec![
            generation(1, Applied, ""),
            generation(2, Applied, ""),
            generation(3, RolledBack, "not healthy"),
            generation(4, Applied, ""),
        ];
        assert_eq!(step_back(&history), Some(2));
        history.push(generation(5, Applied, "rollback to 2"));
        assert_eq!(step_back(&history), Some(1));
        history.push(generation(6, Applied, "rollback to 1"));
        assert_eq!(step_back(&history), Some(0));
        history.push(generation(7, Applied, "rollback to 0"));
        assert_eq!(step_back(&history), None);
        history.push(generation(8, Unfinished, ""));
        assert_eq!(step_back(&history), Some(4));
        assert_eq!(step_back(&[]), None);
    }

    #[test]
    fn a_generation_that_a_host_does_not_remember_is_refused() {
        let history = [
            generation(4, Ending::Applied, ""),
            generation(6, Ending::Applied, ""),
        ];
        assert_eq!(check_target("a", &history, 4).unwrap(), 4);
        for number in [0, 5, 7] {
            let error = check_target("a", &history, number).unwrap_err().to_string();
            assert!(error.contains("it remembers 4 to 6"), "{error}");
        }
        assert_eq!(check_target("a", &history[..0], 0).unwrap(), 0);
    }
}
