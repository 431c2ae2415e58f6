//! How long validation, merging and splitting take: `cargo bench -p collector-otlp`.
//!
//! In: nothing. Out: nanoseconds for each span, of requests like those that SDKs send.
//! Invariant: standard library only, and each figure is the best of several rounds.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark prints its figures"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::{AnyValue, Record, Request, Signal, WireError, wire};

/// Indexes every span and changes nothing.
struct Look;

impl<'a> Pass<'a> for Look {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }
}

/// Adds, removes and replaces an attribute of every span.
struct Edit;

impl<'a> Pass<'a> for Edit {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn item(&mut self, _: &Above<'_, 'a>, span: &mut Record<'a>) -> Result<Verdict, WireError> {
        span.set_borrowed(span.find(b"peer.zone"), b"peer.zone", b"\x0a\x09eu-west-1");
        span.remove_key(b"peer.address");
        if let Some(place) = span.find(b"user.name") {
            span.revalue(place, |out| AnyValue::String(&[b'0'; 64]).write(out));
        }
        Ok(Verdict::Keep)
    }
}

const SPANS: usize = 1000;
const ROUNDS: usize = 3000;

fn main() {
    for (name, text) in [("ascii", "checkout"), ("non-ascii", "Kaßenzettel ✓")] {
        let bytes = Bytes::from(request(text));
        println!("{name}: {} bytes a span", bytes.len() / SPANS);
        let parsed = Request::parse(Signal::Traces, bytes.clone()).expect("sound");
        assert_eq!(parsed.items(), SPANS);
        report("parse", || {
            Request::parse(Signal::Traces, bytes.clone()).expect("sound")
        });
        let four = [
            parsed.clone(),
            parsed.clone(),
            parsed.clone(),
            parsed.clone(),
        ];
        report("merge of four, each span four times", || {
            Request::merge(&four)
        });
        report("split by 300", || parsed.clone().split(300).expect("sound"));
        report("walk to every span", || {
            let walk = |signal, source: &[u8]| pass::run(&mut Look, signal, source);
            parsed.clone().apply(walk).expect("sound")
        });
        report("walk that changes every span", || {
            let walk = |signal, source: &[u8]| pass::run(&mut Edit, signal, source);
            parsed.clone().apply(walk).expect("sound")
        });
        report("to JSON", || parsed.to_json().expect("sound"));
    }
}

fn report<T>(name: &str, mut body: impl FnMut() -> T) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(body());
        best = best.min(start.elapsed());
    }
    let nanoseconds = best.as_secs_f64() * 1e9 / SPANS as f64;
    println!(
        "  {name}: {nanoseconds:.1} ns a span, {:.1} M/s",
        1e3 / nanoseconds
    );
}

fn request(text: &str) -> Vec<u8> {
    let mut scope_spans = message(1, &field(1, b"io.example.http"));
    for index in 0..SPANS {
        scope_spans.extend(message(2, &span(index, text)));
    }
    let resource = [
        attribute("service.name", text),
        attribute("host.name", "web-1"),
    ]
    .concat();
    let entry = [message(1, &resource), message(2, &scope_spans)].concat();
    message(1, &entry)
}

fn span(index: usize, text: &str) -> Vec<u8> {
    let mut out = field(1, &[index as u8; 16]);
    out.extend(field(2, &[index as u8; 8]));
    out.extend(field(4, &[7; 8]));
    out.extend(field(5, b"GET /cart/items"));
    wire::write_varint_field(&mut out, 6, 2);
    for number in [7, 8] {
        wire::write_tag(&mut out, number, 1);
        out.extend(1_700_000_000_000_000_000u64.to_le_bytes());
    }
    let attributes = [
        ("http.method", "GET"),
        ("http.route", "/cart/items"),
        ("user.name", text),
        ("peer.address", "10.0.0.17"),
    ];
    for (key, value) in attributes {
        out.extend(message(9, &pair(key, &field(1, value.as_bytes()))));
    }
    let mut status = Vec::new();
    wire::write_varint_field(&mut status, 3, 200);
    out.extend(message(9, &pair("http.status_code", &status)));
    out.extend(message(15, &[]));
    out.extend([0x85, 0x01, 1, 1, 0, 0]);
    out
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    message(1, &pair(key, &field(1, value.as_bytes())))
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), message(2, value)].concat()
}

fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_bytes(&mut out, number, value);
    out
}

fn message(number: u32, body: &[u8]) -> Vec<u8> {
    field(number, body)
}
