//! The keys of the `otlp` exporter, also spelt `otlp_grpc`.
//!
//! In: its section. Out: [`Config`]. Invariant: the endpoint has a host and a port.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | required | `host:port`, `http://host:port` or `https://host:port` |
//! | `tls` | TLS with the system's roots | see `network::tls`; a scheme decides over `insecure` |
//! | `compression` | `gzip` | or `none` |
//! | `headers` | none | metadata of every call |
//! | `timeout` | `5s` | |
//! | `keepalive.time` | `10s` | how often a connection with open calls is asked whether it lives |
//! | `keepalive.timeout` | `10s` | how long it may take to answer |
//! | `keepalive.permit_without_stream` | `false` | ask idle connections too |
//! | `retry_on_failure`, `sending_queue` | on | see `pipeline::settings` |
//!
//! Accepted without effect, since they tune grpc-go: `balancer_name`, `read_buffer_size`,
//! `write_buffer_size`, `wait_for_ready`. Not supported yet, and refused: `auth`, `authority`,
//! `middlewares`, `batcher`, other compressions, and endpoints of other schemes.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::config::Section;
use crate::network::Encoding;
use crate::network::client::KeepAlive;
use crate::network::tls::ClientTls;
use crate::pipeline::SendingSettings;

/// A configured `otlp` exporter.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http` or `https`, then host and port.
    pub base: String,
    /// TLS.
    pub tls: ClientTls,
    /// Compression of requests.
    pub encoding: Encoding,
    /// Metadata of every call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The most that an attempt may take.
    pub timeout: Duration,
    /// How connections are watched.
    pub keep_alive: KeepAlive,
    /// Queue and retries.
    pub sending: SendingSettings,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["auth", "authority", "batcher", "middlewares"]);
        section.text("balancer_name");
        section.number("read_buffer_size");
        section.number("write_buffer_size");
        section.bool("wait_for_ready");
        let tls = ClientTls::read(&section.section("tls"));
        Self {
            base: base(section, tls.insecure),
            tls,
            encoding: encoding(section),
            headers: headers(&mut section.section("headers")),
            timeout: section
                .duration("timeout")
                .unwrap_or(Duration::from_secs(5)),
            keep_alive: keep_alive(&section.section("keepalive")),
            sending: SendingSettings::read(section),
        }
    }
}

fn base(section: &Section<'_>, insecure: bool) -> String {
    let Some(endpoint) = section.text("endpoint") else {
        section.error(
            "endpoint",
            "an otlp exporter needs an endpoint such as host:4317",
        );
        return String::new();
    };
    let (scheme, rest) = match endpoint.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(("dns", rest)) => (default_scheme(insecure), rest.trim_start_matches('/')),
        Some((other, _)) => {
            section.error(
                "endpoint",
                format!("endpoints of scheme {other:?} are not supported yet"),
            );
            return String::new();
        }
        None => (default_scheme(insecure), endpoint.as_str()),
    };
    let authority = rest.trim_end_matches('/');
    let valid = authority.parse::<hyper::http::uri::Authority>();
    if !valid.is_ok_and(|authority| authority.port_u16().is_some()) {
        section.error("endpoint", format!("{endpoint:?} is not host:port"));
    }
    format!("{scheme}://{authority}")
}

fn keep_alive(section: &Section<'_>) -> KeepAlive {
    let default = KeepAlive::default();
    KeepAlive {
        interval: section.duration("time").unwrap_or(default.interval),
        timeout: section.duration("timeout").unwrap_or(default.timeout),
        while_idle: section
            .bool("permit_without_stream")
            .unwrap_or(default.while_idle),
    }
}

fn default_scheme(insecure: bool) -> &'static str {
    if insecure { "http" } else { "https" }
}

/// `compression`, as both OTLP exporters have it.
pub(crate) fn encoding(section: &Section<'_>) -> Encoding {
    let words = [
        ("gzip", Some(Encoding::Gzip)),
        ("none", Some(Encoding::Identity)),
        ("", Some(Encoding::Identity)),
        ("snappy", None),
        ("zstd", None),
        ("zlib", None),
        ("deflate", None),
        ("lz4", None),
    ];
    match section.choice("compression", &words) {
        Some(None) => {
            section.error(
                "compression",
                "only compression: gzip and none are supported yet",
            );
            Encoding::Gzip
        }
        Some(Some(encoding)) => encoding,
        None => Encoding::Gzip,
    }
}

/// `headers`, as both OTLP exporters have them.
pub(crate) fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    use crate::config::yaml::Value;
    let diagnostics = section.diagnostics();
    let mut headers = Vec::new();
    for (key, node) in section.entries() {
        let text = match &node.value {
            Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        match (key.text.parse::<HeaderName>(), HeaderValue::from_str(text)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            (Err(_), _) => {
                diagnostics.error(
                    key.position,
                    format!("{:?} is not a header's name", key.text),
                );
            }
            (_, Err(_)) => diagnostics.error(node.position, "not a valid header value"),
        }
    }
    headers
}
