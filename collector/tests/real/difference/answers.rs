//! Answers to good and bad requests, beside those of the OpenTelemetry Collector.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Subject, compare_with_document, configurations};
use crate::arrival::Signal;
use crate::load::request;
use crate::process::{Kind, folder};
use crate::sender::{Answer, Sender, framed};

/// A request, apart from its path.
struct Probe {
    name: &'static str,
    /// Over gRPC's port, otherwise over HTTP's.
    is_grpc: bool,
    verb: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Bytes,
}

const JSON: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"x"}]}]}]}"#;

fn gzip(plain: &[u8]) -> Bytes {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap().into()
}

fn http(name: &'static str, content: &'static str, body: impl Into<Bytes>) -> Probe {
    Probe {
        name,
        is_grpc: false,
        verb: "POST",
        path: "/v1/traces",
        headers: vec![("content-type", content)],
        body: body.into(),
    }
}

fn encoded(name: &'static str, encoding: &'static str, body: impl Into<Bytes>) -> Probe {
    let mut probe = http(name, "application/x-protobuf", body);
    probe.headers.push(("content-encoding", encoding));
    probe
}

fn grpc(name: &'static str, body: impl Into<Bytes>) -> Probe {
    Probe {
        name,
        is_grpc: true,
        verb: "POST",
        path: Signal::Traces.method(),
        headers: vec![("content-type", "application/grpc"), ("te", "trailers")],
        body: body.into(),
    }
}

fn probes() -> Vec<Probe> {
    let good = || request(0..3);
    let protobuf = "application/x-protobuf";
    let compressed = |message: &[u8]| {
        let mut framed = framed(&gzip(message)).to_vec();
        framed[0] = 1;
        framed
    };
    vec![
        http("protobuf", protobuf, good()),
        http(
            "protobuf with a parameter",
            "application/x-protobuf; charset=utf-8",
            good(),
        ),
        http("an empty protobuf request", protobuf, Bytes::new()),
        http("json", "application/json", JSON),
        http(
            "json with a charset",
            "application/json; charset=utf-8",
            JSON,
        ),
        http("empty json", "application/json", "{}"),
        http("no json", "application/json", "nonsense"),
        http("an empty body as json", "application/json", ""),
        http(
            "json of another shape",
            "application/json",
            r#"{"resourceSpans": 5}"#,
        ),
        http(
            "json with an id that is no hex",
            "application/json",
            JSON.replace("5b8efff7", "zzzzzzzz"),
        ),
        http("no protobuf", protobuf, "nonsense"),
        http("a wrong content type", "text/plain", good()),
        Probe {
            headers: Vec::new(),
            ..http("no content type", "", good())
        },
        Probe {
            verb: "GET",
            ..http("a get", protobuf, Bytes::new())
        },
        Probe {
            verb: "PUT",
            ..http("a put", protobuf, good())
        },
        Probe {
            path: "/v1/nothing",
            ..http("a path that does not exist", protobuf, good())
        },
        Probe {
            path: "/",
            ..http("the root", protobuf, good())
        },
        Probe {
            path: "/v1/logs",
            ..http("empty logs", protobuf, Bytes::new())
        },
        Probe {
            path: "/v1/metrics",
            ..http("empty metrics", protobuf, Bytes::new())
        },
        encoded("gzip", "gzip", gzip(&good())),
        encoded("gzip that is none", "gzip", "nonsense"),
        encoded("an encoding that does not exist", "rot13", good()),
        encoded("identity", "identity", good()),
        http("a body over the limit", protobuf, vec![0x0a; 21 << 20]),
        encoded("a bomb", "gzip", gzip(&vec![0; 64 << 20])),
        grpc("grpc", framed(&good())),
        grpc("an empty grpc request", framed(&[])),
        Probe {
            headers: vec![
                ("content-type", "application/grpc+proto"),
                ("te", "trailers"),
            ],
            ..grpc("grpc with a subtype", framed(&good()))
        },
        grpc("no protobuf over grpc", framed(b"nonsense")),
        grpc("no message over grpc", Bytes::new()),
        Probe {
            path: "/nothing.Service/Export",
            ..grpc("a service that does not exist", framed(&good()))
        },
        Probe {
            path: "/opentelemetry.proto.collector.trace.v1.TraceService/Nothing",
            ..grpc("a method that does not exist", framed(&good()))
        },
        Probe {
            headers: vec![("content-type", "text/plain")],
            ..grpc("a wrong content type over grpc", framed(&good()))
        },
        Probe {
            headers: vec![
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-encoding", "gzip"),
            ],
            ..grpc("gzip over grpc", compressed(&good()))
        },
        Probe {
            headers: vec![
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-encoding", "rot13"),
            ],
            ..grpc(
                "an encoding that does not exist over grpc",
                compressed(&good()),
            )
        },
        grpc(
            "a compressed message without an encoding",
            compressed(&good()),
        ),
        grpc("a message over the limit", framed(&vec![0x0a; 5 << 20])),
        Probe {
            verb: "GET",
            ..grpc("a get over grpc", Bytes::new())
        },
    ]
}

/// What is compared of an answer: all but texts for people and parameters of content types.
fn described(answer: Option<Answer>) -> String {
    let Some(answer) = answer else {
        return "no answer".to_owned();
    };
    let content = answer.header("content-type").unwrap_or("no content type");
    let content = content.split(';').next().unwrap();
    if let Some(status) = answer.grpc_status() {
        return format!("HTTP {}, gRPC {status}, {content}", answer.status);
    }
    let body = match (answer.status, content) {
        // A response without items that were refused, said with a field or without.
        (200, "application/x-protobuf") if [&b""[..], &b"\n\0"[..]].contains(&&answer.body[..]) => {
            ", all accepted".to_owned()
        }
        (200, _) => format!(", {}", String::from_utf8_lossy(&answer.body)),
        _ => String::new(),
    };
    format!("HTTP {}, {content}{body}", answer.status)
}

pub(super) async fn are_the_same() {
    let folder = folder();
    let yaml = configurations::CONFIGURATIONS[0].yaml();
    let ours = Subject::start(Kind::Ours, folder.path(), &yaml).await;
    let theirs = Subject::start(Kind::Otelcol, folder.path(), &yaml).await;
    let mut different = BTreeMap::new();
    let probes = probes();
    for probe in &probes {
        let mut answers = Vec::new();
        for subject in [&ours, &theirs] {
            let sender = match probe.is_grpc {
                true => Sender::grpc(subject.grpc),
                false => Sender::http(subject.http),
            };
            let answer = sender
                .send(probe.verb, probe.path, &probe.headers, probe.body.clone())
                .await;
            answers.push(described(answer));
        }
        // The document has what both say, so that neither can change unnoticed.
        let row = format!("{} | {} | {}", probe.name, answers[0], answers[1]);
        if answers[0] != answers[1] {
            different.insert(row, String::new());
        }
    }
    println!("{} answers compared", probes.len());
    compare_with_document("Answers", &different);
}
