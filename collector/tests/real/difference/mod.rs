//! The same requests through this collector and the OpenTelemetry Collector: what comes out and
//! what is answered is the same, apart from what `docs/compatibility.md` lists with a reason.

mod answers;
mod cases;
mod configurations;
mod documents;
mod normal;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Test;
use crate::peer::Peer;
use crate::process::{Kind, Process, folder, port, write};
use crate::sender::{Sender, framed};
use crate::sink::{Received, Sink};
use cases::Case;
use configurations::{CONFIGURATIONS, Configuration};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "difference::what_comes_out_is_what_comes_out_of_otelcol",
        needs: &[Peer::Otelcol],
        run: || crate::run(what_comes_out()),
    },
    Test {
        name: "difference::answers_are_those_of_otelcol",
        needs: &[Peer::Otelcol],
        run: || crate::run(answers::are_the_same()),
    },
    Test {
        name: "difference::what_documents_configure_comes_out_as_from_otelcol",
        needs: &[Peer::Otelcol, Peer::Documents],
        run: || crate::run(documents::do_the_same()),
    },
];

/// The document that lists what may differ.
const DOCUMENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/compatibility.md"
));

/// The rows of a section's table: name and both outcomes, as they stand there.
fn listed(section: &str) -> BTreeSet<String> {
    let from = DOCUMENT.find(&format!("## {section}\n")).unwrap();
    let rows = DOCUMENT[from..]
        .lines()
        .skip_while(|line| !line.starts_with("|---"));
    rows.skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.split('|')
                .skip(1)
                .take(3)
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" | ")
        })
        .collect()
}

/// Fails when the differences found are not those that the document lists.
fn compare_with_document(section: &str, found: &BTreeMap<String, String>) {
    let listed = listed(section);
    let unlisted = found.iter().filter(|(row, _)| !listed.contains(*row));
    let unlisted: Vec<String> = unlisted
        .map(|(row, details)| format!("| {row} |{details}"))
        .collect();
    let untrue: Vec<&String> = listed
        .iter()
        .filter(|row| !found.contains_key(*row))
        .collect();
    assert!(
        unlisted.is_empty(),
        "differences that are not listed:\n{}",
        unlisted.join("\n")
    );
    assert!(
        untrue.is_empty(),
        "rows that are no longer true: {untrue:#?}"
    );
}

/// A collector, and the target behind it.
struct Subject {
    _process: Process,
    grpc: u16,
    http: u16,
    _sink: Sink,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Subject {
    /// Starts one; the configuration names `GRPC`, `HTTP` and `TARGET` in place of ports, and
    /// `FOLDER` in place of one for its queues.
    async fn start(kind: Kind, folder: &Path, yaml: &str) -> Self {
        let (sink, received) = Sink::recording().await;
        let (grpc, http) = (port(), port());
        let yaml = yaml
            .replace("GRPC", &grpc.to_string())
            .replace("HTTP", &http.to_string())
            .replace("TARGET", &sink.port.to_string())
            .replace(
                "FOLDER",
                &folder.join(format!("{kind:?}")).display().to_string(),
            );
        let config = write(folder, &format!("{kind:?}.yaml"), &yaml);
        let process = Process::start(kind, &config, &[grpc, http]).await;
        Self {
            _process: process,
            grpc,
            http,
            _sink: sink,
            received,
        }
    }

    /// Sends a case, and waits until what it brings has come out: its gRPC status and its items.
    async fn outcome(&self, case: &Case, configuration: &Configuration) -> Outcome {
        self.received.lock().unwrap().clear();
        let status = self.send(&Sender::grpc(self.grpc), case).await;
        if configuration.is_late {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        (status, self.items())
    }

    /// Sends a case; its gRPC status.
    async fn send(&self, sender: &Sender, case: &Case) -> String {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = sender
            .post(case.signal.method(), &headers, framed(&case.body))
            .await;
        let status = answer.as_ref().and_then(|answer| answer.grpc_status());
        status.unwrap_or("no answer").to_owned()
    }

    /// What has come out.
    fn items(&self) -> Vec<String> {
        normal::items(&self.received.lock().unwrap())
    }
}

async fn what_comes_out() {
    let cases = cases::all();
    let (mut compared, mut different) = (0, BTreeMap::new());
    let mut untouched: Vec<Outcome> = Vec::new();
    for configuration in CONFIGURATIONS {
        let folder = folder();
        let yaml = configuration.yaml();
        let ours = Subject::start(Kind::Ours, folder.path(), &yaml).await;
        let theirs = Subject::start(Kind::Otelcol, folder.path(), &yaml).await;
        let mut outcomes = Vec::new();
        for case in &cases {
            let (a, b) = tokio::join!(
                ours.outcome(case, configuration),
                theirs.outcome(case, configuration)
            );
            compared += 1;
            outcomes.push(a.clone());
            if a == b {
                continue;
            }
            // The document has how both end, so that neither can change unnoticed.
            let (one, other) = (summary(&a, configuration), summary(&b, configuration));
            let row = format!("{} | {one} | {other}", case.name);
            let (here, there) = (only(&a, &b), only(&b, &a));
            let details = format!(
                "\n  under {}\n  ours   {here}\n  theirs {there}",
                configuration.name
            );
            different.insert(row, details);
        }
        // Otherwise the same comes out because nothing is done.
        let edits = !untouched.is_empty() && outcomes != untouched;
        assert_eq!(
            edits, configuration.edits,
            "whether {} changes anything",
            configuration.name
        );
        if untouched.is_empty() {
            untouched = outcomes;
        }
    }
    println!(
        "{compared} comparisons under {} configurations",
        CONFIGURATIONS.len()
    );
    compare_with_document("What comes out", &different);
}

/// A gRPC status, and the items that came out.
type Outcome = (String, Vec<String>);

/// How a case ended, in each of the pipelines that bring out what came in, or in all of them when
/// one lacks what another has.
fn summary((status, items): &Outcome, configuration: &Configuration) -> String {
    let (items, branches) = (items.len(), configuration.branches());
    match items % branches {
        0 => format!("gRPC {status}, {} items", items / branches),
        _ => format!("gRPC {status}, {items} items of {branches} pipelines"),
    }
}

/// The items of the one that the other has not.
fn only((_, items): &Outcome, (_, others): &Outcome) -> String {
    let only = items.iter().filter(|item| !others.contains(item));
    let text: Vec<&str> = only.map(String::as_str).collect();
    text.join("\n         ").chars().take(3_000).collect()
}
