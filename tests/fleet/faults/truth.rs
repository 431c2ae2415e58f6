//! What a report says, held against what the hosts have.
//!
//! Goes in: what a run printed, and its hosts. Comes out: a few words of it, or an objection.
//! Invariant: a report that promises nothing where it could is an objection too.

use std::collections::BTreeMap;

use fleet_tests::Output;
use serde_json::Value;

use super::site::{GATEWAYS, Seen};

/// What tells which version a gateway has.
const TELLING: [&str; 4] = ["first", "second", "payload", "served"];

/// What a run was to bring about.
pub(super) struct Versions {
    pub(super) before: Seen,
    pub(super) wanted: Seen,
}

/// The report's words, where they are true.
///
/// # Panics
/// They are not.
#[track_caller]
pub(super) fn check(
    output: &Output,
    seen: &BTreeMap<&str, Seen>,
    versions: &Versions,
    broke_off: bool,
) -> String {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let Some(hosts) = report["hosts"].as_array() else {
        let said = format!("{}{}", output.stdout, output.stderr);
        let promises = said.contains("nothing was changed on any host")
            || said.contains("refused before anything was changed on any host");
        assert!(promises, "it says nothing\n{}", output.describe());
        for host in GATEWAYS {
            assert_has(&seen[host], &versions.before, host, output);
        }
        return "refused, nothing changed".to_owned();
    };
    let words = hosts.iter().map(|host| {
        let name = host["host"].as_str().expect("a name");
        let outcome = host["outcome"].as_str().expect("an outcome");
        if let Some(seen) = seen.get(name) {
            check_host(host, outcome, seen, versions, broke_off, output);
        }
        (name, outcome)
    });
    let words: Vec<(&str, &str)> = words.collect();
    let succeeded = words
        .iter()
        .all(|(_, outcome)| ["changed", "unchanged"].contains(outcome));
    assert_eq!(report["succeeded"], succeeded, "{}", output.describe());
    assert_eq!(output.code == 0, succeeded, "{}", output.describe());
    let gateways = words.iter().filter(|(name, _)| GATEWAYS.contains(name));
    gateways
        .map(|(_, outcome)| *outcome)
        .collect::<Vec<_>>()
        .join(", ")
}

fn check_host(
    host: &Value,
    outcome: &str,
    seen: &Seen,
    versions: &Versions,
    broke_off: bool,
    output: &Output,
) {
    let name = host["host"].as_str().unwrap_or_default();
    match outcome {
        "changed" | "unchanged" => assert_has(seen, &versions.wanted, name, output),
        "rolled-back" | "not-reached" | "unreachable" => {
            assert_has(seen, &versions.before, name, output);
        }
        _ => {
            let said: Vec<&str> = host["changed"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let has = |key: &str| seen.get(key) == versions.wanted.get(key);
            let resources = [
                ("payload", "artifact /opt/faults/payload"),
                ("first", "file /opt/faults/first"),
                ("second", "file /opt/faults/second"),
            ];
            let unsaid: Vec<&str> = resources
                .iter()
                .filter(|(key, id)| {
                    let is_said = said.contains(id);
                    assert!(
                        !is_said || has(key),
                        "{name} does not have {id}\n{seen:?}\n{}",
                        output.describe()
                    );
                    has(key) && !is_said
                })
                .map(|(_, id)| *id)
                .collect();
            // Whoever ends the step in hand and cannot tell any more has one change more than was
            // said; a host that does not notice goes on with what it was told.
            assert!(
                unsaid.len() <= 1 || broke_off,
                "{name} has {unsaid:?} as well\n{}",
                output.describe()
            );
            assert!(
                !host["failure"].as_str().unwrap_or_default().is_empty(),
                "{name} failed without a reason\n{}",
                output.describe()
            );
        }
    }
}

#[track_caller]
fn assert_has(seen: &Seen, version: &Seen, host: &str, output: &Output) {
    for key in TELLING {
        assert_eq!(
            seen.get(key),
            version.get(key),
            "{host}, {key}\n{}",
            output.describe()
        );
    }
}
