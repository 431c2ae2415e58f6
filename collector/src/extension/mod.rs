//! What is no part of a pipeline: a folder per extension.
//!
//! In: the collector's state. Out: whatever the extension offers.
//! Invariant: pipelines work the same with and without it.

pub mod basicauth;
pub mod bearertokenauth;
pub mod file_storage;
pub mod headers_setter;
pub mod health_check;
pub mod pprof;
pub mod zpages;
