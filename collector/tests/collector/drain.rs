//! A long backlog on disk: it drains to a slow target, and memory stays where it was told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use collector::network::grpc::{Call, GrpcSettings, ServerKeepAlive, serve};
use collector::network::{self, Encoding, Protocol};
use collector_otlp::Request;

use crate::harness::*;

const MIB: usize = 1 << 20;

/// What waits on disk.
const BACKLOG_BYTES: usize = 512 * MIB;

/// The limit of the process.
const LIMIT_MIB: u64 = 64;

/// How long the target thinks about each request.
const THINKS: Duration = Duration::from_millis(50);

/// Requests of nearly 4 MiB, gRPC's usual limit, in spans of half a MiB.
fn request(number: usize) -> Request {
    let pad = "x".repeat(MIB / 2 - 1024);
    spans((0..7).map(|part| format!("{number}-{part}-{pad}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_to_a_slow_target_within_the_memory_limit() {
    let folder = folder();
    let (grpc, target) = (port(), port());
    let queue = folder.path().join("queue");
    std::fs::create_dir(&queue).unwrap();
    let yaml = format!(
        "
extensions: {{file_storage: {{directory: '{}'}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors: {{memory_limiter: {{limit_mib: {LIMIT_MIB}}}, batch: {{timeout: 200ms}}}}
exporters:
  otlp:
    endpoint: 127.0.0.1:{target}
    compression: none
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 200ms}}
    sending_queue: {{storage: file_storage, queue_size: 100000}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}}
",
        queue.display()
    );
    let config = write(folder.path(), "config.yaml", &yaml);
    let mut collector = Collector::start(&config).await;
    let sender = client(Protocol::Grpc);
    let (mut sent, mut spans) = (0, 0);
    while sent < BACKLOG_BYTES {
        let request = request(spans);
        until("a request to be taken", async || {
            let answer = call(&sender, grpc, &request, Encoding::Identity).await;
            answer.is_ok()
        })
        .await;
        sent += request.byte_len();
        spans += request.items();
    }
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let listener = network::bind("target", &format!("127.0.0.1:{target}")).await;
    let settings = GrpcSettings {
        tls: None,
        max_concurrent_streams: 100,
        keep_alive: ServerKeepAlive::default(),
        budget: Arc::default(),
    };
    let server = serve(listener.unwrap(), settings, move |call: Call| {
        let counted = Arc::clone(&counted);
        async move {
            let (_, message, _) = call.message(64 * MIB).await?;
            tokio::time::sleep(THINKS).await;
            let items = Request::parse(collector_otlp::Signal::Traces, message)
                .unwrap()
                .items();
            counted.fetch_add(items, Ordering::Relaxed);
            Ok(Bytes::new())
        }
    });
    let mut before = 0;
    while before < spans {
        until("more of the backlog to arrive", async || {
            taken.load(Ordering::Relaxed) > before
        })
        .await;
        before = taken.load(Ordering::Relaxed);
    }
    let peak = collector.peak_bytes() >> 20;
    println!("drained {} MiB at a peak of {peak} MiB", sent >> 20);
    assert!(peak <= LIMIT_MIB, "{peak} MiB");
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    assert_eq!(taken.load(Ordering::Relaxed), spans);
    drop(server);
}
