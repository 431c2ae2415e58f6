//! Where telemetry goes: a folder per exporter.
//!
//! In: a batch. Out: one attempt to deliver it. Invariant: a failure says whether the same batch
//! may be delivered later; queues and retries are the pipeline's.

pub mod debug;
pub mod file;
pub mod otlp;
pub mod otlphttp;
