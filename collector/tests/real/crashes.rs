//! Crashes and stops under load: whatever was acknowledged arrives, intact.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Test;
use crate::arrival::Arrived;
use crate::load::{Load, RUN};
use crate::process::{DEADLINE, Kind, Process, folder, port, until, write};
use crate::sink::Sink;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "crashes::what_was_acknowledged_survives_kills_at_random_moments",
        needs: &[],
        run: || crate::run(kills()),
    },
    Test {
        name: "crashes::sigterm_with_a_durable_queue_loses_and_doubles_nothing",
        needs: &[],
        run: || crate::run(a_stop(true)),
    },
    Test {
        name: "crashes::sigterm_with_a_queue_in_memory_loses_and_doubles_nothing",
        needs: &[],
        run: || crate::run(a_stop(false)),
    },
];

/// How long a backlog may take to arrive.
const DRAINED: Duration = Duration::from_secs(180);

/// How often each span of the load arrived, by number.
pub(crate) type Counts = Arc<Mutex<HashMap<u64, u32>>>;

/// A target that checks and counts the spans of a load.
pub(crate) async fn counting() -> (Sink, Counts) {
    let counts = Counts::default();
    let all = Arc::clone(&counts);
    let sink = Sink::start(move |received| {
        let mut arrived = Arrived::default();
        arrived.add(received.signal, &received.body);
        let mut all = all.lock().unwrap();
        for ((run, number), count) in arrived.spans {
            assert_eq!(run, RUN);
            *all.entry(u64::try_from(number).unwrap()).or_default() +=
                u32::try_from(count).unwrap();
        }
    })
    .await;
    (sink, counts)
}

/// Waits until all of these spans have arrived.
pub(crate) async fn all_arrive(acknowledged: &[u64], counts: &Counts) {
    let missing = || {
        let counts = counts.lock().unwrap();
        acknowledged
            .iter()
            .filter(|number| !counts.contains_key(number))
            .count()
    };
    let begun = Instant::now();
    while missing() > 0 && begun.elapsed() < DRAINED {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(
        missing(),
        0,
        "of {} acknowledged spans are lost",
        acknowledged.len()
    );
}

/// How many spans arrived more than once, and how often too many.
pub(crate) fn duplicates(counts: &Counts) -> (usize, u32) {
    let counts = counts.lock().unwrap();
    let more = || counts.values().filter(|count| **count > 1);
    (more().count(), more().map(|count| count - 1).sum())
}

/// A receiver for traces and an exporter; `storage` makes its queue durable.
pub(crate) fn forwarding(
    folder: &Path,
    (grpc, http): (u16, u16),
    target: u16,
    storage: Option<&Path>,
) -> PathBuf {
    let (extension, service, queue) = match storage {
        Some(path) => {
            let path = path.display();
            (
                format!(
                    "extensions: {{file_storage: {{directory: '{path}', create_directory: true}}}}\n"
                ),
                "  extensions: [file_storage]\n",
                "storage: file_storage",
            )
        }
        None => (String::new(), "", "enabled: true"),
    };
    let yaml = format!(
        "{extension}receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}'}}
      http: {{endpoint: '127.0.0.1:{http}'}}
processors: {{batch: {{timeout: 200ms, send_batch_size: 1000}}}}
exporters:
  otlp:
    endpoint: 127.0.0.1:{target}
    tls: {{insecure: true}}
    sending_queue: {{queue_size: 10000, {queue}}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 1s}}
service:
{service}  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}
"
    );
    write(folder, "config.yaml", &yaml)
}

async fn kills() {
    let usual = if crate::long() { 300 } else { 15 };
    let said = std::env::var("COLLECTOR_KILLS").ok();
    let kills: u32 = said.and_then(|said| said.parse().ok()).unwrap_or(usual);
    let (mut sink, counts) = counting().await;
    let (folder, grpc, http) = (folder(), port(), port());
    let storage = folder.path().join("storage");
    let config = forwarding(folder.path(), (grpc, http), sink.port, Some(&storage));
    let mut collector = Process::start(Kind::Ours, &config, &[grpc]).await;
    let load = Load::start(grpc, 0);
    let (mut started, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..900))).await;
        match kill % 6 {
            1 => sink.go_away().await,
            4 => sink.come_back().await,
            _ => {}
        }
        collector.kill();
        let begun = Instant::now();
        collector = Process::start(Kind::Ours, &config, &[grpc]).await;
        started += begun.elapsed();
        slowest = slowest.max(begun.elapsed());
    }
    sink.go_away().await;
    sink.come_back().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (acknowledged, refused) = load.finish().await;
    all_arrive(&acknowledged, &counts).await;
    collector.signal("TERM");
    assert_eq!(
        collector.wait(DEADLINE).await,
        Some(0),
        "{}",
        collector.log()
    );
    let (doubled, too_many) = duplicates(&counts);
    let arrived = counts.lock().unwrap().len();
    println!(
        "{kills} kills, {} spans acknowledged and {refused} not, none lost; {arrived} arrived, {doubled} of them more than once ({too_many} too many); start took {:?} on average, {slowest:?} at most",
        acknowledged.len(),
        started / kills.max(1),
    );
    assert!(
        acknowledged.len() > 1_000 * usize::try_from(kills).unwrap() / 4,
        "the load was light"
    );
}

async fn a_stop(durable: bool) {
    let (sink, counts) = counting().await;
    let (folder, grpc, http) = (folder(), port(), port());
    let storage = folder.path().join("storage");
    let storage = durable.then_some(storage.as_path());
    let config = forwarding(folder.path(), (grpc, http), sink.port, storage);
    let mut collector = Process::start(Kind::Ours, &config, &[grpc]).await;
    let load = Load::start(grpc, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    collector.signal("TERM");
    let begun = Instant::now();
    assert_eq!(
        collector.wait(DEADLINE).await,
        Some(0),
        "{}",
        collector.log()
    );
    let took = begun.elapsed();
    let (acknowledged, refused) = load.finish().await;
    if durable {
        // What it did not deliver in time is delivered by the next run.
        collector = Process::start(Kind::Ours, &config, &[grpc]).await;
        until("the next run to listen", DEADLINE, async || {
            !collector.ended()
        })
        .await;
    }
    all_arrive(&acknowledged, &counts).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        duplicates(&counts),
        (0, 0),
        "spans that arrived more than once"
    );
    println!(
        "{} spans acknowledged, {refused} not; it ended after {took:?}",
        acknowledged.len()
    );
}
