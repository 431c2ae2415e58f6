//! The keys of the `health_check` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: the path begins with a slash.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | `localhost:13133` | |
//! | `path` | `/` | `/` and paths that end in `/` match everything below; others only themselves |
//! | `response_body.healthy`, `.unhealthy` | JSON | fixed texts instead |
//! | `check_collector_pipeline.enabled` | `false` | also be unhealthy while exporters give batches up |
//! | `check_collector_pipeline.interval` | `5m` | how long a failure counts |
//! | `check_collector_pipeline.exporter_failure_threshold` | `5` | unhealthy above so many |
//!
//! A failure is a second in which an exporter gave something up: refused for good, or retried in
//! vain for `max_elapsed_time`. Attempts that will be repeated are none, so a target that is away
//! for a while does not take this collector away too. (otelcol 0.144 reads these keys and does
//! nothing.)
//!
//! Not supported yet, and refused: `use_v2` and its `http`, `grpc`, `component_health`; `tls`,
//! `auth`, `cors` and the HTTP server's tuning keys.

use std::time::Duration;

use crate::config::Section;

/// A configured `health_check` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub endpoint: String,
    /// What to answer at.
    pub path: String,
    /// What to say instead of JSON.
    pub body: Option<Texts>,
    /// When exporters make the collector unhealthy.
    pub pipeline_check: Option<PipelineCheck>,
}

/// Fixed texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// What to say when healthy.
    pub healthy: String,
    /// What to say when not.
    pub unhealthy: String,
}

/// When exporters make the collector unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineCheck {
    /// How long a failure counts.
    pub interval: Duration,
    /// Unhealthy above so many.
    pub threshold: usize,
}

/// The longest `interval`.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&[
            "auth",
            "component_health",
            "compression_algorithms",
            "cors",
            "grpc",
            "http",
            "idle_timeout",
            "include_metadata",
            "keep_alives_enabled",
            "max_request_body_size",
            "middlewares",
            "read_header_timeout",
            "read_timeout",
            "response_headers",
            "tls",
            "transport",
            "write_timeout",
        ]);
        if section.bool("use_v2") == Some(true) {
            section.error("use_v2", "use_v2 is not supported yet");
        }
        let path = section.text("path").unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/') {
            section.error("path", format!("path must begin with /, not {path:?}"));
        }
        let body = section.section("response_body");
        let text = |key| body.text(key).unwrap_or_default();
        Self {
            endpoint: section
                .text("endpoint")
                .unwrap_or_else(|| "localhost:13133".to_owned()),
            path,
            body: body.is_present().then(|| Texts {
                healthy: text("healthy"),
                unhealthy: text("unhealthy"),
            }),
            pipeline_check: pipeline_check(&section.section("check_collector_pipeline")),
        }
    }
}

fn pipeline_check(section: &Section<'_>) -> Option<PipelineCheck> {
    let interval = section
        .duration("interval")
        .unwrap_or(Duration::from_secs(300));
    if interval.is_zero() || interval > MAX_INTERVAL {
        section.error(
            "interval",
            "interval must be longer than zero and at most 24h",
        );
    }
    let threshold = section.number("exporter_failure_threshold").unwrap_or(5);
    let check = PipelineCheck {
        interval,
        threshold: usize::try_from(threshold).unwrap_or(usize::MAX),
    };
    section.bool("enabled").unwrap_or(false).then_some(check)
}
