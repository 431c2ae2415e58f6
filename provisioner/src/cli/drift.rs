//! `provision drift`: how hosts differ from what was last applied to them.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::FleetArgs;
use super::context::RunContext;
use crate::error::Result;
use crate::plan::drift::{self, Drift};
use crate::report::{
    BOLD, OutputFormat, Progress, YELLOW, print, print_json, render_details, styled,
};
use crate::rollout::{HostSession, RunOptions};

/// Exit code where hosts differ.
const DIFFERS: u8 = 2;

/// Arguments of `drift`.
#[derive(Debug, Clone, Args)]
pub(super) struct DriftArgs {
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Serialize)]
struct HostDrift {
    host: String,
    /// How many things this tool has put there.
    managed: usize,
    /// A run was interrupted, or failed and left things as they were then.
    unfinished: bool,
    drift: Vec<Drift>,
}

impl DriftArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: DriftArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = context.ask_all(&args.fleet, events, look_at).await;
    progress.finish().await;
    let hosts = result.map_err(|error| context.redact(error))?;
    match args.output() {
        OutputFormat::Json => print_json(&context.redactor, &hosts)?,
        OutputFormat::Text | OutputFormat::Html => {
            let text = render(&hosts, args.fleet.output.verbose);
            print(&context.redactor, &text)?;
        }
    }
    let differs = hosts.iter().any(|host| !host.drift.is_empty());
    Ok(if differs {
        ExitCode::from(DIFFERS)
    } else {
        ExitCode::SUCCESS
    })
}

async fn look_at(session: &mut HostSession, _: &RunOptions) -> Result<HostDrift> {
    let queries = drift::queries(&session.manifest);
    let facts = session.conversation.ask(queries).await?;
    Ok(HostDrift {
        host: session.name().to_owned(),
        managed: session.manifest.len(),
        unfinished: session.open.is_some(),
        drift: drift::drift(&session.manifest, &facts),
    })
}

fn render(hosts: &[HostDrift], verbose: bool) -> String {
    let mut text = String::new();
    for host in hosts
        .iter()
        .filter(|host| !host.drift.is_empty() || host.unfinished)
    {
        text.push_str(&format!("{}\n", styled(BOLD, &host.host)));
        if host.unfinished {
            text.push_str("    a run did not end here: `provision apply` goes on with it\n");
        }
        for drift in &host.drift {
            let mut what = drift.resource.clone();
            if !what.ends_with(&drift.name) {
                what.push_str(&format!(" ({})", drift.name));
            }
            text.push_str(&format!("    {} {what}\n", styled(YELLOW, "~ differs")));
            render_details(&mut text, &drift.details, false, verbose);
        }
        text.push('\n');
    }
    let count: usize = hosts.iter().map(|host| host.drift.len()).sum();
    let noun = if hosts.len() == 1 { "host" } else { "hosts" };
    let total = hosts.len();
    text.push_str(&match count {
        0 => format!("no drift: {total} {noun} as last applied\n"),
        _ => {
            let with = hosts.iter().filter(|host| !host.drift.is_empty()).count();
            let differ = if count == 1 {
                "thing differs"
            } else {
                "things differ"
            };
            format!("{count} {differ} on {with} of {total} {noun}\n")
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Detail;

    #[test]
    fn drift_reads_as_it_should() {
        let drift = |resource: &str, name: &str, detail: Detail| Drift {
            resource: resource.to_owned(),
            name: name.to_owned(),
            details: vec![detail],
        };
        let host = |name: &str, drift: Vec<Drift>| HostDrift {
            host: name.to_owned(),
            managed: 3,
            unfinished: name == "c",
            drift,
        };
        let hosts = [
            host("a", Vec::new()),
            host(
                "b",
                vec![
                    drift(
                        "file /etc/motd",
                        "/etc/motd",
                        Detail::Text("@@ -1 +1 @@\n-hello\n+mine\n".to_owned()),
                    ),
                    drift(
                        "service app",
                        "app.service",
                        Detail::changed("state", "active", "inactive"),
                    ),
                ],
            ),
            host("c", Vec::new()),
        ];
        let text = anstream::adapter::strip_str(&render(&hosts, false)).to_string();
        insta::assert_snapshot!(text);
        let none = render(&[host("a", Vec::new())], false);
        assert_eq!(none, "no drift: 1 host as last applied\n");
    }
}
