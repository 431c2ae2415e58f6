//! Listeners and the connections that come in through them.
//!
//! In: an address and a function from request to response. Out: a [`Server`] at work.
//! Invariant: after `stop` no connection is accepted, requests in flight are answered, HTTP/2
//! peers have been sent GOAWAY, and nothing outlives the deadline.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Body;
use crate::component::StartError;

/// How many connections one listener keeps open.
const MAX_CONNECTIONS: usize = 10_000;

/// How long a client may take for its TLS handshake or its HTTP/1 headers.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 with prior knowledge or by ALPN.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// How a listener treats its connections.
#[derive(Clone)]
pub struct ServerSettings {
    /// What it speaks.
    pub protocol: Protocol,
    /// TLS, if any.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// HTTP/2 requests at a time on one connection.
    pub max_concurrent_streams: Option<u32>,
}

impl ServerSettings {
    /// Plain text, with the library's limits.
    pub fn of(protocol: Protocol) -> Self {
        Self {
            protocol,
            tls: None,
            max_concurrent_streams: None,
        }
    }
}

/// A listener at work.
#[derive(Debug)]
pub struct Server {
    stopping: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
}

/// Binds `address`; the error names `component` and the address.
pub async fn bind(component: &str, address: &str) -> Result<TcpListener, StartError> {
    // Go reads ":4317" as every address of the machine.
    let bound = match address.strip_prefix(':') {
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
        None => TcpListener::bind(address).await,
    };
    bound.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the address is in use by another process".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("cannot listen on {address}: {why}");
        StartError {
            component: component.to_owned(),
            message,
        }
    })
}

/// Accepts connections and answers their requests with `handler`.
pub fn serve<H, F>(listener: TcpListener, settings: ServerSettings, handler: H) -> Server
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (stopping, stop) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, settings, handler, stop));
    Server {
        stopping,
        accepting,
    }
}

impl Server {
    /// Stops as the module says; what is not done by the deadline is cut off.
    pub async fn stop(self, deadline: Instant) {
        // Without a receiver there is nothing left to stop.
        let _ = self.stopping.send(true);
        let Ok(mut connections) = self.accepting.await else {
            return;
        };
        while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
        let cut = connections.len();
        if cut > 0 {
            tracing::warn!(
                connections = cut,
                "connections were cut off at the shutdown deadline"
            );
        }
        connections.shutdown().await;
    }
}

async fn accept<H, F>(
    listener: TcpListener,
    settings: ServerSettings,
    handler: H,
    mut stop: watch::Receiver<bool>,
) -> JoinSet<()>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (settings, handler, stop) = (settings.clone(), handler.clone(), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, settings, handler, stop).await;
        });
    }
    connections
}

async fn connection<H, F>(
    stream: TcpStream,
    settings: ServerSettings,
    handler: H,
    stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Only latency is lost when this fails.
    let _ = stream.set_nodelay(true);
    let Some(tls) = settings.tls.clone() else {
        return speak(stream, &settings, handler, stop).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => speak(stream, &settings, handler, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak<S, H, F>(
    stream: S,
    settings: &ServerSettings,
    handler: H,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(settings.max_concurrent_streams.unwrap_or(1000))
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    if settings.protocol == Protocol::Grpc {
        builder = builder.http2_only();
    }
    let connection = builder.serve_connection(TokioIo::new(stream), service);
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
