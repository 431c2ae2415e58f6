//! The keys of the `otlp` receiver.
//!
//! In: its section. Out: [`Config`]. Invariant: at least one protocol is on.
//!
//! | key | default | |
//! |---|---|---|
//! | `protocols.grpc` | off unless present | |
//! | `protocols.grpc.endpoint` | `localhost:4317` | |
//! | `protocols.grpc.transport` | `tcp` | only `tcp` |
//! | `protocols.grpc.max_recv_msg_size_mib` | `4` | 1 to 1024; over it: RESOURCE_EXHAUSTED |
//! | `protocols.grpc.max_concurrent_streams` | `1000` | for each connection |
//! | `protocols.grpc.tls` | plain text | `cert_file`, `key_file` |
//! | `protocols.http` | off unless present | |
//! | `protocols.http.endpoint` | `localhost:4318` | |
//! | `protocols.http.max_request_body_size` | `20971520` | bytes, before and after decompression |
//! | `protocols.http.{traces,metrics,logs}_url_path` | `/v1/traces` … | |
//! | `protocols.http.cors.allowed_origins` | none | `*` stands for any text |
//! | `protocols.http.cors.allowed_headers` | none | sent beside `content-type` |
//! | `protocols.http.cors.max_age` | none | seconds |
//! | `protocols.http.tls` | plain text | `cert_file`, `key_file` |
//!
//! Not supported yet, and refused: `auth`, `keepalive`, `include_metadata`, `read_buffer_size`,
//! `write_buffer_size`, `middlewares`, `response_headers`, the timeouts of HTTP, and
//! `cors.exposed_headers`.

use crate::config::Section;
use crate::network::tls::{self, Identity};

/// A configured `otlp` receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// gRPC, if it is on.
    pub grpc: Option<Grpc>,
    /// HTTP, if it is on.
    pub http: Option<Http>,
}

/// The gRPC side.
#[derive(Clone, Debug, PartialEq)]
pub struct Grpc {
    /// Where to listen.
    pub endpoint: String,
    /// The longest message, in bytes, compressed or not.
    pub max_message_bytes: usize,
    /// Calls at a time on one connection.
    pub max_concurrent_streams: u32,
    /// TLS, if any.
    pub tls: Option<Identity>,
}

/// The HTTP side.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Where to listen.
    pub endpoint: String,
    /// The longest body, in bytes, compressed or not.
    pub max_body_bytes: usize,
    /// The paths of traces, metrics and logs, in the order of `Signal::ALL`.
    pub paths: [String; 3],
    /// What browsers may do.
    pub cors: Cors,
    /// TLS, if any.
    pub tls: Option<Identity>,
}

/// What browsers may do from pages of other origins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// Patterns of origins; `*` stands for any text. Empty means that CORS is off.
    pub allowed_origins: Vec<String>,
    /// Headers that requests may carry, beside the usual.
    pub allowed_headers: Vec<String>,
    /// How long a browser may remember the answer, in seconds.
    pub max_age_seconds: Option<u64>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let protocols = section.section("protocols");
        let on = |key| protocols.has(key);
        let config = Self {
            grpc: on("grpc").then(|| grpc(&protocols.section("grpc"))),
            http: on("http").then(|| http(&protocols.section("http"))),
        };
        if config.grpc.is_none() && config.http.is_none() {
            let message = "an otlp receiver needs protocols.grpc or protocols.http";
            section.error("protocols", message);
        }
        config
    }
}

fn grpc(section: &Section<'_>) -> Grpc {
    section.unsupported(&[
        "auth",
        "include_metadata",
        "keepalive",
        "middlewares",
        "read_buffer_size",
        "write_buffer_size",
    ]);
    section.choice("transport", &[("tcp", ())]);
    Grpc {
        endpoint: section
            .text("endpoint")
            .unwrap_or_else(|| "localhost:4317".to_owned()),
        max_message_bytes: section
            .number_in("max_recv_msg_size_mib", 1..=1024)
            .map_or(4 << 20, |mebibytes| (mebibytes as usize) << 20),
        max_concurrent_streams: section
            .number_in("max_concurrent_streams", 1..=u64::from(u32::MAX))
            .and_then(|streams| u32::try_from(streams).ok())
            .unwrap_or(1000),
        tls: server_tls(section),
    }
}

fn http(section: &Section<'_>) -> Http {
    section.unsupported(&[
        "auth",
        "compression_algorithms",
        "idle_timeout",
        "include_metadata",
        "keep_alives_enabled",
        "middlewares",
        "read_header_timeout",
        "read_timeout",
        "response_headers",
        "write_timeout",
    ]);
    let path = |key, default: &str| section.text(key).unwrap_or_else(|| default.to_owned());
    Http {
        endpoint: section
            .text("endpoint")
            .unwrap_or_else(|| "localhost:4318".to_owned()),
        max_body_bytes: section
            .number_in("max_request_body_size", 1..=1 << 30)
            .map_or(20 << 20, |bytes| bytes as usize),
        paths: [
            path("traces_url_path", "/v1/traces"),
            path("metrics_url_path", "/v1/metrics"),
            path("logs_url_path", "/v1/logs"),
        ],
        cors: cors(&section.section("cors")),
        tls: server_tls(section),
    }
}

fn cors(section: &Section<'_>) -> Cors {
    section.unsupported(&["exposed_headers"]);
    let texts = |key| {
        section
            .texts(key)
            .into_iter()
            .map(|(text, _)| text)
            .collect()
    };
    Cors {
        allowed_origins: texts("allowed_origins"),
        allowed_headers: texts("allowed_headers"),
        max_age_seconds: section.number("max_age"),
    }
}

fn server_tls(section: &Section<'_>) -> Option<Identity> {
    if !section.has("tls") {
        return None;
    }
    tls::read_server(&section.section("tls"))
}
