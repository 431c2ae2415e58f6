//! Official SDKs send to this collector at their defaults, and every item arrives once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::arrival::Arrived;
use crate::peer::{self, Peer};
use crate::process::{DEADLINE, Kind, Process, folder, port, until, write};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "clients::everything_from_python_arrives_once",
        needs: &[Peer::Python],
        run: || crate::run(everything_arrives_once(Peer::Python, &PROTOCOLS)),
    },
    Test {
        name: "clients::everything_from_go_arrives_once",
        needs: &[Peer::Go],
        run: || crate::run(everything_arrives_once(Peer::Go, &PROTOCOLS)),
    },
    Test {
        name: "clients::everything_from_java_arrives_once",
        needs: &[Peer::Java],
        run: || crate::run(everything_arrives_once(Peer::Java, &PROTOCOLS)),
    },
    Test {
        name: "clients::everything_from_node_arrives_once",
        needs: &[Peer::Node],
        run: || {
            let protocols = [PROTOCOLS[0], PROTOCOLS[1], "http/json"];
            crate::run(everything_arrives_once(Peer::Node, &protocols));
        },
    },
    Test {
        name: "clients::an_eager_go_client_is_told_so_where_a_policy_says_it",
        needs: &[Peer::Go, Peer::Otelcol],
        run: || crate::run(eager_clients_are_told_so()),
    },
];

/// What every SDK speaks.
const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];

/// The most streams of a client's metric.
pub(crate) const MOST_POINTS: usize = 1_000;

/// How many items of each signal a client sends, and within how many seconds: an SDK holds 2,048
/// and drops what comes while it connects for the first time.
const AMOUNT: (usize, u64) = (3_000, 6);

/// A client of gRPC asks no more often than every ten seconds: after the fourth ping it is told so.
const EAGER_SECONDS: u64 = 48;

/// A client at work.
pub(crate) struct Client {
    pub(crate) run: String,
    process: Process,
}

/// What a client says at its end.
pub(crate) struct Outcome {
    /// What the exporters gave up.
    pub(crate) failures: Vec<String>,
    /// How long each send took, by signal, in the order of sending.
    pub(crate) sends: BTreeMap<String, Vec<Duration>>,
    /// Everything that was printed.
    pub(crate) log: String,
}

impl Client {
    /// Starts one; `settings` are variables of the SDK.
    pub(crate) fn start(
        peer: Peer,
        protocol: &str,
        endpoint: &str,
        (count, seconds): (usize, u64),
        settings: &[(&str, &str)],
    ) -> Self {
        let run = format!("{peer:?}-{}", protocol.replace('/', "-")).to_lowercase();
        let mut command = peer::client(peer);
        command
            .args([protocol, &run, &count.to_string(), &seconds.to_string()])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .envs(settings.iter().copied())
            // Python's HTTP client takes them for more than what the exporter says.
            .env_remove("REQUESTS_CA_BUNDLE")
            .env_remove("CURL_CA_BUNDLE");
        let process = Process::spawn(&mut command);
        Self { run, process }
    }

    /// Waits for its end.
    pub(crate) async fn outcome(mut self, deadline: Duration) -> Outcome {
        let code = self.process.wait(deadline).await;
        // Its last line may still be on its way.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let log = self.process.log();
        let last = log
            .lines()
            .find(|line| line.starts_with("{\""))
            .unwrap_or_default();
        let said: Value = serde_json::from_str(last)
            .unwrap_or_else(|_| panic!("{} ended with {code:?}:\n{log}", self.run));
        let texts = |value: &Value| value.as_array().unwrap().clone();
        let sends = said["milliseconds"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(signal, times)| {
                let times = texts(times);
                let times = times.iter().map(|time| time.as_f64().unwrap() / 1_000.0);
                (signal.clone(), times.map(Duration::from_secs_f64).collect())
            });
        Outcome {
            failures: texts(&said["failures"])
                .iter()
                .map(ToString::to_string)
                .collect(),
            sends: sends.collect(),
            log,
        }
    }
}

/// Waits until all items of some runs are there, and makes sure that each came once.
pub(crate) async fn verify(
    runs: &[String],
    count: usize,
    deadline: Duration,
    mut read: impl FnMut() -> Arrived,
) {
    let expected = [count, count, count.min(MOST_POINTS)];
    let mut arrived = read();
    let begun = std::time::Instant::now();
    while begun.elapsed() < deadline && !runs.iter().all(|run| arrived.of(run) == expected) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        arrived = read();
    }
    // Whatever comes twice comes soon after.
    tokio::time::sleep(Duration::from_secs(2)).await;
    arrived = read();
    for run in runs {
        assert_eq!(
            arrived.of(run),
            expected,
            "{run}: spans, log records, streams of points"
        );
    }
    assert_eq!(arrived.duplicates(), 0, "items that came more than once");
}

/// A receiver with both protocols that writes all signals to a file.
fn to_a_file(folder: &Path, grpc: u16, http: u16) -> std::path::PathBuf {
    let file = folder.join("out.jsonl");
    let yaml = format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}'}}
      http: {{endpoint: '127.0.0.1:{http}'}}
processors: {{batch: {{timeout: 200ms}}}}
exporters: {{file: {{path: '{}'}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [file]}}
    metrics: {{receivers: [otlp], processors: [batch], exporters: [file]}}
    logs: {{receivers: [otlp], processors: [batch], exporters: [file]}}
",
        file.display()
    );
    write(folder, "config.yaml", &yaml)
}

async fn everything_arrives_once(peer: Peer, protocols: &[&str]) {
    let (folder, grpc, http) = (folder(), port(), port());
    let config = to_a_file(folder.path(), grpc, http);
    let collector = Process::start(Kind::Ours, &config, &[grpc, http]).await;
    let start = |protocol: &&str| {
        let port = if *protocol == "grpc" { grpc } else { http };
        Client::start(
            peer,
            protocol,
            &format!("http://127.0.0.1:{port}"),
            AMOUNT,
            &[],
        )
    };
    let clients: Vec<Client> = protocols.iter().map(start).collect();
    let runs: Vec<String> = clients.iter().map(|client| client.run.clone()).collect();
    for client in clients {
        let outcome = client.outcome(DEADLINE).await;
        assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.log);
    }
    let file = folder.path().join("out.jsonl");
    verify(&runs, AMOUNT.0, DEADLINE, || Arrived::in_file(&file)).await;
    assert!(!collector.log().contains("ERROR"), "{}", collector.log());
}

async fn eager_clients_are_told_so() {
    let policy = "{enforcement_policy: {min_time: 1m, permit_without_stream: true}}";
    let run = async |kind: Kind, keep_alive: &str| {
        let (folder, grpc) = (folder(), port());
        let yaml = format!(
            "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}', keepalive: {keep_alive}}}}}}}}}
exporters: {{debug: }}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"
        );
        let config = write(folder.path(), "c.yaml", &yaml);
        let _collector = Process::start(kind, &config, &[grpc]).await;
        let mut command = peer::client(Peer::Go);
        let endpoint = format!("127.0.0.1:{grpc}");
        command.args(["pings", &endpoint, &EAGER_SECONDS.to_string()]);
        let mut client = Process::spawn(&mut command);
        let code = client
            .wait(DEADLINE + Duration::from_secs(EAGER_SECONDS))
            .await;
        assert_eq!(code, Some(0), "{}", client.log());
        until("the client's last words", DEADLINE, async || {
            client.log().contains("connections: ")
        })
        .await;
        let log = client.log();
        let connections = log
            .lines()
            .find_map(|line| line.strip_prefix("connections: "));
        (
            log.contains("too_many_pings"),
            connections.map(str::to_owned),
        )
    };
    let (ours, lenient, theirs) = tokio::join!(
        run(Kind::Ours, policy),
        run(Kind::Ours, "{}"),
        run(Kind::Otelcol, policy)
    );
    assert_eq!(ours, (true, Some("2".to_owned())));
    assert_eq!(theirs, ours);
    assert_eq!(lenient, (false, Some("1".to_owned())));
}
