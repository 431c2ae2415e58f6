//! What the program says before it runs.

use std::net::TcpListener;

use crate::harness::*;

#[test]
fn validate_says_everything_that_is_wrong() {
    let folder = folder();
    let good = "
receivers: {otlp: {protocols: {grpc: }}}
exporters: {debug: }
service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}
";
    let good = write(folder.path(), "good.yaml", good);
    let output = run(&["validate", "--config", good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");

    let bad = good.with_file_name("bad.yaml");
    std::fs::write(&bad, "receivers:\n  otpl:\nservice:\n  pipeline: {}\n").unwrap();
    let output = run(&["validate", "--config", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    insta::assert_snapshot!(text.replace(bad.to_str().unwrap(), "bad.yaml"));
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["--config", "/nonexistent/config.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text,
        "error: cannot read /nonexistent/config.yaml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn the_components_are_listed() {
    let output = run(&["components"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn what_cannot_start_is_named_with_its_address_or_path() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let start = |endpoint: &str, path: &str| {
        let yaml = format!(
            "
receivers: {{otlp/a: {{protocols: {{grpc: {{endpoint: '{endpoint}'}}}}}}}}
exporters: {{file: {{path: '{path}'}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp/a], exporters: [file]}}}}
"
        );
        let config = write(folder.path(), "c.yaml", &yaml);
        let output = run(&["--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let file = folder.path().join("out.jsonl");
    assert_eq!(
        start(&address.to_string(), file.to_str().unwrap()),
        format!(
            "error: receivers::otlp/a: cannot listen on {address}: the address is in use by another process\n"
        )
    );
    assert_eq!(
        start("127.0.0.1:0", "/nonexistent/out.jsonl"),
        "error: exporters::file: cannot write /nonexistent/out.jsonl: No such file or directory (os error 2)\n"
    );
}
