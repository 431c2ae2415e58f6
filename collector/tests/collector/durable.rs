//! A queue on disk: what was answered arrives, whatever happens in between.

use collector::network::{Encoding, Protocol};

use crate::harness::*;

struct Ports {
    grpc: u16,
    metrics: u16,
    target: u16,
}

impl Ports {
    fn new() -> Self {
        Self {
            grpc: port(),
            metrics: port(),
            target: port(),
        }
    }
}

/// A gateway whose queue is in `queue`; `more` goes into its `sending_queue`.
fn gateway(ports: &Ports, queue: &std::path::Path, more: &str) -> String {
    format!(
        "
extensions:
  file_storage: {{directory: '{queue}'}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}'}}
processors:
  batch: {{timeout: 1s, send_batch_size: 300, send_batch_max_size: 300}}
exporters:
  otlp/next:
    endpoint: 127.0.0.1:{target}
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 300ms, max_elapsed_time: 1s}}
    sending_queue: {{storage: file_storage{more}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{address: '127.0.0.1:{metrics}'}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp/next]}}
",
        queue = queue.display(),
        grpc = ports.grpc,
        target = ports.target,
        metrics = ports.metrics,
    )
}

fn target(port: u16, path: &std::path::Path) -> String {
    format!(
        "
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{port}'}}
exporters:
  file: {{path: '{}', append: true, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
",
        path.display()
    )
}

/// Sends spans with these numbers, 70 in a request.
async fn send(ports: &Ports, numbers: std::ops::Range<usize>) -> Vec<String> {
    let over_grpc = client(Protocol::Grpc);
    let names: Vec<String> = numbers.map(|n| format!("span-{n:05}")).collect();
    for names in names.chunks(70) {
        let batch = spans(names.iter().cloned());
        call(&over_grpc, ports.grpc, &batch, Encoding::Identity)
            .await
            .unwrap();
    }
    names
}

async fn metric(ports: &Ports, line: &str) -> bool {
    let answer = get(&client(Protocol::Http), ports.metrics, "/metrics").await;
    String::from_utf8(answer.body.to_vec())
        .unwrap()
        .contains(line)
}

#[tokio::test]
async fn what_was_answered_survives_kills_and_an_outage_longer_than_max_elapsed_time() {
    let folder = folder();
    let (queue, out) = (folder.path().join("queue"), folder.path().join("out.jsonl"));
    let ports = Ports::new();
    let first = write(folder.path(), "gateway.yaml", &gateway(&ports, &queue, ""));
    let last = write(folder.path(), "target.yaml", &target(ports.target, &out));
    let mut expected = Vec::new();
    for round in 0..3 {
        let gateway = Collector::start(&first).await;
        expected.extend(send(&ports, round * 1_000..(round + 1) * 1_000).await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        // Dropping it is a SIGKILL.
        drop(gateway);
    }
    let mut gateway = Collector::start(&first).await;
    assert!(gateway.log().contains("going on with what is in the queue"));
    until("the gauge of the queue", async || {
        metric(
            &ports,
            "otelcol_exporter_queue_size{data_type=\"traces\",exporter=\"otlp/next\"} 10\n",
        )
        .await
    })
    .await;
    let mut storage = Collector::start(&last).await;
    until("everything to arrive", async || {
        span_names(&out).len() >= expected.len()
    })
    .await;
    assert_eq!(span_names(&out), expected);
    for line in lines(&out) {
        let spans = find(&line, "spans");
        assert!(
            spans
                .iter()
                .map(|s| s.as_array().unwrap().len())
                .sum::<usize>()
                <= 300
        );
    }
    // After a clean end nothing is sent again, and the disk is as good as empty.
    gateway.terminate();
    assert_eq!(gateway.wait().await, Some(0));
    let mut gateway = Collector::start(&first).await;
    expected.extend(send(&ports, 3_000..3_070).await);
    until("the last request to arrive", async || {
        span_names(&out).len() >= expected.len()
    })
    .await;
    assert_eq!(span_names(&out), expected);
    gateway.terminate();
    assert_eq!(gateway.wait().await, Some(0));
    storage.terminate();
    assert_eq!(storage.wait().await, Some(0));
    assert!(
        bytes_below(&queue) < 64 << 10,
        "{} bytes",
        bytes_below(&queue)
    );
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[tokio::test]
async fn a_signal_delivers_what_waits_for_its_batch() {
    let folder = folder();
    let (queue, out) = (folder.path().join("queue"), folder.path().join("out.jsonl"));
    let ports = Ports::new();
    let yaml = gateway(&ports, &queue, "").replace("timeout: 1s, send", "timeout: 600s, send");
    let first = write(folder.path(), "gateway.yaml", &yaml);
    let last = write(folder.path(), "target.yaml", &target(ports.target, &out));
    let mut storage = Collector::start(&last).await;
    let mut gateway = Collector::start(&first).await;
    let expected = send(&ports, 0..140).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await, Some(0));
    storage.terminate();
    assert_eq!(storage.wait().await, Some(0));
    assert_eq!(span_names(&out), expected);
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    let folder = folder();
    let (queue, out) = (folder.path().join("queue"), folder.path().join("out.jsonl"));
    let ports = Ports::new();
    let more = ", sizer: items, queue_size: 500";
    let first = write(
        folder.path(),
        "gateway.yaml",
        &gateway(&ports, &queue, more),
    );
    let last = write(folder.path(), "target.yaml", &target(ports.target, &out));
    let gateway = Collector::start(&first).await;
    let over_grpc = client(Protocol::Grpc);
    let mut answered = Vec::new();
    let refusal = loop {
        let name = format!("span-{:05}", answered.len());
        let batch = spans([name.clone()]);
        match call(&over_grpc, ports.grpc, &batch, Encoding::Identity).await {
            Ok(_) => answered.push(name),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal.code, collector::network::grpc::Code::Unavailable);
    assert!(refusal.retry_after.is_some());
    assert!(
        refusal.message.contains("otlp/next is full"),
        "{}",
        refusal.message
    );
    assert!((500..=600).contains(&answered.len()), "{}", answered.len());
    let _storage = Collector::start(&last).await;
    until("everything to arrive", async || {
        span_names(&out).len() >= answered.len()
    })
    .await;
    assert_eq!(span_names(&out), answered);
    drop(gateway);
}

#[tokio::test]
async fn what_others_left_in_the_folder_is_named() {
    let folder = folder();
    let queue = folder.path().join("queue");
    let ports = Ports::new();
    let yaml = gateway(&ports, &queue, "");
    let first = write(folder.path(), "gateway.yaml", &yaml);
    let gateway = Collector::start(&first).await;
    send(&ports, 0..70).await;
    drop(gateway);
    let mut bbolt = vec![0; 4096];
    bbolt[16..20].copy_from_slice(&[0xED, 0xDA, 0x0C, 0xED]);
    std::fs::write(queue.join("exporter_otlp_old_traces"), bbolt).unwrap();
    let renamed = write(
        folder.path(),
        "renamed.yaml",
        &yaml.replace("otlp/next", "otlp/other"),
    );
    let gateway = Collector::start(&renamed).await;
    let log = gateway.log();
    assert!(
        log.contains("no exporter of this configuration uses this queue"),
        "{log}"
    );
    assert!(log.contains("exporter.otlp%2Fnext.traces"), "{log}");
    assert!(
        log.contains("this is a queue of the OpenTelemetry Collector"),
        "{log}"
    );
    // And the folder has one owner.
    let moved = yaml
        .replace("otlp/next", "otlp/other")
        .replace(&ports.grpc.to_string(), &port().to_string())
        .replace(&ports.metrics.to_string(), &port().to_string());
    let second = write(folder.path(), "second.yaml", &moved);
    let refused = run(&["--config", second.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("is in use by another process"), "{text}");
}
