//! The keys of the `otlp` receiver.
//!
//! In: its section. Out: [`Config`]. Invariant: at least one protocol is on.
//!
//! | key | default | |
//! |---|---|---|
//! | `protocols.grpc` | off unless present | |
//! | `protocols.grpc.endpoint` | `localhost:4317` | with `transport: unix`, a path |
//! | `protocols.grpc.transport` | `tcp` | or `unix` |
//! | `protocols.grpc.max_recv_msg_size_mib` | `4` | 1 to 1024; over it: RESOURCE_EXHAUSTED |
//! | `protocols.grpc.max_concurrent_streams` | `1000` | for each connection |
//! | `protocols.grpc.keepalive.server_parameters` | | as below |
//! | `….max_connection_idle` | never | a connection without calls is told to end |
//! | `….max_connection_age` | never | up to a tenth more or less; it is told to end |
//! | `….max_connection_age_grace` | for ever | then it ends |
//! | `….time`, `….timeout` | `2h`, `20s` | a silent client is asked whether it lives |
//! | `protocols.grpc.keepalive.enforcement_policy` | none | with it, a client that asks too often is told to end |
//! | `….min_time` | `5m` | the least time between a client's pings |
//! | `….permit_without_stream` | `false` | without it, two hours between pings while no call is open |
//! | `protocols.http` | off unless present | |
//! | `protocols.http.endpoint` | `localhost:4318` | with `transport: unix`, a path |
//! | `protocols.http.transport` | `tcp` | or `unix` |
//! | `protocols.http.max_request_body_size` | `20971520` | bytes, before and after decompression |
//! | `protocols.http.{traces,metrics,logs}_url_path` | `/v1/traces` … | |
//! | `protocols.http.cors.allowed_origins` | none | `*` stands for any text |
//! | `protocols.http.cors.allowed_headers` | none | sent beside `content-type` |
//! | `protocols.http.cors.exposed_headers` | none | what pages may read of answers |
//! | `protocols.http.cors.max_age` | none | seconds |
//! | `protocols.http.compression_algorithms` | all | of `gzip`, `zstd`, `zlib`, `snappy`, `x-snappy-framed`, `deflate`, `lz4`, and `""` for none |
//! | `protocols.http.response_headers` | none | added to every answer |
//! | `protocols.http.read_header_timeout`, `idle_timeout` | `1m` | the longer of both bounds the wait for a request's headers |
//! | `protocols.http.read_timeout` | none | the most that a body may take, beside the bounds that always hold |
//! | `protocols.http.write_timeout` | `30s` | the most that an answer may take; then 503 |
//! | `protocols.http.keep_alives_enabled` | `true` | more than one request on a connection |
//! | `include_metadata` (of each protocol) | `false` | keep the request's headers with its telemetry |
//! | `auth.authenticator` (of each protocol) | none | an extension that checks requests; a refusal is UNAUTHENTICATED or 401 |
//! | `tls` (of each protocol) | plain text | see `network::tls` |
//!
//! A body that stops coming for 10 s, or that comes more slowly than 16 KiB/s, is given up.
//!
//! Accepted without effect, since they tune Go's buffers: `read_buffer_size`,
//! `write_buffer_size`. Not supported yet, and refused: `middlewares`.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::authentication::read_auth;
use crate::component::{ComponentId, Offer};
use crate::config::Section;
use crate::exporter::otlp::headers;
use crate::network::Encoding;
use crate::network::compression::HTTP_ENCODINGS;
use crate::network::grpc::{EnforcementPolicy, ServerKeepAlive};
use crate::network::tls::ServerTlsSettings;

/// The longest time that a setting means; longer is for ever.
const LONGEST: Duration = Duration::from_secs(86_400 * 365);

/// A configured `otlp` receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// gRPC, if it is on.
    pub grpc: Option<Grpc>,
    /// HTTP, if it is on.
    pub http: Option<Http>,
}

/// What an endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A host and a port.
    #[default]
    Tcp,
    /// The path of a Unix socket.
    Unix,
}

/// The gRPC side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Where to listen.
    pub endpoint: String,
    /// What the endpoint is.
    pub transport: Transport,
    /// The longest message, in bytes, compressed or not.
    pub max_message_bytes: usize,
    /// Calls at a time on one connection.
    pub max_concurrent_streams: u32,
    /// How connections are kept.
    pub keep_alive: ServerKeepAlive,
    /// Whether metadata stays with the telemetry.
    pub include_metadata: bool,
    /// What checks requests, if anything.
    pub auth: Option<ComponentId>,
    /// TLS, if any.
    pub tls: Option<ServerTlsSettings>,
}

/// The HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen.
    pub endpoint: String,
    /// What the endpoint is.
    pub transport: Transport,
    /// The longest body, in bytes, compressed or not.
    pub max_body_bytes: usize,
    /// The paths of traces, metrics and logs, in the order of `Signal::ALL`.
    pub paths: [String; 3],
    /// What browsers may do.
    pub cors: Cors,
    /// How bodies may be compressed.
    pub encodings: Vec<Encoding>,
    /// Headers of every answer.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a connection may wait for a request's headers.
    pub read_header_timeout: Duration,
    /// How long a body may take.
    pub read_timeout: Duration,
    /// How long an answer may take.
    pub write_timeout: Duration,
    /// Whether a connection takes more than one request.
    pub keep_alive: bool,
    /// Whether headers stay with the telemetry.
    pub include_metadata: bool,
    /// What checks requests, if anything.
    pub auth: Option<ComponentId>,
    /// TLS, if any.
    pub tls: Option<ServerTlsSettings>,
}

/// What browsers may do from pages of other origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Patterns of origins; `*` stands for any text. Empty means that CORS is off.
    pub allowed_origins: Vec<String>,
    /// Headers that requests may carry, beside the usual.
    pub allowed_headers: Vec<String>,
    /// Headers of answers that pages may read.
    pub exposed_headers: Vec<String>,
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
    section.unsupported(&["middlewares"]);
    section.number("read_buffer_size");
    section.number("write_buffer_size");
    Grpc {
        endpoint: section
            .text("endpoint")
            .unwrap_or_else(|| "localhost:4317".to_owned()),
        transport: transport(section),
        max_message_bytes: section
            .number_in("max_recv_msg_size_mib", 1..=1024)
            .map_or(4 << 20, |mebibytes| (mebibytes as usize) << 20),
        max_concurrent_streams: section
            .number_in("max_concurrent_streams", 1..=u64::from(u32::MAX))
            .and_then(|streams| u32::try_from(streams).ok())
            .unwrap_or(1000),
        keep_alive: keep_alive(&section.section("keepalive")),
        include_metadata: section.bool("include_metadata").unwrap_or(false),
        auth: read_auth(section, Offer::Checks),
        tls: ServerTlsSettings::read(section),
    }
}

fn transport(section: &Section<'_>) -> Transport {
    let words = [
        ("tcp", Transport::Tcp),
        ("tcp4", Transport::Tcp),
        ("tcp6", Transport::Tcp),
        ("unix", Transport::Unix),
    ];
    section.choice("transport", &words).unwrap_or_default()
}

fn keep_alive(section: &Section<'_>) -> ServerKeepAlive {
    // In grpc-go, zero is absent.
    let time_in = |section: &Section<'_>, key| {
        let time = section.duration(key).filter(|time| !time.is_zero());
        time.map(|time| time.min(LONGEST))
    };
    let policy = section.section("enforcement_policy");
    let gentle = EnforcementPolicy::default();
    let enforcement = policy.is_present().then(|| EnforcementPolicy {
        min_time: time_in(&policy, "min_time").unwrap_or(gentle.min_time),
        permit_without_stream: policy
            .bool("permit_without_stream")
            .unwrap_or(gentle.permit_without_stream),
    });
    let parameters = section.section("server_parameters");
    let default = ServerKeepAlive::default();
    let time = |key| time_in(&parameters, key);
    ServerKeepAlive {
        time: time("time").unwrap_or(default.time),
        timeout: time("timeout").unwrap_or(default.timeout),
        max_connection_idle: time("max_connection_idle"),
        max_connection_age: time("max_connection_age"),
        max_connection_age_grace: time("max_connection_age_grace"),
        enforcement,
    }
}

fn http(section: &Section<'_>) -> Http {
    section.unsupported(&["middlewares"]);
    let path = |key, default: &str| section.text(key).unwrap_or_else(|| default.to_owned());
    // In Go, zero means no limit.
    let time = |key, default| match section.duration(key).unwrap_or(default) {
        Duration::ZERO => LONGEST,
        time => time,
    };
    let minute = Duration::from_secs(60);
    Http {
        endpoint: section
            .text("endpoint")
            .unwrap_or_else(|| "localhost:4318".to_owned()),
        transport: transport(section),
        max_body_bytes: section
            .number_in("max_request_body_size", 1..=1 << 30)
            .map_or(20 << 20, |bytes| bytes as usize),
        paths: [
            path("traces_url_path", "/v1/traces"),
            path("metrics_url_path", "/v1/metrics"),
            path("logs_url_path", "/v1/logs"),
        ],
        cors: cors(&section.section("cors")),
        encodings: encodings(section),
        response_headers: headers(&mut section.section("response_headers")),
        read_header_timeout: time("read_header_timeout", minute).max(time("idle_timeout", minute)),
        read_timeout: time("read_timeout", Duration::ZERO),
        write_timeout: time("write_timeout", Duration::from_secs(30)),
        keep_alive: section.bool("keep_alives_enabled").unwrap_or(true),
        include_metadata: section.bool("include_metadata").unwrap_or(false),
        auth: read_auth(section, Offer::Checks),
        tls: ServerTlsSettings::read(section),
    }
}

fn encodings(section: &Section<'_>) -> Vec<Encoding> {
    if !section.has("compression_algorithms") {
        let all = [Encoding::Identity].iter().chain(HTTP_ENCODINGS);
        return all.copied().collect();
    }
    let diagnostics = section.diagnostics();
    let named = section.texts("compression_algorithms").into_iter();
    let known = named.filter_map(|(name, position)| {
        let found = Encoding::of_http(name.as_bytes());
        if found.is_none() {
            let all: Vec<_> = HTTP_ENCODINGS.iter().map(|e| e.http_name()).collect();
            let message = format!("{name:?} is none of {}", all.join(", "));
            diagnostics.error(position, message);
        }
        found
    });
    known.collect()
}

fn cors(section: &Section<'_>) -> Cors {
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
        exposed_headers: texts("exposed_headers"),
        max_age_seconds: section.number("max_age"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::{Diagnostics, Position};
    use crate::config::yaml;

    #[test]
    fn keep_alive_times_of_zero_are_absent_and_long_ones_bounded() {
        let read = |text: &str| {
            let diagnostics = Diagnostics::default();
            let node = yaml::parse(text, &diagnostics).unwrap();
            keep_alive(&Section::of(&node, Position::default(), &diagnostics))
        };
        let least = |text: &str| {
            let text = format!("{{enforcement_policy: {{min_time: {text}}}}}");
            read(&text).enforcement.unwrap().min_time
        };
        assert_eq!(least("0s"), Duration::from_secs(300));
        assert_eq!(least("10s"), Duration::from_secs(10));
        assert_eq!(least("5000000000000000h"), LONGEST);
        let server = read("{server_parameters: {time: 0s, max_connection_age: 5000000000000000h}}");
        assert_eq!(server.time, Duration::from_secs(7200));
        assert_eq!(server.max_connection_age, Some(LONGEST));
    }
}
