//! gRPC for unary calls, on HTTP/2 without anything between.
//!
//! In: calls. Out: their messages as bytes, and [`Status`]es.
//! Invariant: a message is copied at most once on its way in and never on its way out.

mod call;
pub mod channel;
mod connect;
mod keepalive;
mod server;
mod status;

use std::io::Cursor;

use bytes::buf::{Buf as _, Chain};
use bytes::{BufMut as _, Bytes, BytesMut};

pub use call::Call;
pub use keepalive::{KeepAlive, ServerKeepAlive};
pub use server::{GrpcSettings, serve};
pub use status::{Code, Status, read_answer, trailers};

use super::compression::{Encoding, compress};

/// A message behind its prefix, as it goes into DATA frames.
pub type Framed = Chain<Cursor<[u8; 5]>, Bytes>;

/// Puts a message, compressed already if `compressed` says so, behind its prefix.
pub fn framed(message: Bytes, compressed: bool) -> Framed {
    let mut prefix = [u8::from(compressed), 0, 0, 0, 0];
    // A message of 4 GiB cannot come about: receivers and batches are bounded far below.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    prefix[1..].copy_from_slice(&length.to_be_bytes());
    Cursor::new(prefix).chain(message)
}

/// A message behind its prefix in one piece, compressed if asked for.
pub fn frame(message: &Bytes, encoding: Encoding) -> Bytes {
    let body = compress(message, encoding, None);
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put(framed(body, encoding != Encoding::Identity));
    out.freeze()
}
