//! Brings what two collectors wrote into one form, so that it can be compared.
//!
//! In: request bodies. Out: a sorted list of items, each a line with all that stands above it.
//! Invariant: only what `docs/compatibility.md` calls the same becomes the same.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};

use crate::arrival::Signal;
use crate::sink::Received;

/// The kinds of data of a metric.
const DATA: [&str; 5] = [
    "gauge",
    "sum",
    "histogram",
    "exponentialHistogram",
    "summary",
];

/// The items of some requests.
pub(crate) fn items(requests: &[Received]) -> Vec<String> {
    let mut items: Vec<String> = requests.iter().flat_map(of_request).collect();
    items.sort_unstable();
    items
}

fn of_request(request: &Received) -> Vec<String> {
    let body = request.body.as_ref();
    let (value, [resources, scopes, items]) = match request.signal {
        Signal::Traces => (
            ExportTraceServiceRequest::decode(body).map(|all| json!(all)),
            ["resourceSpans", "scopeSpans", "spans"],
        ),
        Signal::Metrics => (
            ExportMetricsServiceRequest::decode(body).map(|all| json!(all)),
            ["resourceMetrics", "scopeMetrics", "metrics"],
        ),
        Signal::Logs => (
            ExportLogsServiceRequest::decode(body).map(|all| json!(all)),
            ["resourceLogs", "scopeLogs", "logRecords"],
        ),
    };
    let value = match value {
        Ok(value) => value,
        // The other collector passes on what protobuf's own readers refuse.
        Err(error) => return vec![format!("unreadable: {error}").chars().take(100).collect()],
    };
    let mut lines = Vec::new();
    for resource in list(&value, resources) {
        for scope in list(resource, scopes) {
            for item in list(scope, items) {
                for item in parts(item) {
                    let line = json!({
                        "resource": about(resource, "resource"),
                        "scope": about(scope, "scope"),
                        "item": reduced(item),
                    });
                    lines.push(line.to_string());
                }
            }
        }
    }
    lines
}

/// A resource or a scope with its schema.
fn about(holder: &Value, key: &str) -> Value {
    let described = match holder.get(key) {
        None | Some(Value::Null) => json!({}),
        Some(described) => reduced(described.clone()),
    };
    json!([described, holder.get("schemaUrl")])
}

/// A metric's points, each with its metric; other items as they are.
fn parts(item: &Value) -> Vec<Value> {
    let Some(kind) = DATA
        .into_iter()
        .find(|kind| !list(&item[*kind], "dataPoints").is_empty())
    else {
        return vec![item.clone()];
    };
    let points = list(&item[kind], "dataPoints").iter();
    points
        .map(|point| {
            let mut metric = item.clone();
            metric[kind]["dataPoints"] = json!([point]);
            metric
        })
        .collect()
}

/// The value without what says as little as its absence, and with every list of attributes in the
/// order of their keys.
fn reduced(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(reduced).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| {
                let mut value = reduced(value);
                if let (true, Value::Array(attributes)) = (key.ends_with("ttributes"), &mut value) {
                    attributes.sort_by_key(|attribute| attribute["key"].to_string());
                }
                (key, value)
            })
            .filter(|(key, value)| !says_nothing(key, value))
            .collect(),
        plain => plain,
    }
}

/// Whether a field is as if it were absent: null, or the default of a field that cannot be absent.
fn says_nothing(key: &str, value: &Value) -> bool {
    let can_be_absent = (key.ends_with("Value") && key.len() > 5)
        || ["asInt", "asDouble", "sum", "min", "max"].contains(&key)
        || DATA.contains(&key);
    let is_default = match value {
        Value::Null => return true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        // Integers of 64 bits, and ids that are not valid.
        Value::String(value) => value.chars().all(|digit| digit == '0'),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    };
    is_default && !can_be_absent
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
