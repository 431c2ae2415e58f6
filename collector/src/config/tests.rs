//! Readings of whole files: every error at once, with its place.

use super::diagnostic::render;
use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("4317".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn messages(source: &str) -> String {
    let reading = read(source, &lookup);
    let failed = reading
        .diagnostics
        .iter()
        .any(|entry| entry.severity == Severity::Error);
    assert_eq!(reading.config.is_none(), failed);
    render(&reading.diagnostics, "config.yaml", source)
}

const SOUND: &str = "
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 0.0.0.0:${env:PORT}
exporters:
  otlp_grpc/next:
    endpoint: ${HOST:-storage}:4317
    tls: &tls
      insecure: true
  otlp_http:
    endpoint: http://storage:4318
    tls:
      <<: *tls
      ca_file: ${env:EMPTY}
service:
  telemetry:
    logs: {level: warn, encoding: json}
    metrics: {address: 0.0.0.0:8888, level: detailed}
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [otlp_grpc/next, otlp_http]
";

#[test]
fn a_sound_file_has_nothing_to_say() {
    assert_eq!(messages(SOUND), "");
    let config = read(SOUND, &lookup).config.unwrap();
    assert_eq!(config.service.logs.encoding, LogEncoding::Json);
    assert_eq!(
        config.service.metrics.address.as_deref(),
        Some("0.0.0.0:8888")
    );
    assert_eq!(
        config.service.pipelines[0].exporters[0].to_string(),
        "otlp_grpc/next"
    );
}

#[test]
fn every_error_is_said_at_once() {
    insta::assert_snapshot!(messages(
        "receivers:
  otlp:
    protocols:
      grpc:
        endpont: 0.0.0.0:4317
        max_recv_msg_size_mib: four
      http:
        cors: {allowed_origins: '*'}
        auth: {authenticator: bearer}
  jaeger:
processors:
  batch:
    timeout: 5
    send_batch_size: 1000
    send_batch_max_size: 10
  memory_limitter:
  memory_limiter: {limit_mib: 100, spike_limit_mib: 200}
  resource:
    attributes:
      - {key: a, action: upset, value: 1}
      - {action: insert}
      - {key: b, action: hash}
exporters:
  otlp:
    endpoint: storage
    compression: gzpi
    sending_queue: {storage: file_storage, sizer: bytes, queue_size: 0}
    retry_on_failure: {multiplier: 0.5}
  file: {rotation: {max_megabytes: 10}}
  otlphttp: {traces_endpoint: storage}
  debug: {verbosity: loud}
extensions:
  health_check: {path: health}
service:
  extensions: [health_chek]
  telemetry:
    logs: {level: loud, output_paths: [stdout]}
    metrics: {readers: [{periodic: {}}]}
  pipelines:
    traces:
      receivers: [otlp, otlp]
      processors: [batch, resorce]
      exporters: [otlp/a]
    metrics:
      processors: [batch]
    trace: {}
"
    ));
}

#[test]
fn a_duplicate_key_is_refused() {
    insta::assert_snapshot!(messages(
        "exporters:
  debug:
  otlp: {endpoint: 'a:1'}
  debug: {verbosity: basic}
service: {pipelines: {}}
"
    ));
}

#[test]
fn what_is_not_yaml_is_refused_at_its_place() {
    insta::assert_snapshot!(messages("receivers:\n  otlp: [\nservice: }\n"));
    assert!(messages("").contains("no configuration"));
    assert!(messages("a: b\n---\nc: d\n").contains("a second YAML document"));
    assert!(messages("- a\n").contains("expected a mapping, found a list"));
}

#[test]
fn references_to_the_environment_are_replaced_or_named() {
    insta::assert_snapshot!(messages(
        "receivers: {otlp: {protocols: {grpc: {endpoint: '${env:ABSENT}'}}}}
exporters:
  file: {path: '/tmp/$$${PORT}'}
  debug: {verbosity: '${file:secret}'}
  otlp: {endpoint: '${1x}:1'}
service:
  pipelines: {logs: {receivers: [otlp], exporters: [file, debug, otlp]}}
"
    ));
}

#[test]
fn aliases_cannot_blow_up() {
    let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        source.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(messages(&source).contains("more than 100000 values"));
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(messages(&deep).contains("nested deeper than 64 levels"));
}
