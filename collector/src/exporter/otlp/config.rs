//! The keys of the `otlp` exporter, also spelt `otlp_grpc`.
//!
//! In: its section. Out: [`Config`]. Invariant: the endpoint has a host and a port.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | required | `host:port`, `http://host:port`, `https://host:port`, `dns:///host:port` or `unix:///path` |
//! | `tls` | TLS with the system's roots | see `network::tls`; a scheme decides over `insecure` |
//! | `compression` | `gzip` | or `zstd`, `snappy`, `none` |
//! | `headers` | none | metadata of every call |
//! | `auth.authenticator` | none | an extension that adds credentials |
//! | `authority` | the endpoint | what calls name as their `:authority` |
//! | `balancer_name` | `round_robin` | over all addresses of the name; or `pick_first` |
//! | `timeout` | `5s` | |
//! | `keepalive.time` | `10s` | how often a connection with open calls is asked whether it lives |
//! | `keepalive.timeout` | `10s` | how long it may take to answer |
//! | `keepalive.permit_without_stream` | `false` | ask idle connections too |
//! | `retry_on_failure`, `sending_queue` | on | see `pipeline::settings` |
//!
//! `HTTPS_PROXY` and `NO_PROXY` of the environment count, except for loopback.
//! Accepted without effect, since they tune grpc-go: `read_buffer_size`, `write_buffer_size`,
//! `wait_for_ready`. Not supported yet, and refused: `middlewares`, `batcher`, and endpoints of
//! other schemes.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::Authority;

use crate::authentication::read_auth;
use crate::component::{ComponentId, Offer};
use crate::config::Section;
use crate::network::Encoding;
use crate::network::grpc::KeepAlive;
use crate::network::grpc::channel::{Balance, Endpoint};
use crate::network::tls::ClientTls;
use crate::pipeline::SendingSettings;

/// A configured `otlp` exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// `http` or `https`, then what calls name as their authority.
    pub base: String,
    /// How calls are spread over addresses.
    pub balance: Balance,
    /// Whether to speak plain text.
    pub plain: bool,
    /// TLS.
    pub tls: ClientTls,
    /// Compression of requests.
    pub encoding: Encoding,
    /// Metadata of every call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What adds credentials, if anything.
    pub auth: Option<ComponentId>,
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
        section.unsupported(&["batcher", "middlewares"]);
        let balances = [
            ("round_robin", Balance::RoundRobin),
            ("pick_first", Balance::PickFirst),
        ];
        let balance = section.choice("balancer_name", &balances);
        section.number("read_buffer_size");
        section.number("write_buffer_size");
        section.bool("wait_for_ready");
        let tls = ClientTls::read(&section.section("tls"));
        let target = target(section, tls.insecure);
        let (scheme, endpoint) = target.unwrap_or(("http", Endpoint::Unix(PathBuf::new())));
        let authority = match (section.text("authority"), &endpoint) {
            (Some(authority), _) if !authority.is_empty() => authority,
            (_, Endpoint::Unix(_)) => "localhost".to_owned(),
            (_, Endpoint::Tcp { host, port }) if host.contains(':') => format!("[{host}]:{port}"),
            (_, Endpoint::Tcp { host, port }) => format!("{host}:{port}"),
        };
        Self {
            base: format!("{scheme}://{authority}"),
            endpoint,
            balance: balance.unwrap_or_default(),
            plain: scheme == "http",
            tls,
            encoding: grpc_encoding(section),
            headers: headers(&mut section.section("headers")),
            auth: read_auth(section, Offer::Credentials),
            timeout: section
                .duration("timeout")
                .unwrap_or(Duration::from_secs(5)),
            keep_alive: keep_alive(&section.section("keepalive")),
            sending: SendingSettings::read(section),
        }
    }
}

/// The scheme and the address of the endpoint.
fn target(section: &Section<'_>, insecure: bool) -> Option<(&'static str, Endpoint)> {
    let Some(endpoint) = section.text("endpoint") else {
        let message = "an otlp exporter needs an endpoint such as host:4317";
        section.error("endpoint", message);
        return None;
    };
    let default = default_scheme(insecure);
    if let Some(path) = endpoint.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Some((default, Endpoint::Unix(path.into())));
    }
    let (scheme, rest) = match endpoint.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(("dns" | "passthrough", rest)) => (default, rest.trim_start_matches('/')),
        Some((other, _)) => {
            let message = format!("endpoints of scheme {other:?} are not supported yet");
            section.error("endpoint", message);
            return None;
        }
        None => (default, endpoint.as_str()),
    };
    let authority = rest.trim_end_matches('/').parse::<Authority>().ok();
    let target = authority.and_then(|authority| {
        Some(Endpoint::Tcp {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16()?,
        })
    });
    if target.is_none() {
        section.error("endpoint", format!("{endpoint:?} is not host:port"));
    }
    Some((scheme, target?))
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

fn grpc_encoding(section: &Section<'_>) -> Encoding {
    let words = [
        ("gzip", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
        ("snappy", Encoding::SnappyFramed),
        ("none", Encoding::Identity),
        ("", Encoding::Identity),
    ];
    section
        .choice("compression", &words)
        .unwrap_or(Encoding::Gzip)
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
