//! Where a subject sends to: a server that counts and answers that all is well.
//!
//! In: export requests over gRPC or HTTP/1.1. Out: [`Totals`].
//! Invariant: every request is counted after its last byte and before its answer, with the items
//! that its bytes hold.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context as _;
use bytes::Bytes;
use collector_otlp::Signal;
use h2::server::SendResponse;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::count::{self, Counter};
use crate::wire::{self, Encoding, PREFIX, Protocol};

/// HTTP/2 windows that never make a subject wait.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;

/// What came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Export requests.
    pub requests: u64,
    /// Bytes of their bodies, as they came.
    pub bytes: u64,
    /// Spans, log records or data points.
    pub items: u64,
    /// Requests that could not be read.
    pub unreadable: u64,
    /// When the last one had come in.
    pub last: Option<Instant>,
}

/// A sink at work; it ends with the thread that runs it.
#[derive(Clone)]
pub struct Sink {
    /// Where it listens for gRPC.
    pub grpc: SocketAddr,
    /// Where it listens for HTTP/1.1.
    pub http: SocketAddr,
    totals: Rc<RefCell<Totals>>,
}

impl Sink {
    /// Listens on two free ports of the loopback interface.
    pub async fn start() -> anyhow::Result<Self> {
        let grpc = TcpListener::bind("127.0.0.1:0").await?;
        let http = TcpListener::bind("127.0.0.1:0").await?;
        let sink = Self {
            grpc: grpc.local_addr()?,
            http: http.local_addr()?,
            totals: Rc::default(),
        };
        spawn_local(sink.clone().accept(grpc, Protocol::Grpc));
        spawn_local(sink.clone().accept(http, Protocol::Http));
        Ok(sink)
    }

    /// What has come in so far.
    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }

    async fn accept(self, listener: TcpListener, protocol: Protocol) {
        while let Ok((stream, _)) = listener.accept().await {
            let sink = self.clone();
            spawn_local(async move {
                // A subject that hangs up is seen by what is missing from the totals.
                let _ = stream.set_nodelay(true);
                let _ = match protocol {
                    Protocol::Grpc => sink.serve_grpc(stream).await,
                    Protocol::Http => sink.serve_http(stream).await,
                };
            });
        }
    }

    async fn serve_grpc(self, stream: TcpStream) -> anyhow::Result<()> {
        let mut connection = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake::<_, Bytes>(stream)
            .await?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let sink = self.clone();
            spawn_local(async move {
                let _ = sink.take_grpc(request, respond).await;
            });
        }
        Ok(())
    }

    async fn take_grpc(
        &self,
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> anyhow::Result<()> {
        let (head, mut body) = request.into_parts();
        let signal = wire::signal_of(head.uri.path(), Protocol::Grpc).context("an unknown path")?;
        let encoding = header(&head.headers, "grpc-encoding");
        let mut received = Received::new(signal, encoding, PREFIX);
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            received.feed(&data);
        }
        self.add(received);
        answer_grpc(&mut respond)?;
        Ok(())
    }

    async fn serve_http(self, stream: TcpStream) -> anyhow::Result<()> {
        let service = service_fn(move |request| {
            let sink = self.clone();
            async move { sink.take_http(request).await }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }

    async fn take_http(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, mut body) = request.into_parts();
        let mut response = Response::new(Full::default());
        let Some(signal) = wire::signal_of(head.uri.path(), Protocol::Http) else {
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            return Ok(response);
        };
        let encoding = header(&head.headers, CONTENT_ENCODING.as_str());
        let mut received = Received::new(signal, encoding, 0);
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                received.feed(&data);
            }
        }
        self.add(received);
        let kind = HeaderValue::from_static("application/x-protobuf");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    fn add(&self, received: Received) {
        let mut totals = self.totals.borrow_mut();
        totals.requests += 1;
        totals.last = Some(Instant::now());
        totals.bytes += received.bytes;
        match received.items() {
            Some(items) => totals.items += items,
            None => totals.unreadable += 1,
        }
    }
}

/// Answers a unary call with an empty message.
pub fn answer_grpc(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(Bytes::from_static(&[0; PREFIX]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

fn header(headers: &HeaderMap, name: &str) -> Option<Encoding> {
    Encoding::of_header(headers.get(name).map(HeaderValue::as_bytes))
}

/// One request while it comes in.
struct Received {
    signal: Signal,
    /// `None` for an encoding that the sink cannot read.
    encoding: Option<Encoding>,
    prefix: usize,
    bytes: u64,
    counter: Counter,
    /// The body, when it has to be decoded before it can be counted.
    compressed: Vec<u8>,
}

impl Received {
    fn new(signal: Signal, encoding: Option<Encoding>, prefix: usize) -> Self {
        Self {
            signal,
            encoding,
            prefix,
            bytes: 0,
            counter: Counter::new(signal, prefix as u64),
            compressed: Vec::new(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match self.encoding {
            Some(Encoding::None) => self.counter.feed(piece),
            _ => self.compressed.extend_from_slice(piece),
        }
    }

    fn items(&self) -> Option<u64> {
        let encoding = self.encoding?;
        if encoding == Encoding::None {
            return Some(self.counter.items());
        }
        let body = self.compressed.get(self.prefix..)?;
        // A client may leave a message as it is where compressing it would make it longer.
        if self.prefix > 0 && self.compressed.first() == Some(&0) {
            return Some(count::count(self.signal, body));
        }
        let mut decoded = Vec::new();
        encoding.decode(body, &mut decoded).ok()?;
        Some(count::count(self.signal, &decoded))
    }
}
