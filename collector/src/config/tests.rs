//! Readings of whole files: every error at once, with its place.

use super::diagnostic::Severity;
use std::time::Duration;

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("4317".to_owned()),
        "EMPTY" => Some(String::new()),
        "LIST" => Some("[otlp]".to_owned()),
        "MAP" => Some("{grpc: {endpoint: '127.0.0.1:${PORT}', x: 1}}".to_owned()),
        "NAME" => Some("PORT".to_owned()),
        "LOOP" => Some("${LOOP}".to_owned()),
        "TEXT" => Some("a: b: c".to_owned()),
        "CONFIG" => Some("processors: {batch: {timeout: 7s, send_batch_size: many}}".to_owned()),
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
    reading.render()
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
    let telemetry = &config.service.telemetry;
    assert_eq!(telemetry.logs.encoding, LogEncoding::Json);
    assert_eq!(telemetry.readers[0].address, "0.0.0.0:8888");
    assert_eq!(telemetry.readers[0].naming, Naming::default());
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
    logs: {level: loud, processors: []}
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
  debug: {verbosity: '${ftp:secret}'}
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

fn file(path: &str) -> std::io::Result<String> {
    let text = match path {
        "base.yaml" => {
            "receivers: {otlp: {protocols: {grpc: }}}
processors:
  batch: {timeout: 1s, send_batch_size: 100}
exporters: {debug: , file: {path: /tmp/a}}
service:
  pipelines: {logs: {receivers: [otlp], processors: [batch], exporters: [debug, file]}}
"
        }
        "above.yaml" => {
            "processors:
  batch:
    timeout: 2s
exporters: {file: {pth: /tmp/b}}
service:
  pipelines:
    logs: {exporters: [file]}
    traces: {receivers: [otlp], exporters: [debug]}
"
        }
        "self.yaml" => "a: ${file:self.yaml}",
        "receivers.yaml" => "otlp:\n  protocols:\n    http: {endpont: x}\n",
        "token" => "s3cret$$x\n",
        "number" => "17\n",
        _ => return Err(std::io::ErrorKind::NotFound.into()),
    };
    Ok(text.to_owned())
}

fn read_named(locations: &[&str], sets: &[&str]) -> Reading {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let surroundings = Surroundings {
        variable: &lookup,
        file: &file,
    };
    read_all(&owned(locations), &owned(sets), surroundings)
}

fn printed(reading: &Reading) -> String {
    let tree = reading.tree.as_ref().unwrap();
    print::print(tree, print::Mode::Unredacted, print::Format::Yaml)
}

/// The value of `value:` after expansion, as one line of JSON.
fn expanded(value: &str) -> (String, String) {
    let reading = read_named(&[&format!("yaml:value: {value}")], &[]);
    let tree = reading.tree.as_ref().unwrap();
    let json = print::print(tree, print::Mode::Unredacted, print::Format::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let said = reading.render();
    (json["value"].to_string(), said)
}

#[test]
fn a_value_that_is_one_reference_takes_the_type_behind_it() {
    let cases = [
        ("${PORT}", "4317"),
        ("'${env:PORT}'", "4317"),
        ("${env:LIST}", "[\"otlp\"]"),
        (
            "${env:MAP}",
            "{\"grpc\":{\"endpoint\":\"127.0.0.1:4317\",\"x\":1}}",
        ),
        ("${env:${NAME}}", "4317"),
        ("${env:TEXT}", "\"a: b: c\""),
        ("${EMPTY}", "null"),
        ("${ABSENT:-true}", "true"),
        ("${ABSENT:-x:-y}", "\"x:-y\""),
        ("${file:number}", "17"),
        ("${file:token}", "\"s3cret$x\""),
        ("'Bearer ${file:token}'", "\"Bearer s3cret$x\""),
        ("4${PORT}", "\"44317\""),
        (
            "'$$${PORT} $${PORT} $PORT ${PORT'",
            "\"$4317 ${PORT} $PORT ${PORT\"",
        ),
    ];
    for (text, value) in cases {
        let (found, said) = expanded(text);
        assert_eq!(found, value, "{text}");
        assert!(
            !said.contains("expected") && !said.contains("cannot read"),
            "{said}"
        );
    }
}

#[test]
fn references_that_lead_to_themselves_end() {
    assert!(expanded("${LOOP}").1.contains("one leads to itself"));
    assert!(expanded("${file:self.yaml}").1.contains("nested deeper"));
    assert!(expanded("${file:absent}").1.contains("cannot read absent"));
    assert!(
        expanded("${https://x/y}")
            .1
            .contains("is not supported yet")
    );
}

#[test]
fn several_configurations_are_laid_over_each_other() {
    let reading = read_named(
        &[
            "base.yaml",
            "file:above.yaml",
            "yaml:processors::batch::send_batch_size: 7",
        ],
        &["exporters.file.pth=", "exporters.file.append = true"],
    );
    insta::assert_snapshot!(printed(&reading));
}

#[test]
fn each_error_names_its_own_text_after_merging() {
    let reading = read_named(
        &[
            "base.yaml",
            "above.yaml",
            "env:CONFIG",
            "yaml:receivers: ${file:receivers.yaml}",
        ],
        &[
            "processors.batch.timeout=5 parsecs",
            "service.extensions=[x",
        ],
    );
    assert!(reading.config.is_none());
    insta::assert_snapshot!(reading.render());
}

#[test]
fn what_cannot_be_read_is_said_with_everything_else() {
    let reading = read_named(&["absent.yaml", "ftp:x", "env:ABSENT", "yaml:- a"], &["x"]);
    insta::assert_snapshot!(reading.render());
}

#[test]
fn a_component_of_contrib_is_told_apart_from_a_typo() {
    insta::assert_snapshot!(messages(
        "receivers: {otlp: {protocols: {grpc: }}, kafka/in: {brokers: [a]}}
processors: {tail_samplin: }
exporters: {prometheusremotewrite: {endpoint: x}, debgu: }
connectors: {spanmetrics: {}, sapnmetrics: {}}
extensions: {sigv4auth: {region: x}}
service:
  extensions: [sigv4auth]
  pipelines:
    traces: {receivers: [otlp, kafka/in], processors: [tail_samplin], exporters: [spanmetrics]}
    metrics: {receivers: [spanmetrics, sapnmetrics], exporters: [prometheusremotewrite, debgu]}
"
    ));
}

#[test]
fn extensions_that_components_name_are_there_and_of_use() {
    insta::assert_snapshot!(messages(
        "extensions:
  bearertokenauth: {token: a}
  basicauth/out: {client_auth: {username: a, password: b}}
  basicauth/idle: {htpasswd: {inline: 'a:b'}}
  file_storage: {directory: /tmp}
  headers_setter: {headers: [{key: a, value: b}]}
receivers:
  otlp:
    protocols:
      grpc: {auth: {authenticator: bearertokenaut}}
      http: {auth: {authenticator: basicauth/out}}
  otlp/idle:
    protocols:
      grpc: {auth: {authenticator: basicauth/idle}}
      http: {auth: {authenticator: bearertokenauth}}
  otlp/none:
    protocols:
      grpc: {auth: {}}
      http: {auth: {authenticator: /}}
exporters:
  otlp: {endpoint: 'a:1', auth: {authenticator: file_storage}}
  otlphttp: {endpoint: 'http://a', auth: {authenticator: oidc}}
  otlp/queue: {endpoint: 'a:1', sending_queue: {storage: headers_setter}}
service:
  extensions: [bearertokenauth, basicauth/out, file_storage, headers_setter]
  pipelines:
    traces: {receivers: [otlp, otlp/idle, otlp/none], exporters: [otlp, otlphttp, otlp/queue]}
"
    ));
}

const FLOWS: &str = "receivers: {otlp: {protocols: {grpc: }}}
exporters: {debug: , forward/taken: }
connectors: {forward: , forward/b: , forward/idle: , forward/taken: {a: 1}}
service:
  pipelines:
";

#[test]
fn connectors_join_pipelines_of_one_signal_and_never_in_a_circle() {
    let flows = |pipelines: &str| messages(&format!("{FLOWS}{pipelines}"));
    insta::assert_snapshot!(flows(
        "    traces/in: {receivers: [otlp], exporters: [forward]}
    traces/out: {receivers: [forward, forward/b], exporters: [debug, forwad]}
    logs: {receivers: [otlp], exporters: [forward, debug]}
    logs/x: {receivers: [otlp, debug], exporters: [forward/b]}
"
    ));
    insta::assert_snapshot!(flows(
        "    traces/in: {receivers: [otlp], exporters: [forward]}
    traces/a: {receivers: [forward], exporters: [forward/b, debug]}
    traces/b: {receivers: [forward/b], exporters: [debug, forward]}
"
    ));
    let own = flows("    logs: {receivers: [otlp, forward], exporters: [debug, forward]}\n");
    assert!(
        own.contains("6:59: error: pipelines feed each other in a circle: logs → forward → logs"),
        "{own}"
    );
}

fn telemetry(yaml: &str) -> Telemetry {
    let source = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}
exporters: {{debug: }}
service: {{telemetry: {yaml}, pipelines: {{logs: {{receivers: [otlp], exporters: [debug]}}}}}}
"
    );
    let reading = read(&source, &lookup);
    let said = reading.render();
    reading.config.expect(&said).service.telemetry
}

#[test]
fn own_telemetry_has_the_defaults_of_otelcol() {
    let default = telemetry("{}");
    assert_eq!(default.logs, LogsConfig::default());
    assert_eq!(default.readers[0].address, "localhost:8888");
    assert_eq!(default.readers[0].naming, Naming::default());
    assert_eq!(telemetry("{metrics: {level: none}}").readers, []);
}

#[test]
fn periodic_readers_become_exporters() {
    let telemetry = telemetry(
        "{metrics: {readers: [
            {periodic: {interval: 5000, exporter: {otlp: {
                protocol: http/protobuf, endpoint: 'http://host:4318/own', timeout: 2000,
                headers: [{name: a, value: b}], headers_list: 'a=no,c=Basic%20d%3D+'}}}},
            {periodic: {exporter: {otlp: {
                protocol: grpc, endpoint: 'host:4317', insecure: true, compression: gzip}}}}]}}",
    );
    assert_eq!(telemetry.readers, []);
    let [http, grpc] = &telemetry.periodic[..] else {
        panic!("two readers");
    };
    assert_eq!(http.interval, Duration::from_secs(5));
    assert_eq!(http.timeout, Duration::from_secs(30));
    let OwnExporter::Http(http) = &http.exporter else {
        panic!("over HTTP");
    };
    let url = http.urls[1].as_ref().unwrap().to_string();
    assert_eq!(url, "http://host:4318/own");
    assert_eq!(http.timeout, Duration::from_secs(2));
    assert_eq!(
        (http.sending.queue.as_ref(), &http.sending.retry),
        (None, &None)
    );
    let headers = http.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(headers, [("a", "b"), ("c", "Basic d=+")]);
    assert_eq!(grpc.interval, Duration::from_secs(60));
    let OwnExporter::Grpc(grpc) = &grpc.exporter else {
        panic!("over gRPC");
    };
    assert!(grpc.plain);
    assert_eq!(grpc.base, "http://host:4317");
    assert_eq!(grpc.encoding, crate::network::Encoding::Gzip);
    assert_eq!(grpc.timeout, Duration::from_secs(10));
}

#[test]
fn what_is_wrong_with_a_periodic_reader_is_said() {
    insta::assert_snapshot!(messages(
        "
receivers: {otlp: {protocols: {grpc: }}}
exporters: {debug: }
service:
  telemetry:
    metrics:
      readers:
        - periodic: {interval: 0, exporter: {console: {}}}
        - periodic: {exporter: {otlp: {protocol: http/json, endpoint: 'http://host:4318'}}}
        - periodic: {exporter: {otlp: {protocol: grpc, endpont: 'host:4317'}}}
        - periodic: {exporter: {otlp: {protocol: grpc, endpoint: host, temporality_preference: delta}}}
        - periodic: {exporter: {otlp: {protocol: http/protobuf, endpoint: 'host:4318', headers: [{name: a}], headers_list: 'x,b=5%,c=%4g'}}}
        - {periodic: {}, pull: {}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
"
    ));
}

#[test]
fn readers_name_metrics_with_suffixes_unless_told_otherwise() {
    let two = telemetry(
        "{metrics: {readers: [
          {pull: {exporter: {prometheus: {host: '[::1]', port: 1}}}},
          {pull: {exporter: {prometheus: {host: '::1', port: 2, without_type_suffix: true,
            without_units: true, without_scope_info: true,
            with_resource_constant_labels: {included: ['*'], excluded: [a]}}}}}]},
         resource: {a: 1, service.name: shop, service.version: }}",
    );
    let [plain, told] = &two.readers[..] else {
        panic!("two readers");
    };
    assert_eq!((&*plain.address, &*told.address), ("[::1]:1", "[::1]:2"));
    assert!(plain.naming.has_type_suffix && plain.naming.has_units && plain.naming.has_scope);
    assert!(told.naming.resource_labels.takes("b") && !told.naming.resource_labels.takes("a"));
    assert!(!told.naming.has_type_suffix && !told.naming.has_units && !told.naming.has_scope);
    assert_eq!(two.resource[2], ("service.version".to_owned(), None));
}

#[test]
fn logs_go_where_the_paths_say() {
    let logs = telemetry(
        "{logs: {level: WARN, output_paths: [stdout, file:///var/log/c.log, rel.log],
          initial_fields: {zone: a, n: 1}, sampling: {enabled: false}, disable_caller: true}}",
    )
    .logs;
    let file = |path: &str| LogOutput::File(path.into());
    assert_eq!(
        logs.outputs,
        [LogOutput::Stdout, file("/var/log/c.log"), file("rel.log")]
    );
    assert_eq!(logs.initial_fields[1], ("n".to_owned(), 1.into()));
    assert_eq!((logs.level, logs.sampling), (tracing::Level::WARN, None));
}
