//! `provision plan`: what `apply` would do.

use std::process::ExitCode;

use clap::Args;

use super::FleetArgs;
use super::context::RunContext;
use crate::error::{Error, Result};
use crate::plan::HostPlan;
use crate::report::{Events, OutputFormat, Progress, print, print_json, render_plans};
use crate::rollout::observe;

/// Exit code for a plan that has changes.
const CHANGES: u8 = 2;

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    fleet: FleetArgs,
}

impl PlanArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: PlanArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = plan(&mut context, &args, events).await;
    progress.finish().await;
    let shown = result.and_then(|(plans, failures)| show(&context, &args, &plans, failures));
    shown.map_err(|error| context.redact(error))
}

/// The plans of all hosts that answered, and why the others did not.
async fn plan(
    context: &mut RunContext,
    args: &PlanArgs,
    events: Events,
) -> Result<(Vec<HostPlan>, Vec<(String, Error)>)> {
    context.resolve()?;
    context.attach_labs(false, &events)?;
    let desired = context.resolve()?;
    let hosts = context.hosts(desired.hosts, &args.fleet.limit)?;
    let options = context.options(&args.fleet, events);
    let mut observation = observe(hosts, false, &options).await;
    let failures = std::mem::take(&mut observation.failures);
    let plans = observation.plans();
    if args.output() == OutputFormat::Text {
        context.name_left(&observation, &options.events).await?;
    }
    observation.close().await;
    Ok((plans, failures))
}

fn show(
    context: &RunContext,
    args: &PlanArgs,
    plans: &[HostPlan],
    failures: Vec<(String, Error)>,
) -> Result<ExitCode> {
    let output = &args.fleet.output;
    if output.output == OutputFormat::Text && !plans.is_empty() {
        print(&context.redactor, &render_plans(plans, output.verbose))?;
    }
    if !failures.is_empty() {
        return Err(unreachable(failures));
    }
    if plans.iter().any(|plan| !plan.refusals.is_empty()) {
        return Err(refused(plans));
    }
    // With an error there is no plan: the error is the one document then.
    if output.output == OutputFormat::Json {
        print_json(&context.redactor, &plans)?;
    }
    let changes = plans.iter().any(|plan| !plan.is_empty());
    Ok(if changes {
        ExitCode::from(CHANGES)
    } else {
        ExitCode::SUCCESS
    })
}

/// All hosts that did not answer, as one error.
pub(super) fn unreachable(mut failures: Vec<(String, Error)>) -> Error {
    if failures.len() == 1
        && let Some((_, error)) = failures.pop()
    {
        return error.hint("nothing was changed on any host");
    }
    let mut all = Error::host(format!(
        "{} hosts cannot be used; nothing was changed on any host",
        failures.len()
    ));
    for (_, failure) in failures {
        let causes: String = failure
            .causes
            .iter()
            .map(|cause| format!("\n{cause}"))
            .collect();
        all = all.caused_by(format!("{}{causes}", failure.message));
        for hint in failure.hints {
            if !all.hints.contains(&hint) {
                all = all.hint(hint);
            }
        }
    }
    all
}

/// All refusals, as one error.
pub(super) fn refused(plans: &[HostPlan]) -> Error {
    let mut error = Error::host("refused; nothing was changed on any host");
    for plan in plans {
        for entry in &plan.refusals {
            let message = format!(
                "{}: {}: {}",
                plan.host, entry.resource, entry.refusal.message
            );
            error = error.caused_by(message);
            if let Some(hint) = &entry.refusal.hint
                && !error.hints.contains(hint)
            {
                error = error.hint(hint.clone());
            }
        }
    }
    error
}
