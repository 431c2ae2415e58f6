//! OTLP export requests for traces, logs and metrics, kept as protobuf bytes.
//!
//! In: bytes or JSON from a network. Out: [`Request`]s that are known to be well formed, and
//! what a collector does with them: count, merge, split, edit, drop, transcode to JSON.
//! Invariant: nothing here does I/O or panics on any input; memory and depth are bounded by the
//! input's length and [`MAX_DEPTH`].
//!
//! - [`schema`]: OTLP's messages as static tables; everything else is driven by them
//! - [`wire`]: fields on the wire, read and written
//! - [`validate`]: one pass that checks and counts; `sweep` is its fast path
//! - [`split`](Request::split), [`Request::merge`]: work on the bytes
//! - [`pass`]: walks through a request, reads [`Record`]s and rewrites only what was edited
//! - [`together`]: several passes as one walk
//! - `decode`, `encode`: OTLP/JSON in and out
//!
//! A string that is not UTF-8 is mended with U+FFFD and counted, rather than refused, since
//! Go programs send such strings and their other telemetry is sound.

mod any_value;
mod decode;
mod encode;
mod error;
mod parts;
pub mod pass;
mod record;
mod request;
mod rewrite;
pub mod schema;
mod split;
mod sweep;
mod text;
pub mod together;
pub mod validate;
pub mod wire;

#[cfg(test)]
mod tests;

pub use any_value::AnyValue;
pub use error::{JsonError, WireError, WireFault};
pub use record::{Place, Record};
pub use request::Request;
pub use schema::Signal;
pub use wire::MAX_DEPTH;
