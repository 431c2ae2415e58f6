//! A real OpenTelemetry Collector in front of this one as agent, and behind it as target.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Test;
use crate::arrival::Arrived;
use crate::clients::{Client, verify};
use crate::peer::Peer;
use crate::process::{DEADLINE, Kind, Process, folder, port, write};
use crate::sink::Sink;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "otelcol::everything_passes_an_agent_this_collector_and_a_target_over_grpc",
        needs: &[Peer::Otelcol, Peer::Go],
        run: || crate::run(everything_passes("grpc")),
    },
    Test {
        name: "otelcol::everything_passes_an_agent_this_collector_and_a_target_over_http",
        needs: &[Peer::Otelcol, Peer::Go],
        run: || crate::run(everything_passes("http/protobuf")),
    },
    Test {
        name: "otelcol::restarts_of_the_target_lose_and_double_nothing",
        needs: &[Peer::Otelcol, Peer::Python],
        run: || crate::run(restarts_of_the_target()),
    },
];

/// Items of each signal.
const COUNT: usize = 3_000;

/// A collector between a receiver and an exporter, at their defaults.
pub(crate) fn passing(
    folder: &Path,
    name: &str,
    port: u16,
    protocol: &str,
    exporter: &str,
) -> PathBuf {
    let protocol = if protocol == "grpc" { "grpc" } else { "http" };
    let id = exporter.split(':').next().unwrap();
    let pipeline = format!("{{receivers: [otlp], processors: [batch], exporters: [{id}]}}");
    let yaml = format!(
        "receivers: {{otlp: {{protocols: {{{protocol}: {{endpoint: '127.0.0.1:{port}'}}}}}}}}
processors: {{batch: }}
exporters: {{{exporter}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {pipeline}
    metrics: {pipeline}
    logs: {pipeline}
"
    );
    write(folder, name, &yaml)
}

/// An `otlp` or `otlphttp` exporter to a port.
pub(crate) fn sending(protocol: &str, port: u16) -> String {
    match protocol {
        "grpc" => format!("otlp: {{endpoint: '127.0.0.1:{port}', tls: {{insecure: true}}}}"),
        _ => format!("otlphttp: {{endpoint: 'http://127.0.0.1:{port}'}}"),
    }
}

async fn everything_passes(protocol: &str) {
    let (folder, ports) = (folder(), [port(), port(), port()]);
    let folder = folder.path();
    let file = folder.join("out.jsonl");
    let to_file = format!(
        "file: {{path: '{}', flush_interval: 200ms}}",
        file.display()
    );
    let behind = passing(folder, "behind.yaml", ports[2], protocol, &to_file);
    let ours = passing(
        folder,
        "ours.yaml",
        ports[1],
        protocol,
        &sending(protocol, ports[2]),
    );
    let front = passing(
        folder,
        "front.yaml",
        ports[0],
        protocol,
        &sending(protocol, ports[1]),
    );
    let _behind = Process::start(Kind::Otelcol, &behind, &[ports[2]]).await;
    let ours = Process::start(Kind::Ours, &ours, &[ports[1]]).await;
    let _front = Process::start(Kind::Otelcol, &front, &[ports[0]]).await;
    let endpoint = format!("http://127.0.0.1:{}", ports[0]);
    let client = Client::start(Peer::Go, protocol, &endpoint, (COUNT, 0), &[]);
    let run = client.run.clone();
    let outcome = client.outcome(DEADLINE).await;
    assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.log);
    verify(&[run], COUNT, DEADLINE, || Arrived::in_file(&file)).await;
    let log = ours.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

async fn restarts_of_the_target() {
    let (sink, received) = Sink::recording().await;
    let (folder, ports) = (folder(), [port(), port()]);
    let folder = folder.path();
    // Its file exporter panics when it is stopped while batches wait, so it passes things on.
    let on = sending("grpc", sink.port);
    let behind = passing(folder, "behind.yaml", ports[1], "grpc", &on);
    let ours = passing(
        folder,
        "ours.yaml",
        ports[0],
        "grpc",
        &sending("grpc", ports[1]),
    );
    let mut target = Process::start(Kind::Otelcol, &behind, &[ports[1]]).await;
    let _ours = Process::start(Kind::Ours, &ours, &[ports[0]]).await;
    let endpoint = format!("http://127.0.0.1:{}", ports[0]);
    let client = Client::start(Peer::Python, "grpc", &endpoint, (COUNT, 12), &[]);
    let run = client.run.clone();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        target.signal("TERM");
        assert_eq!(target.wait(DEADLINE).await, Some(0), "{}", target.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
        target = Process::start(Kind::Otelcol, &behind, &[ports[1]]).await;
    }
    let outcome = client.outcome(DEADLINE).await;
    assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.log);
    verify(&[run], COUNT, DEADLINE, || Arrived::in_requests(&received)).await;
}
