//! Where telemetry comes in: a folder per receiver.
//!
//! In: bytes from outside. Out: validated requests, handed to pipelines.
//! Invariant: what a receiver has answered well is in the care of a pipeline.

pub mod otlp;
