//! OTTL's paths, such as `attributes["k"]` and `resource.attributes["k"]`.
//!
//! In: the names of a path, and the context in which it stands. Out: a [`Path`] that reads one
//! field of one record. Invariant: a path that resolves can be read in its context.

use std::borrow::Cow;

use collector_otlp::pass::Above;
use collector_otlp::schema::Kind;
use collector_otlp::{AnyValue, Record};

use super::calendar::Moment;
use super::fault::ParseFault;
use super::syntax::{Key, Segment};
use super::value::Value;
use crate::config::diagnostic::did_you_mean;

/// What a text is about, and so which paths it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// A resource.
    Resource,
    /// An instrumentation scope.
    Scope,
    /// A metric.
    Metric,
    /// A span.
    Span,
    /// A log record.
    Log,
    /// A data point.
    DataPoint,
    /// An event of a span.
    SpanEvent,
}

impl Context {
    /// Every context with its name in paths.
    pub(super) const NAMES: &[(&'static str, Self)] = &[
        ("resource", Self::Resource),
        ("scope", Self::Scope),
        ("instrumentation_scope", Self::Scope),
        ("metric", Self::Metric),
        ("span", Self::Span),
        ("log", Self::Log),
        ("datapoint", Self::DataPoint),
        ("spanevent", Self::SpanEvent),
    ];

    /// The name that configurations use.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, context)| *context == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether a text of this context can look at another one's record.
    fn sees(self, other: Self) -> bool {
        match other {
            Self::Resource => true,
            Self::Scope => self != Self::Resource,
            Self::Metric => matches!(self, Self::Metric | Self::DataPoint),
            Self::Span => matches!(self, Self::Span | Self::SpanEvent),
            _ => self == other,
        }
    }
}

/// What a record stands in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'s> {
    resource: Option<&'s Record<'s>>,
    scope: Option<&'s Record<'s>>,
    metric: Option<&'s Record<'s>>,
    span: Option<&'s Record<'s>>,
    /// What statements keep between them, as a `KeyValueList`.
    cache: &'s [u8],
}

impl<'s> Setting<'s> {
    /// What a scope stands in.
    pub fn in_resource(resource: &'s Record<'s>) -> Self {
        Self {
            resource: Some(resource),
            ..Self::default()
        }
    }

    /// What anything below a scope stands in.
    pub fn of(above: &Above<'s, 's>) -> Self {
        Self {
            resource: Some(above.resource),
            scope: Some(above.scope),
            metric: above.metric,
            span: above.span,
            cache: &[],
        }
    }

    /// The same with what statements keep between them.
    pub(super) fn with<'t>(self, cache: &'t [u8]) -> Setting<'t>
    where
        's: 't,
    {
        Setting { cache, ..self }
    }
}

/// What one evaluation looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'v> {
    setting: Setting<'v>,
    own: &'v Record<'v>,
}

impl<'v> View<'v> {
    /// A record in its setting.
    pub fn of(setting: Setting<'v>, own: &'v Record<'v>) -> Self {
        Self { setting, own }
    }
}

impl View<'_> {
    /// Whether the span has no parent, by the number of the field that would name it.
    pub(super) fn is_root_span(&self, parent: u32) -> bool {
        is_no_id(self.own.bytes(parent))
    }
}

/// A path that has been resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) context: Context,
    pub(super) field: Field,
    pub(super) keys: Vec<Key>,
}

/// One field of a record; numbers are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Attributes,
    /// What statements keep between them.
    Cache,
    Text(u32),
    Id(u32),
    IdText(u32),
    /// The text of an id as a format shows it: nothing where there is none.
    IdShown(u32),
    Number(u32),
    Nanoseconds(u32),
    Time(u32),
    Messages(u32),
    Kind,
    KindName,
    StatusCode,
    StatusMessage,
    Body,
    BodyText,
    MetricType,
    Temporality,
    Monotonic,
    Flags,
    IntValue,
    DoubleValue,
    Count,
    Sum,
}

const RESOURCE: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("attributes", Field::Attributes),
    ("dropped_attributes_count", Field::Number(2)),
];
const SCOPE: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("name", Field::Text(1)),
    ("version", Field::Text(2)),
    ("attributes", Field::Attributes),
    ("dropped_attributes_count", Field::Number(4)),
];
const SPAN: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("trace_id", Field::Id(1)),
    ("trace_id.string", Field::IdText(1)),
    ("span_id", Field::Id(2)),
    ("span_id.string", Field::IdText(2)),
    ("trace_state", Field::Text(3)),
    ("parent_span_id", Field::Id(4)),
    ("parent_span_id.string", Field::IdText(4)),
    ("name", Field::Text(5)),
    ("kind", Field::Kind),
    ("kind.string", Field::KindName),
    ("start_time_unix_nano", Field::Nanoseconds(7)),
    ("end_time_unix_nano", Field::Nanoseconds(8)),
    ("start_time", Field::Time(7)),
    ("end_time", Field::Time(8)),
    ("attributes", Field::Attributes),
    ("dropped_attributes_count", Field::Number(10)),
    ("events", Field::Messages(11)),
    ("dropped_events_count", Field::Number(12)),
    ("links", Field::Messages(13)),
    ("dropped_links_count", Field::Number(14)),
    ("status.code", Field::StatusCode),
    ("status.message", Field::StatusMessage),
];
const SPAN_EVENT: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("time_unix_nano", Field::Nanoseconds(1)),
    ("time", Field::Time(1)),
    ("name", Field::Text(2)),
    ("attributes", Field::Attributes),
    ("dropped_attributes_count", Field::Number(4)),
];
const LOG: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("time_unix_nano", Field::Nanoseconds(1)),
    ("time", Field::Time(1)),
    ("observed_time_unix_nano", Field::Nanoseconds(11)),
    ("observed_time", Field::Time(11)),
    ("severity_number", Field::Number(2)),
    ("severity_text", Field::Text(3)),
    ("body", Field::Body),
    ("body.string", Field::BodyText),
    ("attributes", Field::Attributes),
    ("dropped_attributes_count", Field::Number(7)),
    ("flags", Field::Flags),
    ("trace_id", Field::Id(9)),
    ("trace_id.string", Field::IdText(9)),
    ("span_id", Field::Id(10)),
    ("span_id.string", Field::IdText(10)),
    ("event_name", Field::Text(12)),
];
const METRIC: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("name", Field::Text(1)),
    ("description", Field::Text(2)),
    ("unit", Field::Text(3)),
    ("type", Field::MetricType),
    ("aggregation_temporality", Field::Temporality),
    ("is_monotonic", Field::Monotonic),
];
const DATA_POINT: &[(&str, Field)] = &[
    ("cache", Field::Cache),
    ("attributes", Field::Attributes),
    ("start_time_unix_nano", Field::Nanoseconds(2)),
    ("time_unix_nano", Field::Nanoseconds(3)),
    ("start_time", Field::Time(2)),
    ("time", Field::Time(3)),
    ("value_int", Field::IntValue),
    ("value_double", Field::DoubleValue),
    ("count", Field::Count),
    ("sum", Field::Sum),
    ("flags", Field::Flags),
];

fn fields(context: Context) -> &'static [(&'static str, Field)] {
    match context {
        Context::Resource => RESOURCE,
        Context::Scope => SCOPE,
        Context::Span => SPAN,
        Context::SpanEvent => SPAN_EVENT,
        Context::Log => LOG,
        Context::Metric => METRIC,
        Context::DataPoint => DATA_POINT,
    }
}

impl Path {
    /// Resolves the names of a path.
    pub(super) fn resolve(
        context: Context,
        segments: &[Segment],
        column: usize,
    ) -> Result<Self, ParseFault> {
        let (target, names) = match segments {
            [first, rest @ ..] if !rest.is_empty() && first.keys.is_empty() => {
                match named(&first.name) {
                    Some(target) if context.sees(target) => (target, rest),
                    Some(target) => return Err(unseen(context, target, column)),
                    None => (context, segments),
                }
            }
            _ => (context, segments),
        };
        let joined: Vec<&str> = names.iter().map(|segment| segment.name.as_str()).collect();
        let joined = joined.join(".");
        let table = fields(target);
        let Some((_, field)) = table.iter().find(|(name, _)| *name == joined) else {
            let known = table.iter().map(|(name, _)| *name);
            let help = did_you_mean(&joined, known.clone()).unwrap_or_else(|| {
                format!(
                    "paths of a {}: {}",
                    target.name(),
                    known.collect::<Vec<_>>().join(", ")
                )
            });
            let message = format!("{joined:?} is no path of a {}", target.name());
            return Err(ParseFault::new(column, message).with_help(Some(help)));
        };
        let [before @ .., last] = names else {
            return Err(ParseFault::new(column, "this path has no name"));
        };
        let keyed = matches!(field, Field::Attributes | Field::Body | Field::Cache);
        if before.iter().any(|segment| !segment.keys.is_empty())
            || !(keyed || last.keys.is_empty())
            || (matches!(field, Field::Attributes | Field::Cache)
                && matches!(last.keys.first(), Some(Key::Index(_))))
        {
            return Err(ParseFault::new(
                column,
                format!("{joined:?} has no such keys"),
            ));
        }
        if *field == Field::Cache && target != context {
            let message = format!("a {} has a cache of its own", context.name());
            return Err(ParseFault::new(column, message));
        }
        Ok(Self {
            context: target,
            field: *field,
            keys: last.keys.clone(),
        })
    }

    fn record<'v>(&self, view: &View<'v>) -> &'v Record<'v> {
        let record = match self.context {
            Context::Resource => view.setting.resource,
            Context::Scope => view.setting.scope,
            Context::Metric => view.setting.metric,
            Context::Span => view.setting.span,
            _ => None,
        };
        record.unwrap_or(view.own)
    }

    /// Whether [`Path::text`] says all that there is to say when it is compared with a text.
    pub(super) fn is_textual(&self) -> bool {
        matches!(
            (self.field, self.keys.as_slice()),
            (Field::Attributes, [Key::Name(_)]) | (Field::Text(_), [])
        )
    }

    /// The text there, if it is one.
    pub(super) fn text<'v>(&self, view: &View<'v>) -> Option<&'v [u8]> {
        let record = self.record(view);
        match (self.field, self.keys.as_slice()) {
            (Field::Attributes, [Key::Name(name)]) => match record.attribute(name.as_bytes()) {
                Some(AnyValue::String(text)) => Some(text),
                _ => None,
            },
            (Field::Text(number), []) => Some(record.bytes(number)),
            _ => None,
        }
    }

    /// Reads the field.
    pub(super) fn read<'v>(&'v self, view: &View<'v>) -> Value<'v> {
        let record = self.record(view);
        match (self.field, self.keys.as_slice()) {
            (Field::Attributes, []) => Value::Attributes(record),
            (Field::Attributes, [Key::Name(name), rest @ ..]) => {
                let value = record.attribute(name.as_bytes());
                value.map_or(Value::Nil, Value::of).at(rest)
            }
            (Field::Cache, keys) => Value::Map(Cow::Borrowed(view.setting.cache)).at(keys),
            (field, keys) => field.read(record).at(keys),
        }
    }
}

/// The context with this name in paths.
pub(super) fn named(name: &str) -> Option<Context> {
    let found = Context::NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, context)| *context)
}

fn unseen(context: Context, target: Context, column: usize) -> ParseFault {
    let (own, other) = (context.name(), target.name());
    let help = match target.sees(context) {
        true => Some(format!("write this for the context {other}")),
        false => None,
    };
    let message = format!("a {own} stands in no {other}");
    ParseFault::new(column, message).with_help(help)
}

/// The number of a span's field that holds its status, and of the fields in that.
pub(super) const STATUS: u32 = 15;
pub(super) const STATUS_MESSAGE: u32 = 2;
pub(super) const STATUS_CODE: u32 = 3;
/// The number of a log record's body.
pub(super) const BODY: u32 = 5;
/// The number of a span's kind.
pub(super) const KIND: u32 = 6;

/// The data of a metric, by the number of the field and as `METRIC_DATA_TYPE_…` counts them.
const DATA: &[(u32, i64)] = &[(5, 1), (7, 2), (9, 3), (10, 4), (11, 5)];

impl Field {
    fn read<'v>(self, record: &'v Record<'v>) -> Value<'v> {
        match self {
            Self::Attributes => Value::Attributes(record),
            Self::Cache => Value::Nil,
            Self::Text(number) => Value::Text(Cow::Borrowed(record.bytes(number))),
            Self::Id(number) => Value::Bytes(Cow::Borrowed(id(record, number))),
            Self::IdText(number) => Value::Text(Cow::Owned(hexadecimal(id(record, number)))),
            Self::IdShown(number) => match record.bytes(number) {
                id if is_no_id(id) => Value::Text(Cow::Borrowed(b"")),
                id => Value::Text(Cow::Owned(hexadecimal(id))),
            },
            Self::Number(number) => Value::Int(record.varint(number) as i64),
            Self::Nanoseconds(number) => Value::Int(record.fixed64(number) as i64),
            Self::Time(number) => Value::Time(Moment::utc(record.fixed64(number).into())),
            Self::Messages(number) => Value::Messages(record.bodies(number).count()),
            Self::Kind => Value::Int(record.varint(KIND) as i64),
            Self::KindName => Value::Text(Cow::Borrowed(kind_name(record.varint(KIND)))),
            Self::StatusCode => Value::Int(number_in(&record.merged(STATUS), STATUS_CODE)),
            Self::StatusMessage => text_in(record.merged(STATUS), STATUS_MESSAGE),
            Self::Body => body(record),
            Self::BodyText => match record.merged(BODY) {
                Cow::Borrowed(bytes) => Value::Text(AnyValue::of(bytes).text()),
                Cow::Owned(bytes) => {
                    Value::Text(Cow::Owned(AnyValue::of(&bytes).text().into_owned()))
                }
            },
            Self::MetricType => Value::Int(data(record).map_or(0, |(kind, _)| kind)),
            Self::Temporality => in_data(record, |kind, body| match kind {
                2..=4 => Value::Int(number_in(body, 2)),
                _ => Value::Nil,
            }),
            Self::Monotonic => in_data(record, |kind, body| match kind {
                2 => Value::Bool(number_in(body, 3) != 0),
                _ => Value::Nil,
            }),
            Self::Flags => flags(record),
            Self::IntValue => point_field(record, "asInt"),
            Self::DoubleValue => point_field(record, "asDouble"),
            Self::Count => point_field(record, "count"),
            Self::Sum => point_field(record, "sum"),
        }
    }
}

/// An id; zeros where there is none, as in otelcol.
fn id<'v>(record: &'v Record<'_>, number: u32) -> &'v [u8] {
    match record.bytes(number) {
        [] => &[0; 16][..id_length(record, number)],
        id => id,
    }
}

/// How long the id in a field is.
pub(super) fn id_length(record: &Record<'_>, number: u32) -> usize {
    let field = record.message().and_then(|message| message.field(number));
    match field.map(|field| field.kind) {
        Some(Kind::Id(length)) => length,
        _ => 0,
    }
}

/// Whether this stands for the absence of an id.
pub(super) fn is_no_id(id: &[u8]) -> bool {
    id.iter().all(|byte| *byte == 0)
}

fn body<'v>(record: &'v Record<'v>) -> Value<'v> {
    match record.merged(BODY) {
        Cow::Borrowed(bytes) => Value::of(AnyValue::of(bytes)),
        Cow::Owned(bytes) => Value::of(AnyValue::of(&bytes)).into_owned(),
    }
}

fn flags(record: &Record<'_>) -> Value<'static> {
    let number = record
        .message()
        .and_then(|message| message.field_named("flags"))
        .map_or(0, |field| field.number);
    match record.field(number) {
        Some(collector_otlp::wire::Value::Fixed32(flags)) => Value::Int(i64::from(flags)),
        Some(collector_otlp::wire::Value::Varint(flags)) => Value::Int(flags as i64),
        _ => Value::Int(0),
    }
}

/// A number of a data point; nil when this kind of data point has no such field.
fn point_field(record: &Record<'_>, name: &str) -> Value<'static> {
    let field = record
        .message()
        .and_then(|message| message.field_named(name));
    let Some(field) = field else {
        return Value::Nil;
    };
    let bits = record.fixed64(field.number);
    match name {
        "asInt" | "count" => Value::Int(bits as i64),
        _ => Value::Double(f64::from_bits(bits)),
    }
}

/// The kind of a metric's data and its body.
fn data<'v>(metric: &'v Record<'v>) -> Option<(i64, &'v [u8])> {
    DATA.iter()
        .find_map(|(number, kind)| Some((*kind, metric.bodies(*number).next()?)))
}

fn in_data<'v>(metric: &'v Record<'v>, read: impl FnOnce(i64, &'v [u8]) -> Value<'v>) -> Value<'v> {
    data(metric).map_or(Value::Nil, |(kind, body)| read(kind, body))
}

fn number_in(body: &[u8], number: u32) -> i64 {
    let fields = collector_otlp::wire::Fields::of(body).flatten();
    let last = fields.filter(|field| field.number == number).last();
    match last.map(|field| field.value) {
        Some(collector_otlp::wire::Value::Varint(value)) => value as i64,
        _ => 0,
    }
}

fn text_in(body: Cow<'_, [u8]>, number: u32) -> Value<'_> {
    fn last(body: &[u8], number: u32) -> &[u8] {
        let fields = collector_otlp::wire::Fields::of(body).flatten();
        match fields
            .filter(|field| field.number == number)
            .last()
            .map(|field| field.value)
        {
            Some(collector_otlp::wire::Value::Bytes(text)) => text,
            _ => &[],
        }
    }
    Value::Text(match body {
        Cow::Borrowed(body) => Cow::Borrowed(last(body, number)),
        Cow::Owned(body) => Cow::Owned(last(&body, number).to_vec()),
    })
}

/// Bytes as hexadecimal text.
pub(super) fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .collect()
}

fn kind_name(kind: u64) -> &'static [u8] {
    match kind {
        0 => b"Unspecified",
        1 => b"Internal",
        2 => b"Server",
        3 => b"Client",
        4 => b"Producer",
        5 => b"Consumer",
        _ => b"",
    }
}
