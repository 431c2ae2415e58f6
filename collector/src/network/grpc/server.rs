//! The gRPC server.
//!
//! In: a listener and a function from [`Call`] to response message. Out: a [`Server`] at work.
//! Invariant: a connection's task only moves frames; each call is a task of its own, so that
//! one busy connection uses every core. Windows beyond the first [`WINDOW_BYTES`] are leased.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::keepalive::Pinger;
use super::pings::{Judge, Pings, Verdict, Watched};
use super::{Call, Framed, ServerKeepAlive, Status, framed, trailers};
use crate::budget::{Account, Budget, Lease};
use crate::network::body::REQUEST_BYTES;
use crate::network::listen::{self, HANDSHAKE_TIMEOUT, Listener, Server, Speak};
use crate::network::tls::ServerTls;

/// What a client may send on a connection, or on one stream, before it is read: HTTP/2's least.
const WINDOW_BYTES: u32 = 65_535;

/// The window of a connection that carries large messages, while there is room.
const GROWN_WINDOW_BYTES: u32 = 2 << 20;

/// The window of each stream of such a connection.
const GROWN_STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The part of the budget, as a divisor, above which no window grows.
const WINDOWS_DIVISOR: usize = 2;

/// After so long without a call, a window that has grown shrinks.
const SHRINK_AFTER: Duration = Duration::from_secs(10);

/// The largest frame: one is buffered whole, so it must fit the first window.
const MAX_FRAME_BYTES: u32 = 65_535;

/// The headers of one call, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// How long the calls of a client that asks too often may go on.
const GRACE_AFTER_PINGS: Duration = Duration::from_secs(10);

/// A time that does not come.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// How a gRPC server treats its connections.
#[derive(Clone, Debug)]
pub struct GrpcSettings {
    /// TLS, if any.
    pub tls: Option<ServerTls>,
    /// Calls at a time on one connection.
    pub max_concurrent_streams: u32,
    /// How connections are kept.
    pub keep_alive: ServerKeepAlive,
    /// Where connections, windows and messages are counted.
    pub budget: Arc<Budget>,
}

/// Accepts connections and answers their calls with `handler`.
pub fn serve<H, F>(listener: Listener, settings: GrpcSettings, handler: H) -> Server
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let (tls, budget) = (settings.tls.clone(), Arc::clone(&settings.budget));
    listen::start(listener, tls, budget, Grpc { settings, handler })
}

struct Grpc<H> {
    settings: GrpcSettings,
    handler: H,
}

impl<H, F> Speak for Grpc<H>
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    async fn speak<I>(self: Arc<Self>, io: I, account: Arc<Account>, stop: watch::Receiver<bool>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_concurrent_streams(self.settings.max_concurrent_streams);
        let policy = self.settings.keep_alive.enforcement;
        let pings = policy.map(|_| Arc::new(Pings::default()));
        let handshake = builder.handshake::<_, Framed>(Watched::new(io, pings.clone()));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(connection)) => {
                let judge = policy
                    .zip(pings)
                    .map(|(policy, pings)| Judge::new(policy, pings));
                let session = Session {
                    judge,
                    ..Session::new(connection, &self.settings, account)
                };
                session.run(&self.handler, stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "an HTTP/2 handshake failed"),
            Err(_) => tracing::debug!("an HTTP/2 handshake took too long"),
        }
    }
}

/// A connection at work.
struct Session<I> {
    connection: Connection<I, Framed>,
    account: Arc<Account>,
    keep_alive: ServerKeepAlive,
    pinger: Pinger,
    /// What the window has grown by.
    window: Lease,
    /// Whether a message was large enough to gain from a larger window.
    large: Arc<AtomicBool>,
    idle_since: Instant,
    /// When the connection is told to end.
    age_limit: Instant,
    /// When it ends, told or not.
    cut_at: Instant,
    closing: bool,
    /// Who judges the client's pings, if anybody does.
    judge: Option<Judge>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Session<I> {
    fn new(
        mut connection: Connection<I, Framed>,
        settings: &GrpcSettings,
        account: Arc<Account>,
    ) -> Self {
        let keep_alive = settings.keep_alive;
        let now = Instant::now();
        // Up to a tenth more or less, so that connections of one moment do not end at one moment.
        let age = keep_alive.max_connection_age.unwrap_or(NEVER);
        let age = age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let pings = connection.ping_pong();
        Self {
            connection,
            window: account.lease(),
            account,
            keep_alive,
            pinger: Pinger::new(pings, keep_alive.time, keep_alive.timeout),
            large: Arc::default(),
            idle_since: now,
            age_limit: now + age,
            cut_at: now + NEVER,
            closing: false,
            judge: None,
        }
    }

    async fn run<H, F>(mut self, handler: &H, mut stop: watch::Receiver<bool>)
    where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        loop {
            let tick = self.next_tick();
            tokio::select! {
                biased;
                accepted = self.connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.take(request, respond, handler),
                    Some(Err(error)) => return tracing::debug!(%error, "a connection ended badly"),
                    None => return,
                },
                _ = stop.wait_for(|stopping| *stopping), if !self.closing => self.close(),
                alive = self.pinger.next(|| true) => {
                    if !alive {
                        return tracing::debug!("a client does not answer pings");
                    }
                }
                () = Judge::changed(self.judge.as_ref()), if !self.closing => self.judge(),
                () = sleep_until(tick) => {
                    if self.tick() {
                        return tracing::debug!("a connection outlived its grace");
                    }
                }
            }
        }
    }

    /// Starts a call's task.
    fn take<H, F>(
        &mut self,
        request: Request<RecvStream>,
        respond: SendResponse<Framed>,
        handler: &H,
    ) where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        self.idle_since = Instant::now();
        self.pinger.heard();
        if self.window.bytes() == 0 && self.large.load(Ordering::Relaxed) {
            self.grow();
        }
        let (head, stream) = request.into_parts();
        let mut lease = self.account.lease();
        lease.charge(REQUEST_BYTES);
        let large = Arc::clone(&self.large);
        let call = Call {
            head,
            lease,
            stream,
            large,
        };
        let handler = handler.clone();
        let pings = self.judge.as_ref().map(Judge::pings);
        tokio::spawn(async move { answer(call, respond, handler, pings).await });
    }

    /// Ends the connection of a client that asks too often whether this server lives.
    fn judge(&mut self) {
        let has_calls = self.connection.has_streams();
        let verdict = self.judge.as_mut().map(|judge| judge.verdict(has_calls));
        if verdict == Some(Verdict::Told) {
            tracing::debug!("a client pings more often than the enforcement policy allows");
            self.close();
            self.cut_at = self.cut_at.min(Instant::now() + GRACE_AFTER_PINGS);
        }
    }

    fn grow(&mut self) {
        let more = (GROWN_WINDOW_BYTES - WINDOW_BYTES) as usize;
        if self.window.try_grow(more, WINDOWS_DIVISOR) {
            self.connection.set_target_window_size(GROWN_WINDOW_BYTES);
            let streams = GROWN_STREAM_WINDOW_BYTES;
            if self.connection.set_initial_window_size(streams).is_err() {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        self.connection.set_target_window_size(WINDOW_BYTES);
        // While the client has not confirmed the larger window, it keeps that for its streams;
        // the connection's own window, which bounds them all, is small again.
        let _ = self.connection.set_initial_window_size(WINDOW_BYTES);
        self.window.shrink_to(0);
        self.large.store(false, Ordering::Relaxed);
    }

    fn close(&mut self) {
        self.connection.graceful_shutdown();
        self.closing = true;
        if let Some(grace) = self.keep_alive.max_connection_age_grace {
            self.cut_at = Instant::now() + grace;
        }
    }

    /// When something is to be done even if nothing happens.
    fn next_tick(&self) -> Instant {
        if self.closing {
            return self.cut_at;
        }
        let idle = self.keep_alive.max_connection_idle.unwrap_or(NEVER);
        let shrink = match self.window.bytes() {
            0 => NEVER,
            _ => SHRINK_AFTER,
        };
        self.age_limit.min(self.idle_since + idle.min(shrink))
    }

    /// Does what time asks for; true when the connection is to be cut.
    fn tick(&mut self) -> bool {
        let now = Instant::now();
        if self.closing {
            return now >= self.cut_at;
        }
        if self.connection.has_streams() {
            self.idle_since = now;
        }
        let idle = self.keep_alive.max_connection_idle.unwrap_or(NEVER);
        if now >= self.age_limit || now >= self.idle_since + idle {
            self.close();
        } else if now >= self.idle_since + SHRINK_AFTER && self.window.bytes() > 0 {
            self.shrink();
        }
        false
    }
}

async fn answer<H, F>(
    call: Call,
    mut respond: SendResponse<Framed>,
    handler: H,
    pings: Option<Arc<Pings>>,
) where
    H: Fn(Call) -> F + Send + 'static,
    F: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let kind = call.head.headers.get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc || call.head.method != Method::POST {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        // The client may be gone.
        let _ = respond.send_response(response, true);
        return;
    }
    let result = handler(call).await;
    if let Some(pings) = pings {
        pings.answered();
    }
    if let Err(error) = send(&mut respond, result) {
        // The client is gone, and with it the need for an answer.
        tracing::debug!(%error, "an answer could not be sent");
        respond.send_reset(Reason::CANCEL);
    }
}

fn send(
    respond: &mut SendResponse<Framed>,
    result: Result<Bytes, Status>,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.reserve(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    match result {
        Ok(message) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(framed(&[message], false), false)?;
            stream.send_trailers(trailers(&Ok(())))
        }
        Err(status) => {
            let accepted = HeaderValue::from_static("gzip,zstd,snappy");
            headers.insert("grpc-accept-encoding", accepted);
            headers.extend(trailers(&Err(status)));
            respond.send_response(response, true).map(drop)
        }
    }
}
