//! HTTP servers: HTTP/1.1, and HTTP/2 with prior knowledge or by ALPN.
//!
//! In: a listener and a function from request to response. Out: a [`Server`] at work.
//! Invariant: after `stop` requests in flight are answered and HTTP/2 peers have been sent
//! GOAWAY; buffers and windows are small, so that an idle or stalled connection costs little.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Body;
use super::listen::{self, HANDSHAKE_TIMEOUT, Listener, Server, Speak};
use super::tls::ServerTls;
use crate::budget::{Account, Budget};

/// The most that HTTP/1 buffers of a connection, in bytes.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// What a client may send on an HTTP/2 connection before it is read, in bytes.
const HTTP2_WINDOW_BYTES: u32 = 64 << 10;

/// The headers of one HTTP/2 request, in bytes.
const HTTP2_HEADER_BYTES: u32 = 16 << 10;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 with prior knowledge or by ALPN.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// What it speaks.
    pub protocol: Protocol,
    /// TLS, if any.
    pub tls: Option<ServerTls>,
    /// How long a client may take for its headers.
    pub read_header_timeout: Duration,
    /// Whether connections serve more than one request.
    pub keep_alive: bool,
    /// Where connections and bodies are counted.
    pub budget: Arc<Budget>,
}

impl ServerSettings {
    /// Plain text, with the library's limits and a budget of its own.
    pub fn of(protocol: Protocol) -> Self {
        Self {
            protocol,
            tls: None,
            read_header_timeout: HANDSHAKE_TIMEOUT,
            keep_alive: true,
            budget: Arc::default(),
        }
    }
}

/// Accepts connections and answers their requests with `handler`; each request carries its
/// connection's `Arc<Account>` among its extensions.
pub fn serve<H, F>(listener: Listener, settings: ServerSettings, handler: H) -> Server
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (tls, budget) = (settings.tls.clone(), Arc::clone(&settings.budget));
    listen::start(listener, tls, budget, Http { settings, handler })
}

struct Http<H> {
    settings: ServerSettings,
    handler: H,
}

impl<H, F> Speak for Http<H>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    async fn speak<I>(
        self: Arc<Self>,
        io: I,
        account: Arc<Account>,
        mut stop: watch::Receiver<bool>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handler = self.handler.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&account));
            let answer = handler(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let stopped = async { drop(stop.wait_for(|stopping| *stopping).await) };
        let finished = tokio::select! {
            result = connection.as_mut() => Some(result),
            () = stopped => None,
        };
        let result = match finished {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

impl<H> Http<H> {
    fn builder(&self) -> hyper_util::server::conn::auto::Builder<TokioExecutor> {
        let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .keep_alive(self.settings.keep_alive)
            .max_buf_size(HTTP1_BUFFER_BYTES)
            .header_read_timeout(self.settings.read_header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_concurrent_streams(1000)
            .keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(20));
        match self.settings.protocol {
            Protocol::Http => builder,
            Protocol::Grpc => builder.http2_only(),
        }
    }
}
