//! The shape of a line, which is that of otelcol.
//!
//! In: an event. Out: `time, level, message, fields` with tabs between, or one JSON object with
//! `level`, `ts`, `msg` and the fields. Invariant: a line of JSON has no line break inside.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde_json::Value as Json;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::config::LogEncoding;

/// What an event says.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) others: Vec<(&'static str, Json)>,
}

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    /// Whether something went wrong, though perhaps not for good.
    pub(super) fn tells_of_failure(&self) -> bool {
        let names = ["error", "failure"];
        self.others.iter().any(|(name, _)| names.contains(name))
    }

    fn add(&mut self, field: &Field, value: Json) {
        match field.name() {
            "message" => {
                self.message = match value {
                    Json::String(text) => text,
                    other => other.to_string(),
                }
            }
            // What the log crate adds to say where it comes from.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// A moment as RFC 3339 in UTC, with milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::new(),
    }
}

pub(super) fn write(
    encoding: LogEncoding,
    level: Level,
    time: SystemTime,
    fields: &Fields,
    constant: &[(String, Json)],
) -> String {
    let time = timestamp(time);
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    };
    let mut line = match encoding {
        LogEncoding::Console => format!("{time}\t{level}\t{}", fields.message),
        LogEncoding::Json => {
            let message = Json::from(fields.message.as_str());
            format!("{{\"level\":\"{level}\",\"ts\":\"{time}\",\"msg\":{message}")
        }
    };
    let constant = constant.iter().map(|(name, value)| (name.as_str(), value));
    let others = fields.others.iter().map(|(name, value)| (*name, value));
    let mut between = match encoding {
        LogEncoding::Console => "\t{",
        LogEncoding::Json => ",",
    };
    for (name, value) in constant.chain(others) {
        // Writing to a string cannot fail.
        let _ = match encoding {
            LogEncoding::Console => write!(line, "{between}{}: {value}", Json::from(name)),
            LogEncoding::Json => write!(line, "{between}{}:{value}", Json::from(name)),
        };
        between = match encoding {
            LogEncoding::Console => ", ",
            LogEncoding::Json => ",",
        };
    }
    if encoding == LogEncoding::Json || between == ", " {
        line.push('}');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_those_of_otelcol() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_732_193_517_937);
        let fields = Fields {
            message: "a \"b\"\nc".to_owned(),
            others: vec![("exporter", "otlp".into()), ("items", 3.into())],
        };
        let constant = [("zone".to_owned(), Json::from("x"))];
        let line = |encoding, fields: &Fields, constant: &[_]| {
            write(encoding, Level::WARN, time, fields, constant)
        };
        assert_eq!(
            line(LogEncoding::Console, &fields, &constant),
            "2024-11-21T12:51:57.937Z\twarn\ta \"b\"\nc\t{\"zone\": \"x\", \"exporter\": \"otlp\", \"items\": 3}\n"
        );
        assert_eq!(
            line(LogEncoding::Json, &fields, &constant),
            "{\"level\":\"warn\",\"ts\":\"2024-11-21T12:51:57.937Z\",\"msg\":\"a \\\"b\\\"\\nc\",\"zone\":\"x\",\"exporter\":\"otlp\",\"items\":3}\n"
        );
        let plain = Fields {
            message: "m".to_owned(),
            others: Vec::new(),
        };
        let time = "2024-11-21T12:51:57.937Z";
        assert_eq!(
            line(LogEncoding::Console, &plain, &[]),
            format!("{time}\twarn\tm\n")
        );
        assert_eq!(
            line(LogEncoding::Json, &plain, &[]),
            format!("{{\"level\":\"warn\",\"ts\":\"{time}\",\"msg\":\"m\"}}\n")
        );
    }
}
