//! What happens to telemetry on its way: a folder per processor.
//!
//! In: a batch. Out: the batch, changed, held back or refused.
//! Invariant: only a processor that must wait is a task.

pub mod attributes;
pub mod batch;
pub mod filter;
pub mod memory_limiter;
pub mod probabilistic_sampler;
pub mod resource;
pub mod transform;
