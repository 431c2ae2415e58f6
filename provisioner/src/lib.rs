//! Takes a fleet described in TOML from bare machines to a running OpenTelemetry platform.
//!
//! The walk:
//! 1. [`fleet`]: an environment, its inventories and its tier become hosts with their variables.
//! 2. [`playbook`]: plays say what each group of hosts shall be; [`template`]s are rendered.
//! 3. [`plan`]: every [`resource`] says what it must know; that is [`plan::Desired`].
//! 4. [`host`]: one conversation per host answers all of it at once.
//! 5. [`plan`]: desired and observed become ordered changes, purely.
//! 6. [`rollout`]: staged and validated on every host, then batch by batch.
//! 7. [`report`]: events become lines, progress bars, diffs and JSON.

pub mod cli;
pub mod document;
pub mod error;
pub mod fleet;
pub mod graph;
pub mod host;
pub mod inventory;
pub mod lab;
pub mod plan;
pub mod playbook;
pub mod report;
pub mod resource;
pub mod rollout;
pub mod secret;
pub mod template;
pub mod tls;
