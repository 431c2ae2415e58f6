//! The built program, driven from outside over loopback.
//!
//! In: configurations, requests and signals. Out: what a user would see.
//! Invariant: nothing here depends on timing beyond generous deadlines.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod answers;
mod configuration;
mod connectors;
mod drain;
mod durable;
mod flow;
mod harness;
mod keepalive;
mod network;
mod own_telemetry;
mod proxy;
mod reload;
mod startup;
mod trust;
