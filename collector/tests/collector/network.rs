//! Connections, as senders and servers see them: memory, sockets, ages, threads, encodings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use collector::network::compression::compress;
use collector::network::grpc::Code;
use collector::network::grpc::channel::Endpoint;
use collector::network::{Encoding, Protocol};
use collector::receiver::otlp::export_path;
use collector_otlp::Signal;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::*;

/// A receiver and an exporter that keeps nothing.
fn sink(grpc: &str, http: &str, processors: &str, exporter: &str) -> String {
    format!(
        "
receivers:
  otlp: {{protocols: {{grpc: {grpc}, http: {http}}}}}
processors: {{memory_limiter: {processors}}}
exporters: {{{exporter}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter], exporters: [{}]}}
",
        exporter.split(':').next().unwrap()
    )
}

const QUIET: &str = "debug: {verbosity: basic, sampling_initial: 0}";

/// A request that announces `announced` bytes, sends `sent` of them, and no more.
struct Stalled {
    _stream: h2::SendStream<Bytes>,
    response: h2::client::ResponseFuture,
}

async fn connect(port: u16) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port));
    let (sender, connection) = h2::client::handshake(stream.await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn stall(sender: &mut h2::client::SendRequest<Bytes>, announced: u32, sent: usize) -> Stalled {
    let request = hyper::Request::post(format!("http://x{}", export_path(Signal::Traces)))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    let mut begin = vec![0; 5 + sent];
    begin[1..5].copy_from_slice(&announced.to_be_bytes());
    stream.send_data(begin.into(), false).unwrap();
    Stalled {
        _stream: stream,
        response,
    }
}

#[tokio::test]
async fn stalled_uploads_stay_under_the_limit_and_end() {
    let folder = folder();
    let grpc_port = port();
    let yaml = sink(
        &format!("{{endpoint: '127.0.0.1:{grpc_port}'}}"),
        &format!("{{endpoint: '127.0.0.1:{}'}}", port()),
        "{check_interval: 100ms, limit_mib: 128, spike_limit_mib: 32}",
        QUIET,
    );
    let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let mut stalled = Vec::new();
    for _ in 0..250 {
        let mut sender = connect(grpc_port).await;
        for _ in 0..4 {
            sender = sender.ready().await.unwrap();
            stalled.push(stall(&mut sender, (4 << 20) - 1, 15_000));
        }
    }
    // There is room for 18 of them; all others are told to come back.
    let mut refused = 0;
    let mut peak = 0;
    let started = Instant::now();
    let mut answers: tokio::task::JoinSet<_> = stalled
        .into_iter()
        .map(|stalled| async move {
            let _stream = stalled._stream;
            let answer = stalled.response.await.unwrap();
            let code = answer.headers()["grpc-status"].to_str().unwrap().to_owned();
            let advised = answer.headers().contains_key("grpc-status-details-bin");
            (code, advised)
        })
        .collect();
    let mut timed_out = 0;
    while let Some(answer) = answers.join_next().await {
        peak = peak.max(collector.resident_bytes());
        match answer.unwrap() {
            (code, true) if code == "14" => refused += 1,
            (code, false) if code == "4" => timed_out += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(peak < 128 << 20, "{peak}");
    assert_eq!((refused + timed_out, timed_out > 0), (1000, true));
    assert!(started.elapsed() < DEADLINE);
    let honest = channel(local(grpc_port));
    let batch = spans(["after".to_owned()]);
    let answer = send(&honest, batch.bytes().clone(), Encoding::Identity).await;
    assert_eq!(answer, Ok(Bytes::new()));
}

/// Opens a connection that has said all that HTTP/2 begins with; `None` when it was closed.
async fn greet(port: u16) -> Option<tokio::net::TcpStream> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .ok()?;
    stream.write_all(SETTINGS).await.ok()?;
    let mut answer = [0; SETTINGS.len()];
    stream.read_exact(&mut answer).await.ok()?;
    assert_eq!(answer[3], 4, "SETTINGS come first");
    Some(stream)
}

#[tokio::test]
async fn ten_thousand_connections_stay_under_the_limit() {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    let folder = folder();
    // With room for all of them; then for the eighth part.
    for (limit_mib, closed_ones) in [(1200, 0..=0), (128, 8500..=9000)] {
        let grpc_port = port();
        let yaml = sink(
            &format!("{{endpoint: '127.0.0.1:{grpc_port}'}}"),
            &format!("{{endpoint: '127.0.0.1:{}'}}", port()),
            &format!("{{check_interval: 100ms, limit_mib: {limit_mib}}}"),
            QUIET,
        );
        let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
        let honest = channel(local(grpc_port));
        let batch = spans(["one of few".to_owned()]);
        let answer = send(&honest, batch.bytes().clone(), Encoding::Identity).await;
        assert_eq!(answer, Ok(Bytes::new()));
        let mut open = Vec::new();
        for _ in 0..100 {
            let greeted = (0..100).map(|_| greet(grpc_port));
            open.extend(futures_util::future::join_all(greeted).await);
        }
        let closed = open.iter().filter(|stream| stream.is_none()).count();
        assert!(
            closed_ones.contains(&closed),
            "{closed}: {}",
            collector.log()
        );
        assert_eq!(
            collector.log().matches("connections take half").count(),
            usize::from(closed > 0)
        );
        let peak = collector.peak_bytes();
        assert!(peak < limit_mib << 20, "{peak}");
        let answer = send(&honest, batch.bytes().clone(), Encoding::Identity).await;
        assert_eq!(answer, Ok(Bytes::new()));
        drop(open);
        until("new connections to be let in", async || {
            greet(grpc_port).await.is_some()
        })
        .await;
    }
}

#[tokio::test]
async fn bombs_stay_under_the_limit() {
    let folder = folder();
    let (grpc_port, http) = (port(), port());
    let yaml = sink(
        &format!("{{endpoint: '127.0.0.1:{grpc_port}'}}"),
        &format!("{{endpoint: '127.0.0.1:{http}'}}"),
        "{check_interval: 100ms, limit_mib: 128, spike_limit_mib: 32}",
        QUIET,
    );
    let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let zeros = Bytes::from(vec![0; 256 << 20]);
    let channel = Arc::new(channel(local(grpc_port)));
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let mut bomb = compress(&zeros, encoding, None).to_vec();
        if encoding == Encoding::Gzip {
            // It says that it is small.
            let at = bomb.len() - 4;
            bomb[at..].copy_from_slice(&100_u32.to_le_bytes());
        }
        let bomb = Bytes::from(bomb);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let (channel, bomb) = (Arc::clone(&channel), bomb.clone());
            calls.spawn(async move { send(&channel, bomb, encoding).await });
        }
        while let Some(answer) = calls.join_next().await {
            let status = answer.unwrap().unwrap_err();
            let known = [Code::ResourceExhausted, Code::Unavailable];
            assert!(known.contains(&status.code), "{status:?}");
            let advised = status.retry_after.is_some();
            assert_eq!(advised, status.code == Code::Unavailable, "{status:?}");
        }
        let request = hyper::Request::post(format!("http://127.0.0.1:{http}/v1/traces"))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", encoding.http_name())
            .body(Full::new(bomb))
            .unwrap();
        let answer = client(Protocol::Http).call(request).await.unwrap();
        assert_eq!(answer.status, 413, "{encoding:?}");
        let peak = collector.peak_bytes();
        assert!(peak < 128 << 20, "{encoding:?}: {peak}");
    }
}

#[tokio::test]
async fn an_old_connection_ends_without_losing_a_call() {
    let folder = folder();
    let grpc_port = port();
    let yaml = sink(
        &format!(
            "{{endpoint: '127.0.0.1:{grpc_port}', keepalive: {{server_parameters: {{max_connection_age: 300ms, max_connection_age_grace: 5s}}}}}}"
        ),
        &format!("{{endpoint: '127.0.0.1:{}'}}", port()),
        "{limit_mib: 4000}",
        QUIET,
    );
    let _collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let channel = channel(local(grpc_port));
    let batch = spans((0..100).map(|n| format!("span-{n}")));
    let started = Instant::now();
    let mut calls = 0;
    while started.elapsed() < Duration::from_secs(2) {
        let answer = send(&channel, batch.bytes().clone(), Encoding::Identity).await;
        assert_eq!(answer, Ok(Bytes::new()));
        calls += 1;
    }
    assert!(calls > 10, "{calls}");
    // Seen by a client that does not connect again: the connection is closed.
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", grpc_port));
    let (_sender, connection) = h2::client::handshake::<_>(stream.await.unwrap())
        .await
        .unwrap();
    let ended = tokio::time::timeout(DEADLINE, connection).await;
    assert!(ended.is_ok(), "the server never closed an old connection");
}

#[tokio::test]
async fn one_connection_uses_several_threads() {
    let folder = folder();
    let grpc_port = port();
    let yaml = sink(
        &format!("{{endpoint: '127.0.0.1:{grpc_port}'}}"),
        &format!("{{endpoint: '127.0.0.1:{}'}}", port()),
        "{limit_mib: 4000}",
        QUIET,
    );
    let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let channel = Arc::new(channel(local(grpc_port)));
    let batch = spans((0..2000).map(|n| format!("span-{n}")));
    until("two threads to work", async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (channel, message) = (Arc::clone(&channel), batch.bytes().clone());
            calls.spawn(async move { send(&channel, message, Encoding::Identity).await });
        }
        while let Some(answer) = calls.join_next().await {
            assert_eq!(answer.unwrap(), Ok(Bytes::new()));
        }
        let busy = collector.thread_ticks();
        busy.iter().filter(|ticks| **ticks >= 10).count() >= 2
    })
    .await;
}

#[tokio::test]
async fn unix_sockets_and_every_encoding_carry_telemetry() {
    let folder = folder();
    let (front, storage) = (port(), port());
    let (socket, web) = (
        folder.path().join("grpc.sock"),
        folder.path().join("http.sock"),
    );
    let out = folder.path().join("out.jsonl");
    let yaml = format!(
        "
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '{}', transport: unix}}
      http: {{endpoint: '{}', transport: unix}}
  otlp/tcp: {{protocols: {{http: {{endpoint: '127.0.0.1:{storage}'}}}}}}
exporters:
  file: {{path: '{}', flush_interval: 50ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp, otlp/tcp], exporters: [file]}}
",
        socket.display(),
        web.display(),
        out.display()
    );
    let mut last = Collector::start(&write(folder.path(), "storage.yaml", &yaml)).await;
    let over_grpc = ["gzip", "zstd", "snappy", "none"];
    let over_http = [
        "gzip",
        "zstd",
        "snappy",
        "x-snappy-framed",
        "zlib",
        "deflate",
        "lz4",
        "none",
    ];
    let mut exporters = String::new();
    let mut names = Vec::new();
    for encoding in over_grpc {
        exporters.push_str(&format!(
            "  otlp/{encoding}: {{endpoint: 'unix://{}', compression: {encoding}, tls: {{insecure: true}}}}\n",
            socket.display()
        ));
        names.push(format!("otlp/{encoding}"));
    }
    for encoding in over_http {
        exporters.push_str(&format!(
            "  otlphttp/{encoding}: {{endpoint: 'http://127.0.0.1:{storage}', compression: {encoding}}}\n"
        ));
        names.push(format!("otlphttp/{encoding}"));
    }
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{front}'}}}}}}}}
exporters:
{exporters}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [{}]}}
",
        names.join(", ")
    );
    let first = Collector::start(&write(folder.path(), "front.yaml", &yaml)).await;
    let batch = spans(["everywhere".to_owned()]);
    let answer = send(
        &channel(local(front)),
        batch.bytes().clone(),
        Encoding::Identity,
    )
    .await;
    assert_eq!(answer, Ok(Bytes::new()));
    until("all encodings to arrive", async || {
        span_names(&out).len() == names.len()
    })
    .await;
    assert!(!first.log().contains("WARN"), "{}", first.log());
    assert_eq!(
        send(
            &channel(Endpoint::Unix(socket.clone())),
            Bytes::new(),
            Encoding::Identity
        )
        .await,
        Ok(Bytes::new())
    );
    last.terminate();
    assert_eq!(last.wait().await, Some(0));
    assert!(!socket.exists() && !web.exists());
}
