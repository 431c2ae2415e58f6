//! Who may send, and to whom: tokens, passwords, certificates.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use collector::network::grpc::{self, Code};
use collector::network::{Answer, Encoding, Protocol};
use collector::receiver::otlp::export_path;
use collector_otlp::Signal;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::harness::*;

/// Asks both protocols with this authorization: gRPC's code, and HTTP's answer.
async fn ask(grpc: u16, http: u16, authorization: Option<&str>) -> (Option<Code>, Answer) {
    let framed = grpc::frame(&Bytes::new(), Encoding::Identity);
    let path = export_path(Signal::Traces);
    let build = |url: String, kind: &str| {
        let request = hyper::Request::post(url).header("content-type", kind);
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    };
    let url = format!("http://127.0.0.1:{grpc}{path}");
    let request = build(url, "application/grpc").body(Full::new(framed));
    let answer = client(Protocol::Grpc).call(request.unwrap()).await.unwrap();
    let code = grpc::read_answer(answer).err().map(|status| status.code);
    let url = format!("http://127.0.0.1:{http}/v1/traces");
    let request = build(url, "application/json").body(Full::new("{}".into()));
    let answer = client(Protocol::Http).call(request.unwrap()).await.unwrap();
    (code, answer)
}

fn guarded(grpc: u16, http: u16, tokens: &Path) -> String {
    let tokens = tokens.display();
    format!(
        "
extensions: {{bearertokenauth/guard: {{filename: '{tokens}'}}}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}', auth: {{authenticator: bearertokenauth/guard}}}}
      http: {{endpoint: '127.0.0.1:{http}', auth: {{authenticator: bearertokenauth/guard}}}}
exporters: {{debug: {{}}}}
service:
  extensions: [bearertokenauth/guard]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"
    )
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_a_new_one_counts_without_a_restart() {
    let folder = folder();
    let (grpc_port, http) = (port(), port());
    let file = write(folder.path(), "tokens", "first\nsecond\n");
    let yaml = guarded(grpc_port, http, &file);
    let _collector = Collector::start(&write(folder.path(), "c.yaml", &yaml)).await;
    for wrong in [None, Some("Bearer third"), Some("second"), Some("Bearer ")] {
        let (code, answer) = ask(grpc_port, http, wrong).await;
        assert_eq!(
            (code, answer.status.as_u16()),
            (Some(Code::Unauthenticated), 401)
        );
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(answer.body.starts_with(b"{\"code\":16"), "{wrong:?}");
    }
    let (code, answer) = ask(grpc_port, http, Some("Bearer second")).await;
    assert_eq!((code, answer.status.as_u16()), (None, 200));
    write(folder.path(), "tokens", "third\n");
    until("the new token to count", async || {
        let (code, answer) = ask(grpc_port, http, Some("Bearer third")).await;
        code.is_none() && answer.status == 200
    })
    .await;
    let (code, _) = ask(grpc_port, http, Some("Bearer second")).await;
    assert_eq!(code, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn passwords_and_the_senders_tenant_go_along_a_chain() {
    let folder = folder();
    let (front, storage, out) = (port(), port(), folder.path().join("out.jsonl"));
    let hash = bcrypt::hash("secret", 4).unwrap();
    let yaml = format!(
        "
extensions: {{basicauth: {{htpasswd: {{inline: 'anna:{}'}}}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{storage}', auth: {{authenticator: basicauth}}}}}}}}}}
exporters: {{file: {{path: '{}', flush_interval: 50ms}}}}
service:
  extensions: [basicauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
",
        hash.replace('$', "$$"),
        out.display()
    );
    let _storage = Collector::start(&write(folder.path(), "storage.yaml", &yaml)).await;
    let yaml = format!(
        "
extensions:
  basicauth/right: {{client_auth: {{username: anna, password: secret}}}}
  headers_setter: {{headers: [{{key: authorization, from_context: x-login, default_value: Basic bm9ib2R5Og==}}]}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{front}', include_metadata: true}}}}}}}}
exporters:
  otlphttp/right: {{endpoint: 'http://127.0.0.1:{storage}', auth: {{authenticator: basicauth/right}}}}
  otlphttp/passed: {{endpoint: 'http://127.0.0.1:{storage}', auth: {{authenticator: headers_setter}}}}
service:
  extensions: [basicauth/right, headers_setter]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlphttp/right, otlphttp/passed]}}}}
"
    );
    let first = Collector::start(&write(folder.path(), "front.yaml", &yaml)).await;
    let send = async |name: &str, login: Option<&str>| {
        let url = format!("http://127.0.0.1:{front}/v1/traces");
        let mut request =
            hyper::Request::post(url).header("content-type", "application/x-protobuf");
        if let Some(login) = login {
            request = request.header("X-Login", login);
        }
        let body = spans([name.to_owned()]).bytes().clone();
        let request = request.body(Full::new(body)).unwrap();
        client(Protocol::Http).call(request).await.unwrap().status
    };
    assert_eq!(send("with", Some("Basic YW5uYTpzZWNyZXQ=")).await, 200);
    assert_eq!(send("without", None).await, 200);
    until("all that is allowed to arrive", async || {
        span_names(&out) == ["with", "with", "without"]
    })
    .await;
    until("the refusal to be logged", async || {
        first.log().contains("HTTP 401")
    })
    .await;
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `<name>.crt` and `<name>.key` for this server or client.
fn issue(folder: &Path, name: &str, host: &str, authority: &Authority) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    // The key first: a reader between the two finds a pair that does not fit, and keeps its own.
    write(folder, &format!("{name}.key"), &key.serialize_pem());
    write(folder, &format!("{name}.crt"), &certificate.pem());
}

/// Writes an authority's certificate, and a server's and a client's that it signed.
fn renew(folder: &Path) {
    let authority = authority();
    issue(folder, "server", "storage.example", &authority);
    issue(folder, "client", "gateway.example", &authority);
    write(folder, "ca.crt", &authority.pem());
}

#[tokio::test]
async fn clients_show_certificates_and_renewed_ones_count_without_a_restart() {
    let folder = folder();
    let (front, storage, web) = (port(), port(), port());
    let (at, out) = (folder.path().display(), folder.path().join("out.jsonl"));
    renew(folder.path());
    let tls = format!(
        "{{cert_file: '{at}/server.crt', key_file: '{at}/server.key', client_ca_file: '{at}/ca.crt', reload_interval: 100ms, min_version: '1.3'}}"
    );
    let yaml = format!(
        "
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: '127.0.0.1:{storage}'
        tls: {tls}
        keepalive: {{server_parameters: {{max_connection_age: 300ms}}}}
      http: {{endpoint: '127.0.0.1:{web}', tls: {tls}}}
exporters: {{file: {{path: '{}', flush_interval: 50ms}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
",
        out.display()
    );
    let _storage = Collector::start(&write(folder.path(), "storage.yaml", &yaml)).await;
    let trust = format!(
        "ca_file: '{at}/ca.crt', server_name_override: storage.example, reload_interval: 100ms"
    );
    let own = format!("cert_file: '{at}/client.crt', key_file: '{at}/client.key'");
    let retry = "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}";
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{front}'}}}}}}}}
exporters:
  otlp/known: {{endpoint: '127.0.0.1:{storage}', tls: {{{trust}, {own}}}, {retry}}}
  otlphttp/known: {{endpoint: 'https://127.0.0.1:{web}', tls: {{{trust}, {own}}}, {retry}}}
  otlp/unknown: {{endpoint: '127.0.0.1:{storage}', tls: {{{trust}}}, retry_on_failure: {{enabled: false}}}}
  otlp/astray: {{endpoint: '127.0.0.1:{storage}', tls: {{ca_file: '{at}/ca.crt', {own}}}, retry_on_failure: {{enabled: false}}}}
  otlphttp/careless: {{endpoint: 'https://127.0.0.1:{web}', tls: {{insecure_skip_verify: true, {own}, reload_interval: 100ms}}, {retry}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp/known, otlphttp/known, otlphttp/careless, otlp/unknown, otlp/astray]}}}}
"
    );
    let first = Collector::start(&write(folder.path(), "front.yaml", &yaml)).await;
    let over_grpc = client(Protocol::Grpc);
    let send = async |name: &str| {
        let batch = spans([name.to_owned()]);
        let answer = call(&over_grpc, front, &batch, Encoding::Identity).await;
        assert_eq!(answer, Ok(Bytes::new()));
    };
    send("a").await;
    until("the three that may to deliver", async || {
        span_names(&out) == ["a"; 3]
    })
    .await;
    until("the others to fail", async || {
        let log = first.log();
        log.contains("otlp/unknown") && log.contains("otlp/astray")
    })
    .await;
    renew(folder.path());
    tokio::time::sleep(Duration::from_millis(500)).await;
    send("b").await;
    until("the renewed certificates to count", async || {
        span_names(&out) == ["a", "a", "a", "b", "b", "b"]
    })
    .await;
}
