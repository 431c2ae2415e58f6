//! What is no part of a pipeline: a folder per extension.
//!
//! In: the collector's state. Out: whatever the extension offers.
//! Invariant: pipelines work the same with and without it.

pub mod file_storage;
pub mod health_check;
pub mod zpages;
