//! Clients that ask too often whether their server lives, told off as grpc-go does.
//!
//! In: a connection's bytes on their way to HTTP/2, and an [`EnforcementPolicy`]. Out: a GOAWAY with
//! ENHANCE_YOUR_CALM and `too_many_pings`, at which clients ask half as often.
//! Invariant: of what passes, nine bytes a frame are looked at, and nothing without a policy.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keepalive::EnforcementPolicy;

/// How often a client may ask too early before it is told off.
const MOST_STRIKES: u32 = 2;

/// How long clients without calls wait between pings, unless they need not.
const WITHOUT_CALLS: Duration = Duration::from_secs(2 * 3600);

/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;

/// The length of a frame's header.
const HEADER_BYTES: usize = 9;

/// A GOAWAY frame that lets calls finish: no stream is beyond its last one.
const GOAWAY: &[u8; HEADER_BYTES + 22] =
    b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// What a connection's task and its bytes tell each other.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// Pings that nobody has judged yet.
    received: AtomicU32,
    /// Whether an answer has gone out since the last ping, after which a client may ask.
    answered: AtomicBool,
    /// Whether the client is to be told off, and whether it has been.
    tell: AtomicBool,
    told: AtomicBool,
    changed: Notify,
}

impl Pings {
    /// Notes that an answer goes out.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// Judges a connection's pings.
pub(super) struct Judge {
    policy: EnforcementPolicy,
    pings: Arc<Pings>,
    last: Option<Instant>,
    strikes: u32,
}

/// What is to be done about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// It has been told that it asks too often: the connection is to end.
    Told,
}

impl Judge {
    pub(super) fn new(policy: EnforcementPolicy, pings: Arc<Pings>) -> Self {
        Self {
            policy,
            pings,
            last: None,
            strikes: 0,
        }
    }

    /// What the connection's bytes and answers are noted in.
    pub(super) fn pings(&self) -> Arc<Pings> {
        Arc::clone(&self.pings)
    }

    /// Waits for a ping, or until the client has been told off; for ever without a judge.
    pub(super) async fn changed(judge: Option<&Self>) {
        match judge {
            Some(judge) => judge.pings.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Judges what came since the last time.
    pub(super) fn verdict(&mut self, has_calls: bool) -> Verdict {
        if self.pings.told.load(Ordering::Relaxed) {
            return Verdict::Told;
        }
        for _ in 0..self.pings.received.swap(0, Ordering::Relaxed) {
            self.judge(has_calls, Instant::now());
        }
        if self.strikes > MOST_STRIKES {
            self.pings.tell.store(true, Ordering::Relaxed);
        }
        Verdict::Fine
    }

    fn judge(&mut self, has_calls: bool, now: Instant) {
        let last = self.last.replace(now);
        if self.pings.answered.swap(false, Ordering::Relaxed) {
            self.strikes = 0;
            return;
        }
        let least = match has_calls || self.policy.permit_without_stream {
            true => self.policy.min_time,
            false => WITHOUT_CALLS,
        };
        if last.is_some_and(|last| now < last + least) {
            self.strikes += 1;
        }
    }
}

/// A connection's bytes, with its pings counted if they are of interest.
#[derive(Debug)]
pub(super) struct Watched<I> {
    io: I,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    pings: Arc<Pings>,
    header: [u8; HEADER_BYTES],
    /// How much of the header is known.
    known: usize,
    /// How many bytes come before the next header.
    before: usize,
    /// How much of [`GOAWAY`] has been written.
    said: usize,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, pings: Option<Arc<Pings>>) -> Self {
        let watch = pings.map(|pings| Watch {
            pings,
            header: [0; HEADER_BYTES],
            known: 0,
            before: PREFACE_BYTES,
            said: 0,
        });
        Self { io, watch }
    }
}

impl Watch {
    /// Goes from header to header.
    fn see(&mut self, mut bytes: &[u8]) {
        const PING: u8 = 6;
        const ACK: u8 = 1;
        let mut pings = 0;
        while !bytes.is_empty() {
            let skipped = self.before.min(bytes.len());
            self.before -= skipped;
            bytes = &bytes[skipped..];
            let more = (HEADER_BYTES - self.known).min(bytes.len());
            self.header[self.known..self.known + more].copy_from_slice(&bytes[..more]);
            self.known += more;
            bytes = &bytes[more..];
            if self.known == HEADER_BYTES {
                let [a, b, c, kind, flags, ..] = self.header;
                pings += u32::from(kind == PING && flags & ACK == 0);
                self.before = u32::from_be_bytes([0, a, b, c]) as usize;
                self.known = 0;
            }
        }
        if pings > 0 {
            self.pings.received.fetch_add(pings, Ordering::Relaxed);
            self.pings.changed.notify_one();
        }
    }

    /// Writes what is left of the GOAWAY, if it is to be said.
    fn say<I: AsyncWrite + Unpin>(
        &mut self,
        io: &mut I,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said == GOAWAY.len() || !self.pings.tell.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        while self.said < GOAWAY.len() {
            let written = ready!(Pin::new(&mut *io).poll_write(context, &GOAWAY[self.said..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.said += written;
        }
        self.pings.told.store(true, Ordering::Relaxed);
        self.pings.changed.notify_one();
        Poll::Ready(Ok(()))
    }

    /// Whether the GOAWAY has been begun and not finished, so that nothing else may be written.
    fn is_speaking(&self) -> bool {
        (1..GOAWAY.len()).contains(&self.said)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        if let Some(watch) = &mut this.watch {
            watch.see(&buffer.filled()[before..]);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    /// Finishes a GOAWAY that has been begun.
    fn finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.watch {
            Some(watch) if watch.is_speaking() => watch.say(&mut self.io, context),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.finish(context))?;
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.finish(context))?;
        Pin::new(&mut this.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    // HTTP/2 flushes when all that it has begun is written: only there another frame can stand.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(watch) = &mut this.watch {
            ready!(watch.say(&mut this.io, context))?;
        }
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(min_time: u64, permit_without_stream: bool) -> EnforcementPolicy {
        EnforcementPolicy {
            min_time: Duration::from_secs(min_time),
            permit_without_stream,
        }
    }

    /// How many strikes pings bring that come so many seconds apart.
    fn strikes(policy: EnforcementPolicy, has_calls: bool, apart: u64) -> u32 {
        let mut judge = Judge::new(policy, Arc::default());
        let start = Instant::now();
        for number in 0..4 {
            judge.judge(has_calls, start + Duration::from_secs(apart * number));
        }
        judge.strikes
    }

    #[test]
    fn clients_wait_as_the_policy_says() {
        assert_eq!(strikes(policy(10, true), false, 10), 0);
        assert_eq!(strikes(policy(10, true), false, 9), 3);
        assert_eq!(strikes(policy(10, false), true, 10), 0);
        assert_eq!(strikes(policy(10, false), false, 3600), 3);
        assert_eq!(strikes(policy(10, false), false, 7200), 0);
    }

    #[test]
    fn after_an_answer_a_client_may_ask() {
        let pings = Arc::new(Pings::default());
        let mut judge = Judge::new(policy(10, true), Arc::clone(&pings));
        let now = Instant::now();
        for _ in 0..3 {
            judge.judge(true, now);
        }
        assert_eq!(judge.strikes, 2);
        pings.answered();
        judge.judge(true, now);
        assert_eq!(judge.strikes, 0);
    }

    #[test]
    fn pings_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut frame = |kind: u8, flags: u8, body: &[u8]| {
            bytes.extend([0, 0, body.len() as u8, kind, flags, 0, 0, 0, 0]);
            bytes.extend(body);
        };
        frame(4, 0, b"");
        frame(6, 0, b"12345678");
        // A body that looks like a ping, and the answer to one.
        frame(0, 0, b"\0\0\x08\x06\0\0\0\0\0abcdefgh");
        frame(6, 1, b"12345678");
        frame(6, 0, b"12345678");
        for length in 1..bytes.len() {
            let pings = Arc::new(Pings::default());
            let mut watched = Watched::new((), Some(Arc::clone(&pings)));
            let watch = watched.watch.as_mut().unwrap();
            bytes.chunks(length).for_each(|chunk| watch.see(chunk));
            assert_eq!(pings.received.load(Ordering::Relaxed), 2, "{length}");
        }
    }
}
