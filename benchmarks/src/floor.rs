//! The floor: a forwarder that moves gRPC bytes and counts, and does nothing else.
//!
//! In: export requests over gRPC. Out: the same bytes to one target, and its answers back.
//! Invariant: a request is answered after the target has answered it; nothing is validated,
//! batched, decompressed or kept, so nothing that knows how many items it moves can do with less.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use hyper::Request;
use hyper::header::HeaderValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use crate::count::Counter;
use crate::sink::answer_grpc;
use crate::wire::{self, Encoding, PREFIX, Protocol};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Forwards until it is killed.
pub fn run(listen: SocketAddr, target: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(listen, target))
}

/// Listens and forwards, on the local set of the caller.
pub async fn serve(listen: SocketAddr, target: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
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
