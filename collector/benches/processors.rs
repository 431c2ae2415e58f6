//! How long the function processors take: `cargo bench -p collector --bench processors`.
//!
//! In: nothing. Out: nanoseconds for each span, of each processor and of all of them in turn.
//! Invariant: each figure is the best of several rounds, over spans that are all changed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::budget::Budget;
use collector::component::{ComponentId, Context, PROCESSORS, Processor, Stage};
use collector::config::Section;
use collector::config::diagnostic::{Diagnostics, Position};
use collector::config::yaml;
use collector::telemetry::Registry;
use collector::walk::Chain;
use collector_otlp::{Request, Signal};

const SPANS: usize = 1000;
const ROUNDS: usize = 300;

const CHAIN: &[(&str, &str)] = &[
    (
        "resource",
        "attributes: [{key: deployment.environment, value: production, action: upsert}]",
    ),
    (
        "attributes",
        "actions:
- {key: collector.name, value: gateway, action: upsert}
- {key: peer.address, action: delete}
- {key: user.name, action: hash}",
    ),
    (
        "filter",
        r#"traces: {span: ['attributes["http.route"] == "/healthz"', 'name == "debug"']}"#,
    ),
];

const OTHERS: &[(&str, &str)] = &[
    (
        "filter",
        r#"traces: {span: ['IsMatch(attributes["http.route"], "^/health|/ping|/debug")']}"#,
    ),
    ("filter", r#"traces: {span: ['kind == 2']}"#),
    (
        "transform",
        r#"trace_statements: [{context: span, statements: ['set(attributes["a"], 1)', 'delete_key(attributes, "peer.address")', 'set(name, attributes["http.route"])']}]"#,
    ),
    ("attributes", "actions: [{key: absent, action: delete}]"),
];

fn main() {
    let request = Request::parse_json(Signal::Traces, json().as_bytes()).expect("sound");
    println!("{} bytes a span", request.bytes().len() / SPANS);
    let mut between = request.clone();
    for one in CHAIN {
        let processors = processors(&[*one]);
        report(one.0, &between, &processors);
        for processor in processors {
            between = processor.process(between).expect("processed");
        }
    }
    report("all of these together", &request, &processors(CHAIN));
    for other in OTHERS {
        report(other.1, &request, &processors(&[*other]));
    }
}

fn report(name: &str, request: &Request, processors: &[Box<dyn Processor>]) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut batch = request.clone();
        let start = Instant::now();
        for processor in processors {
            batch = processor.process(batch).expect("processed");
        }
        best = best.min(start.elapsed());
        black_box(batch);
    }
    let nanoseconds = best.as_secs_f64() * 1e9 / SPANS as f64;
    println!("{nanoseconds:8.1} ns a span: {name}");
}

fn processors(stages: &[(&str, &str)]) -> Vec<Box<dyn Processor>> {
    let mut chain = Chain::of(Signal::Traces);
    for (kind, text) in stages {
        chain.push(stage(kind, text));
    }
    chain.finish().0
}

fn stage(kind: &str, text: &str) -> Stage {
    let diagnostics = Diagnostics::default();
    let node = yaml::parse(text, &diagnostics).expect("YAML");
    let section = Section::of(&node, Position::default(), &diagnostics);
    let row = PROCESSORS
        .iter()
        .find(|row| row.name == kind)
        .expect("a processor");
    let config = (row.configure)(&section);
    drop(section);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let context = Context {
        id: ComponentId::parse(kind).expect("an id"),
        registry: Arc::new(Registry::default()),
        budget: Arc::new(Budget::of(1 << 20)),
        authenticators: collector::authentication::Authenticators::default(),
    };
    match config.build(&context, Signal::Traces) {
        Ok(stage) => stage,
        Err(error) => unreachable!("{error}"),
    }
}

fn json() -> String {
    let span = |index: usize| {
        format!(
            r#"{{"traceId":"{index:032x}","spanId":"{index:016x}","parentSpanId":"0000000000000007","name":"GET /cart/items","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000500000000","attributes":[{{"key":"http.method","value":{{"stringValue":"GET"}}}},{{"key":"http.route","value":{{"stringValue":"/cart/items"}}}},{{"key":"user.name","value":{{"stringValue":"user-{index}"}}}},{{"key":"peer.address","value":{{"stringValue":"10.0.0.17"}}}},{{"key":"http.status_code","value":{{"intValue":"200"}}}}],"status":{{}},"flags":257}}"#
        )
    };
    let spans: Vec<String> = (1..=SPANS).map(span).collect();
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"scope":{{"name":"io.example.http"}},"spans":[{}]}}]}}]}}"#,
        spans.join(",")
    )
}
