//! `provision plan`: what `apply` would do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, value_parser};

use super::context::RunContext;
use super::{FleetArgs, saved};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::plan::{Desired, HostPlan, hosts_changed_by};
use crate::playbook::Play;
use crate::report::{
    Events, OutputFormat, Page, Progress, print, print_json, render_page, render_plans,
};
use crate::rollout::{RunOptions, check_pace, look};

/// Exit code for a plan that has changes.
const CHANGES: u8 = 2;

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("output", |output| output.value_parser(value_parser!(OutputFormat))))]
pub(super) struct PlanArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write the plan into this file, for `provision apply FILE`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
    let shown = result.and_then(|planned| show(&context, &args, planned));
    shown.map_err(|error| context.redact(error))
}

/// What was found on the hosts.
struct Planned {
    plans: Vec<HostPlan>,
    /// Hosts that do not answer and may be left out.
    skipped: Vec<(String, Error)>,
    /// Why nothing of it could be applied.
    error: Option<Error>,
    /// The page, where one was asked for.
    page: Option<String>,
}

async fn plan(context: &mut RunContext, args: &PlanArgs, events: Events) -> Result<Planned> {
    context.resolve()?;
    context.attach_labs(false, &events)?;
    let desired = context.resolve()?;
    let graph = Graph::of(&context.fleet, &desired);
    let Desired { plays, hosts } = desired;
    let hosts = context.hosts_of(hosts, &args.fleet.limit, &plays)?;
    let options = context.options(&args.fleet, events);
    let (mut observation, _) = look(hosts, &options, async |_| ()).await;
    observation.skip_unreachable(&plays);
    let failures = std::mem::take(&mut observation.failures);
    let pace = check_pace(&observation, &plays);
    if args.output() == OutputFormat::Text {
        context.name_left(&observation, &options.events).await?;
    }
    let skipped = std::mem::take(&mut observation.skipped);
    let plans = observation.close().await;
    let error = if !failures.is_empty() {
        Some(unreachable(failures))
    } else if plans.iter().any(|plan| !plan.refusals.is_empty()) {
        Some(refused(&plans))
    } else {
        pace.err()
    };
    // What could not be applied is no plan to keep.
    if let (Some(path), None) = (&args.out, &error) {
        saved::write(path, context, &args.fleet, &options, &plans, &plays)?;
    }
    let page = (args.output() == OutputFormat::Html)
        .then(|| page(context, &options, graph, (&plans, &skipped), &plays));
    Ok(Planned {
        plans,
        skipped,
        error,
        page,
    })
}

fn page(
    context: &RunContext,
    options: &RunOptions,
    graph: Graph,
    (plans, skipped): (&[HostPlan], &[(String, Error)]),
    plays: &[(Play, Vec<String>)],
) -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    let plays: Vec<_> = plays
        .iter()
        .map(|(play, _)| {
            let changed = hosts_changed_by(plans, play.name.as_str());
            (play.name.to_string(), changed, play.manner())
        })
        .filter(|(_, hosts, _)| *hosts > 0)
        .collect();
    let skipped: Vec<_> = skipped
        .iter()
        .map(|(host, error)| (host.clone(), error.message.clone()))
        .collect();
    render_page(Page {
        environment: context.fleet.environment.name.as_str(),
        made_at: &now.to_string(),
        made_by: &options.origin.who,
        commit: &options.origin.commit,
        plans,
        skipped: &skipped,
        plays: &plays,
        graph,
        redactor: &context.redactor,
    })
}

fn show(context: &RunContext, args: &PlanArgs, planned: Planned) -> Result<ExitCode> {
    let output = &args.fleet.output;
    let plans = &planned.plans;
    if output.output == OutputFormat::Text && !plans.is_empty() {
        let mut text = render_plans(plans, output.verbose);
        for (host, error) in &planned.skipped {
            text.push_str(&format!("{host} is left out: {}\n", error.message));
        }
        if let (Some(path), None) = (&args.out, &planned.error) {
            let path = path.display();
            text.push_str(&format!(
                "written: `provision apply {path}` does exactly this\n"
            ));
        }
        print(&context.redactor, &text)?;
    }
    // With an error there is no plan: the error is the one document then.
    if let Some(error) = planned.error {
        return Err(error);
    }
    if output.output == OutputFormat::Json {
        print_json(&context.redactor, plans)?;
    }
    if let Some(page) = &planned.page {
        print(&context.redactor, page)?;
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
