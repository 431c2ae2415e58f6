//! The rows of the suite: what is sent, through which configuration.
//!
//! In: nothing. Out: [`ROWS`], and the YAML of a row.
//! Invariant: every subject that reads YAML gets the same text, but for its addresses.

use std::path::Path;

use collector_otlp::Signal;

use crate::payload::Content;
use crate::subject::Addresses;
use crate::wire::{Encoding, Protocol};

/// What the configuration of a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `memory_limiter` and `batch`.
    Forward,
    /// The same with `resource`, `attributes` and `filter`; every item changes.
    Edit,
    /// `sending_queue.enabled: false`: answered when it has been delivered.
    Direct,
    /// `sending_queue.storage: file_storage`: answered when it is on the disk.
    Durable,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What is sent.
    pub signal: Signal,
    /// What carries requests, in and out.
    pub protocol: Protocol,
    /// How requests are compressed, in and out.
    pub encoding: Encoding,
    /// What happens to them.
    pub work: Work,
}

const fn row(
    name: &'static str,
    signal: Signal,
    protocol: Protocol,
    encoding: Encoding,
    work: Work,
) -> Row {
    Row {
        name,
        signal,
        protocol,
        encoding,
        work,
    }
}

use Encoding::{Gzip, None as Plain, Zstd};
use Protocol::{Grpc, Http};
use Signal::{Logs, Metrics, Traces};
use Work::{Direct, Durable, Edit, Forward};

/// Every row, in the order in which they run.
pub const ROWS: &[Row] = &[
    row("traces-grpc", Traces, Grpc, Plain, Forward),
    row("traces-grpc-gzip", Traces, Grpc, Gzip, Forward),
    row("traces-grpc-zstd", Traces, Grpc, Zstd, Forward),
    row("traces-http", Traces, Http, Plain, Forward),
    row("logs-grpc", Logs, Grpc, Plain, Forward),
    row("logs-grpc-gzip", Logs, Grpc, Gzip, Forward),
    row("logs-grpc-zstd", Logs, Grpc, Zstd, Forward),
    row("logs-http", Logs, Http, Plain, Forward),
    row("metrics-grpc", Metrics, Grpc, Plain, Forward),
    row("metrics-grpc-gzip", Metrics, Grpc, Gzip, Forward),
    row("metrics-grpc-zstd", Metrics, Grpc, Zstd, Forward),
    row("metrics-http", Metrics, Http, Plain, Forward),
    row("traces-edit", Traces, Grpc, Plain, Edit),
    row("logs-edit", Logs, Grpc, Plain, Edit),
    row("metrics-edit", Metrics, Grpc, Plain, Edit),
    row("traces-direct", Traces, Grpc, Plain, Direct),
    row("traces-durable", Traces, Grpc, Plain, Durable),
];

impl Row {
    /// Whether the row asks for more than that bytes arrive.
    pub fn processed(&self) -> bool {
        matches!(self.work, Edit | Durable)
    }

    /// What its items hold.
    pub fn content(&self) -> Content {
        match self.work {
            Forward | Edit => Content::Realistic,
            Direct | Durable => Content::Incompressible,
        }
    }

    /// Calls that are open at a time at saturation.
    pub fn in_flight(&self) -> usize {
        match self.work {
            Forward | Edit => 32,
            Direct | Durable => 64,
        }
    }

    /// Connections; HTTP/1.1 carries one call at a time.
    pub fn connections(&self) -> usize {
        match self.protocol {
            Grpc => 4,
            Http => self.in_flight(),
        }
    }

    /// Its YAML.
    pub fn configuration(&self, addresses: Addresses, queue: &Path) -> String {
        let text = match self.work {
            Forward => include_str!("../configurations/forward.yaml"),
            Edit => include_str!("../configurations/edit.yaml"),
            Direct => include_str!("../configurations/direct.yaml"),
            Durable => include_str!("../configurations/durable.yaml"),
        };
        let (protocol, exporter, scheme) = match self.protocol {
            Grpc => ("grpc", "otlp", ""),
            Http => ("http", "otlphttp", "http://"),
        };
        let target = format!("{scheme}{}", addresses.target);
        text.replace("${PROTOCOL}", protocol)
            .replace("${LISTEN}", &addresses.listen.to_string())
            .replace("${EXPORTER}", exporter)
            .replace("${TARGET}", &target)
            .replace("${COMPRESSION}", self.encoding.name())
            .replace("${METRICS_PORT}", &addresses.metrics.port().to_string())
            .replace("${SIGNAL}", self.signal.name())
            .replace("${QUEUE}", &queue.display().to_string())
    }
}
