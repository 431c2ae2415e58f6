//! Starts collectors and speaks OTLP with them.
//!
//! In: a configuration. Out: a running process, killed when dropped.
//! Invariant: every wait has a deadline, and says what it waited for.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use collector::network::client::{HttpClient, HttpClientSettings};
use collector::network::compression::compress;
use collector::network::grpc::channel::{Balance, Channel, ChannelSettings, Endpoint};
use collector::network::grpc::{KeepAlive, Status};
use collector::network::tls::ClientTls;
use collector::network::{Answer, Encoding, Protocol, grpc};
use collector::receiver::otlp::export_path;
use collector_otlp::{Request, Signal};
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;

/// The longest that anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A folder for one test, removed afterwards.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A port that nothing listens on, and that the kernel gives to no outgoing connection: those
/// begin at 32768.
pub(crate) fn port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Test programs that run at the same time begin at different places.
        let start = u16::try_from(std::process::id() * 101 % u32::from(COUNT)).unwrap();
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Writes a configuration.
pub(crate) fn write(folder: &Path, name: &str, yaml: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, yaml).unwrap();
    path
}

/// Asks until the answer is yes.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running collector.
pub(crate) struct Collector {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Collector {
    /// Starts one, and waits until it is ready.
    pub(crate) async fn start(config: &Path) -> Self {
        Self::start_with(config, &[]).await
    }

    /// Starts one with more variables in its environment.
    pub(crate) async fn start_with(config: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_collector"))
            .envs(variables.iter().copied())
            .arg("--config")
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (
            BufReader::new(child.stderr.take().unwrap()),
            Arc::clone(&log),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut started = Self { child, log };
        until("the collector to be ready", async || {
            let ended = started.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", started.log());
            started.log().contains("ready: everything is running")
        })
        .await;
        started
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The memory that it uses, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it has used so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.unwrap().split_whitespace().next().unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    /// How many clock ticks each of its threads has worked.
    pub(crate) fn thread_ticks(&self) -> Vec<u64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let ticks = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
        });
        ticks.collect()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end, and returns the exit code.
    pub(crate) async fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until("the collector to end", async || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.and_then(|status| status.code())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a request is sent over HTTP.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

/// A client with a connection of its own.
pub(crate) fn client(protocol: Protocol) -> HttpClient {
    HttpClient::new(HttpClientSettings {
        protocol,
        tls: ClientTls::plain().start().unwrap(),
        timeout: DEADLINE,
        keep_alive: KeepAlive::default(),
        proxy: None,
    })
}

/// A client as exporters have it: what a server has not begun goes to another connection.
pub(crate) fn channel(endpoint: Endpoint) -> Channel {
    Channel::new(ChannelSettings {
        endpoint,
        tls: None,
        timeout: DEADLINE,
        keep_alive: KeepAlive::default(),
        balance: Balance::RoundRobin,
    })
}

/// A port of this machine.
pub(crate) fn local(port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// One call over it.
pub(crate) async fn send(
    channel: &Channel,
    message: Bytes,
    encoding: Encoding,
) -> Result<Bytes, Status> {
    let uri = format!("http://localhost{}", export_path(Signal::Traces));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    if encoding != Encoding::Identity {
        let name = HeaderValue::from_static(encoding.grpc_name());
        headers.insert("grpc-encoding", name);
    }
    let compressed = encoding != Encoding::Identity;
    let uri = uri.parse().unwrap();
    let answer = channel.call(&uri, headers, &[message], compressed).await;
    grpc::read_answer(answer.unwrap())
}

/// One call of an export method.
pub(crate) async fn call(
    client: &HttpClient,
    port: u16,
    request: &Request,
    encoding: Encoding,
) -> Result<Bytes, Status> {
    let framed = grpc::frame(request.bytes(), encoding);
    grpc::read_answer(
        call_raw(
            client,
            port,
            export_path(request.signal()),
            framed,
            encoding,
        )
        .await,
    )
}

/// One call with any bytes.
pub(crate) async fn call_raw(
    client: &HttpClient,
    port: u16,
    path: &str,
    framed: Bytes,
    encoding: Encoding,
) -> Answer {
    let mut builder = hyper::Request::post(format!("http://127.0.0.1:{port}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if encoding != Encoding::Identity {
        builder = builder.header("grpc-encoding", encoding.grpc_name());
    }
    client
        .call(builder.body(Full::new(framed)).unwrap())
        .await
        .unwrap()
}

/// One POST of a batch.
pub(crate) async fn post(
    client: &HttpClient,
    port: u16,
    request: &Request,
    format: Format,
    encoding: Encoding,
) -> Answer {
    let (kind, body) = match format {
        Format::Protobuf => ("application/x-protobuf", request.bytes().clone()),
        Format::Json => ("application/json", request.to_json().unwrap().into()),
    };
    let url = format!("http://127.0.0.1:{port}/v1/{}", request.signal().name());
    let mut builder = hyper::Request::post(url).header("content-type", kind);
    if encoding != Encoding::Identity {
        builder = builder.header("content-encoding", encoding.http_name());
    }
    let body = compress(&body, encoding, None);
    client
        .call(builder.body(Full::new(body)).unwrap())
        .await
        .unwrap()
}

/// One GET.
pub(crate) async fn get(client: &HttpClient, port: u16, path: &str) -> Answer {
    let url = format!("http://127.0.0.1:{port}{path}");
    client
        .call(hyper::Request::get(url).body(Full::default()).unwrap())
        .await
        .unwrap()
}

/// A batch of named spans, with everything that a span can carry in the first.
pub(crate) fn spans(names: impl IntoIterator<Item = String>) -> Request {
    let spans: Vec<Value> = names.into_iter().map(|name| serde_json::json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": name,
        "kind": 2, "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "1544712661000000001",
        "attributes": [{"key": "n", "value": {"intValue": "9007199254740993"}}],
    })).collect();
    let json = serde_json::json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}],
    }]});
    Request::parse_json(Signal::Traces, json.to_string().as_bytes()).unwrap()
}

/// A batch of log records with these bodies.
pub(crate) fn logs(bodies: &[&str]) -> Request {
    let records: Vec<Value> = bodies
        .iter()
        .map(|body| serde_json::json!({"timeUnixNano": "1", "body": {"stringValue": body}}))
        .collect();
    let json = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
    Request::parse_json(Signal::Logs, json.to_string().as_bytes()).unwrap()
}

/// A gauge with these values.
pub(crate) fn points(values: &[i64]) -> Request {
    let points: Vec<Value> = values
        .iter()
        .map(|v| serde_json::json!({"asInt": v.to_string()}))
        .collect();
    let json = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "g", "gauge": {"dataPoints": points}},
    ]}]}]});
    Request::parse_json(Signal::Metrics, json.to_string().as_bytes()).unwrap()
}

/// Every line of a file exporter's file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every value that stands under a key, at any depth.
pub(crate) fn find<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| find(item, key)).collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(k, v)| if k == key { vec![v] } else { find(v, key) })
            .collect(),
        _ => Vec::new(),
    }
}

/// The names of all spans in a file, sorted.
pub(crate) fn span_names(path: &Path) -> Vec<String> {
    let lines = lines(path);
    let spans = lines.iter().flat_map(|line| find(line, "spans"));
    let names = spans.flat_map(|spans| find(spans, "name"));
    let mut names: Vec<String> = names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
