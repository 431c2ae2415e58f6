//! The collector's own metrics and logs, and what it knows of its process.
//!
//! In: counts and events from components. Out: Prometheus text over HTTP, OTLP, lines of the log, and
//! what pages for people show.
//! Invariant: telemetry never fails or delays a pipeline.

pub mod description;
pub mod logs;
pub mod memory;
pub mod metrics;
mod metrics_request;
pub mod notify;
pub mod periodic;
mod process;
pub mod prometheus;
pub mod server;

pub use description::Description;
pub use metrics::{Counter, DurationHistogram, Gauge, Histogram, LATENCY_BOUNDS, Registry};

use collector_otlp::Signal;

/// What otelcol calls the items of a signal in metric names.
pub fn item_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "metric_points",
        Signal::Logs => "log_records",
    }
}

/// A counter for each signal, whose names differ by the signal's items.
#[derive(Clone)]
pub struct SignalCounters {
    counters: [Counter; 3],
}

impl SignalCounters {
    /// Registers `<prefix>_spans`, `<prefix>_metric_points` and `<prefix>_log_records` for the
    /// signals that are used.
    pub fn register(
        registry: &Registry,
        prefix: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        signals: &[Signal],
    ) -> Self {
        let counter = |signal: Signal| {
            if !signals.contains(&signal) {
                return Counter::default();
            }
            registry.counter(&format!("{prefix}_{}", item_name(signal)), help, labels)
        };
        Self {
            counters: Signal::ALL.map(counter),
        }
    }

    /// Counts items.
    pub fn add(&self, signal: Signal, items: usize) {
        self.counters[signal as usize].add(items as u64);
    }
}
