//! The keys of the `health_check` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: the path begins with a slash.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | `localhost:13133` | |
//! | `path` | `/` | `/` and paths that end in `/` match everything below; others only themselves |
//! | `response_body.healthy`, `.unhealthy` | JSON | fixed texts instead |
//! | `check_collector_pipeline` | off | `enabled`, `interval`, `exporter_failure_threshold` are read and have no effect, as otelcol's own documentation advises against it |
//!
//! Not supported yet, and refused: `tls`, `auth`, `cors` and the HTTP server's tuning keys.

use crate::config::Section;

/// A configured `health_check` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub endpoint: String,
    /// What to answer at.
    pub path: String,
    /// What to say when ready, instead of JSON.
    pub healthy: Option<String>,
    /// What to say when not ready, instead of JSON.
    pub unhealthy: Option<String>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&[
            "auth",
            "compression_algorithms",
            "cors",
            "include_metadata",
            "max_request_body_size",
            "response_headers",
            "tls",
        ]);
        let check = section.section("check_collector_pipeline");
        check.bool("enabled");
        check.duration("interval");
        check.number("exporter_failure_threshold");
        let body = section.section("response_body");
        let path = section.text("path").unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/') {
            section.error("path", format!("path must begin with /, not {path:?}"));
        }
        Self {
            endpoint: section
                .text("endpoint")
                .unwrap_or_else(|| "localhost:13133".to_owned()),
            path,
            healthy: body.text("healthy"),
            unhealthy: body.text("unhealthy"),
        }
    }
}
