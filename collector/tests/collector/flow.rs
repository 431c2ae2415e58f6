//! Telemetry goes in and comes out, whole and once.

use collector::network::{Encoding, Protocol};

use crate::harness::*;

fn gateway(grpc: u16, http: u16, metrics: u16, target: u16) -> String {
    format!(
        "
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}'}}
      http: {{endpoint: '127.0.0.1:{http}'}}
processors:
  memory_limiter: {{limit_mib: 4000, spike_limit_mib: 1000}}
  resource:
    attributes:
      - {{key: deployment.environment, value: lab, action: upsert}}
  batch: {{timeout: 10s, send_batch_size: 300, send_batch_max_size: 300}}
exporters:
  otlp:
    endpoint: 127.0.0.1:{target}
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 500ms}}
service:
  telemetry: {{metrics: {{address: '127.0.0.1:{metrics}'}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter, resource, batch], exporters: [otlp]}}
"
    )
}

pub(crate) fn storage(grpc: u16, http: u16, path: &std::path::Path) -> String {
    format!(
        "
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}'}}
      http: {{endpoint: '127.0.0.1:{http}'}}
exporters:
  file: {{path: '{}', append: true, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
",
        path.display()
    )
}

#[tokio::test]
async fn every_way_in_ends_in_the_file() {
    let folder = folder();
    let (grpc, http, out) = (port(), port(), folder.path().join("out.jsonl"));
    let config = write(folder.path(), "config.yaml", &storage(grpc, http, &out));
    let mut collector = Collector::start(&config).await;
    let (over_grpc, over_http) = (client(Protocol::Grpc), client(Protocol::Http));
    let mut expected = Vec::new();
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        let batches = [
            spans(["a".to_owned(), "b".to_owned()]),
            logs(&["x", "y"]),
            points(&[1, -2]),
        ];
        for batch in &batches {
            let json: serde_json::Value =
                serde_json::from_slice(&batch.to_json().unwrap()).unwrap();
            assert_eq!(call(&over_grpc, grpc, batch, encoding).await.unwrap(), "");
            for format in [Format::Protobuf, Format::Json] {
                let answer = post(&over_http, http, batch, format, encoding).await;
                assert_eq!(answer.status, 200);
            }
            expected.extend([json.clone(), json.clone(), json]);
        }
    }
    until("the file to be flushed", async || {
        lines(&out).len() == expected.len()
    })
    .await;
    assert_eq!(lines(&out), expected);
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
}

#[tokio::test]
async fn a_chain_delivers_everything_once_though_its_end_comes_late() {
    let folder = folder();
    let out = folder.path().join("out.jsonl");
    let (grpc, http, metrics, target) = (port(), port(), port(), port());
    let first = write(
        folder.path(),
        "gateway.yaml",
        &gateway(grpc, http, metrics, target),
    );
    let last = write(
        folder.path(),
        "storage.yaml",
        &storage(target, port(), &out),
    );
    let mut gateway = Collector::start(&first).await;
    let over_grpc = client(Protocol::Grpc);
    let mut expected: Vec<String> = (0..2_000).map(|n| format!("span-{n:05}")).collect();
    for names in expected.chunks(70) {
        let batch = spans(names.iter().cloned());
        call(&over_grpc, grpc, &batch, Encoding::Gzip)
            .await
            .unwrap();
    }
    let mut storage = Collector::start(&last).await;
    let over_http = client(Protocol::Http);
    until("1,800 spans to be delivered by their number", async || {
        let answer = get(&over_http, metrics, "/metrics").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(
            "otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"grpc\"} 2000"
        ));
        text.contains("otelcol_exporter_sent_spans{exporter=\"otlp\"} 1800")
    })
    .await;
    // The last 200 wait for a timeout of ten seconds, which the signal cuts short.
    gateway.terminate();
    assert_eq!(gateway.wait().await, Some(0));
    storage.terminate();
    assert_eq!(storage.wait().await, Some(0));
    expected.sort();
    assert_eq!(span_names(&out), expected);
    for line in lines(&out) {
        let attributes = find(&line, "resource")[0].to_string();
        assert!(
            attributes.contains("deployment.environment"),
            "{attributes}"
        );
        assert!(
            find(&line, "spans")
                .iter()
                .map(|s| s.as_array().unwrap().len())
                .sum::<usize>()
                <= 300
        );
    }
}

#[tokio::test]
async fn a_signal_during_traffic_loses_nothing_that_was_answered() {
    let folder = folder();
    let out = folder.path().join("out.jsonl");
    let (grpc, target) = (port(), port());
    let first = write(
        folder.path(),
        "gateway.yaml",
        &gateway(grpc, port(), port(), target),
    );
    let last = write(
        folder.path(),
        "storage.yaml",
        &storage(target, port(), &out),
    );
    let mut storage = Collector::start(&last).await;
    let mut gateway = Collector::start(&first).await;
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            tokio::spawn(async move {
                let over_grpc = client(Protocol::Grpc);
                let mut answered = Vec::new();
                for n in 0.. {
                    let name = format!("{sender}-{n}");
                    let framed = collector::network::grpc::frame(
                        spans([name.clone()]).bytes(),
                        Encoding::Identity,
                    );
                    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
                    let request = hyper::Request::post(format!("http://127.0.0.1:{grpc}{path}"))
                        .header("content-type", "application/grpc")
                        .body(http_body_util::Full::new(framed))
                        .unwrap();
                    // A connection that is refused says that the collector has gone.
                    let Ok(answer) = over_grpc.call(request).await else {
                        return answered;
                    };
                    match collector::network::grpc::read_answer(answer) {
                        Ok(_) => answered.push(name),
                        Err(_) => return answered,
                    }
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    gateway.terminate();
    assert_eq!(gateway.wait().await, Some(0));
    let mut answered = Vec::new();
    for sender in senders {
        answered.extend(sender.await.unwrap());
    }
    storage.terminate();
    assert_eq!(storage.wait().await, Some(0));
    let delivered = span_names(&out);
    assert!(!answered.is_empty());
    for name in &answered {
        assert!(
            delivered.binary_search(name).is_ok(),
            "{name} was answered and is lost"
        );
    }
}
