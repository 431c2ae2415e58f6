//! One line for each item, as otelcol's `verbosity: normal` writes them.
//!
//! In: a request as OTLP/JSON. Out: text. Invariant: resources and scopes head their items.

use std::fmt::Write as _;

use collector_otlp::Signal;
use serde_json::Value as Json;

use super::value::{bare, fixed, float, get, integer, list, plain, text};

/// The request as text.
pub(super) fn render(signal: Signal, request: &Json) -> String {
    let (resources, scopes, items, name) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans", "Traces"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics", "Metrics"),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords", "Log"),
    };
    let mut out = String::new();
    for (number, resource) in list(request, resources).iter().enumerate() {
        let url = bracketed(text(resource, "schemaUrl"));
        let attributes = spaced(get(resource, "resource"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "Resource{name} #{number}{url}{attributes}");
        for scope in list(resource, scopes) {
            let details = scope_details(scope);
            let attributes = spaced(get(scope, "scope"));
            // The number is that of the resource, as in otelcol.
            let _ = writeln!(out, "Scope{name} #{number}{details}{attributes}");
            for item in list(scope, items) {
                match signal {
                    Signal::Traces => span(&mut out, item),
                    Signal::Metrics => metric(&mut out, item),
                    Signal::Logs => {
                        let body = bare(get(item, "body"));
                        let _ = writeln!(out, "{body} {}", pairs(item).join(" "));
                    }
                }
            }
        }
    }
    out
}

fn bracketed(url: &str) -> String {
    match url {
        "" => String::new(),
        url => format!(" [{url}]"),
    }
}

fn scope_details(scope: &Json) -> String {
    let own = get(scope, "scope");
    let mut details = text(own, "name").to_owned();
    if !text(own, "version").is_empty() {
        let _ = write!(details, "@{}", text(own, "version"));
    }
    details.push_str(&bracketed(text(scope, "schemaUrl")));
    match details.trim_start() {
        "" => String::new(),
        details => format!(" {details}"),
    }
}

fn pairs(of: &Json) -> Vec<String> {
    list(of, "attributes")
        .iter()
        .map(|entry| format!("{}={}", text(entry, "key"), bare(get(entry, "value"))))
        .collect()
}

fn spaced(of: &Json) -> String {
    let pairs = pairs(of);
    match pairs.is_empty() {
        true => String::new(),
        false => format!(" {}", pairs.join(" ")),
    }
}

fn span(out: &mut String, span: &Json) {
    let (name, trace, id) = (
        text(span, "name"),
        text(span, "traceId"),
        text(span, "spanId"),
    );
    let _ = writeln!(out, "{name} {trace} {id}{}", spaced(span));
}

fn metric(out: &mut String, metric: &Json) {
    let name = text(metric, "name");
    let kinds = [
        "gauge",
        "sum",
        "histogram",
        "exponentialHistogram",
        "summary",
    ];
    for kind in kinds {
        for point in list(get(metric, kind), "dataPoints") {
            let value = match kind {
                "gauge" | "sum" => match (point.get("asInt"), point.get("asDouble")) {
                    (Some(value), _) => integer(value),
                    (_, Some(value)) => plain(float(value)),
                    _ => String::new(),
                },
                "summary" => summary(point),
                _ => distribution(point),
            };
            let _ = writeln!(out, "{name}{{{}}} {value}", pairs(point).join(","));
        }
    }
}

fn distribution(point: &Json) -> String {
    let mut out = format!("count={}", integer(get(point, "count")));
    for key in ["sum", "min", "max"] {
        if let Some(value) = point.get(key) {
            let _ = write!(out, " {key}={}", plain(float(value)));
        }
    }
    let bounds = list(point, "explicitBounds");
    for (number, count) in list(point, "bucketCounts").iter().enumerate() {
        let bound = bounds.get(number);
        let bound = bound.map_or(String::new(), |bound| format!("le{}=", plain(float(bound))));
        let _ = write!(out, " {bound}{}", integer(count));
    }
    out
}

fn summary(point: &Json) -> String {
    let sum = fixed(float(get(point, "sum")));
    let mut out = format!("count={} sum={sum}", integer(get(point, "count")));
    for quantile in list(point, "quantileValues") {
        let at = |key| plain(float(get(quantile, key)));
        let _ = write!(out, " q{}={}", at("quantile"), at("value"));
    }
    out
}
