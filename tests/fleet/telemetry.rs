//! The official Python SDK sends through the balancer, and every item arrives exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fleet_tests::{Lab, Output, Requirement};
use serde_json::Value;

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "telemetry::everything_sent_over_grpc_arrives_once_and_unchanged",
        needs: NEEDS,
        run: |lab| everything_arrives(lab, "grpc"),
    },
    Test {
        name: "telemetry::everything_sent_over_http_arrives_once_and_unchanged",
        needs: NEEDS,
        run: |lab| everything_arrives(lab, "http"),
    },
    Test {
        name: "telemetry::grpc_requests_of_one_connection_go_to_all_gateways",
        needs: NEEDS,
        run: |lab| requests_of_one_connection_go_to_all_gateways(lab, "grpc"),
    },
    Test {
        name: "telemetry::http_requests_of_one_connection_go_to_all_gateways",
        needs: NEEDS,
        run: |lab| requests_of_one_connection_go_to_all_gateways(lab, "http"),
    },
];

pub(crate) const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::OpenTelemetryPython];

/// How many items a test sends.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) spans: usize,
    pub(crate) logs: usize,
    pub(crate) points: usize,
}

const FULL: Amount = Amount {
    spans: 10_000,
    logs: 10_000,
    points: 1_000,
};

/// How long what was accepted may take to stand in the file.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);

/// Where the storage host writes.
const FILE: &str = "/mnt/data/otel/telemetry.jsonl";

fn everything_arrives(lab: &Lab, protocol: &str) {
    let expected = send(lab, protocol, &format!("all-{protocol}"), FULL);
    verify(lab, &format!("all-{protocol}"), FULL, &expected);
}

fn requests_of_one_connection_go_to_all_gateways(lab: &Lab, protocol: &str) {
    let run = format!("one-{protocol}-connection");
    let before = (connections(lab, protocol), accepted_spans(lab));
    let amount = Amount {
        spans: 5_000,
        logs: 0,
        points: 0,
    };
    let expected = send(lab, protocol, &run, amount);
    let connections = connections(lab, protocol) - before.0;
    let shares: Vec<u64> = accepted_spans(lab)
        .iter()
        .zip(before.1)
        .map(|(after, before)| after - before)
        .collect();
    println!("{protocol}: {connections} connection; spans by gateway: {shares:?}");
    assert_eq!(connections, 1);
    assert_eq!(shares.iter().sum::<u64>(), 5_000);
    assert!(shares.iter().all(|share| *share > 1_000), "{shares:?}");
    verify(lab, &run, amount, &expected);
}

/// Sends with the SDK from inside the lab's network; what the SDK handed to its exporters.
pub(crate) fn send(lab: &Lab, protocol: &str, run: &str, amount: Amount) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("expected.json");
    let output = Output::of(&mut client(lab, protocol, run, amount, &file)).success();
    println!("{}", output.stdout.trim());
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("JSON")
}

/// The command that sends, not yet run.
pub(crate) fn client(
    lab: &Lab,
    protocol: &str,
    run: &str,
    amount: Amount,
    expected: &std::path::Path,
) -> std::process::Command {
    let python = std::env::var("FLEET_PYTHON").expect("a requirement of this test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fleet/telemetry_client.py");
    let Amount {
        spans,
        logs,
        points,
    } = amount;
    let numbers = [spans.to_string(), logs.to_string(), points.to_string()];
    let mut command = lab.exec(&[&python, script, protocol, "10.77.0.11", run]);
    command.args(numbers).arg(expected);
    command
}

/// Waits until all of a run stands in the file, and compares it item by item.
pub(crate) fn verify(lab: &Lab, run: &str, amount: Amount, expected: &Value) {
    let total = amount.spans + amount.logs + amount.points;
    let begun = Instant::now();
    let arrived = || {
        let lines = format!("grep --fixed-strings '\"{run}\"' {FILE} || test $? = 1");
        Arrived::of(&lab.ssh("storage-1", &lines), run)
    };
    while arrived().count() < total && begun.elapsed() < ARRIVAL_DEADLINE {
        std::thread::sleep(Duration::from_millis(500));
    }
    // Whatever comes twice comes within another flush of the file.
    std::thread::sleep(Duration::from_secs(2));
    let arrived = arrived();
    for (what, items, count) in [
        ("spans", &arrived.spans, amount.spans),
        ("logs", &arrived.logs, amount.logs),
        ("points", &arrived.points, amount.points),
    ] {
        let expected = expected[what].as_object().expect("an object");
        assert_eq!(
            expected.len(),
            count,
            "the client handed over as many {what}"
        );
        let twice: Vec<&String> = items
            .iter()
            .filter(|(_, found)| found.len() > 1)
            .map(|(id, _)| id)
            .collect();
        assert!(
            twice.is_empty(),
            "{} {what} arrived more than once: {:?}",
            twice.len(),
            twice.first()
        );
        for (id, item) in expected {
            let found = items
                .get(id)
                .unwrap_or_else(|| panic!("{what} {id} did not arrive"));
            assert_eq!(&found[0], item, "{what} {id}");
        }
        assert_eq!(items.len(), count, "{what} that nobody sent arrived");
    }
    // As many as the client emitted inside spans.
    let logs = expected["logs"].as_object().expect("an object").values();
    let with_ids = logs.filter(|item| item["traceId"] != "" && item["spanId"] != "");
    assert_eq!(with_ids.count(), amount.logs.div_ceil(2));
    println!("{run}: {total} items arrived exactly once");
}

/// What stands in the file of one run, by id.
#[derive(Default)]
struct Arrived {
    spans: BTreeMap<String, Vec<Value>>,
    logs: BTreeMap<String, Vec<Value>>,
    points: BTreeMap<String, Vec<Value>>,
}

impl Arrived {
    fn count(&self) -> usize {
        self.spans.len() + self.logs.len() + self.points.len()
    }

    fn of(text: &str, run: &str) -> Self {
        let mut arrived = Self::default();
        for line in text.lines() {
            // The last line may still be being written.
            let Ok(batch) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            for (key, scopes, items, add) in [
                (
                    "resourceSpans",
                    "scopeSpans",
                    "spans",
                    Self::add_span as fn(&mut Self, &Value),
                ),
                ("resourceLogs", "scopeLogs", "logRecords", Self::add_log),
                (
                    "resourceMetrics",
                    "scopeMetrics",
                    "metrics",
                    Self::add_metric,
                ),
            ] {
                for resource in list(&batch[key]) {
                    let attributes = attributes(&resource["resource"]["attributes"]);
                    if attributes.get("run") != Some(&Value::from(run)) {
                        continue;
                    }
                    assert_eq!(attributes["deployment.environment"], "development");
                    for scope in list(&resource[scopes]) {
                        list(&scope[items])
                            .iter()
                            .for_each(|item| add(&mut arrived, item));
                    }
                }
            }
        }
        arrived
    }

    fn add_span(&mut self, span: &Value) {
        let item = serde_json::json!({
            "traceId": span["traceId"], "name": span["name"],
            "start": span["startTimeUnixNano"], "end": span["endTimeUnixNano"],
            "attributes": attributes(&span["attributes"]),
        });
        self.spans
            .entry(text(&span["spanId"]))
            .or_default()
            .push(item);
    }

    fn add_log(&mut self, record: &Value) {
        let item = serde_json::json!({
            "time": record["timeUnixNano"], "observed": record["observedTimeUnixNano"],
            "traceId": text(&record["traceId"]), "spanId": text(&record["spanId"]),
            "severity": record["severityNumber"],
            "attributes": attributes(&record["attributes"]),
        });
        self.logs
            .entry(text(&record["body"]["stringValue"]))
            .or_default()
            .push(item);
    }

    fn add_metric(&mut self, metric: &Value) {
        for point in list(&metric["sum"]["dataPoints"]) {
            let Some(Value::String(route)) = attributes(&point["attributes"]).remove("route")
            else {
                continue;
            };
            let item = serde_json::json!({
                "value": point["asInt"], "time": point["timeUnixNano"],
                "start": point["startTimeUnixNano"],
            });
            self.points.entry(route).or_default().push(item);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Attributes as plain JSON, as the client writes them down.
fn attributes(list_of: &Value) -> serde_json::Map<String, Value> {
    let plain = |value: &Value| {
        let (kind, value) = value.as_object().and_then(|map| map.iter().next())?;
        Some(match kind.as_str() {
            "intValue" => Value::from(text(value).parse::<i64>().ok()?),
            _ => value.clone(),
        })
    };
    list(list_of)
        .iter()
        .map(|entry| {
            (
                text(&entry["key"]),
                plain(&entry["value"]).unwrap_or(Value::Null),
            )
        })
        .collect()
}

/// How many connections the balancer's port for a protocol has had.
fn connections(lab: &Lab, protocol: &str) -> u64 {
    let table = lab.ssh("lb-1", &fetch("127.0.0.1", 8404, "/stats;csv"));
    let mut lines = table
        .lines()
        .skip_while(|line| !line.starts_with("# pxname"));
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let column = header
        .iter()
        .position(|name| *name == "conn_tot")
        .expect("conn_tot");
    let frontend = format!("otlp_{protocol},FRONTEND,");
    let row = lines
        .find(|line| line.starts_with(&frontend))
        .expect("a frontend");
    row.split(',')
        .nth(column)
        .and_then(|cell| cell.parse().ok())
        .expect("a number")
}

/// How many spans each gateway has accepted.
pub(crate) fn accepted_spans(lab: &Lab) -> Vec<u64> {
    accepted_spans_of(lab, &["collector-1", "collector-2"])
}

/// How many spans each of these has accepted.
pub(crate) fn accepted_spans_of(lab: &Lab, hosts: &[&str]) -> Vec<u64> {
    let count = |host: &str| {
        let metrics = lab.ssh(host, &fetch("127.0.0.1", 8888, "/metrics"));
        let value = |line: &str| line.rsplit(' ').next()?.trim().parse::<f64>().ok();
        metrics
            .lines()
            .filter(|line| line.starts_with("otelcol_receiver_accepted_spans"))
            .filter_map(value)
            .sum::<f64>() as u64
    };
    hosts.iter().copied().map(count).collect()
}

/// Fetches a page with nothing but bash, which is all that a host has.
pub(crate) fn fetch(host: &str, port: u16, path: &str) -> String {
    format!(
        "exec bash -c 'exec 3<>/dev/tcp/{host}/{port}; \
         printf \"GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n\" >&3; cat <&3'"
    )
}
