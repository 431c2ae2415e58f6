//! Configurations that documents quote, with the verdict that each must get.
//!
//! In: a folder of configurations and an `INDEX.md` beside it whose table names each file and
//! `accepted` or `refused: why`; `COLLECTOR_DOCUMENTS` names the folder, otherwise
//! `document-configs` is looked for around the project. Out: one test for each file. Invariant: a
//! component that is not here yet is the only thing that may be said of a file that must be
//! accepted; without the folder there is one test, ignored, whose name says so.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};

use collector::config::diagnostic::{Severity, render};
use collector::config::source::{Surroundings, read_file};
use collector::config::{self, Reading};
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
    let trials = match folder() {
        Some(folder) => trials(&folder),
        None => {
            let name = "documents (COLLECTOR_DOCUMENTS names no folder)";
            vec![Trial::test(name, || Ok(())).with_ignored_flag(true)]
        }
    };
    libtest_mimic::run(&arguments, trials).exit();
}

fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("COLLECTOR_DOCUMENTS") {
        return Some(named.into());
    }
    let around = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let places = around.flat_map(|place| [place.to_owned(), place.join("shared")]);
    places
        .map(|place| place.join("document-configs"))
        .find(|folder| folder.join("INDEX.md").is_file())
}

/// A test for each row of the table.
fn trials(folder: &Path) -> Vec<Trial> {
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let rows = index.lines().filter_map(|line| {
        let (file, verdict) = line.strip_prefix("| ")?.split_once(" | ")?;
        let verdict = verdict.trim_end_matches(" |");
        file.ends_with(".yaml")
            .then(|| (file.to_owned(), verdict.to_owned()))
    });
    let trials: Vec<_> = rows
        .map(|(file, verdict)| {
            let path = folder.join("collector-complete").join(&file);
            Trial::test(file, move || check(&path, &verdict))
        })
        .collect();
    assert!(!trials.is_empty(), "the table has no rows");
    trials
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
