//! The part of OTLP's protobuf schema that the collector needs, as static tables.
//!
//! In: nothing. Out: [`Message`] tables for the export requests and everything below them.
//! Invariant: a table's fields ascend by number, and every field that OTLP 1.9 defines for
//! traces, logs and metrics is present; anything else on the wire is an unknown field.

pub mod enums;
mod metrics;
mod plan;

use enums::{SEVERITIES, SPAN_KINDS, STATUS_CODES};
use metrics::METRIC;
pub(crate) use plan::{Plan, Step};

/// One of the three kinds of telemetry that an export request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// `ExportTraceServiceRequest`; its items are spans.
    Traces,
    /// `ExportMetricsServiceRequest`; its items are data points.
    Metrics,
    /// `ExportLogsServiceRequest`; its items are log records.
    Logs,
}

impl Signal {
    /// Every signal, in the order in which they are shown to users.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The name that configuration files use: `traces`, `metrics` or `logs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// The table of this signal's export request.
    pub fn request(self) -> &'static Message {
        match self {
            Self::Traces => &TRACES_REQUEST,
            Self::Metrics => &METRICS_REQUEST,
            Self::Logs => &LOGS_REQUEST,
        }
    }
}

/// A protobuf message: its name for error texts and its fields.
#[derive(Debug)]
pub struct Message {
    /// The message's name as in the `.proto` file.
    pub name: &'static str,
    /// The fields, ascending by number.
    pub fields: &'static [Field],
    /// Whether this message is what the collector counts: a span, log record or data point.
    pub item: bool,
    /// Whether items can stand somewhere below this message.
    pub holds_items: bool,
    /// What validation does for each tag of one byte; made from `fields`.
    pub(crate) plan: Plan,
}

/// One field of a [`Message`].
#[derive(Debug)]
pub struct Field {
    /// The field's number on the wire.
    pub number: u32,
    /// The field's name in OTLP/JSON, lowerCamelCase.
    pub name: &'static str,
    /// What the field holds.
    pub kind: Kind,
    /// How often the field may stand in one message.
    pub label: Label,
}

/// How often a field may stand in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// At most once; when repeated on the wire, messages merge and scalars take the last.
    Single,
    /// At most one of all the fields with this label in the message; the last one wins.
    OneOf,
    /// Any number of times; numbers may be packed.
    Repeated,
}

/// The type of a field's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An embedded message.
    Message(&'static Message),
    /// UTF-8 text.
    String,
    /// Bytes, base64 in JSON.
    Bytes,
    /// An id of exactly this many bytes, or empty; hexadecimal in JSON.
    Id(usize),
    /// A varint that is zero or one.
    Bool,
    /// A varint, an unsigned 32-bit number.
    Uint32,
    /// A varint, an unsigned 64-bit number; a string in JSON.
    Uint64,
    /// A varint, a signed 64-bit number; a string in JSON.
    Int64,
    /// A zigzag varint, a signed 32-bit number.
    Sint32,
    /// Four bytes, unsigned.
    Fixed32,
    /// Eight bytes, unsigned; a string in JSON.
    Fixed64,
    /// Eight bytes, signed; a string in JSON.
    Sfixed64,
    /// Eight bytes, IEEE 754.
    Double,
    /// A varint; in JSON a number, with the name from this table accepted too.
    Enum(&'static [(&'static str, i32)]),
}

impl Message {
    /// The field with this number, or `None` when OTLP does not define it here.
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        // Most tables are dense, so the field usually stands at its number less one.
        let guess = self.fields.get((number as usize).wrapping_sub(1));
        match guess {
            Some(field) if field.number == number => guess,
            _ => self.fields.iter().find(|field| field.number == number),
        }
    }

    /// The field with this OTLP/JSON name.
    pub fn field_named(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

const fn message(name: &'static str, fields: &'static [Field]) -> Message {
    Message {
        name,
        fields,
        item: false,
        holds_items: false,
        plan: Plan::of(fields),
    }
}

const fn container(name: &'static str, fields: &'static [Field]) -> Message {
    Message {
        name,
        fields,
        item: false,
        holds_items: true,
        plan: Plan::of(fields),
    }
}

const fn item(name: &'static str, fields: &'static [Field]) -> Message {
    Message {
        name,
        fields,
        item: true,
        holds_items: false,
        plan: Plan::of(fields),
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        label: Label::Single,
    }
}

const fn choice(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        label: Label::OneOf,
    }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        label: Label::Repeated,
    }
}

const TRACE_ID: Kind = Kind::Id(16);
const SPAN_ID: Kind = Kind::Id(8);

static TRACES_REQUEST: Message = container(
    "ExportTraceServiceRequest",
    &[many(1, "resourceSpans", Kind::Message(&RESOURCE_SPANS))],
);
static LOGS_REQUEST: Message = container(
    "ExportLogsServiceRequest",
    &[many(1, "resourceLogs", Kind::Message(&RESOURCE_LOGS))],
);
static METRICS_REQUEST: Message = container(
    "ExportMetricsServiceRequest",
    &[many(1, "resourceMetrics", Kind::Message(&RESOURCE_METRICS))],
);

static RESOURCE_SPANS: Message = container(
    "ResourceSpans",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scopeSpans", Kind::Message(&SCOPE_SPANS)),
        one(3, "schemaUrl", Kind::String),
    ],
);
static RESOURCE_LOGS: Message = container(
    "ResourceLogs",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scopeLogs", Kind::Message(&SCOPE_LOGS)),
        one(3, "schemaUrl", Kind::String),
    ],
);
static RESOURCE_METRICS: Message = container(
    "ResourceMetrics",
    &[
        one(1, "resource", Kind::Message(&RESOURCE)),
        many(2, "scopeMetrics", Kind::Message(&SCOPE_METRICS)),
        one(3, "schemaUrl", Kind::String),
    ],
);
static SCOPE_SPANS: Message = container(
    "ScopeSpans",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "spans", Kind::Message(&SPAN)),
        one(3, "schemaUrl", Kind::String),
    ],
);
static SCOPE_LOGS: Message = container(
    "ScopeLogs",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "logRecords", Kind::Message(&LOG_RECORD)),
        one(3, "schemaUrl", Kind::String),
    ],
);
static SCOPE_METRICS: Message = container(
    "ScopeMetrics",
    &[
        one(1, "scope", Kind::Message(&SCOPE)),
        many(2, "metrics", Kind::Message(&METRIC)),
        one(3, "schemaUrl", Kind::String),
    ],
);

/// The table of `Resource`; its attributes are field 1.
pub static RESOURCE: Message = message(
    "Resource",
    &[
        many(1, "attributes", Kind::Message(&KEY_VALUE)),
        one(2, "droppedAttributesCount", Kind::Uint32),
        many(3, "entityRefs", Kind::Message(&ENTITY_REF)),
    ],
);
static ENTITY_REF: Message = message(
    "EntityRef",
    &[
        one(1, "schemaUrl", Kind::String),
        one(2, "type", Kind::String),
        many(3, "idKeys", Kind::String),
        many(4, "descriptionKeys", Kind::String),
    ],
);
pub(crate) static SCOPE: Message = message(
    "InstrumentationScope",
    &[
        one(1, "name", Kind::String),
        one(2, "version", Kind::String),
        many(3, "attributes", Kind::Message(&KEY_VALUE)),
        one(4, "droppedAttributesCount", Kind::Uint32),
    ],
);
pub(crate) static KEY_VALUE: Message = message(
    "KeyValue",
    &[
        one(1, "key", Kind::String),
        one(2, "value", Kind::Message(&ANY_VALUE)),
    ],
);
pub(crate) static ANY_VALUE: Message = message(
    "AnyValue",
    &[
        choice(1, "stringValue", Kind::String),
        choice(2, "boolValue", Kind::Bool),
        choice(3, "intValue", Kind::Int64),
        choice(4, "doubleValue", Kind::Double),
        choice(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        choice(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        choice(7, "bytesValue", Kind::Bytes),
    ],
);
static ARRAY_VALUE: Message = message(
    "ArrayValue",
    &[many(1, "values", Kind::Message(&ANY_VALUE))],
);
static KEY_VALUE_LIST: Message = message(
    "KeyValueList",
    &[many(1, "values", Kind::Message(&KEY_VALUE))],
);

static SPAN: Message = item(
    "Span",
    &[
        one(1, "traceId", TRACE_ID),
        one(2, "spanId", SPAN_ID),
        one(3, "traceState", Kind::String),
        one(4, "parentSpanId", SPAN_ID),
        one(5, "name", Kind::String),
        one(6, "kind", Kind::Enum(SPAN_KINDS)),
        one(7, "startTimeUnixNano", Kind::Fixed64),
        one(8, "endTimeUnixNano", Kind::Fixed64),
        many(9, "attributes", Kind::Message(&KEY_VALUE)),
        one(10, "droppedAttributesCount", Kind::Uint32),
        many(11, "events", Kind::Message(&EVENT)),
        one(12, "droppedEventsCount", Kind::Uint32),
        many(13, "links", Kind::Message(&LINK)),
        one(14, "droppedLinksCount", Kind::Uint32),
        one(15, "status", Kind::Message(&STATUS)),
        one(16, "flags", Kind::Fixed32),
    ],
);
pub(crate) static EVENT: Message = message(
    "Event",
    &[
        one(1, "timeUnixNano", Kind::Fixed64),
        one(2, "name", Kind::String),
        many(3, "attributes", Kind::Message(&KEY_VALUE)),
        one(4, "droppedAttributesCount", Kind::Uint32),
    ],
);
static LINK: Message = message(
    "Link",
    &[
        one(1, "traceId", TRACE_ID),
        one(2, "spanId", SPAN_ID),
        one(3, "traceState", Kind::String),
        many(4, "attributes", Kind::Message(&KEY_VALUE)),
        one(5, "droppedAttributesCount", Kind::Uint32),
        one(6, "flags", Kind::Fixed32),
    ],
);
static STATUS: Message = message(
    "Status",
    &[
        one(2, "message", Kind::String),
        one(3, "code", Kind::Enum(STATUS_CODES)),
    ],
);

static LOG_RECORD: Message = item(
    "LogRecord",
    &[
        one(1, "timeUnixNano", Kind::Fixed64),
        one(2, "severityNumber", Kind::Enum(SEVERITIES)),
        one(3, "severityText", Kind::String),
        one(5, "body", Kind::Message(&ANY_VALUE)),
        many(6, "attributes", Kind::Message(&KEY_VALUE)),
        one(7, "droppedAttributesCount", Kind::Uint32),
        one(8, "flags", Kind::Fixed32),
        one(9, "traceId", TRACE_ID),
        one(10, "spanId", SPAN_ID),
        one(11, "observedTimeUnixNano", Kind::Fixed64),
        one(12, "eventName", Kind::String),
    ],
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn visit(message: &'static Message, seen: &mut HashSet<&'static str>) {
        if !seen.insert(message.name) {
            return;
        }
        assert!(
            message.fields.is_sorted_by(|a, b| a.number < b.number),
            "{}",
            message.name
        );
        for field in message.fields {
            assert!(std::ptr::eq(message.field(field.number).unwrap(), field));
            if let Kind::Message(inner) = field.kind {
                visit(inner, seen);
            }
        }
    }

    #[test]
    fn every_table_ascends_and_finds_its_own_fields() {
        let mut seen = HashSet::new();
        for signal in Signal::ALL {
            visit(signal.request(), &mut seen);
        }
        assert_eq!(seen.len(), 34);
    }
}
