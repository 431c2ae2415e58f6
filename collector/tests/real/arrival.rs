//! What has arrived, item by item, read with the official protobuf definitions.
//!
//! In: lines of a `file` exporter, or bodies that a sink took. Out: how often each item came.
//! Invariant: what cannot be read is a panic, never nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

use crate::load::pad;
use crate::sink::Received;

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    /// The path of its gRPC method.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// A numbered item of a run.
type Item = (String, i64);

/// How often each item came.
#[derive(Default)]
pub(crate) struct Arrived {
    pub(crate) spans: BTreeMap<Item, usize>,
    pub(crate) logs: BTreeMap<Item, usize>,
    /// A stream's point is known by its time.
    pub(crate) points: BTreeMap<(Item, u64), usize>,
}

impl Arrived {
    /// Reads a `file` exporter's file.
    pub(crate) fn in_file(path: &Path) -> Self {
        let mut arrived = Self::default();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may still be being written.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        for line in whole {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            drop_entities(&mut value);
            if value.get("resourceSpans").is_some() {
                arrived.add_traces(serde_json::from_value(value).unwrap());
            } else if value.get("resourceMetrics").is_some() {
                arrived.add_metrics(serde_json::from_value(value).unwrap());
            } else {
                arrived.add_logs(serde_json::from_value(value).unwrap());
            }
        }
        arrived
    }

    /// Reads what a sink has recorded.
    pub(crate) fn in_requests(received: &Mutex<Vec<Received>>) -> Self {
        let mut arrived = Self::default();
        for request in received.lock().unwrap().iter() {
            arrived.add(request.signal, &request.body);
        }
        arrived
    }

    /// Adds a request's body.
    pub(crate) fn add(&mut self, signal: Signal, body: &[u8]) {
        match signal {
            Signal::Traces => self.add_traces(ExportTraceServiceRequest::decode(body).unwrap()),
            Signal::Metrics => self.add_metrics(ExportMetricsServiceRequest::decode(body).unwrap()),
            Signal::Logs => self.add_logs(ExportLogsServiceRequest::decode(body).unwrap()),
        }
    }

    fn add_traces(&mut self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            let run = text(&resource.resource.unwrap().attributes, "run");
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                let item = numbered(&run, &span.attributes);
                assert_eq!(span.name, format!("{run}-{}", item.1), "a span's name");
                assert_eq!(text(&span.attributes, "text"), "Grüße", "a span's text");
                if find(&span.attributes, "pad").is_some() {
                    assert_eq!(
                        text(&span.attributes, "pad"),
                        pad(item.1),
                        "a span's content"
                    );
                }
                assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "ids");
                assert!(
                    span.start_time_unix_nano <= span.end_time_unix_nano,
                    "times"
                );
                *self.spans.entry(item).or_default() += 1;
            }
        }
    }

    fn add_logs(&mut self, request: ExportLogsServiceRequest) {
        for resource in request.resource_logs {
            let run = text(&resource.resource.unwrap().attributes, "run");
            for record in resource
                .scope_logs
                .into_iter()
                .flat_map(|scope| scope.log_records)
            {
                let item = numbered(&run, &record.attributes);
                let body = record.body.and_then(|body| body.value);
                let expected = format!("{run}-{}", item.1);
                assert_eq!(body, Some(Value::StringValue(expected)), "a record's body");
                assert_eq!(record.severity_number, 13, "a record's severity");
                *self.logs.entry(item).or_default() += 1;
            }
        }
    }

    fn add_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for resource in request.resource_metrics {
            let run = text(&resource.resource.unwrap().attributes, "run");
            let metrics = resource
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics);
            // SDKs add metrics about themselves.
            for metric in metrics.filter(|metric| metric.name == run) {
                let Some(Data::Sum(sum)) = metric.data else {
                    panic!("{}: not a sum", metric.name);
                };
                assert!(sum.is_monotonic, "a counter");
                for point in sum.data_points {
                    let item = numbered(&run, &point.attributes);
                    *self.points.entry((item, point.time_unix_nano)).or_default() += 1;
                }
            }
        }
    }

    /// How many different items of a run are here: spans, log records, streams of points.
    pub(crate) fn of(&self, run: &str) -> [usize; 3] {
        let mut streams: Vec<&Item> = self.points.keys().map(|(item, _)| item).collect();
        streams.sort_unstable();
        streams.dedup();
        [
            self.spans.keys().filter(|item| item.0 == run).count(),
            self.logs.keys().filter(|item| item.0 == run).count(),
            streams.iter().filter(|item| item.0 == run).count(),
        ]
    }

    /// How many items came more than once.
    pub(crate) fn duplicates(&self) -> usize {
        let spans = self.spans.values().filter(|count| **count > 1).count();
        let logs = self.logs.values().filter(|count| **count > 1).count();
        spans + logs + self.points.values().filter(|count| **count > 1).count()
    }
}

/// Takes the references to entities out: the definitions' reader wants even their empty lists,
/// which OTLP/JSON leaves out.
fn drop_entities(request: &mut serde_json::Value) {
    let resources = request.as_object_mut().unwrap().values_mut();
    for resource in resources.flat_map(|list| list.as_array_mut().unwrap()) {
        if let Some(resource) = resource.get_mut("resource") {
            resource.as_object_mut().unwrap().remove("entityRefs");
        }
    }
}

fn numbered(run: &str, attributes: &[KeyValue]) -> Item {
    match find(attributes, "number") {
        Some(Value::IntValue(number)) => (run.to_owned(), *number),
        other => panic!("{run}: no number, but {other:?}"),
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match find(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("no {key}, but {other:?}"),
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}
