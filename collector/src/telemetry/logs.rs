//! The collector's own log, on stderr.
//!
//! In: `service.telemetry.logs`. Out: one line for each event, for people or as JSON.
//! Invariant: stdout is never written.

use tracing_subscriber::fmt;

use crate::config::{LogEncoding, LogsConfig};

/// Starts logging for the whole process; a second call changes nothing.
pub fn start(config: LogsConfig) {
    let builder = fmt()
        .with_max_level(config.level)
        .with_writer(std::io::stderr)
        .with_target(false);
    // The only error is that logging was started already.
    let _ = match config.encoding {
        LogEncoding::Console => builder.with_ansi(false).try_init(),
        LogEncoding::Json => builder.json().flatten_event(true).try_init(),
    };
}
