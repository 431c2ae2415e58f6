//! What is kept of spans and log records, and what those say afterwards.

use std::sync::Arc;

use collector_otlp::{Request, Signal};

use super::Config;
use crate::budget::Budget;
use crate::component::{BuildProcessor, ComponentId, Context};
use crate::config::Section;
use crate::config::diagnostic::{Diagnostics, Position};
use crate::config::yaml;
use crate::telemetry::Registry;
use crate::walk;

fn read(text: &str) -> (Config, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let node = yaml::parse(text, &diagnostics).unwrap();
    let section = Section::of(&node, Position::default(), &diagnostics);
    let config = Config::read(&section);
    drop(section);
    let entries = diagnostics.into_sorted().into_iter();
    (config, entries.map(|entry| entry.message).collect())
}

fn sampled(text: &str, signal: Signal, json: &str) -> (Request, Arc<Registry>) {
    let (config, messages) = read(text);
    assert_eq!(messages, Vec::<String>::new());
    let registry = Arc::new(Registry::default());
    let context = Context {
        id: ComponentId::parse("probabilistic_sampler").unwrap(),
        registry: Arc::clone(&registry),
        budget: Arc::new(Budget::of(1 << 20)),
        authenticators: crate::authentication::Authenticators::default(),
    };
    let Ok(stage) = config.build(&context, signal) else {
        panic!("it cannot be built");
    };
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    (walk::process(stage, request).unwrap(), registry)
}

fn spans(spans: &[String]) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        spans.join(",")
    )
}

fn json(request: &Request) -> String {
    String::from_utf8(request.to_json().unwrap()).unwrap()
}

fn span(fields: &str) -> String {
    spans(&[format!(
        r#"{{"traceId":"5b8efff798038103d269b633813fc60c"{fields}}}"#
    )])
}

fn logs(fields: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#)
}

#[test]
fn a_trace_is_kept_or_dropped_whole() {
    let all: Vec<String> = (0..2000)
        .map(|index| {
            format!(
                r#"{{"traceId":"{:032x}","name":"{index}"}}"#,
                index / 2 * 0x9e37_79b9_u64 + 1
            )
        })
        .collect();
    let (left, metrics) = sampled(
        "{sampling_percentage: 25, hash_seed: 7}",
        Signal::Traces,
        &spans(&all),
    );
    assert!((400..600).contains(&left.items()), "{}", left.items());
    let text = json(&left);
    for index in (0..2000).step_by(2) {
        let has = |index: usize| text.contains(&format!(r#""name":"{index}""#));
        assert_eq!(has(index), has(index + 1));
    }
    assert_eq!(text.matches(";th:c\"").count(), left.items());
    let name = "otelcol_processor_probabilistic_sampler_count_traces_sampled";
    let labels = [("policy", "trace_id_hash"), ("sampled", "true")];
    assert_eq!(
        metrics.counter(name, "", &labels).value(),
        left.items() as u64
    );
    // A larger share holds all of a smaller one.
    let (more, _) = sampled(
        "{sampling_percentage: 50, hash_seed: 7}",
        Signal::Traces,
        &spans(&all),
    );
    let more = json(&more);
    let names = text
        .split(r#""name":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    assert!(
        names
            .into_iter()
            .all(|name| more.contains(&format!(r#""name":"{name}""#)))
    );
}

#[test]
fn priorities_and_what_was_sampled_before() {
    let attribute = |value: &str| {
        span(&format!(
            r#","attributes":[{{"key":"sampling.priority","value":{{{value}}}}}]"#
        ))
    };
    let state = |state: &str| span(&format!(r#","traceState":"{state}""#));
    for (config, item, kept) in [
        ("{sampling_percentage: 100}", span(""), true),
        ("{}", span(""), false),
        ("{}", attribute(r#""intValue":"1""#), true),
        ("{}", attribute(r#""stringValue":"0.5""#), true),
        (
            "{sampling_percentage: 100}",
            attribute(r#""intValue":"0""#),
            false,
        ),
        (
            "{sampling_percentage: 100}",
            attribute(r#""intValue":"-1""#),
            true,
        ),
        (
            "{sampling_percentage: 100}",
            spans(&["{}".to_owned()]),
            false,
        ),
        (
            "{sampling_percentage: 100, fail_closed: false}",
            spans(&["{}".to_owned()]),
            true,
        ),
        ("{sampling_percentage: 100}", state("ot=th:8"), false),
        (
            "{sampling_percentage: 100, fail_closed: false}",
            state("ot=th:8"),
            true,
        ),
        ("{sampling_percentage: 100}", state("nonsense"), false),
        ("{sampling_percentage: 100}", state("a=b"), true),
    ] {
        let (left, _) = sampled(config, Signal::Traces, &item);
        assert_eq!(left.items(), usize::from(kept), "{config} {item}");
    }
    let (left, _) = sampled("{sampling_percentage: 100}", Signal::Traces, &state("a=b"));
    assert!(json(&left).contains(";th:0,a=b\""), "{}", json(&left));
    let (left, _) = sampled("{}", Signal::Traces, &attribute(r#""intValue":"1""#));
    assert!(
        json(&left).contains(r#""traceState":"ot=th:0""#),
        "{}",
        json(&left)
    );
}

#[test]
fn log_records_go_by_id_or_attribute() {
    let id = logs(r#""traceId":"5b8efff798038103d269b633813fc60c""#);
    let (left, _) = sampled("{sampling_percentage: 100}", Signal::Logs, &id);
    let text = json(&left);
    assert!(
        text.contains(r#"{"key":"sampling.threshold","value":{"stringValue":"0"}}"#),
        "{text}"
    );
    assert!(text.contains(r#""key":"sampling.randomness""#));
    let attribute = logs(
        r#""attributes":[{"key":"user","value":{"intValue":"17"}},{"key":"share","value":{"intValue":"100"}}]"#,
    );
    for (config, kept) in [
        ("{sampling_percentage: 100}", 0),
        ("{sampling_percentage: 100, from_attribute: user}", 1),
        (
            "{sampling_percentage: 100, from_attribute: user, attribute_source: record}",
            1,
        ),
        ("{sampling_percentage: 100, from_attribute: absent}", 0),
        ("{sampling_percentage: 0, sampling_priority: share}", 1),
    ] {
        assert_eq!(
            sampled(config, Signal::Logs, &attribute).0.items(),
            kept,
            "{config}"
        );
    }
}

#[test]
fn consistent_modes_go_by_randomness_and_say_what_they_did() {
    // The last 56 bits of the trace id are 69b633813fc60c.
    let state = |state: &str| span(&format!(r#","traceState":"{state}""#));
    let half = "{mode: equalizing, sampling_percentage: 50";
    let share = "{mode: proportional, sampling_percentage: 50";
    for (config, item, expected) in [
        (format!("{half}}}"), state(""), None),
        (
            format!("{half}}}"),
            state("ot=rv:80000000000000"),
            Some("ot=rv:80000000000000;th:8"),
        ),
        (format!("{half}}}"), state("ot=rv:7fffffffffffff"), None),
        (
            format!("{half}}}"),
            state("ot=th:c;rv:f0000000000000,a=b"),
            Some("ot=rv:f0000000000000;th:c,a=b"),
        ),
        (
            "{mode: equalizing, sampling_percentage: 75}".to_owned(),
            state(""),
            Some("ot=th:4"),
        ),
        (
            format!("{share}}}"),
            state("ot=th:8;rv:c0000000000000"),
            Some("ot=rv:c0000000000000;th:c"),
        ),
        (
            format!("{share}}}"),
            state("ot=th:8;rv:bfffffffffffff"),
            None,
        ),
        // What says that it would not be here.
        (format!("{share}}}"), state("ot=th:8"), None),
        (
            format!("{share}, fail_closed: false}}"),
            state("ot=th:8"),
            Some("ot=th:0"),
        ),
        (
            format!("{share}, fail_closed: false}}"),
            state("ot=th:xyz"),
            Some("ot=th:xyz"),
        ),
        (
            "{mode: equalizing, sampling_percentage: 33.333, sampling_precision: 2}".to_owned(),
            state("ot=rv:ffffffffffffff"),
            Some("ot=rv:ffffffffffffff;th:ab"),
        ),
    ] {
        let (left, _) = sampled(&config, Signal::Traces, &item);
        let text = json(&left);
        match expected {
            None => assert_eq!(left.items(), 0, "{config} {item}"),
            Some(said) => {
                let said = format!(r#""traceState":"{said}""#);
                assert!(text.contains(&said), "{config} {item} {text}");
            }
        }
    }
    let record = |randomness: &str| {
        logs(&format!(
            r#""attributes":[{{"key":"sampling.randomness","value":{{"stringValue":"{randomness}"}}}}]"#
        ))
    };
    let (left, metrics) = sampled(
        &format!("{half}}}"),
        Signal::Logs,
        &record("80000000000000"),
    );
    assert!(json(&left).contains(r#"{"key":"sampling.threshold","value":{"stringValue":"8"}}"#));
    let name = "otelcol_processor_probabilistic_sampler_count_logs_sampled";
    let labels = [("policy", "sampling_randomness"), ("sampled", "true")];
    assert_eq!(metrics.counter(name, "", &labels).value(), 1);
    let (left, _) = sampled(&format!("{half}}}"), Signal::Logs, &record("12"));
    assert_eq!(left.items(), 0);
}

#[test]
fn what_is_not_there_is_refused() {
    for (text, message) in [
        (
            "{mode: equal}",
            "mode must be one of hash_seed, equalizing, proportional, not \"equal\"",
        ),
        (
            "{sampling_percentage: 1e-16}",
            "sampling_percentage must be 0, or at least 1.3877787807814457e-15",
        ),
        (
            "{sampling_percentage: -1}",
            "sampling_percentage must not be negative",
        ),
        (
            "{sampling_precision: 0}",
            "sampling_precision must be from 1 to 14, not 0",
        ),
    ] {
        assert_eq!(read(text).1, [message]);
    }
}
