//! The documents' first configuration, with a target that goes away, and SDKs at their defaults:
//! nothing is dropped or doubled, and no send is slow.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Test;
use crate::arrival::Arrived;
use crate::clients::{Client, verify};
use crate::otelcol::{passing, sending};
use crate::peer::Peer;
use crate::process::{Kind, Process, folder, port, write};
use crate::sink::Sink;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "gate::an_outage_costs_no_sender_over_grpc_anything",
        needs: CLIENTS,
        run: || crate::run(an_outage_costs_nothing("grpc", CLIENTS, None)),
    },
    Test {
        name: "gate::an_outage_costs_no_sender_over_http_anything",
        needs: CLIENTS,
        run: || crate::run(an_outage_costs_nothing("http/protobuf", CLIENTS, None)),
    },
    Test {
        name: "gate::an_outage_costs_nothing_behind_a_real_agent",
        needs: &[Peer::Go, Peer::Otelcol],
        run: || {
            crate::run(an_outage_costs_nothing(
                "grpc",
                &[Peer::Go],
                Some(Kind::Otelcol),
            ))
        },
    },
];

const CLIENTS: &[Peer] = &[Peer::Python, Peer::Go, Peer::Java, Peer::Node];

/// The longest that 99 of 100 sends may take.
const P99: Duration = Duration::from_millis(50);

/// On a machine where the clients alone are slower than that, how many times as long as theirs.
const SLOWER: u32 = 2;

/// Items of each signal a second and client.
const RATE: u64 = 200;

/// How long the target is away: as many seconds as `COLLECTOR_OUTAGE` says, 15 without.
fn outage() -> Duration {
    let said = std::env::var("COLLECTOR_OUTAGE").ok();
    let usual = if crate::long() { 600 } else { 15 };
    Duration::from_secs(said.and_then(|said| said.parse().ok()).unwrap_or(usual))
}

/// The configuration, with free ports, a folder of the test's own, and one exporter that takes
/// the place of those for metrics and logs.
fn configuration(folder: &Path, [grpc, http, health, metrics]: [u16; 4], target: u16) -> PathBuf {
    let storage = folder.join("storage");
    std::fs::create_dir_all(&storage).unwrap();
    let pipeline = "{receivers: [otlp], processors: [memory_limiter, resource, batch], exporters: [otlp/jaeger]}";
    let yaml = format!(
        "extensions:
  health_check:
    endpoint: 127.0.0.1:{health}
    path: /health
    check_collector_pipeline:
      enabled: true
      interval: 5m
      exporter_failure_threshold: 5
  file_storage:
    directory: {storage}
    timeout: 10s
    compaction:
      on_start: true
      on_rebound: true
      directory: {storage}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:{grpc}
        max_recv_msg_size_mib: 4
        max_concurrent_streams: 100
      http:
        endpoint: 127.0.0.1:{http}
        cors:
          allowed_origins: ['*']
processors:
  memory_limiter:
    check_interval: 1s
    limit_mib: 1600
    spike_limit_mib: 400
  batch:
    timeout: 5s
    send_batch_size: 10000
    send_batch_max_size: 15000
  resource:
    attributes:
    - key: deployment.environment
      value: production
      action: upsert
    - key: collector.name
      value: otel-collector-single
      action: upsert
exporters:
  otlp/jaeger:
    endpoint: 127.0.0.1:{target}
    tls:
      insecure: true
    sending_queue:
      enabled: true
      num_consumers: 10
      queue_size: 10000
      storage: file_storage
    retry_on_failure:
      enabled: true
      initial_interval: 5s
      max_interval: 30s
      max_elapsed_time: 300s
service:
  extensions: [health_check, file_storage]
  telemetry:
    logs:
      level: info
      encoding: json
    metrics:
      level: detailed
      address: 127.0.0.1:{metrics}
  pipelines:
    traces: {pipeline}
    metrics: {pipeline}
    logs: {pipeline}
",
        storage = storage.display()
    );
    write(folder, "config.yaml", &yaml)
}

/// What some clients' sends took, sorted, without the first of each exporter: it connects, and
/// loads what the client needs for it.
async fn sends(clients: Vec<Client>, deadline: Duration) -> Vec<Duration> {
    let mut sends = Vec::new();
    for client in clients {
        let run = client.run.clone();
        let outcome = client.outcome(deadline).await;
        assert_eq!(
            outcome.failures,
            Vec::<String>::new(),
            "{run}: {}",
            outcome.log
        );
        sends.extend(
            outcome
                .sends
                .values()
                .flat_map(|times| times.iter().skip(1)),
        );
    }
    sends.sort_unstable();
    sends
}

fn p99(sends: &[Duration]) -> Duration {
    sends[sends.len() * 99 / 100]
}

/// The same clients with nothing between them and a target: what they and the machine cost.
async fn floor(protocol: &str, peers: &[Peer]) -> Duration {
    const SECONDS: u64 = 15;
    let (sink, _) = Sink::recording().await;
    let endpoint = format!("http://127.0.0.1:{}", sink.port);
    let amount = (usize::try_from(RATE * SECONDS).unwrap(), SECONDS);
    let start = |peer: &Peer| Client::start(*peer, protocol, &endpoint, amount, &[]);
    p99(&sends(peers.iter().map(start).collect(), Duration::from_secs(120)).await)
}

async fn an_outage_costs_nothing(protocol: &str, peers: &[Peer], agent: Option<Kind>) {
    let floor = floor(protocol, peers).await;
    let (mut sink, received) = Sink::recording().await;
    let (folder, ports) = (folder(), [port(), port(), port(), port()]);
    let config = configuration(folder.path(), ports, sink.port);
    let _collector = Process::start(Kind::Ours, &config, &ports).await;
    let outage = outage();
    let seconds = outage.as_secs() + 10;
    let count = usize::try_from(RATE * seconds).unwrap();
    let port = if protocol == "grpc" {
        ports[0]
    } else {
        ports[1]
    };
    let (mut endpoint, mut agents) = (format!("http://127.0.0.1:{port}"), Vec::new());
    if let Some(agent) = agent {
        let own = crate::process::port();
        let config = passing(
            folder.path(),
            "agent.yaml",
            own,
            protocol,
            &sending(protocol, port),
        );
        agents.push(Process::start(agent, &config, &[own]).await);
        endpoint = format!("http://127.0.0.1:{own}");
    }
    let start = |peer: &Peer| Client::start(*peer, protocol, &endpoint, (count, seconds), &[]);
    let clients: Vec<Client> = peers.iter().map(start).collect();
    let runs: Vec<String> = clients.iter().map(|client| client.run.clone()).collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    sink.go_away().await;
    tokio::time::sleep(outage).await;
    sink.come_back().await;
    let sends = sends(clients, Duration::from_secs(seconds + 120)).await;
    // A retry may have been put off for as long as max_interval, and half as long again; and the
    // longer the outage, the more there is to send and for the target to read.
    let drained = Duration::from_secs(90) + outage;
    verify(&runs, count, drained, || Arrived::in_requests(&received)).await;
    for agent in agents {
        let log = agent.log();
        assert!(
            !log.contains("Dropping data"),
            "the agent dropped data: {log}"
        );
    }
    let p99 = p99(&sends);
    println!(
        "{protocol}: target away for {outage:?}; {count} items of each signal from each of {} clients, each once at the target; {} sends, p50 {:?}, p99 {p99:?} (without a collector {floor:?}), longest {:?}",
        peers.len(),
        sends.len(),
        sends[sends.len() / 2],
        sends.last(),
    );
    let limit = P99.max(floor * SLOWER);
    assert!(
        p99 < limit,
        "99 of 100 sends took at most {p99:?}, not {limit:?}"
    );
}
