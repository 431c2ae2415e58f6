//! The keys of the `otlphttp` exporter, also spelt `otlp_http`.
//!
//! In: its section. Out: [`Config`]. Invariant: every signal that is used has a URL.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | | a URL; `/v1/traces` and so on are added |
//! | `traces_endpoint`, `metrics_endpoint`, `logs_endpoint` | | a whole URL for one signal |
//! | `encoding` | `proto` | or `json` |
//! | `compression` | `gzip` | or `zstd`, `zlib`, `deflate`, `snappy`, `x-snappy-framed`, `lz4`, `none` |
//! | `compression_params.level` | the encoding's own | for `gzip`, `zlib`, `deflate` -1 to 9, for `zstd` 1 to 22 |
//! | `auth.authenticator` | none | an extension that adds credentials |
//! | `proxy_url` | the environment's | |
//! | `tls` | the system's roots | see `network::tls` |
//! | `headers` | none | |
//! | `timeout` | `30s` | |
//! | `retry_on_failure`, `sending_queue` | on | see `pipeline::settings` |
//!
//! Accepted without effect, since they tune Go's client: `read_buffer_size`,
//! `write_buffer_size`, `max_idle_conns`, `max_idle_conns_per_host`, `max_conns_per_host`,
//! `idle_conn_timeout`. Not supported yet, and refused: `cookies`, `http2_*`,
//! `disable_keep_alives`, `middlewares`, `profiles_endpoint`.
//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of the environment count, except for loopback.

use std::time::Duration;

use collector_otlp::Signal;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use crate::authentication::read_auth;
use crate::component::{ComponentId, Offer};
use crate::config::Section;
use crate::exporter::otlp::headers;
use crate::network::Encoding;
use crate::network::compression::HTTP_ENCODINGS;
use crate::network::tls::ClientTls;
use crate::pipeline::SendingSettings;

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Protobuf.
    Proto,
    /// OTLP/JSON.
    Json,
}

/// A configured `otlphttp` exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// One URL for each signal, in the order of `Signal::ALL`.
    pub urls: [Option<Uri>; 3],
    /// How bodies are written.
    pub format: Format,
    /// Compression of requests.
    pub encoding: Encoding,
    /// How hard to compress; nothing means the encoding's default.
    pub level: Option<i32>,
    /// A proxy, in place of the environment's.
    pub proxy: Option<String>,
    /// TLS.
    pub tls: ClientTls,
    /// Headers of every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What adds credentials, if anything.
    pub auth: Option<ComponentId>,
    /// The most that an attempt may take.
    pub timeout: Duration,
    /// Queue and retries.
    pub sending: SendingSettings,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&[
            "cookies",
            "disable_keep_alives",
            "force_attempt_http2",
            "http2_ping_timeout",
            "http2_read_idle_timeout",
            "middlewares",
            "profiles_endpoint",
        ]);
        for key in [
            "max_conns_per_host",
            "max_idle_conns",
            "max_idle_conns_per_host",
            "read_buffer_size",
            "write_buffer_size",
        ] {
            section.number(key);
        }
        section.duration("idle_conn_timeout");
        let formats = [("proto", Format::Proto), ("json", Format::Json)];
        let (encoding, level) = compression(section);
        Self {
            urls: urls(section),
            format: section
                .choice("encoding", &formats)
                .unwrap_or(Format::Proto),
            encoding,
            level,
            proxy: section.text("proxy_url").filter(|url| !url.is_empty()),
            tls: ClientTls::read(&section.section("tls")),
            headers: headers(&mut section.section("headers")),
            auth: read_auth(section, Offer::Credentials),
            timeout: section
                .duration("timeout")
                .unwrap_or(Duration::from_secs(30)),
            sending: SendingSettings::read(section),
        }
    }
}

fn compression(section: &Section<'_>) -> (Encoding, Option<i32>) {
    let mut words: Vec<_> = HTTP_ENCODINGS.iter().map(|e| (e.http_name(), *e)).collect();
    words.extend([("none", Encoding::Identity), ("", Encoding::Identity)]);
    let encoding = section.choice("compression", &words);
    let encoding = encoding.unwrap_or(Encoding::Gzip);
    let parameters = section.section("compression_params");
    let Some(level) = parameters.float("level").filter(|level| *level != 0.0) else {
        return (encoding, None);
    };
    let range = match encoding {
        Encoding::Gzip | Encoding::Zlib | Encoding::Deflate => -1.0..=9.0,
        Encoding::Zstd => 1.0..=22.0,
        _ => 0.0..=0.0,
    };
    if !range.contains(&level) || level.fract() != 0.0 {
        let name = encoding.http_name();
        let message = format!("{level} is not a level of compression {name}");
        parameters.error("level", message);
    }
    (encoding, (level > 0.0).then_some(level as i32))
}

fn urls(section: &Section<'_>) -> [Option<Uri>; 3] {
    let endpoint = section.text("endpoint");
    let keys = ["traces_endpoint", "metrics_endpoint", "logs_endpoint"];
    let own = keys.map(|key| section.text(key));
    if endpoint.is_none() && own.iter().all(Option::is_none) {
        section.error(
            "endpoint",
            "an otlphttp exporter needs an endpoint such as https://host:4318",
        );
    }
    let mut urls = [None, None, None];
    for (index, (signal, own)) in Signal::ALL.into_iter().zip(own).enumerate() {
        let (key, text) = match (own, &endpoint) {
            (Some(own), _) => (keys[index], own),
            (None, Some(endpoint)) => (
                "endpoint",
                format!("{}/v1/{}", endpoint.trim_end_matches('/'), signal.name()),
            ),
            (None, None) => continue,
        };
        urls[index] = text.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
        });
        if urls[index].is_none() {
            section.error(
                key,
                format!("{key} must be a URL that begins with http:// or https://"),
            );
        }
    }
    urls
}
