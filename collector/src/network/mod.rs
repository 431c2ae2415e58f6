//! What receivers, exporters and extensions share of HTTP, gRPC, TLS and compression.
//!
//! In: addresses, requests. Out: servers and clients. Invariant: every body and every
//! decompression has a limit that the caller names, and what is held of it is leased before.

pub mod body;
pub mod client;
pub mod compression;
mod forward_proxy;
pub mod grpc;
pub mod handover;
mod http_server;
mod linger;
mod listen;
pub mod tls;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use client::{Answer, MAX_RESPONSE_BYTES};
pub use compression::{BodyError, Encoding};
pub use http_server::{Protocol, ServerSettings, serve};
pub use linger::Lingering;
pub use listen::{Listener, Server, bind, bind_unix};

/// What a refused client is told to wait when nobody knows better.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The body of a response or of a request that this program makes.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
