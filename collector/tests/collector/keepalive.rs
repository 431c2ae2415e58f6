//! How often clients may ask whether the collector lives.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::*;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A frame's kind, flags and body.
type Frame = (u8, u8, Vec<u8>);

/// A collector with a policy, and a connection to it.
async fn connected(policy: &str) -> (tempfile::TempDir, Collector, TcpStream) {
    let folder = folder();
    let grpc = port();
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}', keepalive: {policy}}}}}}}}}
exporters: {{debug: }}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"
    );
    let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let mut stream = TcpStream::connect(("127.0.0.1", grpc)).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    (folder, collector, stream)
}

async fn ping(stream: &mut TcpStream) {
    let frame = b"\0\0\x08\x06\0\0\0\0\0whoisit?";
    stream.write_all(frame).await.unwrap();
}

async fn next(stream: &mut TcpStream) -> Frame {
    let read = async {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await.unwrap();
        let [a, b, c, kind, flags, ..] = header;
        let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut body).await.unwrap();
        (kind, flags, body)
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap()
}

/// The frames up to the first that is neither settings nor an answer to a ping, and that one.
async fn answered(stream: &mut TcpStream) -> (usize, Frame) {
    let mut answers = 0;
    loop {
        match next(stream).await {
            (SETTINGS, ..) => {}
            (PING, 1, body) => {
                assert_eq!(body, b"whoisit?");
                answers += 1;
            }
            other => return (answers, other),
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_as_grpc_does() {
    let policy = "{enforcement_policy: {min_time: 1m, permit_without_stream: true}}";
    let (_folder, _collector, mut stream) = connected(policy).await;
    // The first may come at any time, and two more are forgiven.
    for _ in 0..4 {
        ping(&mut stream).await;
    }
    let (answers, (kind, _, body)) = answered(&mut stream).await;
    assert_eq!((answers, kind), (4, GOAWAY));
    let (last_stream, rest) = body.split_at(4);
    assert_eq!(last_stream, [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(rest, b"\0\0\0\x0btoo_many_pings");
    // What follows is the usual end of a connection, whose ping the client answers.
    let end = async {
        loop {
            let mut header = [0; 9];
            if stream.read_exact(&mut header).await.is_err() {
                return;
            }
            let mut body = vec![0; usize::from(header[2])];
            stream.read_exact(&mut body).await.unwrap();
            if header[3] == PING {
                let answer = [b"\0\0\x08\x06\x01\0\0\0\0", &body[..]].concat();
                stream.write_all(&answer).await.unwrap();
            }
        }
    };
    tokio::time::timeout(DEADLINE, end).await.unwrap();
}

#[tokio::test]
async fn without_a_policy_clients_ask_as_often_as_they_like() {
    let (_folder, _collector, mut stream) = connected("{}").await;
    for _ in 0..50 {
        ping(&mut stream).await;
    }
    let mut answers = 0;
    while answers < 50 {
        match next(&mut stream).await {
            (SETTINGS, ..) => {}
            (PING, 1, _) => answers += 1,
            other => panic!("{other:?}"),
        }
    }
}
