//! The floor: a forwarder that moves bytes and counts, and does nothing else.
//!
//! In: export requests over gRPC or HTTP/1.1. Out: the same bytes to one target, and its answers
//! back, over the same protocol.
//! Invariant: a request is answered after the target has answered it; nothing is validated,
//! batched, decompressed or kept, so nothing that knows how many items it moves can do with less.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use collector_otlp::Signal;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{LocalSet, spawn_local};

use crate::count::Counter;
use crate::sink::answer_grpc;
use crate::wire::{self, Encoding, PREFIX, Protocol};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Forwards until it is killed.
pub fn run(protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(protocol, listen, target))
}

/// Listens and forwards, on the local set of the caller.
pub async fn serve(
    protocol: Protocol,
    listen: SocketAddr,
    target: SocketAddr,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    if protocol == Protocol::Http {
        loop {
            let (stream, _) = listener.accept().await?;
            // The client sees that its connection is gone.
            spawn_local(async move { drop(http_connection(stream, target).await) });
        }
    }
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    spawn_local(connection);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let sender = sender.clone();
        spawn_local(async move {
            // The client sees that its connection is gone.
            let _ = connection_of(stream, sender, target).await;
        });
    }
}

async fn connection_of(
    stream: TcpStream,
    sender: SendRequest<Bytes>,
    target: SocketAddr,
) -> anyhow::Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let sender = sender.clone();
        spawn_local(async move {
            // A request that is not answered is reset, which the client counts as a failure.
            let _ = forward(request, respond, sender, target).await;
        });
    }
    Ok(())
}

async fn forward(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    sender: SendRequest<Bytes>,
    target: SocketAddr,
) -> anyhow::Result<u64> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path();
    let signal = wire::signal_of(path, Protocol::Grpc).context("an unknown path")?;
    let mut forwarded = Request::new(());
    *forwarded.method_mut() = head.method;
    *forwarded.uri_mut() = format!("http://{target}{path}").parse()?;
    *forwarded.headers_mut() = head.headers;
    let encoding = forwarded.headers().get("grpc-encoding");
    let encoding = Encoding::of_header(encoding.map(HeaderValue::as_bytes));
    let mut counter = Counter::new(signal, PREFIX as u64);
    // Compressed items cannot be counted by who does nothing but move them.
    let (answer, mut out) = sender.ready().await?.send_request(forwarded, false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if encoding == Some(Encoding::None) {
            counter.feed(&data);
        }
        out.send_data(data, false)?;
    }
    out.send_data(Bytes::new(), true)?;
    let mut answer = answer.await?.into_body();
    while let Some(data) = answer.data().await {
        answer.flow_control().release_capacity(data?.len())?;
    }
    let trailers = answer.trailers().await?.context("no trailers")?;
    if trailers.get("grpc-status").map(HeaderValue::as_bytes) != Some(b"0") {
        bail!("the target refused");
    }
    answer_grpc(&mut respond)?;
    Ok(counter.items())
}

/// Each connection has one of its own to the target, as HTTP/1.1 carries one call at a time.
async fn http_connection(stream: TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let onward = TcpStream::connect(target).await?;
    onward.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(onward)).await?;
    spawn_local(connection);
    let sender = Rc::new(Mutex::new(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = Rc::clone(&sender);
        async move {
            let signal = wire::signal_of(request.uri().path(), Protocol::Http);
            let encoding = request.headers().get(CONTENT_ENCODING);
            let plain = Encoding::of_header(encoding.map(HeaderValue::as_bytes));
            let counts = plain == Some(Encoding::None);
            let mut counter = Counter::new(signal.unwrap_or(Signal::Traces), 0);
            let counted = request.map(|body| {
                body.map_frame(move |frame| {
                    if let (true, Some(data)) = (counts, frame.data_ref()) {
                        counter.feed(data);
                    }
                    frame
                })
            });
            let mut sender = sender.lock().await;
            sender.ready().await?;
            sender.send_request(counted).await
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}
