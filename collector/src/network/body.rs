//! HTTP bodies, read into memory that was reserved before.
//!
//! In: a body from the network. Out: its bytes, with the lease that covers them.
//! Invariant: no more is held than the lease says, and never more than the limit; a body that
//! does not arrive in time is given up.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::compression::BodyError;
use crate::budget::{Lease, Refused};

/// What a request takes beside its body, in bytes.
pub const REQUEST_BYTES: usize = 2 << 10;

/// How long nothing may come.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How slow a body may come, in bytes a second, after [`STALL_TIMEOUT`].
const SLOWEST_BYTES: u64 = 16 << 10;

/// A single piece is kept as it came from this length on; below it, it would pin a buffer much
/// larger than itself.
pub(super) const KEPT_PIECE_BYTES: usize = 16 << 10;

/// When a body of so many bytes must be there.
pub(super) fn deadline(bytes: usize) -> Instant {
    Instant::now() + STALL_TIMEOUT + Duration::from_secs(bytes as u64 / SLOWEST_BYTES)
}

impl From<Refused> for BodyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoRoom => Self::NoRoom,
            Refused::TooLarge => Self::TooLarge { limit: 0 },
        }
    }
}

/// Reads a body whole: reserves what Content-Length says, or piece by piece without it.
pub async fn read_body<B>(mut body: B, limit: usize, lease: &mut Lease) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let announced = body.size_hint().exact();
    let announced = announced.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    lease.grow(announced.unwrap_or(0)).await?;
    let mut out = Vec::new();
    let mut reserved = announced.unwrap_or(0);
    let whole_by = deadline(announced.unwrap_or(limit));
    loop {
        let stalled_by = whole_by.min(Instant::now() + STALL_TIMEOUT);
        let frame = timeout_at(stalled_by, body.frame()).await;
        let frame = match frame.map_err(|_| BodyError::Stalled)? {
            None => return Ok(out.into()),
            Some(Err(error)) => return Err(BodyError::Broken(error.to_string())),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = out.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if announced == Some(data.len()) && data.len() >= KEPT_PIECE_BYTES {
            return Ok(data);
        }
        if length > reserved {
            // Doubling keeps the copies that growing makes few.
            let more = length.max(2 * reserved).min(limit) - reserved;
            lease.grow(more).await?;
            reserved += more;
        }
        out.reserve_exact(reserved - out.len());
        out.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::Full;

    use super::*;
    use crate::budget::Budget;

    #[tokio::test(start_paused = true)]
    async fn a_body_is_reserved_before_it_is_read() {
        let budget = Arc::new(Budget::of(1 << 20));
        let account = budget.account();
        let text = Bytes::from(vec![7; 600_000]);
        let mut first = account.lease();
        let read = read_body(Full::new(text.clone()), 1 << 20, &mut first).await;
        assert_eq!(read.unwrap(), text);
        assert_eq!(budget.used(), 600_000);
        let mut second = account.lease();
        let read = read_body(Full::new(text.clone()), 1 << 20, &mut second).await;
        assert_eq!(read, Err(BodyError::NoRoom));
        let read = read_body(Full::new(text), 500_000, &mut second).await;
        assert_eq!(read, Err(BodyError::TooLarge { limit: 500_000 }));
        let stalled = read_body(Pending, 10, &mut second).await;
        assert_eq!(stalled, Err(BodyError::Stalled));
    }

    /// A body that never comes.
    struct Pending;

    impl Body for Pending {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }
}
