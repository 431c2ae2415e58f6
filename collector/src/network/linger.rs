//! Reading on after an early answer.
//!
//! In: the body of a request that was answered before all of it was read. Out: nothing; it is
//! thrown away. Invariant: bounded in bytes and in time.
//!
//! A socket that is closed while something unread waits in it resets its connection, and the
//! client loses the answer that says why: it would send the same again for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::Version;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;

/// How much is thrown away, in bytes; a client with more to send is cut off.
const MOST_BYTES: usize = 64 << 20;

/// How long is read on.
const LONGEST: Duration = Duration::from_secs(5);

/// A body of an HTTP/1 request: what is not read of it before it is dropped is read and thrown
/// away, so that the client gets to its answer. HTTP/2 needs none of that, and a client that
/// waits for `100 Continue` has nothing on its way.
pub struct Lingering {
    incoming: Option<Incoming>,
    lingers: bool,
}

impl Lingering {
    /// Takes over a request's body.
    pub fn of(request: Request<Incoming>) -> Request<Self> {
        let is_sent_at_once = !request.headers().contains_key(EXPECT);
        let lingers = request.version() < Version::HTTP_2 && is_sent_at_once;
        request.map(|incoming| Self {
            incoming: Some(incoming),
            lingers,
        })
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.as_ref().map(Body::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        if self.lingers && !incoming.is_end_stream() {
            tokio::spawn(tokio::time::timeout(LONGEST, discard(incoming)));
        }
    }
}

async fn discard(mut incoming: Incoming) {
    let mut left = MOST_BYTES;
    while let Some(Ok(frame)) = incoming.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}
