//! gRPC for unary calls, on HTTP/2 without anything between.
//!
//! In: calls. Out: their messages as bytes, and [`Status`]es.
//! Invariant: a message is copied at most once on its way in and never on its way out.

mod call;
pub mod channel;
mod connect;
mod keepalive;
mod pings;
mod server;
mod status;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::iter;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

pub use call::Call;
pub use keepalive::{EnforcementPolicy, KeepAlive, ServerKeepAlive};
pub use server::{GrpcSettings, serve};
pub use status::{Code, Status, read_answer, trailers};

use super::compression::{Encoding, compress};

/// A message behind its prefix, as it goes into DATA frames.
#[derive(Debug)]
pub struct Framed {
    /// The prefix and the pieces of the message, without those that are gone.
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

/// Puts a message, compressed already if `compressed` says so, behind its prefix.
pub fn framed(message: &[Bytes], compressed: bool) -> Framed {
    let length: usize = message.iter().map(Bytes::len).sum();
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(compressed.into());
    // A message of 4 GiB cannot come about: receivers and batches are bounded far below.
    prefix.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    let pieces = message.iter().filter(|piece| !piece.is_empty()).cloned();
    Framed {
        chunks: iter::once(prefix.freeze()).chain(pieces).collect(),
        remaining: 5 + length,
    }
}

impl Buf for Framed {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let pairs = into.iter_mut().zip(&self.chunks);
        pairs
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "advanced behind the end");
        self.remaining -= count;
        let mut left = count;
        while left > 0 {
            let Some(first) = self.chunks.front_mut() else {
                return;
            };
            if left < first.len() {
                return first.advance(left);
            }
            left -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// A message behind its prefix in one piece, compressed if asked for.
pub fn frame(message: &Bytes, encoding: Encoding) -> Bytes {
    let body = compress(message, encoding, None);
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put(framed(&[body], encoding != Encoding::Identity));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_pieces_is_framed_as_one() {
        let pieces = ["ab", "", "cde", "f"].map(Bytes::from);
        let whole = b"\x01\0\0\0\x06abcdef";
        for step in 1..=whole.len() {
            let mut framed = framed(&pieces, true);
            let mut read = Vec::new();
            while framed.has_remaining() {
                let count = step.min(framed.remaining());
                read.extend_from_slice(&framed.copy_to_bytes(count));
            }
            assert_eq!(read, whole, "{step}");
            assert_eq!(framed.chunk(), b"");
        }
        let framed = framed(&pieces, true);
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(framed.chunks_vectored(&mut slices), 3);
        assert_eq!(&*slices[2], b"cde");
    }
}
