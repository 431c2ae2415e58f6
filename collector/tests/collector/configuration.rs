//! Configurations from several places, checked and shown.

use std::process::{Command, Output};

use crate::harness::*;

const GATEWAY: &str = "
receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:${PORT:-4317}'}}}}
processors: {batch: {timeout: 1s}}
exporters:
  otlp:
    endpoint: storage:4317
    headers: {authorization: 'Bearer ${file:TOKEN}'}
service: {pipelines: {logs: {receivers: [otlp], processors: [batch], exporters: [otlp]}}}
";

fn with_port(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(arguments)
        .env("PORT", "14317")
        .env("ABOVE", "processors: {batch: {send_batch_size: 50}}")
        .output()
        .unwrap()
}

#[test]
fn print_config_shows_what_would_run_and_no_secret() {
    let folder = folder();
    let token = write(folder.path(), "token", "very-secret\n");
    let text = GATEWAY.replace("TOKEN", token.to_str().unwrap());
    let path = write(folder.path(), "gateway.yaml", &text);
    let path = path.to_str().unwrap();
    let more = [
        "--config",
        path,
        "--config",
        "env:ABOVE",
        "--set",
        "processors.batch.timeout=9s",
    ];
    let output = with_port(&[&["print-config"], &more[..]].concat());
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());

    let plain = ["print-config", "--mode", "unredacted", "--format", "json"];
    let output = with_port(&[&plain, &more[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let headers = &json["exporters"]["otlp"]["headers"];
    assert_eq!(headers["authorization"], "Bearer very-secret");

    let wrong = ["--set", "processors.batch.timeout=soon"];
    let output = with_port(&[&["print-config"], &more[..4], &wrong].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("--set:1:26: error: timeout must be a duration"),
        "{said}"
    );
    assert!(output.stdout.is_empty());
    let anyway = [&["print-config", "--validate=false"], &more[..4], &wrong].concat();
    assert_eq!(with_port(&anyway).status.code(), Some(0));
}

#[test]
fn validate_reads_all_locations_and_names_the_one_at_fault() {
    let folder = folder();
    let text = GATEWAY.replace("${file:TOKEN}", "x");
    let good = write(folder.path(), "good.yaml", &text);
    let bad = write(
        folder.path(),
        "bad.yaml",
        "processors: {batch: {timout: 1s}}\n",
    );
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let output = with_port(&["validate", "--config", good, "--config", "env:ABOVE"]);
    assert_eq!(output.status.code(), Some(0));
    let output = with_port(&["validate", "--config", good, "--config", bad]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!("{bad}:1:22: error: unknown key \"timout\"")),
        "{said}"
    );
    let output = with_port(&["validate", "--config", good, "--set", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
}
