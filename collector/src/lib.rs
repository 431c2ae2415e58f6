//! An OpenTelemetry collector that keeps OTLP as bytes.
//!
//! The walk: bytes → processors → queue → exporter.
//!
//! - [`config`]: otelcol YAML to a typed configuration; every error at once
//! - [`authentication`]: what extensions do for it, and how others find them
//! - [`batch`]: a request on its way, with what came along with it
//! - [`budget`]: the memory that telemetry in flight may take
//! - [`component`]: what a component is, and the tables of all of them
//! - [`receiver`], [`processor`], [`exporter`], [`connector`], [`extension`]: a folder per component
//! - [`pipeline`]: builds the graph once; queues, retries, the order of shutdown
//! - [`edit`], [`matching`], [`ottl`], [`pattern`], [`walk`]: what processors have in common
//! - [`service`]: a collector from its start to its end; signals
//! - [`network`]: HTTP, gRPC, TLS and compression, shared by components
//! - [`telemetry`]: the collector's own metrics and logs
//!
//! In: a configuration file. Out: a running collector. Invariant: what a receiver has answered
//! well is delivered, held in a queue, or its loss is logged.

pub mod authentication;
pub mod batch;
pub mod budget;
pub mod cli;
pub mod component;
pub mod config;
pub mod connector;
pub mod edit;
pub mod exporter;
pub mod extension;
pub mod matching;
pub mod network;
pub mod ottl;
pub mod pattern;
pub mod pipeline;
pub mod processor;
pub mod receiver;
pub mod service;
pub mod telemetry;
pub mod walk;
