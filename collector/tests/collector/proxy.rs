//! Exporters behind a proxy that the environment names.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use collector::network::{Encoding, Protocol};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::flow::storage;
use crate::harness::*;

/// A proxy that knows one server, whatever it is called, and what it was asked for.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Tunnels to `grpc`, and passes requests for other ports on to `http`.
    async fn start(grpc: u16, http: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, grpc, http, Arc::clone(&log)));
            }
        });
        Self { port, seen }
    }
}

async fn serve(client: TcpStream, grpc: u16, http: u16, log: Arc<Mutex<Vec<String>>>) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let credentials = STANDARD.encode("user:secret");
    let knows = head
        .to_ascii_lowercase()
        .contains("proxy-authorization: basic");
    assert!(knows && head.contains(&credentials), "{head}");
    let asked: Vec<&str> = head.split(' ').take(2).collect();
    log.lock().unwrap().push(asked.join(" "));
    let tunnels = asked[0] == "CONNECT";
    let port = if tunnels { grpc } else { http };
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if tunnels {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    } else {
        // One request a connection; a server takes a whole URL as well.
        server.write_all(head.as_bytes()).await.unwrap();
    }
    // The other side may have gone first.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn exporters_go_through_the_proxy_of_the_environment() {
    let folder = folder();
    let (grpc, http, out) = (port(), port(), folder.path().join("out.jsonl"));
    let config = write(folder.path(), "target.yaml", &storage(grpc, http, &out));
    let _target = Collector::start(&config).await;
    let proxy = Proxy::start(grpc, http).await;
    let receiver = port();
    let yaml = format!(
        "
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{receiver}'}}}}}}
exporters:
  otlp: {{endpoint: 'gateway.example:4317', tls: {{insecure: true}}}}
  otlp_http: {{endpoint: 'http://gateway.example:4318', compression: none}}
  otlp_http/direct: {{endpoint: 'http://127.0.0.1:{http}'}}
  otlp_http/exempt: {{endpoint: 'http://0.0.0.0:{http}'}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp, otlp_http, otlp_http/direct, otlp_http/exempt]}}
"
    );
    let url = format!("http://user:secret@127.0.0.1:{}", proxy.port);
    let variables = [
        ("HTTP_PROXY", url.as_str()),
        ("HTTPS_PROXY", url.as_str()),
        ("NO_PROXY", "0.0.0.0"),
    ];
    let config = write(folder.path(), "config.yaml", &yaml);
    let _collector = Collector::start_with(&config, &variables).await;
    let over_grpc = client(Protocol::Grpc);
    for name in ["a", "b"] {
        let batch = spans([name.to_owned()]);
        let sent = call(&over_grpc, receiver, &batch, Encoding::Identity);
        assert_eq!(sent.await.unwrap(), "");
    }
    until("both spans by four exporters", async || {
        span_names(&out) == ["a", "a", "a", "a", "b", "b", "b", "b"]
    })
    .await;
    let mut seen = proxy.seen.lock().unwrap().clone();
    seen.sort();
    seen.dedup();
    let expected = [
        "CONNECT gateway.example:4317",
        "POST http://gateway.example:4318/v1/traces",
    ];
    assert_eq!(seen, expected);
}
