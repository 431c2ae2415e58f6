//! What clients are told when something is wrong, and what probes are told.

use std::io::{BufRead as _, BufReader, Write as _};

use bytes::Bytes;
use collector::network::grpc::{self, Code};
use collector::network::{Encoding, Protocol};
use collector::receiver::otlp::export_path;
use collector_otlp::Signal;
use http_body_util::Full;

use crate::harness::*;

fn config(grpc: u16, http: u16, health: u16, metrics: u16, limit_mib: u32) -> String {
    format!(
        "
extensions:
  health_check: {{endpoint: '127.0.0.1:{health}', path: /health}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}', max_recv_msg_size_mib: 1}}
      http:
        endpoint: '127.0.0.1:{http}'
        max_request_body_size: 100000
        cors: {{allowed_origins: ['https://*.example'], max_age: 600}}
processors:
  memory_limiter: {{check_interval: 10ms, limit_mib: {limit_mib}}}
exporters:
  debug: {{verbosity: detailed}}
service:
  extensions: [health_check]
  telemetry:
    metrics:
      address: '127.0.0.1:{metrics}'
  pipelines:
    traces: {{receivers: [otlp], processors: [memory_limiter], exporters: [debug]}}
"
    )
}

async fn send(
    http: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static [u8],
) -> (u16, String, String) {
    let mut builder = hyper::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{http}{path}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let request = builder.body(Full::new(Bytes::from_static(body))).unwrap();
    let answer = client(Protocol::Http).call(request).await.unwrap();
    let kind = answer
        .headers
        .get("content-type")
        .map(|v| v.to_str().unwrap().to_owned());
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status.as_u16(), kind.unwrap_or_default(), text)
}

#[tokio::test]
async fn faults_have_the_codes_of_otlp() {
    let folder = folder();
    let (grpc_port, http) = (port(), port());
    let yaml = config(grpc_port, http, port(), port(), 4000);
    let _collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let json = [("content-type", "application/json")];
    let protobuf = [("content-type", "application/x-protobuf")];
    let traces = "/v1/traces";
    let (status, kind, text) = send(http, "POST", traces, &json, b"{\"resourceSpans\":3}").await;
    assert_eq!((status, kind.as_str()), (400, "application/json"));
    assert!(
        text.starts_with("{\"code\":3,\"message\":\"malformed OTLP/JSON"),
        "{text}"
    );
    let (status, kind, _) = send(http, "POST", traces, &protobuf, b"\x0a\x05").await;
    assert_eq!((status, kind.as_str()), (400, "application/x-protobuf"));
    static LARGE: [u8; 100_001] = [0; 100_001];
    assert_eq!(send(http, "POST", traces, &protobuf, &LARGE).await.0, 413);
    assert_eq!(
        send(http, "POST", traces, &[("content-type", "text/xml")], b"")
            .await
            .0,
        415
    );
    assert_eq!(send(http, "GET", traces, &[], b"").await.0, 405);
    assert_eq!(send(http, "POST", "/v1/logs", &protobuf, b"").await.0, 404);
    let zipped = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    assert_eq!(send(http, "POST", traces, &zipped, b"plain").await.0, 400);
    assert_eq!(
        send(http, "POST", traces, &json, b"{}").await.2,
        "{\"partialSuccess\":{}}"
    );

    let over_grpc = client(Protocol::Grpc);
    let raw = async |signal, bytes: Bytes| {
        let framed = grpc::frame(&bytes, Encoding::Identity);
        let answer = call_raw(
            &over_grpc,
            grpc_port,
            export_path(signal),
            framed,
            Encoding::Identity,
        )
        .await;
        grpc::read_answer(answer).map_err(|status| status.code)
    };
    assert_eq!(
        raw(Signal::Traces, Bytes::from_static(b"\x0a\x05")).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(
        raw(Signal::Traces, vec![0; (1 << 20) + 1].into()).await,
        Err(Code::ResourceExhausted)
    );
    assert_eq!(
        raw(Signal::Logs, Bytes::new()).await,
        Err(Code::Unimplemented)
    );
    assert_eq!(raw(Signal::Traces, Bytes::new()).await, Ok(Bytes::new()));
    let bomb = spans([String::from_utf8(vec![b'a'; 2 << 20]).unwrap()]);
    let status = call(&over_grpc, grpc_port, &bomb, Encoding::Gzip)
        .await
        .unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
}

/// Sends all of a large body before it reads, as simple clients do: the answer's first line.
fn answer_after_all_is_sent(http: u16, content: &str, bytes: usize) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", http))?;
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {content}\r\n\
         content-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let piece = vec![0; 1 << 20];
    for _ in 0..bytes / piece.len() {
        stream.write_all(&piece)?;
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_sends_everything_first() {
    let folder = folder();
    let http = port();
    let yaml = config(port(), http, port(), port(), 4000);
    let _collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    for (content, status) in [("application/x-protobuf", 413), ("text/plain", 415)] {
        for _ in 0..5 {
            let answer = move || answer_after_all_is_sent(http, content, 24 << 20);
            let line = tokio::task::spawn_blocking(answer).await.unwrap().unwrap();
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line:?}");
        }
    }
}

#[tokio::test]
async fn over_the_memory_limit_clients_are_told_to_come_back() {
    let folder = folder();
    let (grpc_port, http) = (port(), port());
    let yaml = config(grpc_port, http, port(), port(), 1);
    let _collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let batch = spans(["a".to_owned()]);
    let over_http = client(Protocol::Http);
    until("the limit to be noticed", async || {
        let answer = post(&over_http, http, &batch, Format::Json, Encoding::Identity).await;
        answer.status == 503 && answer.headers["retry-after"] == "1"
    })
    .await;
    let status = call(
        &client(Protocol::Grpc),
        grpc_port,
        &batch,
        Encoding::Identity,
    )
    .await;
    let status = status.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
    assert_eq!(status.retry_after, Some(std::time::Duration::from_secs(1)));
}

#[tokio::test]
async fn browsers_scrapers_and_probes_are_served() {
    let folder = folder();
    let (grpc_port, http, health, metrics) = (port(), port(), port(), port());
    let yaml = config(grpc_port, http, health, metrics, 4000);
    let collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    let over_http = client(Protocol::Http);
    let answer = get(&over_http, health, "/health").await;
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status.as_u16(), &body["status"]),
        (200, &"Server available".into())
    );
    assert_eq!(get(&over_http, health, "/").await.status, 404);

    let url = format!("http://127.0.0.1:{http}/v1/traces");
    let preflight = hyper::Request::options(url)
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST")
        .body(Full::default())
        .unwrap();
    let answer = over_http.call(preflight).await.unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://a.example"
    );
    assert_eq!(answer.headers["access-control-max-age"], "600");

    let batch = spans(["seen-by-debug".to_owned()]);
    post(
        &over_http,
        http,
        &batch,
        Format::Protobuf,
        Encoding::Identity,
    )
    .await;
    let text = String::from_utf8(get(&over_http, metrics, "/metrics").await.body.to_vec()).unwrap();
    for line in [
        "otelcol_receiver_accepted_spans{receiver=\"otlp\",transport=\"http\"} 1",
        "otelcol_receiver_refused_spans{receiver=\"otlp\",transport=\"grpc\"} 0",
        "otelcol_exporter_sent_spans{exporter=\"debug\"} 1",
        "otelcol_processor_dropped_spans{processor=\"memory_limiter\"} 0",
        "# TYPE otelcol_process_memory_rss gauge",
        "# TYPE otelcol_process_uptime counter",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    until("debug to log", async || {
        collector.log().contains("seen-by-debug")
    })
    .await;
}
