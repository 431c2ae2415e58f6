//! From YAML to what is left of a batch.

use std::sync::Arc;

use collector_otlp::{Request, Signal};

use super::Config;
use crate::budget::Budget;
use crate::component::{BuildProcessor, ComponentId, Context, Failure};
use crate::config::Section;
use crate::config::diagnostic::{Diagnostics, Position};
use crate::config::yaml;
use crate::telemetry::Registry;
use crate::walk;

const SPANS: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"spans":[{"name":"a","attributes":[{"key":"http.target","value":{"stringValue":"/health"}}],"events":[{"name":"x"},{"name":"y"}]},{"name":"b","events":[{"name":"x"}]}]},{"scope":{"name":"empty soon"},"spans":[{"name":"a"}]}]},{"scopeSpans":[{"spans":[{"name":"c"}]}]}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9,"body":{"stringValue":"GET /healthz"}},{"severityNumber":17,"body":{"stringValue":"broken"}},{"body":{"stringValue":"?"}}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"host","value":{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[{"name":"x_bucket","gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}},{"name":"y","gauge":{"dataPoints":[{"asInt":"3"}]}}]}]}]}"#;

fn read(text: &str) -> (Config, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let node = yaml::parse(text, &diagnostics).unwrap();
    let section = Section::of(&node, Position::default(), &diagnostics);
    let config = Config::read(&section);
    drop(section);
    let entries = diagnostics.into_sorted().into_iter();
    (config, entries.map(|entry| entry.message).collect())
}

fn filtered(text: &str, signal: Signal, json: &str) -> Result<(String, u64), Failure> {
    let (config, messages) = read(text);
    assert!(
        messages.iter().all(|message| message.starts_with("=~")),
        "{messages:?}"
    );
    let registry = Arc::new(Registry::default());
    let context = Context {
        id: ComponentId::parse("filter/test").unwrap(),
        registry: Arc::clone(&registry),
        budget: Arc::new(Budget::of(1 << 20)),
        authenticators: crate::authentication::Authenticators::default(),
    };
    let Ok(stage) = config.build(&context, signal) else {
        panic!("it cannot be built");
    };
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    let left = walk::process(stage, request)?;
    let again = Request::parse(signal, left.bytes().clone()).unwrap();
    assert_eq!(again.items(), left.items());
    let items = match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "datapoints",
        Signal::Logs => "logs",
    };
    let name = format!("otelcol_processor_filter_{items}_filtered");
    let counter = registry.counter(&name, "", &[("filter", "filter/test")]);
    Ok((
        String::from_utf8(left.to_json().unwrap()).unwrap(),
        counter.value(),
    ))
}

fn names(json: &str) -> Vec<&str> {
    json.split(r#""name":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

#[test]
fn spans_and_what_is_empty_then() {
    let (json, dropped) = filtered(
        r#"{traces: {span: ['name == "a"']}}"#,
        Signal::Traces,
        SPANS,
    )
    .unwrap();
    assert_eq!((names(&json), dropped), (vec!["b", "x", "c"], 2));
    assert!(!json.contains("empty soon"));
    let pattern = r#"{traces: {span: ['attributes["http.target"] =~ "/health|/ping"']}}"#;
    let (json, dropped) = filtered(pattern, Signal::Traces, SPANS).unwrap();
    assert_eq!(
        (names(&json), dropped),
        (vec!["b", "x", "empty soon", "a", "c"], 1)
    );
    let events =
        r#"{traces: {span: ['name == "c"'], spanevent: ['name == "x" and span.name == "a"']}}"#;
    let (json, dropped) = filtered(events, Signal::Traces, SPANS).unwrap();
    assert_eq!(
        (names(&json), dropped),
        (vec!["a", "y", "b", "x", "empty soon", "a"], 1)
    );
    let resources = r#"{traces: {resource: ['attributes["service.name"] == "shop"']}}"#;
    let (json, dropped) = filtered(resources, Signal::Traces, SPANS).unwrap();
    assert_eq!((names(&json), dropped), (vec!["c"], 3));
    let (json, dropped) = filtered("{traces: {span: ['true']}}", Signal::Traces, SPANS).unwrap();
    assert_eq!((json.as_str(), dropped), ("{}", 4));
    let (json, _) = filtered("{traces: {span: ['false']}}", Signal::Traces, SPANS).unwrap();
    assert_eq!(json, SPANS);
}

#[test]
fn the_older_form_of_spans_logs_and_metrics() {
    let spans = "{spans: {include: {match_type: strict, services: [shop]}, exclude: {match_type: regexp, span_names: ['^b$']}}}";
    let (json, dropped) = filtered(spans, Signal::Traces, SPANS).unwrap();
    assert_eq!(
        (names(&json), dropped),
        (vec!["a", "x", "y", "empty soon", "a"], 2)
    );
    let bodies = "{logs: {exclude: {match_type: regexp, bodies: ['GET /healthz.*']}}}";
    let (json, dropped) = filtered(bodies, Signal::Logs, LOGS).unwrap();
    assert!(!json.contains("healthz") && dropped == 1);
    let severity = "{logs: {include: {match_type: strict, severity_number: {min: warn, match_undefined: true}}}}";
    let (json, dropped) = filtered(severity, Signal::Logs, LOGS).unwrap();
    assert!(
        json.contains("broken") && json.contains('?') && dropped == 1,
        "{json}"
    );
    let names_of = "{metrics: {exclude: {match_type: regexp, metric_names: ['.*_bucket']}}}";
    let (json, dropped) = filtered(names_of, Signal::Metrics, METRICS).unwrap();
    assert_eq!((names(&json), dropped), (vec!["y"], 2));
    let resources = "{metrics: {exclude: {match_type: strict, metric_names: [y], resource_attributes: [{key: host, value: b}]}}}";
    let (json, dropped) = filtered(resources, Signal::Metrics, METRICS).unwrap();
    assert_eq!((names(&json), dropped), (vec!["x_bucket"], 1));
    let host =
        "{metrics: {exclude: {match_type: strict, resource_attributes: [{key: host, value: a}]}}}";
    assert_eq!(filtered(host, Signal::Metrics, METRICS).unwrap().1, 3);
}

#[test]
fn metrics_and_their_data_points() {
    let points = r#"{metrics: {datapoint: ['value_int >= 2']}}"#;
    let (json, dropped) = filtered(points, Signal::Metrics, METRICS).unwrap();
    assert_eq!((names(&json), dropped), (vec!["x_bucket"], 2));
    let metrics = r#"{metrics: {metric: ['name == "x_bucket"']}}"#;
    let (json, dropped) = filtered(metrics, Signal::Metrics, METRICS).unwrap();
    assert_eq!((names(&json), dropped), (vec!["y"], 2));
}

#[test]
fn an_error_refuses_the_batch_unless_it_is_ignored() {
    let condition = r#"HasPrefix(attributes["http.target"], "/h")"#;
    let with = |mode: &str| {
        let text =
            format!("{{error_mode: {mode}, traces: {{span: ['{condition}', 'name == \"c\"']}}}}");
        filtered(&text, Signal::Traces, SPANS)
    };
    assert!(matches!(with("propagate"), Err(Failure::Permanent { .. })));
    for mode in ["ignore", "silent"] {
        let (json, dropped) = with(mode).unwrap();
        assert_eq!(
            (names(&json), dropped),
            (vec!["b", "x", "empty soon", "a"], 2)
        );
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, message) in [
        (
            "{traces: {span: ['name == nme']}}",
            "at column 9 of this OTTL: \"nme\" is no path of a span",
        ),
        (
            "{logs: {log_record: ['true'], include: {match_type: strict, bodies: [a]}}}",
            "OTTL conditions and include or exclude cannot be used together",
        ),
        (
            "{trace_conditions: ['true']}",
            "unknown key \"trace_conditions\"",
        ),
        ("{traces: {spans: ['true']}}", "unknown key \"spans\""),
        (
            "{logs: {include: {match_type: strict, severity_number: {min: loud}}}}",
            "\"loud\" is not a severity such as INFO or WARN2",
        ),
    ] {
        let (_, messages) = read(text);
        assert!(
            messages.iter().any(|found| found == message),
            "{text}: {messages:?}"
        );
    }
}
