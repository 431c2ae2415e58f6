//! A target that takes OTLP over gRPC and HTTP, written without the collector's code.
//!
//! In: export requests. Out: their bodies, to whoever asked for them.
//! Invariant: what the sink has answered well has been handed over before.

use std::convert::Infallible;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::arrival::Signal;

/// What an export request brought.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) signal: Signal,
    pub(crate) body: Bytes,
}

type Take = Arc<dyn Fn(Received) + Send + Sync>;

/// A target on a port of its own.
pub(crate) struct Sink {
    pub(crate) port: u16,
    take: Take,
    server: Option<JoinHandle<()>>,
}

impl Sink {
    /// A target that remembers all requests.
    pub(crate) async fn recording() -> (Self, Arc<Mutex<Vec<Received>>>) {
        let all: Arc<Mutex<Vec<Received>>> = Arc::default();
        let list = Arc::clone(&all);
        let sink = Self::start(move |received| list.lock().unwrap().push(received)).await;
        (sink, all)
    }

    /// A target that hands each request over.
    pub(crate) async fn start(take: impl Fn(Received) + Send + Sync + 'static) -> Self {
        let (port, take) = (crate::process::port(), Arc::new(take));
        let mut sink = Self {
            port,
            take,
            server: None,
        };
        sink.come_back().await;
        sink
    }

    /// Closes the port and all connections.
    pub(crate) async fn go_away(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // Aborted tasks end with an error.
            let _ = server.await;
        }
    }

    /// Opens the port.
    pub(crate) async fn come_back(&mut self) {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.server = Some(tokio::spawn(serve(listener, Arc::clone(&self.take))));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// Serves until it is aborted, and its connections with it.
async fn serve(listener: TcpListener, take: Take) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let take = Arc::clone(&take);
        connections.spawn(async move {
            stream.set_nodelay(true).unwrap();
            let service = service_fn(move |request| answer(request, Arc::clone(&take)));
            let builder = Builder::new(TokioExecutor::new());
            // A broken connection is the other side's affair.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    take: Take,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let signal = match path {
        _ if path.contains("trace") => Signal::Traces,
        _ if path.contains("metrics") => Signal::Metrics,
        _ => Signal::Logs,
    };
    let content = head.headers.get("content-type").cloned();
    let content = content.unwrap_or_else(|| HeaderValue::from_static(""));
    let is_grpc = content.as_bytes().starts_with(b"application/grpc");
    let body = body.collect().await?.to_bytes();
    let packed = head.headers.get("content-encoding").is_some();
    let body = match is_grpc {
        true if body[0] == 1 => unpack(&body[5..]),
        true => body.slice(5..),
        false if packed => unpack(&body),
        false => body,
    };
    take(Received { signal, body });
    let ok = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let answer = match is_grpc {
        true => Bytes::from_static(&[0; 5]),
        false => Bytes::new(),
    };
    let trailers = is_grpc.then_some(Ok(ok));
    let body = Full::new(answer).with_trailers(std::future::ready(trailers));
    Ok(Response::builder()
        .header("content-type", content)
        .body(body)
        .unwrap())
}

fn unpack(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_end(&mut plain)
        .unwrap();
    plain.into()
}
