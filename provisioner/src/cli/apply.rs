//! `provision apply`, which is also what `provision --env NAME` does.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::builder::ArgPredicate;
use clap::{Arg, Args};

use super::context::{RunContext, command_name};
use super::{FleetArgs, LockArgs, OutputArgs, lab, saved};
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::Fleet;
use crate::inventory::Provider;
use crate::plan::saved::SavedPlan;
use crate::plan::{Desired, HostPlan, hosts_changed_by};
use crate::playbook::{Pause, Play};
use crate::report::{
    Events, GREEN, HostOutcome, Outcome, OutputFormat, Progress, RED, Report, print, print_json,
    render_plans, styled,
};
use crate::rollout::{self, Confirm, Observation, RunOptions};

/// Arguments of `apply`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("env", env_of_a_plan))]
pub(super) struct ApplyArgs {
    /// A plan of `provision plan --out FILE`: exactly that is done, without asking, or nothing
    #[arg(value_name = "FILE")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
    /// Leave a host that fails as it is, instead of bringing it back to what it had
    #[arg(long)]
    no_rollback: bool,
}

/// The environment of a plan stands in its file.
fn env_of_a_plan(env: Arg) -> Arg {
    env.required(false)
        .required_unless_present("plan")
        .default_value_if("plan", ArgPredicate::IsPresent, "")
}

impl ApplyArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(mut args: ApplyArgs) -> Result<ExitCode> {
    let saved = args.plan.as_deref().map(saved::read).transpose()?;
    if let Some(saved) = &saved {
        saved::adopt_arguments(&mut args.fleet, saved)?;
    }
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = apply(&mut context, &args, saved.as_ref(), events).await;
    progress.finish().await;
    match result {
        Ok(report) => finish(&context, &args.fleet.output, &report),
        Err(error) => Err(context.redact(error)),
    }
}

async fn apply(
    context: &mut RunContext,
    args: &ApplyArgs,
    saved: Option<&SavedPlan>,
    events: Events,
) -> Result<Report> {
    let started = Instant::now();
    let output = &args.fleet.output;
    let terminal = can_confirm(output.output);
    if saved.is_none() {
        let hint = "--yes applies without asking; `provision plan` only shows";
        check_consent(args.yes, output.output, hint)?;
    }
    // Mistakes in files come first: nothing is made, not even a lab, for a project that has any.
    context.resolve()?;
    context.open_audit_log()?;
    context.attach_labs(true, &events)?;
    let Desired { plays, hosts } = context.resolve()?;
    let hosts = context.hosts_of(hosts, &args.fleet.limit, &plays)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    options.rollback = !args.no_rollback;
    if !args.yes {
        options.confirm = ask_on_terminal(&options);
    }
    let observation = context.lock(hosts, &plays, &options).await?;
    let plans = observation.plans();
    let held = match saved {
        Some(saved) => saved::check(saved, context, &args.fleet, &options, &plans, &plays),
        None => Ok(()),
    };
    let held = held.and_then(|()| match args.yes || terminal {
        true => Ok(()),
        false => check_pauses(&plans, &plays),
    });
    let refused = plans.iter().any(|plan| !plan.refusals.is_empty());
    let changes = plans.iter().any(|plan| !plan.is_empty());
    if output.output == OutputFormat::Text && changes && held.is_ok() {
        Progress::clear(&options.events).await;
        print(&context.redactor, &render_plans(&plans, output.verbose))?;
    }
    options.peers.extend(context.left(&observation));
    let ask = changes && !args.yes && saved.is_none();
    let agreed = match (held, refused, ask) {
        (Err(error), ..) => Err(error),
        (Ok(()), true, _) => Err(super::plan::refused(&plans)),
        (Ok(()), false, true) => confirm("Apply these changes?"),
        (Ok(()), false, false) => Ok(()),
    };
    let outcomes = carry_out(agreed, observation, &plays, &options).await;
    let hosts = outcomes?;
    Ok(report(context, &options, hosts, started))
}

/// Refuses a run that would ask for a yes between two batches where nobody can give it.
fn check_pauses(plans: &[HostPlan], plays: &[(Play, Vec<String>)]) -> Result<()> {
    let pausing = plays.iter().find(|(play, _)| {
        let changed = hosts_changed_by(plans, play.name.as_str());
        play.pace.pause == Some(Pause::Confirm) && changed > 1
    });
    match pausing {
        None => Ok(()),
        Some((play, _)) => {
            let message = format!(
                "play {} asks between its batches, and here is no terminal",
                play.name
            );
            Err(Error::usage(message).hint("--yes goes on without asking; nothing was changed"))
        }
    }
}

/// Asks on the terminal whether a play that pauses shall go on. A thread of its own reads the
/// answer, so that an interrupt ends the run also while nobody answers.
fn ask_on_terminal(options: &RunOptions) -> Confirm {
    let (events, interrupt) = (options.events.downgrade(), options.interrupt.clone());
    Confirm::Ask(Arc::new(move |question| {
        let (events, interrupt) = (events.upgrade(), interrupt.clone());
        Box::pin(async move {
            if let Some(events) = events {
                Progress::clear(&events).await;
            }
            let (sender, answer) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || sender.send(confirm(&question).is_ok()));
            tokio::select! {
                answer = answer => answer.unwrap_or(false),
                () = interrupt.comes() => false,
            }
        })
    }))
}

/// What became of a run; it is written down where the environment says so.
pub(super) fn report(
    context: &RunContext,
    options: &RunOptions,
    hosts: Vec<HostOutcome>,
    started: Instant,
) -> Report {
    let well = |host: &HostOutcome| matches!(host.outcome, Outcome::Unchanged | Outcome::Changed);
    let environment = context.fleet.environment.name.to_string();
    let log = context.audit_log.as_ref();
    let logged = log.map(|log| log.add((&environment, &command_name()), &hosts, options));
    let audit_failure = logged.and_then(Result::err);
    Report {
        environment,
        audit_failure: audit_failure.map(|error| {
            let text = error.to_string();
            text.strip_prefix("error: ").unwrap_or(&text).to_owned()
        }),
        succeeded: hosts.iter().all(well),
        interrupted: options.interrupt.has_come(),
        elapsed_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        hosts,
    }
}

/// Carries out what was agreed to, and ends all conversations.
pub(super) async fn carry_out(
    agreed: Result<()>,
    mut observation: Observation,
    plays: &[(Play, Vec<String>)],
    options: &RunOptions,
) -> Result<Vec<HostOutcome>> {
    let outcomes = match agreed {
        Ok(()) => {
            options.interrupt.arm(&options.events);
            rollout::apply(&mut observation, plays, options).await
        }
        Err(error) => Err(error),
    };
    observation.close().await;
    outcomes
}

/// Whether somebody can be asked.
fn can_confirm(output: OutputFormat) -> bool {
    output == OutputFormat::Text && std::io::stdin().is_terminal()
}

/// Refuses what needs a yes that was not given where nobody can be asked for it.
///
/// # Errors
/// There is no terminal; `hint` is the way out.
pub(super) fn check_consent(yes: bool, output: OutputFormat, hint: &str) -> Result<()> {
    if yes || can_confirm(output) {
        return Ok(());
    }
    Err(Error::usage("there is no terminal to confirm at").hint(hint))
}

/// Asks on the terminal.
pub(super) fn confirm(question: &str) -> Result<()> {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Cancelled, "nothing was changed"))
}

/// Prints what became of a run.
pub(super) fn finish(
    context: &RunContext,
    output: &OutputArgs,
    report: &Report,
) -> Result<ExitCode> {
    match output.output {
        OutputFormat::Json => print_json(&context.redactor, report)?,
        OutputFormat::Text | OutputFormat::Html => {
            print(&context.redactor, &render(report, &context.fleet))?
        }
    }
    Ok(if report.succeeded && report.audit_failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(report: &Report, fleet: &Fleet) -> String {
    let mut text = String::from("\n");
    for host in &report.hosts {
        let style = match host.outcome {
            Outcome::Failed | Outcome::RolledBack | Outcome::Partly | Outcome::Unreachable => RED,
            _ => GREEN,
        };
        let count = host.changed.len();
        let what = match (host.outcome, count) {
            (Outcome::Changed, 1) => "1 change".to_owned(),
            (Outcome::Changed, _) => format!("{count} changes"),
            (Outcome::Failed, _) => format!(
                "failed after {count} changes: {}",
                host.failure.as_deref().unwrap_or("")
            ),
            (Outcome::RolledBack, _) => format!(
                "failed, and has what it had before: {}",
                host.failure.as_deref().unwrap_or("")
            ),
            (Outcome::Unreachable, _) => format!(
                "left out, it does not answer: {}",
                host.failure.as_deref().unwrap_or("")
            ),
            (outcome, _) => outcome.word().to_owned(),
        };
        text.push_str(&format!("{}: {what}\n", styled(style, &host.host)));
        for stays in &host.stays {
            text.push_str(&format!("    stays: {stays}\n"));
        }
    }
    let seconds = report.elapsed_millis as f64 / 1000.0;
    let verdict = if report.succeeded { "done" } else { "not done" };
    text.push_str(&format!("{verdict} in {seconds:.1} s\n"));
    if let Some(failure) = &report.audit_failure {
        text.push_str(&format!("{}\n", styled(RED, failure)));
    }
    if report.interrupted {
        text.push_str("interrupted: run the same again, and it goes on where this ended\n");
    }
    if report.succeeded {
        let labs = fleet
            .providers
            .values()
            .filter_map(|provider| match provider {
                Provider::Lab(settings) => Some(lab::where_to_look(fleet, settings)),
                Provider::OnPrem | Provider::Cloud(_) => None,
            });
        text.extend(labs);
    }
    text
}
