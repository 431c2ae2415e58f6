//! Requests as a whole: what is refused, what survives, and that nothing panics.

use std::borrow::Cow;

use bytes::Bytes;

use crate::pass::{self, Above, Level, Pass, Verdict};
use crate::{AnyValue, Record, Request, Signal, WireError, WireFault, wire};

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"","name":"a","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","attributes":[{"key":"n","value":{"intValue":"-3"}},{"key":"list","value":{"arrayValue":{"values":[{"boolValue":true},{"doubleValue":1.5},{"bytesValue":"AQI="}]}}}],"events":[{"timeUnixNano":"1","name":"e"}],"status":{"message":"bad","code":2},"flags":257},{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175","name":"b"}],"schemaUrl":"u"}]},{"scopeSpans":[{"spans":[{"name":"c"}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"1","asDouble":0.5},{"timeUnixNano":"2","asInt":"-7"},{"timeUnixNano":"3","asDouble":"NaN"}]}},{"name":"s","sum":{"dataPoints":[{"timeUnixNano":"4","asInt":"1"}],"aggregationTemporality":2,"isMonotonic":true}},{"name":"h","histogram":{"dataPoints":[{"count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[10.0],"exemplars":[{"spanId":"eee19b7ec3c1b174","asInt":"1"}],"min":1.0}],"aggregationTemporality":1}},{"name":"e","exponentialHistogram":{"dataPoints":[{"scale":-2,"positive":{"offset":-1,"bucketCounts":["18446744073709551615","0"]}}]}},{"name":"q","summary":{"dataPoints":[{"quantileValues":[{"quantile":0.5,"value":2.0}]}]}}]}]}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,"severityText":"INFO","body":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"é\n\"x\""}}]}},"observedTimeUnixNano":"2","eventName":"login"}]}]}]}"#;

fn parse(signal: Signal, json: &str) -> Request {
    Request::parse_json(signal, json.as_bytes()).unwrap()
}

fn json(request: &Request) -> String {
    String::from_utf8(request.to_json().unwrap()).unwrap()
}

fn samples() -> [Request; 3] {
    [
        parse(Signal::Traces, TRACES),
        parse(Signal::Metrics, METRICS),
        parse(Signal::Logs, LOGS),
    ]
}

#[test]
fn json_comes_back_as_it_went_in() {
    for (request, text, items) in samples()
        .iter()
        .zip([TRACES, METRICS, LOGS])
        .zip([3, 7, 1])
        .map(|((a, b), c)| (a, b, c))
    {
        assert_eq!(json(request), text);
        assert_eq!(request.items(), items);
        let again = Request::parse(request.signal(), request.bytes().clone()).unwrap();
        assert_eq!(&again, request);
    }
}

#[test]
fn json_accepts_what_other_writers_write() {
    let lenient = r#"{"unknown":{"a":[1,2]},"resourceSpans":[{"resource":null,"scopeSpans":[{"spans":[
        {"traceId":"5B8EFFF798038103D269B633813FC60C","startTimeUnixNano":5,"kind":"SPAN_KIND_CLIENT",
         "attributes":[{"key":"a","value":{"intValue":7}},{"key":"b","value":{"doubleValue":2}}],
         "droppedEventsCount":1e1,"links":null}]}]}]}"#;
    assert_eq!(
        json(&parse(Signal::Traces, lenient)),
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","kind":3,"startTimeUnixNano":"5","attributes":[{"key":"a","value":{"intValue":"7"}},{"key":"b","value":{"doubleValue":2.0}}],"droppedEventsCount":10}]}]}]}"#
    );
}

#[test]
fn json_refuses_what_does_not_fit() {
    let span = |inner: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{inner}}}]}}]}}]}}"#)
    };
    for inner in [
        r#""traceId":"abc""#,
        r#""traceId":"zz""#,
        r#""spanId":"5b8efff798038103d269b633813fc60c""#,
        r#""name":1"#,
        r#""startTimeUnixNano":-1"#,
        r#""startTimeUnixNano":"x""#,
        r#""kind":"SPAN_KIND_NONE""#,
        r#""droppedEventsCount":4294967296"#,
        r#""status":[]"#,
        r#""attributes":{}"#,
        r#""attributes":[{"key":"a","value":{"boolValue":"yes"}}]"#,
        r#""attributes":[{"key":"a","value":{"bytesValue":"*"}}]"#,
    ] {
        let error = Request::parse_json(Signal::Traces, span(inner).as_bytes());
        assert!(error.is_err(), "{inner}");
        assert!(
            error.unwrap_err().to_string().contains("line 1 column"),
            "{inner}"
        );
    }
    for text in ["", "[]", "{", "{} {}", "null", "\u{0}"] {
        assert!(
            Request::parse_json(Signal::Logs, text.as_bytes()).is_err(),
            "{text}"
        );
    }
    let deep = format!("{}{}", r#"{"resourceLogs":[{"a":"#, "[".repeat(100_000));
    assert!(Request::parse_json(Signal::Logs, deep.as_bytes()).is_err());
}

#[test]
fn truncated_and_mutated_bytes_never_panic() {
    for request in samples() {
        let bytes = request.bytes();
        for end in 0..bytes.len() {
            exercise(request.signal(), bytes.slice(..end));
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut mutated = bytes.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..mutated.len());
                mutated[at] = random.u8(..);
            }
            exercise(request.signal(), mutated.into());
        }
        for _ in 0..5_000 {
            let noise: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            exercise(request.signal(), noise.into());
        }
    }
}

/// Whatever passes validation must also pass everything that trusts validation.
fn exercise(signal: Signal, bytes: Bytes) {
    let Ok(request) = Request::parse(signal, bytes) else {
        return;
    };
    let written = request.to_json().unwrap();
    serde_json::from_slice::<serde::de::IgnoredAny>(&written).unwrap();
    let edited = scribbled(request.clone());
    let again = Request::parse(signal, edited.bytes().clone()).unwrap();
    assert_eq!(again.items(), request.items());
    let pieces = request.clone().split(1).unwrap();
    assert_eq!(
        pieces.iter().map(Request::items).sum::<usize>(),
        request.items()
    );
    for piece in pieces {
        let parsed = Request::parse(signal, piece.bytes().clone()).unwrap();
        assert_eq!(parsed.items(), piece.items());
    }
}

#[test]
fn refuses_faults_at_their_offset() {
    let nested = |levels: usize| {
        let mut value = Vec::new();
        for _ in 0..levels {
            let mut array = Vec::new();
            wire::write_bytes(&mut array, 1, &value);
            value = Vec::new();
            wire::write_bytes(&mut value, 5, &array);
        }
        let mut record = Vec::new();
        wire::write_bytes(&mut record, 5, &value);
        [2, 2, 1].iter().fold(record, |inner, number| {
            let mut outer = Vec::new();
            wire::write_bytes(&mut outer, *number, &inner);
            outer
        })
    };
    let parse = |bytes: Vec<u8>| Request::parse(Signal::Logs, bytes.into());
    assert_eq!(parse(nested(40)).unwrap().items(), 1);
    assert_eq!(parse(nested(60)).unwrap_err().fault, WireFault::TooDeep);
    assert_eq!(parse(nested(5_000)).unwrap_err().fault, WireFault::TooDeep);
    let id = parse(vec![10, 7, 18, 5, 18, 3, 74, 1, 0]).unwrap_err();
    assert_eq!(id.offset, 6);
    assert_eq!(
        id.to_string(),
        "malformed OTLP protobuf at byte 6: field traceId of LogRecord has 1 bytes, and must have 16 or none"
    );
    let kind = parse(vec![10, 4, 18, 2, 16, 1]).unwrap_err();
    assert_eq!(
        kind.fault,
        WireFault::FieldType {
            message: "ScopeLogs",
            field: "logRecords"
        }
    );
}

#[test]
fn mends_strings_that_are_not_utf8() {
    let request = Request::parse(
        Signal::Logs,
        vec![10, 8, 18, 6, 18, 4, 26, 2, b'a', 0xff].into(),
    )
    .unwrap();
    assert_eq!(request.replaced_strings(), 1);
    assert_eq!(
        json(&request),
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityText":"a�"}]}]}]}"#
    );
}

#[test]
fn reads_packed_and_unpacked_numbers_alike_and_merges_repeated_messages() {
    let mut point = Vec::new();
    for bound in [1.0f64, 2.0] {
        wire::write_tag(&mut point, 7, 1);
        point.extend_from_slice(&bound.to_le_bytes());
    }
    let wrap = |number, inner: &[u8]| {
        let mut outer = Vec::new();
        wire::write_bytes(&mut outer, number, inner);
        outer
    };
    let metric = [
        wrap(1, b"x"),
        wrap(9, &wrap(1, &point)),
        wrap(9, &wrap(1, &[])),
        wrap(1, b"y"),
    ]
    .concat();
    let request =
        Request::parse(Signal::Metrics, wrap(1, &wrap(2, &wrap(2, &metric))).into()).unwrap();
    assert_eq!(
        json(&request),
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"y","histogram":{"dataPoints":[{"explicitBounds":[1.0,2.0]},{}]}}]}]}]}"#
    );
}

#[test]
fn merge_is_concatenation() {
    let request = parse(Signal::Traces, TRACES);
    let merged = Request::merge(&[request.clone(), request.clone()]).unwrap();
    assert_eq!(merged.items(), 6);
    assert_eq!(
        Request::parse(Signal::Traces, merged.bytes().clone())
            .unwrap()
            .items(),
        6
    );
    assert_eq!(Request::merge(&[]), None);
}

#[test]
fn a_split_repeats_what_stands_above() {
    let pieces = parse(Signal::Metrics, METRICS).split(2).unwrap();
    assert_eq!(
        pieces.iter().map(Request::items).collect::<Vec<_>>(),
        [2, 2, 2, 1]
    );
    assert_eq!(
        json(&pieces[1]),
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"3","asDouble":"NaN"}]}},{"name":"s","sum":{"dataPoints":[{"timeUnixNano":"4","asInt":"1"}],"aggregationTemporality":2,"isMonotonic":true}}]}]}]}"#
    );
    let pieces = parse(Signal::Traces, TRACES).split(1).unwrap();
    assert_eq!(pieces.len(), 3);
    assert!(json(&pieces[1]).contains(r#""stringValue":"shop""#));
    assert!(json(&pieces[1]).contains(r#""schemaUrl":"u""#));
    assert_eq!(parse(Signal::Traces, TRACES).split(0).unwrap().len(), 1);
}

/// Sets, renames and removes attributes of everything that has any, and some fields.
struct Scribble;

impl<'a> Pass<'a> for Scribble {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Event
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, WireError> {
        scribble(resource);
        Ok(Verdict::Keep)
    }

    fn scope(&mut self, _: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, WireError> {
        scribble(scope);
        Ok(Verdict::Keep)
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        scribble(item);
        Ok(Verdict::Keep)
    }

    fn event(&mut self, _: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, WireError> {
        scribble(event);
        Ok(Verdict::Keep)
    }
}

fn scribble(record: &mut Record<'_>) {
    let place = record.find(b"service.name");
    if let Some(place) = place {
        record.copy_value(None, b"copy", place);
        record.revalue(place, |out| AnyValue::Int(-1).write(out));
    }
    record.remove_key(b"n");
    // 200 bytes, so that lengths need another byte.
    let long = "x".repeat(200);
    record.set_written(record.find(b"env"), b"env", |out| {
        AnyValue::String(long.as_bytes()).write(out);
    });
    record.set_borrowed(None, b"on", b"\x10\x01");
}

fn scribbled(request: Request) -> Request {
    request
        .apply(|signal, source| pass::run(&mut Scribble, signal, source))
        .unwrap()
}

#[test]
fn edits_touch_only_what_they_name() {
    let edited = scribbled(parse(Signal::Traces, TRACES));
    let text = json(&edited);
    let long = "x".repeat(200);
    let expected = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"intValue":"-1"}}}},{{"key":"copy","value":{{"stringValue":"shop"}}}},{{"key":"env","value":{{"stringValue":"{long}"}}}},{{"key":"on","value":{{"boolValue":true}}}}]}},"scopeSpans":[{{"scope":{{"name":"lib","version":"1","attributes""#
    );
    assert!(text.starts_with(&expected), "{text}");
    let parsed = Request::parse(Signal::Traces, edited.bytes().clone()).unwrap();
    assert_eq!(json(&parsed), text);
    assert!(!text.contains(r#""key":"n""#));
    assert_eq!(text.matches(r#""key":"env""#).count(), 2 + 2 + 3 + 1);
}

/// Makes the first attribute of every item as long as a random number says.
struct Stretch(fastrand::Rng, usize);

impl<'a> Pass<'a> for Stretch {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        let text = vec![b'x'; self.0.usize(..=self.1)];
        item.set_written(item.find(b"a"), b"a", |out| {
            AnyValue::String(&text).write(out);
        });
        Ok(Verdict::Keep)
    }
}

#[test]
fn lengths_are_as_short_as_they_can_be_however_much_was_expected_before() {
    let log = |length: usize| {
        let text = "y".repeat(length);
        format!(
            r#"{{"body":{{"stringValue":"{text}"}},"attributes":[{{"key":"a","value":{{"stringValue":"{text}"}}}}],"flags":1}}"#
        )
    };
    // Records of about 120 bytes and scopes of about 16 KiB are where a length becomes longer.
    for (own, most) in [
        (50, 0),
        (50, 60),
        (50, 120),
        (52, 140),
        (53, 140),
        (54, 140),
        (5, 120),
        (5, 300),
        (200, 20),
    ] {
        let logs = vec![log(own); 120].join(",");
        let scope = format!(r#"{{"logRecords":[{logs}]}}"#);
        let entry = format!(r#"{{"scopeLogs":[{scope},{scope}]}}"#);
        let request = format!(r#"{{"resourceLogs":[{entry},{entry},{entry}]}}"#);
        let random = fastrand::Rng::with_seed(own as u64);
        let edited = parse(Signal::Logs, &request)
            .apply(|signal, source| pass::run(&mut Stretch(random, most), signal, source))
            .unwrap();
        let written_anew = parse(Signal::Logs, &json(&edited));
        assert!(edited.bytes() == written_anew.bytes(), "{own} {most}");
    }
}

#[test]
fn unknown_fields_survive_an_edit() {
    // Field 99 in the request, in the entry and in the resource.
    let unknown = [0x9a, 0x06, 3, b'x', b'y', b'z'];
    let resource = unknown;
    let entry = [&[10, 6][..], &resource, &unknown].concat();
    let request = [&[10, entry.len() as u8][..], &entry, &unknown].concat();
    let parsed = Request::parse(Signal::Traces, request.into()).unwrap();
    let edited = scribbled(parsed);
    let survived = edited
        .bytes()
        .windows(6)
        .filter(|window| *window == unknown)
        .count();
    assert_eq!(survived, 3);
}

/// Drops every other item, and what is empty then.
struct Halve(bool);

impl<'a> Pass<'a> for Halve {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn prunes(&self) -> bool {
        true
    }

    fn item(&mut self, _: &Above<'_, 'a>, _: &mut Record<'a>) -> Result<Verdict, WireError> {
        self.0 = !self.0;
        Ok(if self.0 { Verdict::Keep } else { Verdict::Drop })
    }
}

#[test]
fn what_is_empty_goes_with_its_last_item() {
    let halved = |signal, text, first| {
        parse(signal, text)
            .apply(|signal, source| pass::run(&mut Halve(first), signal, source))
            .unwrap()
    };
    let traces = halved(Signal::Traces, TRACES, true);
    assert_eq!(traces.items(), 1);
    let text = json(&traces);
    assert!(
        text.contains(r#""name":"b""#) && !text.contains(r#""name":"c""#),
        "{text}"
    );
    assert_eq!(text.matches("scopeSpans").count(), 1);
    let metrics = halved(Signal::Metrics, METRICS, false);
    assert_eq!(metrics.items(), 4);
    assert!(!json(&metrics).contains(r#""name":"s""#));
    let logs = halved(Signal::Logs, LOGS, true);
    assert_eq!((logs.items(), logs.bytes().len()), (0, 0));
    let whole = parse(Signal::Logs, LOGS);
    let kept = halved(Signal::Logs, LOGS, false);
    assert_eq!(kept.bytes(), whole.bytes());
}

#[test]
fn a_resource_that_is_repeated_or_comes_last_is_edited_once() {
    let resource = [10, 5, 10, 3, 10, 1, b'a'];
    let scopes = [18, 2, 18, 0];
    let entry = [&resource[..], &scopes, &resource].concat();
    // The second tag is the first in two bytes.
    for tag in [&[10][..], &[0x8a, 0]] {
        let request = [tag, &[entry.len() as u8], &entry].concat();
        let edited = scribbled(Request::parse(Signal::Logs, request.into()).unwrap());
        let text = json(&edited);
        assert_eq!(edited.items(), 1);
        assert!(
            text.starts_with(
                r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"a"},{"key":"a"},{"key":"env""#
            ),
            "{text}"
        );
    }
}

#[test]
fn the_fast_path_agrees_with_the_careful_one() {
    use crate::sweep::sweep;
    use crate::validate::examine;
    let mut random = fastrand::Rng::with_seed(11);
    let (mut passed, mut scattered) = (0, 0);
    for request in samples() {
        let message = request.signal().request();
        assert!(sweep(request.bytes(), message).is_some());
        for _ in 0..50_000 {
            let mut mutated = request.bytes().to_vec();
            for _ in 0..random.usize(1..3) {
                let at = random.usize(..mutated.len());
                // As often as not the tag of a resource or scope, where there may be none.
                let tag = random.bool().then_some(0x0a);
                mutated[at] = tag.unwrap_or_else(|| random.u8(..));
            }
            if let Some(summary) = sweep(&mutated, message) {
                assert_eq!(examine(&mutated, message), Ok(summary));
                let normal = pass::normal_form(&mutated, request.signal()).unwrap();
                assert_eq!(summary.scattered, matches!(normal, Cow::Owned(_)));
                passed += 1;
                scattered += usize::from(summary.scattered);
            }
        }
    }
    assert!(passed > 10_000 && scattered > 10, "{passed} {scattered}");
}
