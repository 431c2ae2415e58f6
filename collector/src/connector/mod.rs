//! What joins pipelines: a folder per connector.
//!
//! In: batches at the end of a pipeline. Out: batches at the beginning of others.
//! Invariant: a connector keeps nothing; it answers what the pipelines behind it answer.

pub mod forward;
