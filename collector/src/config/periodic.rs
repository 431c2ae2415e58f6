//! `service.telemetry.metrics.readers[].periodic`: metrics that are sent rather than asked for.
//!
//! In: the section. Out: [`PeriodicConfig`]. Invariant: what is said of the exporter is read by the
//! `otlp` or the `otlphttp` exporter itself, under the keys that it has in `exporters`.
//!
//! | key | default | |
//! |---|---|---|
//! | `interval` | `60000` | milliseconds from one time to the next |
//! | `timeout` | `30000` | milliseconds that it may take |
//! | `exporter.otlp.protocol` | required | `grpc`, `http/protobuf` |
//! | `exporter.otlp.endpoint` | required | a URL, over gRPC also `host:port`; over HTTP `/v1/metrics` unless it has a path |
//! | `exporter.otlp.insecure` | `false` | plain text to an endpoint without a scheme |
//! | `exporter.otlp.headers` | none | a list of `name` and `value` |
//! | `exporter.otlp.headers_list` | none | the same as `name=value,…`, values percent-encoded; `headers` count before it |
//! | `exporter.otlp.compression` | `none` | or `gzip` |
//! | `exporter.otlp.timeout` | `10000` | milliseconds for one request |
//! | `exporter.otlp.certificate` | the system's | the authorities to trust |
//! | `exporter.otlp.client_certificate`, `client_key` | none | what to identify oneself with |
//!
//! `temporality_preference` is `cumulative` and `default_histogram_aggregation` is
//! `explicit_bucket_histogram`. Refused as not supported yet: other values of these two,
//! `exporter.console`, `producers`, `cardinality_limits`.

use std::time::Duration;

use super::section::Section;
use super::yaml::{Key, Node, Value};
use crate::config::diagnostic::Position;
use crate::exporter::{otlp, otlphttp};

/// A reader that sends what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicConfig {
    /// From one time to the next.
    pub interval: Duration,
    /// What reading and sending may take.
    pub timeout: Duration,
    /// What sends.
    pub exporter: OwnExporter,
}

/// What sends the collector's own metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnExporter {
    /// OTLP over gRPC.
    Grpc(Box<otlp::Config>),
    /// OTLP over HTTP.
    Http(Box<otlphttp::Config>),
}

/// How it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http,
}

/// The most milliseconds that a setting may say: a day.
const MOST_MILLISECONDS: u64 = 86_400_000;

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> Option<PeriodicConfig> {
    section.unsupported(&["producers", "cardinality_limits"]);
    let milliseconds = |key, default| {
        let number = section.number_in(key, 1..=MOST_MILLISECONDS);
        Duration::from_millis(number.unwrap_or(default))
    };
    let (interval, timeout) = (
        milliseconds("interval", 60_000),
        milliseconds("timeout", 30_000),
    );
    let exporter = section.section("exporter");
    exporter.unsupported(&["console"]);
    if !exporter.has("otlp") {
        section.error("exporter", "a periodic reader needs exporter.otlp");
        return None;
    }
    Some(PeriodicConfig {
        interval,
        timeout,
        exporter: own_exporter(&exporter.section("otlp"))?,
    })
}

fn own_exporter(section: &Section<'_>) -> Option<OwnExporter> {
    let protocols = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::Http)];
    let protocol = section.choice("protocol", &protocols);
    if !section.has("protocol") {
        section.error("protocol", "protocol must be grpc or http/protobuf");
    }
    for (key, only) in [
        ("temporality_preference", "cumulative"),
        ("default_histogram_aggregation", "explicit_bucket_histogram"),
    ] {
        if section.text(key).is_some_and(|text| text != only) {
            section.error(key, format!("{key} other than {only} is not supported yet"));
        }
    }
    let node = in_exporters(section, protocol.unwrap_or(Protocol::Grpc));
    if !section.has("endpoint") {
        section.error("endpoint", "an endpoint such as http://host:4318 is needed");
        return None;
    }
    // Before the section, which would report all its keys as unknown if nobody read them.
    let protocol = protocol?;
    let own = Section::of(&node, section.position(), section.diagnostics());
    Some(match protocol {
        Protocol::Grpc => OwnExporter::Grpc(Box::new(otlp::Config::read(&own))),
        Protocol::Http => OwnExporter::Http(Box::new(otlphttp::Config::read(&own))),
    })
}

/// The same settings under the keys of `exporters`.
fn in_exporters(section: &Section<'_>, protocol: Protocol) -> Node {
    let position = section.position();
    let scalar = |text: &str| Node {
        position,
        value: Value::Scalar {
            text: text.to_owned(),
            quoted: false,
        },
    };
    let written = |key| section.get(key).map(|(_, node)| node.clone());
    let off = || mapping(position, [("enabled", Some(scalar("false")))]);
    let tls = [
        ("insecure", written("insecure")),
        ("ca_file", written("certificate")),
        ("cert_file", written("client_certificate")),
        ("key_file", written("client_key")),
    ];
    let endpoint = section.text("endpoint").unwrap_or_default();
    let has_path = endpoint
        .split_once("://")
        .is_some_and(|(_, rest)| rest.trim_end_matches('/').contains('/'));
    let endpoint_key = match protocol {
        Protocol::Http if has_path => "metrics_endpoint",
        _ => "endpoint",
    };
    let timeout = section.number_in("timeout", 1..=MOST_MILLISECONDS);
    let compressions = [("gzip", "gzip"), ("none", "none")];
    let compression = section.choice("compression", &compressions);
    let entries = [
        (endpoint_key, written("endpoint")),
        ("tls", Some(mapping(position, tls))),
        ("compression", Some(scalar(compression.unwrap_or("none")))),
        ("headers", Some(headers(section))),
        (
            "timeout",
            Some(scalar(&format!("{}ms", timeout.unwrap_or(10_000)))),
        ),
        ("sending_queue", Some(off())),
        ("retry_on_failure", Some(off())),
    ];
    mapping(position, entries)
}

fn mapping<'k>(
    position: Position,
    entries: impl IntoIterator<Item = (&'k str, Option<Node>)>,
) -> Node {
    let entries = entries.into_iter().filter_map(|(key, node)| {
        let text = key.to_owned();
        Some((Key { text, position }, node?))
    });
    Node {
        position,
        value: Value::Mapping(entries.collect()),
    }
}

/// Headers of both spellings as a mapping.
fn headers(section: &Section<'_>) -> Node {
    let position = section.position();
    let mut entries: Vec<(Key, Node)> = Vec::new();
    let mut add = |name: String, node: Node| {
        if entries.iter().all(|(key, _)| key.text != name) {
            let position = node.position;
            entries.push((
                Key {
                    text: name,
                    position,
                },
                node,
            ));
        }
    };
    for node in section.list("headers") {
        let header = Section::of(node, node.position, section.diagnostics());
        match (header.text("name"), header.get("value")) {
            (Some(name), Some((_, value))) => add(name, value.clone()),
            _ => header.error("name", "a header needs a name and a value"),
        }
    }
    let list = section.text("headers_list").unwrap_or_default();
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            section.error("headers_list", format!("{pair:?} is not name=value"));
            continue;
        };
        let Some(text) = percent_decoded(value.trim()) else {
            // The value may be a secret.
            let name = name.trim();
            let message = format!("the value of {name:?} is not percent-encoded; write %25 for %");
            section.error("headers_list", message);
            continue;
        };
        let value = Value::Scalar { text, quoted: true };
        add(name.trim().to_owned(), Node { position, value });
    }
    Node {
        position,
        value: Value::Mapping(entries),
    }
}

/// The text that is percent-encoded here, as in a W3C baggage, whose form the list has; nothing
/// when an escape is none.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(match byte {
            b'%' => (digit()? << 4 | digit()?) as u8,
            plain => plain,
        });
    }
    String::from_utf8(out).ok()
}
