//! The keys of the `zpages` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: none beyond the types.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | `localhost:55679` | |
//!
//! Accepted without effect: `expvar`, which shows the variables of a Go program. Not supported
//! yet, and refused: `tls`, `auth`, `cors` and the HTTP server's tuning keys.

use crate::config::Section;

/// A configured `zpages` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub endpoint: String,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&[
            "auth",
            "compression_algorithms",
            "cors",
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
        section.accept(&["expvar"]);
        Self {
            endpoint: section
                .text("endpoint")
                .unwrap_or_else(|| "localhost:55679".to_owned()),
        }
    }
}
