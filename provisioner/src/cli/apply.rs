//! `provision apply`, which is also what `provision --env NAME` does.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::context::RunContext;
use super::plan::unreachable;
use super::{FleetArgs, LockArgs, OutputArgs, lab};
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::Fleet;
use crate::inventory::Provider;
use crate::plan::Desired;
use crate::report::{
    Events, GREEN, HostOutcome, Outcome, OutputFormat, Progress, RED, Report, print, print_json,
    render_plans, styled,
};
use crate::rollout::{self, RunOptions, observe};

/// Arguments of `apply`.
#[derive(Debug, Clone, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
    /// Leave a host that fails as it is, instead of bringing it back to what it had
    #[arg(long)]
    no_rollback: bool,
}

impl ApplyArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: ApplyArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = apply(&mut context, &args, events).await;
    progress.finish().await;
    match result {
        Ok(report) => finish(&context, &args.fleet.output, &report),
        Err(error) => Err(context.redact(error)),
    }
}

async fn apply(context: &mut RunContext, args: &ApplyArgs, events: Events) -> Result<Report> {
    let started = Instant::now();
    let output = &args.fleet.output;
    if !args.yes && (output.output == OutputFormat::Json || !std::io::stdin().is_terminal()) {
        return Err(Error::usage("there is no terminal to confirm at")
            .hint("--yes applies without asking; `provision plan` only shows"));
    }
    // Mistakes in files come first: nothing is made, not even a lab, for a project that has any.
    context.resolve()?;
    context.attach_labs(true, &events)?;
    let Desired { plays, hosts } = context.resolve()?;
    let hosts = context.hosts(hosts, &args.fleet.limit)?;
    let mut options = context.options(&args.fleet, events);
    options.lock_timeout = args.lock.lock_timeout;
    options.rollback = !args.no_rollback;
    let mut observation = observe(hosts, true, &options).await;
    if !observation.failures.is_empty() {
        let failures = std::mem::take(&mut observation.failures);
        observation.close().await;
        return Err(unreachable(failures));
    }
    let plans = observation.plans();
    let refused = plans.iter().any(|plan| !plan.refusals.is_empty());
    let changes = plans.iter().any(|plan| !plan.is_empty());
    if output.output == OutputFormat::Text && changes {
        Progress::clear(&options.events).await;
        print(&context.redactor, &render_plans(&plans, output.verbose))?;
    }
    options.peers.extend(context.left(&observation));
    let agreed = match (refused, changes && !args.yes) {
        (true, _) => Err(super::plan::refused(&plans)),
        (false, true) => confirm("Apply these changes?"),
        (false, false) => Ok(()),
    };
    let outcomes = match agreed {
        Ok(()) => {
            options.interrupt.arm(&options.events);
            rollout::apply(&mut observation, &plays, &options).await
        }
        Err(error) => Err(error),
    };
    observation.close().await;
    let hosts = outcomes?;
    Ok(report(context, &options, hosts, started))
}

/// What became of a run.
pub(super) fn report(
    context: &RunContext,
    options: &RunOptions,
    hosts: Vec<HostOutcome>,
    started: Instant,
) -> Report {
    let well = |host: &HostOutcome| matches!(host.outcome, Outcome::Unchanged | Outcome::Changed);
    Report {
        environment: context.fleet.environment.name.to_string(),
        succeeded: hosts.iter().all(well),
        interrupted: options.interrupt.has_come(),
        elapsed_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        hosts,
    }
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
        OutputFormat::Text => print(&context.redactor, &render(report, &context.fleet))?,
    }
    Ok(if report.succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(report: &Report, fleet: &Fleet) -> String {
    let mut text = String::from("\n");
    for host in &report.hosts {
        let style = match host.outcome {
            Outcome::Failed | Outcome::RolledBack | Outcome::Partly => RED,
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
