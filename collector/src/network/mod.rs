//! What receivers, exporters and extensions share of HTTP, gRPC, TLS and compression.
//!
//! In: addresses, requests. Out: servers and clients. Invariant: every body and every
//! decompression has a limit that the caller names.

mod body;
pub mod client;
pub mod grpc;
mod listen;
pub mod tls;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::convert::Infallible;

pub use body::{BodyError, Encoding, gunzip, gzip, read_body};
pub use listen::{Protocol, Server, ServerSettings, bind, serve};

/// The body of a response or of a request that this program makes.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
