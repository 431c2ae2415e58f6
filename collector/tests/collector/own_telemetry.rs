//! What a collector says of itself.

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collector::network::{Encoding, Protocol};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// What alerts and scripts read, as they spell it.
const SERIES: &[&str] = &[
    "otelcol_exporter_queue_size",
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_sent_spans",
    "otelcol_process_memory_rss",
    "otelcol_process_runtime_total_alloc_bytes",
    "otelcol_process_cpu_seconds",
    "otelcol_process_uptime",
    "otelcol_processor_batch_batch_send_size_bucket",
    "otelcol_processor_batch_timeout_trigger_send",
    "otelcol_processor_dropped_spans",
    "otelcol_receiver_accepted_metric_points",
    "otelcol_receiver_accepted_spans",
    "otelcol_receiver_refused_spans",
    "process_resident_memory_bytes",
    "target_info",
];

async fn metrics(port: u16) -> String {
    let answer = get(&client(Protocol::Http), port, "/metrics").await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn every_series_that_alerts_read_is_there_in_both_spellings() {
    let folder = folder();
    let (grpc, plain, suffixed, log) = (port(), port(), port(), folder.path().join("c.log"));
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors: {{batch: {{timeout: 10ms}}, memory_limiter: {{limit_mib: 1000}}}}
exporters: {{otlp: {{endpoint: '127.0.0.1:1', tls: {{insecure: true}}}}, debug: }}
service:
  telemetry:
    resource: {{cluster: c1, service.version: }}
    logs: {{encoding: json, output_paths: [stderr, '{log}'], initial_fields: {{zone: a}}}}
    metrics:
      readers:
        - pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {plain},
            without_type_suffix: true, without_units: true, without_scope_info: true}}}}}}
        - pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {suffixed},
            with_resource_constant_labels: {{included: [cluster]}}}}}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
",
        log = log.display()
    );
    let config = write(folder.path(), "config.yaml", &yaml);
    let mut collector = Collector::start(&config).await;
    call(
        &client(Protocol::Grpc),
        grpc,
        &spans(["a".to_owned()]),
        Encoding::Identity,
    )
    .await
    .unwrap();
    let text = metrics(plain).await;
    for name in SERIES {
        let found = text.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        assert!(found, "{name} is missing in\n{text}");
    }
    let accepted = "otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"grpc\"} 1\n";
    assert!(text.contains(accepted), "{text}");
    let text = metrics(suffixed).await;
    let accepted = "otelcol_receiver_accepted_spans_total{cluster=\"c1\",otel_scope_name=\"go.opentelemetry.io/collector/receiver/receiverhelper\",otel_scope_schema_url=\"\",otel_scope_version=\"\",receiver=\"otlp\",transport=\"grpc\"} 1\n";
    assert!(text.contains(accepted), "{text}");
    assert!(
        text.contains("\notelcol_process_uptime_seconds_total{"),
        "{text}"
    );
    let info = text.lines().find(|line| line.starts_with("target_info"));
    assert!(
        info.unwrap()
            .starts_with("target_info{cluster=\"c1\",service_instance_id=")
    );
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    let logged = std::fs::read_to_string(&log).unwrap();
    assert_eq!(logged, collector.log());
    let ready = lines(&log)
        .into_iter()
        .find(|line| line["msg"] == "ready: everything is running")
        .unwrap();
    assert_eq!(
        (&ready["level"], &ready["zone"]),
        (&"info".into(), &"a".into())
    );
    assert_eq!(ready["resource"], serde_json::json!({"cluster": "c1"}));
}

fn shell(command: &str) -> (bool, String) {
    let output = Command::new("sh")
        .args(["-c", command])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), text.trim().to_owned())
}

#[tokio::test]
async fn scripts_find_it_healthy_and_read_its_counters() {
    let folder = folder();
    let (grpc, health, shown) = (port(), port(), port());
    let yaml = format!(
        "
extensions: {{health_check: {{endpoint: '127.0.0.1:{health}', path: /health}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors: {{memory_limiter: {{limit_mib: 1000}}}}
exporters: {{debug: }}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{address: '127.0.0.1:{shown}'}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [memory_limiter], exporters: [debug]}}}}
"
    );
    let config = write(folder.path(), "config.yaml", &yaml);
    let _collector = Collector::start(&config).await;
    let batch = spans((0..7).map(|number| number.to_string()));
    call(&client(Protocol::Grpc), grpc, &batch, Encoding::Identity)
        .await
        .unwrap();
    let healthy = format!("curl -sf -o /dev/null --max-time 5 http://127.0.0.1:{health}/health");
    assert!(shell(&healthy).0);
    assert!(!shell(&healthy.replace("/health", "/else")).0);
    let sum = |name: &str| {
        shell(&format!(
            "curl -s http://127.0.0.1:{shown}/metrics | grep '{name}' | grep -v '#' | awk '{{sum+=$2}} END {{print sum}}'"
        ))
        .1
    };
    assert_eq!(sum("otelcol_receiver_accepted_spans"), "7");
    assert_eq!(sum("otelcol_processor_dropped"), "0");
    assert_eq!(sum("otelcol_exporter_send_failed"), "0");
}

#[tokio::test]
async fn exporters_that_give_batches_up_make_it_unhealthy_when_asked_to() {
    let folder = folder();
    let (grpc, health) = (port(), port());
    let yaml = format!(
        "
extensions:
  health_check:
    endpoint: '127.0.0.1:{health}'
    response_body: {{healthy: fine, unhealthy: poorly}}
    check_collector_pipeline: {{enabled: true, interval: 1m, exporter_failure_threshold: 0}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
exporters:
  otlp:
    endpoint: '127.0.0.1:1'
    tls: {{insecure: true}}
    retry_on_failure: {{enabled: false}}
    sending_queue: {{enabled: false}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp]}}}}
"
    );
    let config = write(folder.path(), "config.yaml", &yaml);
    let _collector = Collector::start(&config).await;
    let http = client(Protocol::Http);
    let answer = get(&http, health, "/").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"fine"[..])
    );
    let batch = spans(["a".to_owned()]);
    let refused = call(&client(Protocol::Grpc), grpc, &batch, Encoding::Identity).await;
    assert!(refused.is_err());
    until("the failure to be noticed", async || {
        let answer = get(&http, health, "/").await;
        (answer.status.as_u16(), &answer.body[..]) == (503, &b"poorly"[..])
    })
    .await;
}

#[tokio::test]
async fn periodic_readers_send_what_a_scrape_shows_and_once_more_at_the_end() {
    let folder = folder();
    let (grpc, http, own) = (port(), port(), port());
    let [often, hourly] = ["often", "hourly"].map(|name| folder.path().join(name));
    let target = format!(
        "
receivers:
  otlp/often: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}
  otlp/hourly: {{protocols: {{http: {{endpoint: '127.0.0.1:{http}'}}}}}}
exporters:
  file/often: {{path: '{}', flush_interval: 20ms}}
  file/hourly: {{path: '{}', flush_interval: 20ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics/often: {{receivers: [otlp/often], exporters: [file/often]}}
    metrics/hourly: {{receivers: [otlp/hourly], exporters: [file/hourly]}}
",
        often.display(),
        hourly.display()
    );
    let _target = Collector::start(&write(folder.path(), "target.yaml", &target)).await;
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{own}'}}}}}}}}
exporters: {{debug: }}
service:
  telemetry:
    resource: {{service.name: watched}}
    metrics:
      readers:
        - periodic: {{interval: 100, exporter: {{otlp: {{protocol: grpc, endpoint: 'http://127.0.0.1:{grpc}'}}}}}}
        - periodic: {{interval: 3600000, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://127.0.0.1:{http}', compression: gzip}}}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"
    );
    let mut collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    // Each request is a line; what they say of the spans that were accepted.
    let accepted = |path| -> Vec<String> {
        let requests = lines(path);
        let metrics = requests.iter().flat_map(|request| {
            let resource = &request["resourceMetrics"][0];
            assert!(resource["resource"].to_string().contains("watched"));
            let scopes = resource["scopeMetrics"].as_array().unwrap().iter();
            scopes.flat_map(|scope| scope["metrics"].as_array().unwrap())
        });
        let named = metrics.filter(|m| m["name"] == "otelcol_receiver_accepted_spans");
        named
            .map(|m| {
                m["sum"]["dataPoints"][0]["asInt"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    until("metrics to be sent", async || accepted(&often).len() >= 2).await;
    assert!(accepted(&often).iter().all(|count| count == "0"));
    let request = spans(["a", "b"].map(str::to_owned));
    call(&client(Protocol::Grpc), own, &request, Encoding::Identity)
        .await
        .unwrap();
    until("spans to be counted", async || {
        accepted(&often).last().is_some_and(|count| count == "2")
    })
    .await;
    assert!(accepted(&hourly).is_empty());
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    until("the last metrics", async || !accepted(&hourly).is_empty()).await;
    assert_eq!(accepted(&hourly), ["2"]);
    // Another start would say that the counters began anew.
    let requests = [lines(&often), lines(&hourly)].concat();
    let starts = requests.iter().flat_map(|r| find(r, "startTimeUnixNano"));
    let starts: Vec<_> = starts.collect();
    assert!(!starts.is_empty());
    assert!(starts.iter().all(|start| *start == starts[0]), "{starts:?}");
}

/// Longer than a collector waits for its last metrics when nothing else is left of its time.
const THINKS: Duration = Duration::from_millis(1_500);

/// Answers a request late; whether somebody still waited for it.
async fn answer_late(mut stream: TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 16];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    tokio::time::sleep(THINKS).await;
    let rest = loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => break Ok(0),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    rest == Err(ErrorKind::WouldBlock) && stream.write_all(answer).await.is_ok()
}

#[tokio::test]
async fn the_last_metrics_reach_a_slow_target_after_a_reload_and_at_the_end() {
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().port();
    let answered = Arc::<Mutex<Vec<bool>>>::default();
    let noted = Arc::clone(&answered);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let is_awaited = answer_late(stream).await;
            noted.lock().unwrap().push(is_awaited);
        }
    });
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{}'}}}}}}}}
exporters: {{debug: }}
service:
  telemetry:
    metrics:
      readers:
        - periodic: {{interval: 3600000, exporter: {{otlp: {{protocol: http/protobuf, endpoint: 'http://127.0.0.1:{target}'}}}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
",
        port()
    );
    let mut collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    collector.signal("HUP");
    let count = || answered.lock().unwrap().len();
    until("the metrics of the old configuration", async || {
        count() == 1
    })
    .await;
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    until("the last metrics", async || count() == 2).await;
    assert_eq!(*answered.lock().unwrap(), [true, true]);
}
