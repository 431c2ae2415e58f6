//! SDKs with certificates and tokens of their own; those without are turned away.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::Test;
use crate::arrival::{Arrived, Signal};
use crate::clients::{Client, verify};
use crate::load::request;
use crate::peer::Peer;
use crate::process::{DEADLINE, Kind, Process, folder, port, write};
use crate::sender::{Sender, framed};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "access::python_with_a_certificate_and_a_token_is_let_in",
        needs: &[Peer::Python],
        run: || crate::run(is_let_in(Peer::Python)),
    },
    Test {
        name: "access::go_with_a_certificate_and_a_token_is_let_in",
        needs: &[Peer::Go],
        run: || crate::run(is_let_in(Peer::Go)),
    },
    Test {
        name: "access::java_with_a_certificate_and_a_token_is_let_in",
        needs: &[Peer::Java],
        run: || crate::run(is_let_in(Peer::Java)),
    },
    Test {
        name: "access::node_with_a_certificate_and_a_token_is_let_in",
        needs: &[Peer::Node],
        run: || crate::run(is_let_in(Peer::Node)),
    },
    Test {
        name: "access::a_wrong_token_and_a_missing_certificate_are_turned_away",
        needs: &[Peer::Go],
        run: || crate::run(are_turned_away()),
    },
    Test {
        name: "access::a_wrong_token_gets_the_status_that_otlp_asks_for",
        needs: &[],
        run: || crate::run(a_wrong_token()),
    },
];

/// Items of each signal, and the seconds in which they are made.
const AMOUNT: (usize, u64) = (600, 2);

/// Writes an authority, and a certificate that it signed for a server and a client.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority
        .distinguished_name
        .push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = authority.self_signed(&key).unwrap();
    write(folder, "ca.pem", &certificate.pem());
    let issuer = Issuer::new(authority, key);
    for (name, usage) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![usage];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        write(
            folder,
            &format!("{name}.pem"),
            &leaf.signed_by(&key, &issuer).unwrap().pem(),
        );
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

/// A collector that wants a token, and a certificate where `tls` says so.
async fn guarded(folder: &Path, tls: bool) -> (Process, u16, u16) {
    certificates(folder);
    let (grpc, http, at) = (port(), port(), folder.display());
    let tls = match tls {
        true => format!(
            "tls: {{cert_file: '{at}/server.pem', key_file: '{at}/server.key', client_ca_file: '{at}/ca.pem'}},"
        ),
        false => String::new(),
    };
    let pipeline = "{receivers: [otlp], exporters: [file]}";
    let yaml = format!(
        "extensions: {{bearertokenauth: {{token: open sesame}}}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:{grpc}', {tls} auth: {{authenticator: bearertokenauth}}}}
      http: {{endpoint: '127.0.0.1:{http}', {tls} auth: {{authenticator: bearertokenauth}}}}
exporters: {{file: {{path: '{at}/out.jsonl', flush_interval: 200ms}}}}
service:
  extensions: [bearertokenauth]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {pipeline}
    metrics: {pipeline}
    logs: {pipeline}
"
    );
    let config = write(folder, "config.yaml", &yaml);
    (
        Process::start(Kind::Ours, &config, &[grpc, http]).await,
        grpc,
        http,
    )
}

/// Starts a client with the authority, and perhaps a certificate and a token.
fn start(
    peer: Peer,
    (folder, protocol, port): (&Path, &str, u16),
    has_certificate: bool,
    token: &str,
) -> Client {
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, own, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let token = format!("authorization=Bearer%20{token}");
    let mut settings = vec![
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", token.as_str()),
    ];
    if has_certificate {
        settings.push(("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &own));
        settings.push(("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key));
    }
    Client::start(
        peer,
        protocol,
        &format!("https://localhost:{port}"),
        AMOUNT,
        &settings,
    )
}

async fn is_let_in(peer: Peer) {
    let folder = folder();
    let at = folder.path();
    let (_collector, grpc, http) = guarded(at, true).await;
    let clients = [("grpc", grpc), ("http/protobuf", http)]
        .map(|(protocol, port)| start(peer, (at, protocol, port), true, "open%20sesame"));
    let runs = clients.each_ref().map(|client| client.run.clone());
    for client in clients {
        let outcome = client.outcome(DEADLINE).await;
        assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.log);
    }
    let file = at.join("out.jsonl");
    verify(&runs, AMOUNT.0, DEADLINE, || Arrived::in_file(&file)).await;
}

async fn are_turned_away() {
    let folder = folder();
    let at = folder.path();
    let (_collector, grpc, http) = guarded(at, true).await;
    let clients = [
        start(Peer::Go, (at, "grpc", grpc), true, "wrong"),
        start(Peer::Go, (at, "http/protobuf", http), true, "wrong"),
        start(Peer::Go, (at, "grpc", grpc), false, "open%20sesame"),
        start(
            Peer::Go,
            (at, "http/protobuf", http),
            false,
            "open%20sesame",
        ),
    ];
    for (client, reason) in clients.into_iter().zip(["Unauthenticated", "401", "", ""]) {
        let run = client.run.clone();
        let outcome = client.outcome(Duration::from_secs(180)).await;
        assert!(!outcome.failures.is_empty(), "{run} was let in");
        let said = outcome.failures.join("\n");
        assert!(said.contains(reason), "{run}: not {reason}, but {said}");
    }
    let arrived = Arrived::in_file(&at.join("out.jsonl"));
    assert!(arrived.spans.is_empty() && arrived.logs.is_empty() && arrived.points.is_empty());
}

async fn a_wrong_token() {
    let folder = folder();
    let (_collector, grpc, http) = guarded(folder.path(), false).await;
    for (token, is_right) in [
        ("Bearer open sesame", true),
        ("Bearer wrong", false),
        ("", false),
    ] {
        let headers = [
            ("content-type", "application/grpc"),
            ("authorization", token),
        ];
        let body = framed(&request(0..1));
        let answer = Sender::grpc(grpc)
            .post(Signal::Traces.method(), &headers, body)
            .await
            .unwrap();
        assert_eq!(
            answer.grpc_status(),
            Some(if is_right { "0" } else { "16" }),
            "{token:?}"
        );
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("authorization", token),
        ];
        let body = request(1..2).into();
        let answer = Sender::http(http)
            .post("/v1/traces", &headers, body)
            .await
            .unwrap();
        assert_eq!(answer.status, if is_right { 200 } else { 401 }, "{token:?}");
    }
}
