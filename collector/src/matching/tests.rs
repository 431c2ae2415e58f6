//! `include` and `exclude`, from YAML to verdicts over spans, log records and metrics.

use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::{Record, Request, Signal, WireError};

use super::Choice;
use crate::config::Section;
use crate::config::diagnostic::{Diagnostics, Position};
use crate::config::yaml;

struct Walk<'a>(&'a Choice, Signal);

impl<'a> Pass<'a> for Walk<'a> {
    type Error = WireError;

    fn level(&self) -> Level {
        match self.1 {
            Signal::Metrics => Level::Metric,
            _ => Level::Item,
        }
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, WireError> {
        self.item(above, metric)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        Ok(match self.0.takes(self.1, above, item) {
            true => Verdict::Keep,
            false => Verdict::Drop,
        })
    }
}

fn choice(text: &str) -> (Choice, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let node = yaml::parse(text, &diagnostics).unwrap();
    let section = Section::of(&node, Position::default(), &diagnostics);
    let choice = Choice::read(&section);
    drop(section);
    let messages = diagnostics.into_sorted();
    (
        choice,
        messages.into_iter().map(|entry| entry.message).collect(),
    )
}

fn takes(text: &str, signal: Signal, json: &str) -> bool {
    let (choice, messages) = choice(text);
    assert_eq!(messages, Vec::<String>::new());
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    assert_eq!(request.items(), 1);
    let left = request
        .apply(|signal, source| pass::run(&mut Walk(&choice, signal), signal, source))
        .unwrap();
    left.items() == 1
}

const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"n","value":{"intValue":"7"}}]},"scopeSpans":[{"scope":{"name":"lib","version":"1.2"},"spans":[{"name":"GET /","kind":2,"attributes":[{"key":"ok","value":{"boolValue":true}},{"key":"path","value":{"stringValue":"/health"}}]}]}]}]}"#;
const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9,"severityText":"INFO","body":{"stringValue":"GET /healthz 200"}}]}]}]}"#;
const METRIC: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"host","value":{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[{"name":"latency_bucket","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}"#;

#[test]
fn spans_match_by_every_property() {
    for (properties, expected) in [
        ("{match_type: strict, services: [other, shop]}", true),
        ("{match_type: strict, services: [sho]}", false),
        ("{match_type: regexp, services: [sho]}", true),
        ("{match_type: strict, span_names: [GET /]}", true),
        ("{match_type: regexp, span_names: [^POST]}", false),
        ("{match_type: strict, span_kinds: [SPAN_KIND_SERVER]}", true),
        (
            "{match_type: strict, span_kinds: [SPAN_KIND_CLIENT]}",
            false,
        ),
        (
            "{match_type: strict, attributes: [{key: ok, value: true}, {key: path}]}",
            true,
        ),
        (
            "{match_type: strict, attributes: [{key: ok, value: 'true'}]}",
            false,
        ),
        ("{match_type: strict, attributes: [{key: absent}]}", false),
        (
            "{match_type: regexp, attributes: [{key: ok, value: ^t}, {key: path, value: health}]}",
            true,
        ),
        (
            "{match_type: strict, resources: [{key: n, value: 7}]}",
            true,
        ),
        (
            "{match_type: strict, resources: [{key: n, value: 8}]}",
            false,
        ),
        ("{match_type: strict, libraries: [{name: lib}]}", true),
        (
            "{match_type: strict, libraries: [{name: lib, version: ''}]}",
            false,
        ),
        (
            "{match_type: regexp, libraries: [{name: ^l, version: '^1\\.'}]}",
            true,
        ),
        (
            "{match_type: strict, services: [shop], span_names: [other]}",
            false,
        ),
    ] {
        let include = takes(&format!("include: {properties}"), Signal::Traces, SPAN);
        assert_eq!(include, expected, "{properties}");
        let exclude = takes(&format!("exclude: {properties}"), Signal::Traces, SPAN);
        assert_eq!(exclude, !expected, "{properties}");
    }
    let both = "include: {match_type: strict, services: [shop]}\nexclude: {match_type: regexp, span_names: [GET]}";
    assert!(!takes(both, Signal::Traces, SPAN));
}

#[test]
fn log_records_and_metrics_match_by_theirs() {
    for (properties, expected) in [
        ("{match_type: regexp, log_bodies: ['GET /healthz.*']}", true),
        ("{match_type: strict, log_bodies: ['GET /healthz']}", false),
        ("{match_type: strict, log_severity_texts: [INFO]}", true),
        ("{match_type: strict, log_severity_number: {min: 9}}", true),
        (
            "{match_type: strict, log_severity_number: {min: 13}}",
            false,
        ),
    ] {
        let text = format!("include: {properties}");
        assert_eq!(takes(&text, Signal::Logs, LOG), expected, "{properties}");
    }
    for (properties, expected) in [
        ("{match_type: regexp, metric_names: ['.*_bucket']}", true),
        ("{match_type: strict, metric_names: [latency]}", false),
        (
            "{match_type: strict, resources: [{key: host, value: b}]}",
            false,
        ),
    ] {
        let text = format!("include: {properties}");
        assert_eq!(
            takes(&text, Signal::Metrics, METRIC),
            expected,
            "{properties}"
        );
    }
}

#[test]
fn what_does_not_apply_to_a_signal_is_refused() {
    let fault = |text: &str, signal| {
        choice(&format!("include: {text}"))
            .0
            .fault(signal)
            .is_some()
    };
    assert!(fault(
        "{match_type: strict, metric_names: [a]}",
        Signal::Traces
    ));
    assert!(fault("{match_type: strict, services: [a]}", Signal::Logs));
    assert!(fault(
        "{match_type: strict, attributes: [{key: a}]}",
        Signal::Metrics
    ));
    assert!(fault("{match_type: strict}", Signal::Traces));
    assert!(!fault(
        "{match_type: strict, resources: [{key: a}]}",
        Signal::Metrics
    ));
    for (text, message) in [
        ("{services: [a]}", "match_type is needed: strict or regexp"),
        (
            "{match_type: regexp, services: ['(']}",
            "pattern is not valid: unclosed group",
        ),
        (
            "{match_type: expr}",
            "match_type: expr is not supported: write the condition in OTTL instead",
        ),
        (
            "{match_type: strict, attributes: [{value: 1}]}",
            "an attribute to match needs a key",
        ),
    ] {
        assert_eq!(choice(&format!("include: {text}")).1, [message]);
    }
}
