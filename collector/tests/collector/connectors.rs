//! Connectors: what leaves one pipeline enters others, and answers come back through both.

use collector::network::{Encoding, Protocol};

use crate::harness::*;

#[tokio::test]
async fn what_leaves_a_pipeline_enters_every_one_behind_it() {
    let folder = folder();
    let (grpc, all, some) = (
        port(),
        folder.path().join("all.jsonl"),
        folder.path().join("some.jsonl"),
    );
    let file =
        |path: &std::path::Path| format!("{{path: '{}', flush_interval: 50ms}}", path.display());
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors:
  filter: {{traces: {{span: ['name == \"b\"']}}}}
  resource: {{attributes: [{{key: zone, value: north}}]}}
  batch: {{timeout: 100ms}}
exporters: {{file/all: {}, file/some: {}}}
connectors: {{forward: , forward/last: }}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces/some: {{receivers: [forward], processors: [filter], exporters: [file/some]}}
    traces/last: {{receivers: [forward/last], exporters: [file/all]}}
    traces: {{receivers: [otlp], processors: [resource, batch], exporters: [forward]}}
    traces/all: {{receivers: [forward], exporters: [forward/last]}}
    logs: {{receivers: [otlp], exporters: [forward]}}
    logs/behind: {{receivers: [forward], exporters: [file/all]}}
",
        file(&all),
        file(&some)
    );
    let mut collector = Collector::start(&write(folder.path(), "config.yaml", &yaml)).await;
    let over_grpc = client(Protocol::Grpc);
    for request in [spans(["a", "b", "c"].map(str::to_owned)), logs(&["hello"])] {
        let answer = call(&over_grpc, grpc, &request, Encoding::Identity).await;
        answer.unwrap();
    }
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    assert_eq!(span_names(&all), ["a", "b", "c"]);
    assert_eq!(span_names(&some), ["a", "c"]);
    let text = std::fs::read_to_string(&all).unwrap();
    assert!(text.contains("north") && text.contains("hello"), "{text}");
    assert!(!std::fs::read_to_string(&some).unwrap().contains("hello"));
}

#[tokio::test]
async fn a_sender_hears_what_the_pipelines_behind_a_connector_answer() {
    let folder = folder();
    let (grpc, away) = (port(), port());
    let out = folder.path().join("out.jsonl");
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
exporters:
  file: {{path: '{}', flush_interval: 50ms}}
  otlp:
    endpoint: 127.0.0.1:{away}
    tls: {{insecure: true}}
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
connectors: {{forward: }}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces/in: {{receivers: [otlp], exporters: [forward]}}
    traces/away: {{receivers: [forward], exporters: [otlp]}}
    traces/here: {{receivers: [forward], exporters: [file]}}
",
        out.display()
    );
    let mut collector = Collector::start(&write(folder.path(), "config.yaml", &yaml)).await;
    let request = spans(["a".to_owned()]);
    let over_grpc = client(Protocol::Grpc);
    let refused = call(&over_grpc, grpc, &request, Encoding::Identity).await;
    assert_eq!(
        refused.unwrap_err().code,
        collector::network::grpc::Code::Unavailable
    );
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    assert_eq!(span_names(&out), ["a"]);
}
