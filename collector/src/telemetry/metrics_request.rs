//! Metrics as an OTLP request.
//!
//! In: families and what describes the collector. Out: a request with one resource.
//! Invariant: numbers are those that a scrape at the same moment shows; counters and histograms
//! are cumulative since the process began.

use std::time::SystemTime;

use collector_otlp::{AnyValue, Request, Signal, WireError, wire};

use super::metrics::{Family, Kind, Labels, Reading};
use super::prometheus::{scope, unit};

/// OTLP's `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// From when to when something is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
}

/// The metrics of one moment.
pub(super) fn request(
    families: &[Family],
    resource: &[(String, String)],
    span: Span,
) -> Result<Request, WireError> {
    let mut out = Vec::new();
    let described = message(|body| attributes(body, 1, resource));
    wire::write_bytes(&mut out, 1, &described);
    let mut scopes: Vec<&str> = families.iter().map(|family| scope(&family.name)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    for name in scopes {
        let own = families.iter().filter(|family| scope(&family.name) == name);
        let scoped = message(|body| {
            let described = message(|scope| wire::write_bytes(scope, 1, name.as_bytes()));
            wire::write_bytes(body, 1, &described);
            for family in own {
                wire::write_bytes(body, 2, &metric(family, span));
            }
        });
        wire::write_bytes(&mut out, 2, &scoped);
    }
    let request = message(|body| wire::write_bytes(body, 1, &out));
    Request::parse(Signal::Metrics, request.into())
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    write(&mut body);
    body
}

fn attributes(out: &mut Vec<u8>, number: u32, labels: &[(String, String)]) {
    for (name, value) in labels {
        let value = message(|body| AnyValue::String(value.as_bytes()).write(body));
        let pair = message(|body| {
            wire::write_bytes(body, 1, name.as_bytes());
            wire::write_bytes(body, 2, &value);
        });
        wire::write_bytes(out, number, &pair);
    }
}

fn metric(family: &Family, span: Span) -> Vec<u8> {
    let unit = unit(&family.name);
    let points = message(|body| {
        for (labels, reading) in &family.series {
            let point = match reading {
                Reading::Number(number) => number_point(family, unit, labels, *number, span),
                Reading::Histogram { buckets, sum } => histogram_point(labels, buckets, *sum, span),
            };
            wire::write_bytes(body, 1, &point);
        }
        match family.kind {
            Kind::Counter => {
                wire::write_varint_field(body, 2, CUMULATIVE);
                wire::write_varint_field(body, 3, 1);
            }
            Kind::Histogram => wire::write_varint_field(body, 2, CUMULATIVE),
            Kind::Gauge => {}
        }
    });
    let data = match family.kind {
        Kind::Gauge => 5,
        Kind::Counter => 7,
        Kind::Histogram => 9,
    };
    message(|body| {
        wire::write_bytes(body, 1, family.name.as_bytes());
        wire::write_bytes(body, 2, family.help.as_bytes());
        wire::write_bytes(body, 3, unit.as_bytes());
        wire::write_bytes(body, data, &points);
    })
}

fn fixed(out: &mut Vec<u8>, number: u32, bits: u64) {
    wire::write_tag(out, number, 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn times(out: &mut Vec<u8>, has_start: bool, span: Span) {
    let nanoseconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    };
    if has_start {
        fixed(out, 2, nanoseconds(span.start));
    }
    fixed(out, 3, nanoseconds(span.end));
}

fn number_point(family: &Family, unit: &str, labels: &Labels, number: f64, span: Span) -> Vec<u8> {
    message(|body| {
        attributes(body, 7, labels);
        times(body, family.kind == Kind::Counter, span);
        // Seconds have fractions; all else is counted.
        match unit {
            "s" => fixed(body, 4, number.to_bits()),
            _ => fixed(body, 6, number as i64 as u64),
        }
    })
}

fn histogram_point(labels: &Labels, buckets: &[(f64, u64)], sum: f64, span: Span) -> Vec<u8> {
    let count = buckets.last().map_or(0, |(_, count)| *count);
    let mut below = 0;
    let counts = message(|body| {
        for (_, count) in buckets {
            body.extend_from_slice(&(count - below).to_le_bytes());
            below = *count;
        }
    });
    let bounds = message(|body| {
        for (bound, _) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
            body.extend_from_slice(&bound.to_le_bytes());
        }
    });
    message(|body| {
        times(body, true, span);
        fixed(body, 4, count);
        fixed(body, 5, sum.to_bits());
        wire::write_bytes(body, 6, &counts);
        wire::write_bytes(body, 7, &bounds);
        attributes(body, 9, labels);
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_kind_of_metric_is_written_as_otlp_has_it() {
        let label = |value: &str| vec![("receiver".to_owned(), value.to_owned())];
        let family = |name: &str, kind, reading| Family {
            name: name.to_owned(),
            help: "what it is",
            kind,
            series: vec![(label("otlp"), reading)],
        };
        let buckets = vec![(0.5, 2), (1.0, 2), (f64::INFINITY, 5)];
        let families = [
            family(
                "otelcol_receiver_accepted_spans",
                Kind::Counter,
                Reading::Number(7.0),
            ),
            family(
                "otelcol_process_uptime",
                Kind::Counter,
                Reading::Number(2.0),
            ),
            family(
                "otelcol_process_memory_rss",
                Kind::Gauge,
                Reading::Number(9.0),
            ),
            family(
                "otelcol_receiver_times_seconds",
                Kind::Histogram,
                Reading::Histogram { buckets, sum: 9.5 },
            ),
        ];
        let resource = [("service.name".to_owned(), "collector".to_owned())];
        let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        let end = start + Duration::from_nanos(1);
        let request = request(&families, &resource, Span { start, end }).unwrap();
        assert_eq!(request.items(), 4);
        let json: serde_json::Value = serde_json::from_slice(&request.to_json().unwrap()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
    }
}
