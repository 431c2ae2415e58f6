//! One call, as its handler sees it.
//!
//! In: a request's headers and stream. Out: its one message, with the lease that covers it.
//! Invariant: the message's length is reserved before it is read, and window is given back to
//! the client only as its bytes move into what was reserved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes};
use h2::RecvStream;
use hyper::http::request::Parts;
use tokio::time::{Instant, timeout_at};

use super::{Code, Status};
use crate::budget::{Lease, Refused};
use crate::network::RETRY_AFTER;
use crate::network::body::{KEPT_PIECE_BYTES, STALL_TIMEOUT, deadline};
use crate::network::compression::{BodyError, Encoding, decompress};

/// From this length on, a message gains from a larger window.
const LARGE_BYTES: usize = 32 << 10;

/// One unary call.
pub struct Call {
    /// The method and the metadata.
    pub head: Parts,
    /// What the call holds of the budget.
    pub(super) lease: Lease,
    pub(super) stream: RecvStream,
    /// Set for the connection when messages are large.
    pub(super) large: Arc<AtomicBool>,
}

impl Call {
    /// Reads the one message, of at most `limit` bytes before and after decompression.
    pub async fn message(self, limit: usize) -> Result<(Parts, Bytes, Lease), Status> {
        let Self {
            head,
            mut lease,
            mut stream,
            large,
        } = self;
        let encoding = match head.headers.get("grpc-encoding") {
            None => Encoding::Identity,
            Some(name) => Encoding::of_grpc(name.as_bytes()).ok_or_else(|| {
                let text = format!(
                    "compression {name:?} is not supported; use gzip, zstd, snappy or identity"
                );
                Status::new(Code::Unimplemented, text)
            })?,
        };
        let begun = lease.bytes();
        let (compressed, message) = read(&mut stream, limit, &mut lease, &large)
            .await
            .map_err(|fault| fault.status(limit))?;
        drop(stream);
        if !compressed {
            return Ok((head, message, lease));
        }
        if encoding == Encoding::Identity {
            let text = "a compressed message without grpc-encoding";
            return Err(Status::new(Code::Internal, text));
        }
        let mut room = |more| lease.try_grow(more, 1);
        let plain = decompress(&message, encoding, limit, &mut room)
            .map_err(|error| Fault::Body(error).status(limit))?;
        drop(message);
        lease.shrink_to(begun + plain.len());
        Ok((head, plain, lease))
    }
}

/// Why there is no message.
enum Fault {
    Body(BodyError),
    /// Not one whole message behind its prefix.
    Framing(&'static str),
}

impl Fault {
    fn status(self, limit: usize) -> Status {
        match self {
            Self::Framing(text) => Status::new(Code::Internal, text),
            Self::Body(BodyError::TooLarge { .. }) => {
                let text = format!(
                    "the message is larger than max_recv_msg_size_mib allows ({limit} bytes)"
                );
                Status::new(Code::ResourceExhausted, text)
            }
            Self::Body(BodyError::NoRoom) => out_of_memory(),
            Self::Body(error @ BodyError::Malformed { .. }) => {
                Status::new(Code::InvalidArgument, error.to_string())
            }
            Self::Body(BodyError::Stalled) => {
                Status::new(Code::DeadlineExceeded, "the message did not arrive in time")
            }
            Self::Body(error @ BodyError::Broken(_)) => {
                Status::new(Code::Cancelled, error.to_string())
            }
        }
    }
}

/// What a client is told when the budget is spent.
pub(crate) fn out_of_memory() -> Status {
    Status {
        retry_after: Some(RETRY_AFTER),
        ..Status::new(
            Code::Unavailable,
            "the memory that telemetry may take is in use; try again later",
        )
    }
}

async fn read(
    stream: &mut RecvStream,
    limit: usize,
    lease: &mut Lease,
    large: &AtomicBool,
) -> Result<(bool, Bytes), Fault> {
    let mut whole_by = deadline(0);
    let mut begin = Bytes::new();
    while begin.len() < 5 {
        let Some(data) = next(stream, whole_by).await? else {
            return Err(Fault::Framing("the request ends inside its message prefix"));
        };
        begin = match begin.is_empty() {
            true => data,
            false => [begin, data].concat().into(),
        };
    }
    let flag = begin.get_u8();
    let length = begin.get_u32() as usize;
    give_window(stream, 5);
    if flag > 1 {
        return Err(Fault::Framing("unknown flags in a message prefix"));
    }
    if length > limit {
        return Err(Fault::Body(BodyError::TooLarge { limit }));
    }
    lease.grow(length).await.map_err(|refused| match refused {
        Refused::NoRoom => Fault::Body(BodyError::NoRoom),
        Refused::TooLarge => Fault::Body(BodyError::TooLarge { limit }),
    })?;
    if length >= LARGE_BYTES {
        large.store(true, Ordering::Relaxed);
    }
    give_window(stream, begin.len());
    whole_by += deadline(length) - deadline(0);
    let message = match begin.len() == length && length >= KEPT_PIECE_BYTES {
        true => begin,
        false => collect(stream, begin, length, whole_by).await?,
    };
    while let Some(more) = next(stream, whole_by).await? {
        if !more.is_empty() {
            return Err(Fault::Framing(TWO_MESSAGES));
        }
    }
    Ok((flag == 1, message))
}

const TWO_MESSAGES: &str = "a unary request must hold exactly one whole message";

async fn collect(
    stream: &mut RecvStream,
    begin: Bytes,
    length: usize,
    whole_by: Instant,
) -> Result<Bytes, Fault> {
    let mut message = Vec::with_capacity(length);
    let mut piece = begin;
    loop {
        if message.len() + piece.len() > length {
            return Err(Fault::Framing(TWO_MESSAGES));
        }
        message.extend_from_slice(&piece);
        if message.len() == length {
            return Ok(message.into());
        }
        let Some(data) = next(stream, whole_by).await? else {
            return Err(Fault::Framing(TWO_MESSAGES));
        };
        give_window(stream, data.len());
        piece = data;
    }
}

/// The next piece, or nothing at the end; window is not given back yet.
async fn next(stream: &mut RecvStream, whole_by: Instant) -> Result<Option<Bytes>, Fault> {
    if stream.is_end_stream() {
        return Ok(None);
    }
    let stalled_by = whole_by.min(Instant::now() + STALL_TIMEOUT);
    match timeout_at(stalled_by, stream.data()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(data))) => Ok(Some(data)),
        Ok(Some(Err(error))) => Err(Fault::Body(BodyError::Broken(error.to_string()))),
        Err(_) => Err(Fault::Body(BodyError::Stalled)),
    }
}

fn give_window(stream: &mut RecvStream, bytes: usize) {
    // It fails only when the stream is over, and then nobody needs it.
    let _ = stream.flow_control().release_capacity(bytes);
}
