//! `provision history`: who changed what on every host, and when.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use provision_protocol::generation::{Alteration, Ending, Generation};
use provision_protocol::operation::ManifestEntry;
use serde::Serialize;

use super::FleetArgs;
use super::context::RunContext;
use super::destroy::describe;
use crate::error::Result;
use crate::report::{OutputFormat, Progress, print, print_json, render_table};
use crate::rollout::{HostSession, RunOptions};

/// Arguments of `history`.
#[derive(Debug, Clone, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    /// How many runs of each host are shown, the newest ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u32,
}

#[derive(Debug, Serialize)]
struct Entry {
    host: String,
    generation: u64,
    at: String,
    who: String,
    run: String,
    commit: String,
    environment: String,
    ending: &'static str,
    note: String,
    plays: Vec<String>,
    changes: Vec<ChangeEntry>,
}

#[derive(Debug, Serialize)]
struct ChangeEntry {
    resource: String,
    play: String,
    what: String,
    action: &'static str,
    before: Option<String>,
    after: Option<String>,
    /// Whether what was there before can still be put back.
    kept: bool,
}

impl HistoryArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: HistoryArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let read = async |session: &mut HostSession, options: &RunOptions| {
        read_host(session, args.last, options).await
    };
    let result = context.ask_all(&args.fleet, events, read).await;
    progress.finish().await;
    let found = result.map_err(|error| context.redact(error))?;
    let entries: Vec<Entry> = found.into_iter().flatten().collect();
    match args.output() {
        OutputFormat::Json => print_json(&context.redactor, &entries)?,
        OutputFormat::Text | OutputFormat::Html => {
            let text = render(&entries, args.fleet.output.verbose);
            print(&context.redactor, &text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn read_host(
    session: &mut HostSession,
    last: u32,
    options: &RunOptions,
) -> Result<Vec<Entry>> {
    let generations = session.generations(last, options).await?;
    let host = session.name();
    Ok(generations.iter().map(|one| entry(host, one)).collect())
}

fn entry(host: &str, generation: &Generation) -> Entry {
    let origin = generation.origin.clone().unwrap_or_default();
    Entry {
        host: host.to_owned(),
        generation: generation.number,
        at: when(generation.unix_seconds),
        who: origin.who,
        run: generation.run.clone(),
        commit: origin.commit,
        environment: generation.environment.clone(),
        ending: match generation.ending() {
            Ending::Unfinished => "unfinished",
            Ending::Applied => "applied",
            Ending::RolledBack => "rolled-back",
        },
        note: generation.note.clone(),
        plays: generation.plays.clone(),
        changes: generation.changes.iter().map(change).collect(),
    }
}

/// A moment as people write it; what no clock says is shown as nothing.
pub(super) fn when(unix_seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds));
    at.map_or_else(String::new, |at| {
        humantime::format_rfc3339_seconds(at).to_string()
    })
}

fn change(alteration: &Alteration) -> ChangeEntry {
    let standing = |standing: &Option<provision_protocol::generation::Standing>| {
        let standing = standing.as_ref()?;
        let parts = [
            standing.sha256.get(..12).unwrap_or(&standing.sha256),
            &standing.attributes,
            &standing.value,
        ];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Some(parts.join(" "))
    };
    ChangeEntry {
        resource: alteration.resource.clone(),
        play: alteration.play.clone(),
        what: describe(&ManifestEntry {
            kind: alteration.kind,
            name: alteration.name.clone(),
            ..ManifestEntry::default()
        }),
        action: match (&alteration.before, &alteration.after) {
            (None, _) => "create",
            (Some(_), None) => "remove",
            (Some(_), Some(_)) => "update",
        },
        before: standing(&alteration.before),
        after: standing(&alteration.after),
        kept: alteration.kept,
    }
}

fn render(entries: &[Entry], verbose: bool) -> String {
    if entries.is_empty() {
        return "nothing was ever changed here for this environment\n".to_owned();
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let ending = match entry.note.as_str() {
                "" => entry.ending.to_owned(),
                note => format!("{}: {note}", entry.ending),
            };
            vec![
                entry.host.clone(),
                entry.generation.to_string(),
                entry.at.clone(),
                entry.who.clone(),
                if entry.commit.is_empty() {
                    "-"
                } else {
                    &entry.commit
                }
                .to_owned(),
                entry.changes.len().to_string(),
                ending,
            ]
        })
        .collect();
    let header = [
        "HOST",
        "GENERATION",
        "WHEN",
        "WHO",
        "COMMIT",
        "CHANGES",
        "ENDED",
    ];
    let table = render_table(&header, &rows);
    if !verbose {
        return table;
    }
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, entry) in lines.zip(entries) {
        text.push_str(&format!("{line}\n"));
        for change in &entry.changes {
            let before = change.before.as_deref().unwrap_or("nothing");
            let after = change.after.as_deref().unwrap_or("nothing");
            text.push_str(&format!(
                "    {} {}: {before} → {after}\n",
                change.action, change.what
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use provision_protocol::generation::{Origin, Standing};
    use provision_protocol::operation::ManifestKind;

    use super::*;

    #[test]
    fn a_history_reads_as_it_should() {
        let standing = |sha256: &str| {
            Some(Standing {
                sha256: sha256.repeat(64),
                attributes: "root:root:644".to_owned(),
                value: String::new(),
            })
        };
        let generation = |number: u64, ending: Ending, note: &str| Generation {
            number,
            unix_seconds: 1_800_000_000 + number,
            run: "a run".to_owned(),
            origin: Some(Origin {
                who: "ada@controller".to_owned(),
                commit: if number == 1 { "" } else { "0123456789ab+" }.to_owned(),
            }),
            environment: "production".to_owned(),
            ending: ending as i32,
            plays: vec!["motd".to_owned()],
            note: note.to_owned(),
            changes: vec![Alteration {
                play: "motd".to_owned(),
                resource: "file /etc/motd".to_owned(),
                kind: ManifestKind::File as i32,
                name: "/etc/motd".to_owned(),
                before: if number == 1 { None } else { standing("a") },
                after: standing("b"),
                ..Alteration::default()
            }],
        };
        let entries = [
            entry("a", &generation(1, Ending::Applied, "")),
            entry("a", &generation(2, Ending::RolledBack, "not healthy")),
            entry("b", &generation(3, Ending::Unfinished, "")),
        ];
        insta::assert_snapshot!(render(&entries, true));
        assert!(render(&[], true).contains("nothing was ever changed"));
    }
}
