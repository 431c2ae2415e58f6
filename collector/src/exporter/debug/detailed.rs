//! Everything in a request, as otelcol's `verbosity: detailed` writes it.
//!
//! In: a request as OTLP/JSON. Out: text. Invariant: the layout is that of 0.144.0, its quirks
//! included, since people and scripts read it.

use std::fmt::{Display, Write as _};

use collector_otlp::Signal;
use serde_json::Value as Json;

use super::value::{fixed, float, get, integer, list, text, time, typed};

/// The request as text.
pub(super) fn render(signal: Signal, request: &Json) -> String {
    let (resources, scopes, items, head) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans", "ResourceSpans"),
        Signal::Metrics => (
            "resourceMetrics",
            "scopeMetrics",
            "metrics",
            "ResourceMetrics",
        ),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords", "ResourceLog"),
    };
    let scope_head = match signal {
        Signal::Traces => "ScopeSpans",
        Signal::Metrics => "ScopeMetrics",
        Signal::Logs => "ScopeLogs",
    };
    let mut page = Page::default();
    for (number, resource) in list(request, resources).iter().enumerate() {
        page.line(format_args!("{head} #{number}"));
        let url = text(resource, "schemaUrl");
        page.line(format_args!("Resource SchemaURL: {url}"));
        page.attributes("Resource attributes", get(resource, "resource"));
        page.entities(get(resource, "resource"));
        for (number, scope) in list(resource, scopes).iter().enumerate() {
            page.line(format_args!("{scope_head} #{number}"));
            let url = text(scope, "schemaUrl");
            page.line(format_args!("{scope_head} SchemaURL: {url}"));
            let own = get(scope, "scope");
            let (name, version) = (text(own, "name"), text(own, "version"));
            page.line(format_args!("InstrumentationScope {name} {version}"));
            page.attributes("InstrumentationScope attributes", own);
            for (number, item) in list(scope, items).iter().enumerate() {
                match signal {
                    Signal::Traces => page.span(number, item),
                    Signal::Metrics => page.metric(number, item),
                    Signal::Logs => page.log(number, item),
                }
            }
        }
    }
    page.0
}

/// The text that grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Attributes below a title; a title with an arrow moves them to the right.
    fn attributes(&mut self, title: &str, of: &Json) {
        self.listed(title, list(of, "attributes"));
    }

    fn listed(&mut self, title: &str, attributes: &[Json]) {
        if attributes.is_empty() {
            return;
        }
        let indent = title.split_once("->").map_or("", |(indent, _)| indent);
        self.line(format_args!("{title}:"));
        for entry in attributes {
            let (key, value) = (text(entry, "key"), typed(get(entry, "value")));
            self.line(format_args!("{indent}     -> {key}: {value}"));
        }
    }

    fn entities(&mut self, resource: &Json) {
        let entities = list(resource, "entityRefs");
        if entities.is_empty() {
            return;
        }
        self.line("Resource entity refs:");
        for (number, entity) in entities.iter().enumerate() {
            self.line(format_args!("     -> Entity ref #{number}:"));
            self.line(format_args!("          -> Type: {}", text(entity, "type")));
            if !text(entity, "schemaUrl").is_empty() {
                let url = text(entity, "schemaUrl");
                self.line(format_args!("          -> Schema URL: {url}"));
            }
            for (title, key) in [
                ("ID keys", "idKeys"),
                ("Description keys", "descriptionKeys"),
            ] {
                let keys = list(entity, key);
                if !keys.is_empty() {
                    self.line(format_args!("          -> {title}:"));
                }
                for key in keys {
                    let key = key.as_str().unwrap_or_default();
                    self.line(format_args!("               -> {key}"));
                }
            }
        }
    }

    fn span(&mut self, number: usize, span: &Json) {
        const KINDS: [&str; 6] = [
            "Unspecified",
            "Internal",
            "Server",
            "Client",
            "Producer",
            "Consumer",
        ];
        self.line(format_args!("Span #{number}"));
        let status = get(span, "status");
        let mut fields = vec![
            ("Trace ID", text(span, "traceId").to_owned()),
            ("Parent ID", text(span, "parentSpanId").to_owned()),
            ("ID", text(span, "spanId").to_owned()),
            ("Name", text(span, "name").to_owned()),
            ("Kind", choice(get(span, "kind"), &KINDS)),
        ];
        if !text(span, "traceState").is_empty() {
            fields.push(("TraceState", text(span, "traceState").to_owned()));
        }
        fields.extend([
            ("Start time", time(get(span, "startTimeUnixNano"))),
            ("End time", time(get(span, "endTimeUnixNano"))),
            (
                "Status code",
                choice(get(status, "code"), &["Unset", "Ok", "Error"]),
            ),
            ("Status message", text(status, "message").to_owned()),
            (
                "DroppedAttributesCount",
                integer(get(span, "droppedAttributesCount")),
            ),
            (
                "DroppedEventsCount",
                integer(get(span, "droppedEventsCount")),
            ),
            ("DroppedLinksCount", integer(get(span, "droppedLinksCount"))),
        ]);
        for (name, value) in fields {
            self.line(format_args!("    {name:<15}: {value}"));
        }
        self.attributes("Attributes", span);
        self.titled(
            "Events",
            "SpanEvent",
            list(span, "events"),
            |page, event| {
                page.line(format_args!("     -> Name: {}", text(event, "name")));
                page.line(format_args!(
                    "     -> Timestamp: {}",
                    time(get(event, "timeUnixNano"))
                ));
                page.dropped_and_attributes(event);
            },
        );
        self.titled("Links", "SpanLink", list(span, "links"), |page, link| {
            page.line(format_args!("     -> Trace ID: {}", text(link, "traceId")));
            page.line(format_args!("     -> ID: {}", text(link, "spanId")));
            page.line(format_args!(
                "     -> TraceState: {}",
                text(link, "traceState")
            ));
            page.dropped_and_attributes(link);
        });
    }

    fn dropped_and_attributes(&mut self, of: &Json) {
        let dropped = integer(get(of, "droppedAttributesCount"));
        self.line(format_args!("     -> DroppedAttributesCount: {dropped}"));
        self.attributes("     -> Attributes:", of);
    }

    fn titled(&mut self, title: &str, name: &str, items: &[Json], each: fn(&mut Self, &Json)) {
        if items.is_empty() {
            return;
        }
        self.line(format_args!("{title}:"));
        for (number, item) in items.iter().enumerate() {
            self.line(format_args!("{name} #{number}"));
            each(self, item);
        }
    }

    fn log(&mut self, number: usize, record: &Json) {
        self.line(format_args!("LogRecord #{number}"));
        let observed = time(get(record, "observedTimeUnixNano"));
        self.line(format_args!("ObservedTimestamp: {observed}"));
        self.line(format_args!(
            "Timestamp: {}",
            time(get(record, "timeUnixNano"))
        ));
        self.line(format_args!(
            "SeverityText: {}",
            text(record, "severityText")
        ));
        let severity = get(record, "severityNumber").as_i64().unwrap_or_default();
        self.line(format_args!(
            "SeverityNumber: {}({severity})",
            severity_name(severity)
        ));
        if !text(record, "eventName").is_empty() {
            self.line(format_args!("EventName: {}", text(record, "eventName")));
        }
        self.line(format_args!("Body: {}", typed(get(record, "body"))));
        self.attributes("Attributes", record);
        self.line(format_args!("Trace ID: {}", text(record, "traceId")));
        self.line(format_args!("Span ID: {}", text(record, "spanId")));
        self.line(format_args!("Flags: {}", integer(get(record, "flags"))));
    }

    fn metric(&mut self, number: usize, metric: &Json) {
        let kinds = [
            ("gauge", "Gauge"),
            ("sum", "Sum"),
            ("histogram", "Histogram"),
            ("exponentialHistogram", "ExponentialHistogram"),
            ("summary", "Summary"),
        ];
        let kind = kinds.into_iter().find(|(key, _)| metric.get(key).is_some());
        let (key, kind) = kind.unwrap_or(("", "Empty"));
        self.line(format_args!("Metric #{number}"));
        self.line("Descriptor:");
        self.line(format_args!("     -> Name: {}", text(metric, "name")));
        self.line(format_args!(
            "     -> Description: {}",
            text(metric, "description")
        ));
        self.line(format_args!("     -> Unit: {}", text(metric, "unit")));
        self.line(format_args!("     -> DataType: {kind}"));
        let data = get(metric, key);
        if kind == "Sum" {
            let is_monotonic = get(data, "isMonotonic").as_bool().unwrap_or_default();
            self.line(format_args!("     -> IsMonotonic: {is_monotonic}"));
        }
        if ["Sum", "Histogram", "ExponentialHistogram"].contains(&kind) {
            let names = ["Unspecified", "Delta", "Cumulative"];
            let temporality = choice(get(data, "aggregationTemporality"), &names);
            self.line(format_args!(
                "     -> AggregationTemporality: {temporality}"
            ));
        }
        let title = match kind {
            "Gauge" | "Sum" => "Number",
            other => other,
        };
        for (number, point) in list(data, "dataPoints").iter().enumerate() {
            self.line(format_args!("{title}DataPoints #{number}"));
            self.attributes("Data point attributes", point);
            let start = time(get(point, "startTimeUnixNano"));
            self.line(format_args!("StartTimestamp: {start}"));
            self.line(format_args!(
                "Timestamp: {}",
                time(get(point, "timeUnixNano"))
            ));
            self.values(kind, point);
        }
    }

    fn values(&mut self, kind: &str, point: &Json) {
        match kind {
            "Gauge" | "Sum" => self.value("Value", point),
            _ => self.line(format_args!("Count: {}", integer(get(point, "count")))),
        }
        match kind {
            "Summary" => self.line(format_args!("Sum: {}", fixed(float(get(point, "sum"))))),
            "Histogram" | "ExponentialHistogram" => {
                for (key, name) in [("sum", "Sum"), ("min", "Min"), ("max", "Max")] {
                    if let Some(value) = point.get(key) {
                        self.line(format_args!("{name}: {}", fixed(float(value))));
                    }
                }
            }
            _ => {}
        }
        for (number, quantile) in list(point, "quantileValues").iter().enumerate() {
            let at = |key| fixed(float(get(quantile, key)));
            let (quantile, value) = (at("quantile"), at("value"));
            self.line(format_args!(
                "QuantileValue #{number}: Quantile {quantile}, Value {value}"
            ));
        }
        for (number, bound) in list(point, "explicitBounds").iter().enumerate() {
            self.line(format_args!(
                "ExplicitBounds #{number}: {}",
                fixed(float(bound))
            ));
        }
        if kind == "ExponentialHistogram" {
            self.exponential(point);
        } else {
            for (number, count) in list(point, "bucketCounts").iter().enumerate() {
                self.line(format_args!("Buckets #{number}, Count: {}", integer(count)));
            }
        }
        self.titled(
            "Exemplars",
            "Exemplar",
            list(point, "exemplars"),
            |page, exemplar| {
                page.line(format_args!(
                    "     -> Trace ID: {}",
                    text(exemplar, "traceId")
                ));
                page.line(format_args!(
                    "     -> Span ID: {}",
                    text(exemplar, "spanId")
                ));
                page.line(format_args!(
                    "     -> Timestamp: {}",
                    time(get(exemplar, "timeUnixNano"))
                ));
                page.value("     -> Value", exemplar);
                page.listed(
                    "     -> FilteredAttributes",
                    list(exemplar, "filteredAttributes"),
                );
            },
        );
    }

    fn value(&mut self, name: &str, of: &Json) {
        if let Some(value) = of.get("asInt") {
            self.line(format_args!("{name}: {}", integer(value)));
        } else if let Some(value) = of.get("asDouble") {
            self.line(format_args!("{name}: {}", fixed(float(value))));
        }
    }

    fn exponential(&mut self, point: &Json) {
        let scale = get(point, "scale").as_i64().unwrap_or_default();
        let factor = std::f64::consts::LN_2 * (-scale as f64).exp2();
        let buckets = |key| {
            let part = get(point, key);
            let offset = get(part, "offset").as_i64().unwrap_or_default();
            let counts = list(part, "bucketCounts").iter().enumerate();
            counts.map(move |(at, count)| {
                let index = (offset + at as i64) as f64;
                let bounds = [index, index + 1.0].map(|at| (at * factor).exp());
                (bounds, integer(count))
            })
        };
        for ([lower, upper], count) in buckets("negative").rev() {
            let (from, to) = (fixed(-upper), fixed(-lower));
            self.line(format_args!("Bucket [{from}, {to}), Count: {count}"));
        }
        let zeros = integer(get(point, "zeroCount"));
        if zeros != "0" {
            self.line(format_args!("Bucket [0, 0], Count: {zeros}"));
        }
        for ([lower, upper], count) in buckets("positive") {
            let (from, to) = (fixed(lower), fixed(upper));
            self.line(format_args!("Bucket ({from}, {to}], Count: {count}"));
        }
    }
}

/// The name of an enum's value, which is empty where it has none.
fn choice(value: &Json, names: &[&str]) -> String {
    let number = value.as_u64().unwrap_or_default();
    let name = names.get(usize::try_from(number).unwrap_or(usize::MAX));
    name.copied().unwrap_or_default().to_owned()
}

fn severity_name(number: i64) -> String {
    let groups = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"];
    let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
    match (number, groups.get(at / 4), at % 4) {
        (0, ..) => "Unspecified".to_owned(),
        (_, Some(group), 0) => (*group).to_owned(),
        (_, Some(group), step) => format!("{group}{}", step + 1),
        (_, None, _) => String::new(),
    }
}
