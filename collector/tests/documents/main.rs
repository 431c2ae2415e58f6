//! Configurations that documents quote, with the verdict that each must get.
//!
//! In: a folder of configurations and an `INDEX.md` beside it whose table names each file and
//! `accepted` or `refused: why`; `COLLECTOR_DOCUMENTS` names the folder, otherwise
//! `document-configs` is looked for around the project. Out: one test for each file. Invariant: a
//! component that is not here yet is the only thing that may be said of a file that must be
//! accepted; without the folder there is one test, ignored, whose name says so.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod index;

use std::path::Path;

use collector::config::diagnostic::{Severity, render};
use collector::config::source::{Surroundings, read_file};
use collector::config::{self, Reading};
use index::Row;
use libtest_mimic::{Arguments, Failed, Trial};

/// What otelcol-contrib has and this collector gets later.
const LATER: &[&str] = &[
    "awscloudwatchlogs",
    "awsxray",
    "azuremonitor",
    "googlecloud",
    "kafka",
    "loki",
    "prometheus",
    "prometheusremotewrite",
    "sigv4auth",
    "spanmetrics",
    "tail_sampling",
];

fn main() {
    let arguments = Arguments::from_args();
    let trials = match index::folder() {
        Some(folder) => index::rows(&folder)
            .into_iter()
            .map(
                |Row {
                     name,
                     path,
                     verdict,
                 }| Trial::test(name, move || check(&path, &verdict)),
            )
            .collect(),
        None => {
            let name = "documents (COLLECTOR_DOCUMENTS names no folder)";
            vec![Trial::test(name, || Ok(())).with_ignored_flag(true)]
        }
    };
    libtest_mimic::run(&arguments, trials).exit();
}

fn check(path: &Path, verdict: &str) -> Result<(), Failed> {
    let surroundings = Surroundings {
        // Tokens and the like come from outside; without them there would be more to say.
        variable: &|_| Some("from-outside".to_owned()),
        file: &read_file,
    };
    let reading = config::read_all(&[path.display().to_string()], &[], surroundings);
    let errors: Vec<&str> = reading
        .diagnostics
        .iter()
        .filter(|entry| entry.severity == Severity::Error)
        .map(|entry| entry.message.as_str())
        .collect();
    let right = match verdict.strip_prefix("refused: ") {
        Some(why) => {
            let why = why.split(" (").next().unwrap_or_default();
            let words: Vec<_> = why.split(' ').collect();
            errors
                .iter()
                .any(|error| words.iter().all(|word| error.contains(word)))
        }
        None => errors.iter().all(|error| names_what_comes_later(error)),
    };
    match right {
        true => Ok(()),
        false => Err(format!("expected: {verdict}\n{}", said(&reading)).into()),
    }
}

fn names_what_comes_later(error: &str) -> bool {
    let end = "is a component of otelcol-contrib that this collector does not have";
    error.ends_with(end)
        && LATER
            .iter()
            .any(|name| error.contains(&format!("{name:?}")))
}

fn said(reading: &Reading) -> String {
    render(&reading.diagnostics, &reading.sources)
}
