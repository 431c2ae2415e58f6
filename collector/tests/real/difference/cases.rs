//! Requests of all signals, usual and odd.
//!
//! In: nothing. Out: named bodies. Invariant: names are unique, and every request with items
//! differs from all others.

use super::wire::{Bytes, attribute, bytes, double, empty, fixed32, fixed64, group, text, varint};
use crate::arrival::Signal;

/// One request.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) signal: Signal,
    pub(crate) body: Bytes,
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [traces(), logs(), metrics(), broken()]
        .into_iter()
        .flatten()
        .collect()
}

fn case(name: &str, signal: Signal, body: Bytes) -> Case {
    Case {
        name: name.to_owned(),
        signal,
        body,
    }
}

/// A name's resource: service name, and things for processors to work on.
fn resource(name: &str) -> Bytes {
    let host = attribute(1, "host.name", &[text(1, "web-1")]);
    bytes(1, &[attribute(1, "service.name", &[text(1, name)]), host])
}

/// Attributes for processors to work on.
fn attributes(field: u64) -> Bytes {
    [
        attribute(field, "http.method", &[text(1, "GET")]),
        attribute(
            field,
            "http.url",
            &[text(1, "https://example.com/a?user=anna&n=1")],
        ),
        attribute(field, "user.email", &[text(1, "anna@example.com")]),
        attribute(field, "status", &[varint(3, 200)]),
        attribute(field, "ratio", &[double(4, 0.25)]),
        attribute(field, "number.text", &[text(1, "42")]),
    ]
    .concat()
}

/// Attributes with a value of every kind.
fn every_value(field: u64) -> Bytes {
    let array = bytes(
        5,
        &[
            bytes(1, &[text(1, "a")]),
            bytes(1, &[varint(3, 2)]),
            empty(1),
        ],
    );
    let map = bytes(
        6,
        &[
            attribute(1, "k", &[text(1, "v")]),
            attribute(1, "m", &[bytes(6, &[attribute(1, "n", &[varint(2, 1)])])]),
        ],
    );
    [
        attribute(field, "string", &[text(1, "Grüße 🌍")]),
        attribute(field, "empty string", &[text(1, "")]),
        attribute(field, "true", &[varint(2, 1)]),
        attribute(field, "false", &[varint(2, 0)]),
        attribute(field, "int", &[varint(3, u64::MAX)]),
        attribute(field, "int64 min", &[varint(3, 1 << 63)]),
        attribute(field, "double", &[double(4, -0.5)]),
        attribute(field, "infinity", &[double(4, f64::INFINITY)]),
        attribute(field, "array", &[array]),
        attribute(field, "empty array", &[empty(5)]),
        attribute(field, "map", &[map]),
        attribute(field, "empty map", &[empty(6)]),
        attribute(field, "bytes", &[bytes(7, &[[0_u8, 255, 128]])]),
        attribute(field, "no kind", &[]),
        bytes(field, &[text(1, "no value")]),
        attribute(field, "", &[text(1, "no key")]),
    ]
    .concat()
}

fn span(name: &str, more: &[Bytes]) -> Bytes {
    let ids = [bytes(1, &[[7_u8; 16]]), bytes(2, &[[9_u8; 8]])].concat();
    let times = [
        fixed64(7, 1_700_000_000_000_000_000),
        fixed64(8, 1_700_000_000_250_000_000),
    ];
    bytes(
        2,
        &[
            ids,
            text(5, name),
            varint(6, 2),
            times.concat(),
            more.concat(),
        ],
    )
}

/// A request with one span, whose further fields are given.
fn one_span(name: &str, more: &[Bytes]) -> Bytes {
    let scope = bytes(1, &[text(1, "library"), text(2, "1.2")]);
    bytes(1, &[resource(name), bytes(2, &[scope, span(name, more)])])
}

/// A request with a span for each of many traces.
fn many_traces() -> Bytes {
    let spans: Vec<Bytes> = (0..200_u64)
        .map(|n| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            id[8..].copy_from_slice(&(n + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
            bytes(
                2,
                &[
                    bytes(1, &[id]),
                    bytes(2, &[[9_u8; 8]]),
                    text(5, &format!("trace {n}")),
                ],
            )
        })
        .collect();
    bytes(1, &[resource("many traces"), bytes(2, &spans)])
}

/// A request with a span for each of many things that a tracestate says of sampling.
fn sampled_before() -> Bytes {
    let states = [
        "ot=th:8",
        "ot=th:c;rv:f0000000000000",
        "ot=rv:80000000000000",
        "ot=rv:7fffffffffffff",
        "ot=th:0",
        "a=b,ot=rv:e0000000000001;th:4;x:y,c=d",
        "ot=th:xyz",
        "ot=rv:12",
        "a=b",
        "nonsense",
    ];
    let spans = states.iter().flat_map(|state| {
        (0..20_u64).map(move |n| {
            let mut id = [1; 16];
            id[8..].copy_from_slice(&(n + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
            let priority = match n {
                0 => attribute(9, "sampling.priority", &[varint(3, 1)]),
                1 => attribute(9, "sampling.priority", &[text(1, "0")]),
                _ => Vec::new(),
            };
            let name = text(5, &format!("{state} {n}"));
            bytes(
                2,
                &[
                    bytes(1, &[id]),
                    bytes(2, &[[9_u8; 8]]),
                    text(3, state),
                    name,
                    priority,
                ],
            )
        })
    });
    let spans: Vec<Bytes> = spans.collect();
    bytes(1, &[resource("sampled before"), bytes(2, &spans)])
}

fn traces() -> Vec<Case> {
    let event = bytes(
        11,
        &[
            fixed64(1, 5),
            text(2, "exception"),
            attributes(3),
            varint(4, 2),
        ],
    );
    let link = bytes(
        13,
        &[
            bytes(1, &[[1_u8; 16]]),
            bytes(2, &[[2_u8; 8]]),
            text(3, "k=v"),
            attributes(4),
            varint(5, 1),
            fixed32(6, 1),
        ],
    );
    let status = bytes(15, &[text(2, "no such user"), varint(3, 2)]);
    let plain = |name: &str| bytes(2, &[span(name, &[])]);
    let unknown = || {
        [
            varint(999, 5),
            bytes(1005, &["?"]),
            fixed64(1006, 1),
            fixed32(1007, 2),
        ]
        .concat()
    };
    let all: &[(&str, Bytes)] = &[
        ("an empty request", Vec::new()),
        ("a span", one_span("a span", &[attributes(9)])),
        (
            "a span with everything",
            one_span(
                "a span with everything",
                &[
                    text(3, "vendor=1"),
                    bytes(4, &[[3_u8; 8]]),
                    attributes(9),
                    varint(10, 3),
                    event,
                    varint(12, 4),
                    link,
                    varint(14, 5),
                    status,
                    fixed32(16, 0x301),
                ],
            ),
        ),
        (
            "values of every kind",
            one_span("values of every kind", &[every_value(9)]),
        ),
        (
            "a resource with every kind",
            bytes(
                1,
                &[
                    bytes(1, &[every_value(1), varint(2, 6)]),
                    plain("a resource with every kind"),
                    text(3, "https://example.com/schema"),
                ],
            ),
        ),
        (
            "a scope with every kind",
            bytes(
                1,
                &[
                    resource("scoped"),
                    bytes(
                        2,
                        &[
                            bytes(1, &[text(1, "l"), every_value(3), varint(4, 1)]),
                            span("a scope with every kind", &[]),
                            text(3, "https://example.com/scope"),
                        ],
                    ),
                ],
            ),
        ),
        ("no resource", bytes(1, &[plain("no resource")])),
        (
            "an empty resource",
            bytes(1, &[empty(1), plain("an empty resource")]),
        ),
        ("no scopes", bytes(1, &[resource("no scopes")])),
        (
            "an empty scope list",
            bytes(1, &[resource("an empty scope list"), empty(2)]),
        ),
        ("a resource that holds nothing", empty(1)),
        (
            "an empty span",
            bytes(1, &[resource("an empty span"), bytes(2, &[empty(2)])]),
        ),
        (
            "the same key twice",
            one_span(
                "the same key twice",
                &[
                    attribute(9, "k", &[text(1, "1")]),
                    attribute(9, "k", &[text(1, "2")]),
                ],
            ),
        ),
        (
            "ids of zeros",
            bytes(
                1,
                &[
                    resource("zeros"),
                    bytes(
                        2,
                        &[bytes(
                            2,
                            &[
                                bytes(1, &[[0_u8; 16]]),
                                bytes(2, &[[0_u8; 8]]),
                                text(5, "ids of zeros"),
                            ],
                        )],
                    ),
                ],
            ),
        ),
        (
            "no ids",
            bytes(
                1,
                &[
                    resource("no ids"),
                    bytes(2, &[bytes(2, &[text(5, "no ids")])]),
                ],
            ),
        ),
        (
            "an unknown kind and status",
            one_span(
                "an unknown kind and status",
                &[varint(6, 99), bytes(15, &[varint(3, 77)])],
            ),
        ),
        (
            "fields in the wrong order",
            bytes(
                1,
                &[plain("fields in the wrong order"), resource("reversed")],
            ),
        ),
        (
            "a status in two parts",
            one_span(
                "a status in two parts",
                &[bytes(15, &[text(2, "first")]), bytes(15, &[varint(3, 1)])],
            ),
        ),
        (
            "a resource in two parts",
            bytes(
                1,
                &[
                    resource("part 1"),
                    plain("a resource in two parts"),
                    bytes(1, &[attribute(1, "part", &[varint(3, 2)])]),
                ],
            ),
        ),
        (
            "a value of two kinds",
            one_span(
                "a value of two kinds",
                &[attribute(9, "k", &[text(1, "first"), varint(3, 2)])],
            ),
        ),
        (
            "a name twice",
            one_span("first name", &[text(5, "a name twice")]),
        ),
        (
            "unknown fields",
            [
                bytes(
                    1,
                    &[
                        resource("unknown fields"),
                        bytes(
                            2,
                            &[
                                span(
                                    "unknown fields",
                                    &[unknown(), attribute(9, "k", &[text(1, "v"), unknown()])],
                                ),
                                unknown(),
                            ],
                        ),
                        unknown(),
                    ],
                ),
                unknown(),
            ]
            .concat(),
        ),
        (
            "an unknown group",
            one_span(
                "an unknown group",
                &[group(999, &[varint(1, 1), text(2, "x")])],
            ),
        ),
        (
            "a varint longer than it must be",
            one_span(
                "a varint longer than it must be",
                &[vec![0x30, 0x82, 0x80, 0x80, 0x00]],
            ),
        ),
        (
            "an enum of eleven bytes",
            one_span(
                "an enum of eleven bytes",
                &[vec![
                    0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ]],
            ),
        ),
        (
            "many spans of many resources",
            (0..20_u64)
                .flat_map(|n| {
                    one_span(
                        &format!("many {n}"),
                        &[attributes(9), attribute(9, "n", &[varint(3, n)])],
                    )
                })
                .collect(),
        ),
        ("many traces", many_traces()),
        ("what was sampled before", sampled_before()),
        (
            "a span of one millisecond",
            bytes(
                1,
                &[
                    resource("quick"),
                    bytes(
                        2,
                        &[span(
                            "a span of one millisecond",
                            &[fixed64(8, 1_700_000_000_001_000_000), varint(6, 3)],
                        )],
                    ),
                ],
            ),
        ),
        (
            "a failed span",
            one_span(
                "a failed span",
                &[
                    attribute(9, "http.status_code", &[varint(3, 500)]),
                    bytes(15, &[varint(3, 2)]),
                ],
            ),
        ),
        (
            "a health check",
            one_span(
                "GET /health",
                &[attribute(9, "http.target", &[text(1, "/health")])],
            ),
        ),
    ];
    let nested =
        |depth: usize| (0..depth).fold(text(1, "deep"), |inner, _| bytes(5, &[bytes(1, &[inner])]));
    let deep = [("a value 20 deep", 20), ("a value 500 deep", 500)].map(|(name, depth)| {
        (
            name,
            one_span(name, &[attribute(9, "deep", &[nested(depth)])]),
        )
    });
    all.iter()
        .cloned()
        .chain(deep)
        .map(|(name, body)| case(&format!("traces: {name}"), Signal::Traces, body))
        .collect()
}

fn record(more: &[Bytes]) -> Bytes {
    bytes(
        2,
        &[
            fixed64(1, 1_700_000_000_000_000_000),
            fixed64(11, 1_700_000_000_000_000_001),
            more.concat(),
        ],
    )
}

fn one_record(name: &str, more: &[Bytes]) -> Bytes {
    bytes(
        1,
        &[
            resource(name),
            bytes(2, &[bytes(1, &[text(1, "library")]), record(more)]),
        ],
    )
}

fn logs() -> Vec<Case> {
    let body = |value: &[Bytes]| bytes(5, value);
    let severities = || {
        (0..=24_u64).map(|n| {
            record(&[
                varint(2, n),
                text(3, &format!("S{n}")),
                body(&[text(1, &format!("line {n}"))]),
            ])
        })
    };
    let all: &[(&str, Bytes)] = &[
        ("an empty request", Vec::new()),
        (
            "a record",
            one_record(
                "a record",
                &[
                    varint(2, 9),
                    text(3, "INFO"),
                    body(&[text(1, "hello")]),
                    attributes(6),
                ],
            ),
        ),
        (
            "a record with everything",
            one_record(
                "a record with everything",
                &[
                    varint(2, 17),
                    text(3, "ERROR"),
                    body(&[text(1, "Grüße")]),
                    every_value(6),
                    varint(7, 3),
                    fixed32(8, 1),
                    bytes(9, &[[4_u8; 16]]),
                    bytes(10, &[[5_u8; 8]]),
                    text(12, "event"),
                ],
            ),
        ),
        (
            "a body that is a map",
            one_record("map", &[body(&[bytes(6, &[every_value(1)])])]),
        ),
        (
            "a body that is a list",
            one_record(
                "list",
                &[body(&[bytes(
                    5,
                    &[bytes(1, &[text(1, "a")]), bytes(1, &[double(4, 1.5)])],
                )])],
            ),
        ),
        (
            "a body of bytes",
            one_record("bytes", &[body(&[bytes(7, &[[1_u8, 2, 3]])])]),
        ),
        ("an empty body", one_record("empty body", &[body(&[])])),
        ("no body", one_record("no body", &[])),
        (
            "an empty record",
            bytes(1, &[resource("an empty record"), bytes(2, &[empty(2)])]),
        ),
        (
            "no resource",
            bytes(
                1,
                &[bytes(2, &[record(&[body(&[text(1, "no resource")])])])],
            ),
        ),
        (
            "an unknown severity",
            one_record("unknown severity", &[varint(2, 99)]),
        ),
        (
            "every severity",
            bytes(
                1,
                &[
                    resource("severities"),
                    bytes(2, &severities().collect::<Vec<_>>()),
                ],
            ),
        ),
        (
            "a body in two parts",
            one_record(
                "two parts",
                &[body(&[text(1, "first")]), body(&[text(1, "second")])],
            ),
        ),
        (
            "a password",
            one_record(
                "a password",
                &[
                    varint(2, 5),
                    body(&[text(1, "login password=hunter2 ok")]),
                    attribute(6, "password", &[text(1, "hunter2")]),
                ],
            ),
        ),
    ];
    all.iter()
        .map(|(name, body)| case(&format!("logs: {name}"), Signal::Logs, body.clone()))
        .collect()
}

fn one_metric(name: &str, data: &[Bytes]) -> Bytes {
    let about = [text(1, name), text(2, "what it is"), text(3, "By")].concat();
    let metric = bytes(2, &[about, data.concat()]);
    bytes(
        1,
        &[
            resource(name),
            bytes(2, &[bytes(1, &[text(1, "library")]), metric]),
        ],
    )
}

fn point(more: &[Bytes]) -> Bytes {
    bytes(
        1,
        &[attributes(7), fixed64(2, 10), fixed64(3, 20), more.concat()],
    )
}

fn metrics() -> Vec<Case> {
    let exemplar = |field| {
        bytes(
            field,
            &[
                attributes(7),
                fixed64(2, 15),
                double(3, 1.25),
                bytes(4, &[[6_u8; 8]]),
                bytes(5, &[[7_u8; 16]]),
            ],
        )
    };
    let histogram = |counts: Bytes, bounds: Bytes| {
        bytes(
            9,
            &[
                bytes(
                    1,
                    &[
                        attributes(9),
                        fixed64(2, 10),
                        fixed64(3, 20),
                        fixed64(4, 6),
                        double(5, 2.5),
                        counts,
                        bounds,
                        exemplar(8),
                        varint(10, 1),
                        double(11, 0.5),
                        double(12, 1.5),
                    ],
                ),
                varint(2, 2),
            ],
        )
    };
    let fixed = |values: &[u64]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let packed = histogram(
        bytes(6, &[fixed(&[1, 2, 3])]),
        bytes(7, &[fixed(&[1.0_f64.to_bits(), 2.0_f64.to_bits()])]),
    );
    let unpacked = histogram(
        [fixed64(6, 1), fixed64(6, 2), fixed64(6, 3)].concat(),
        [double(7, 1.0), double(7, 2.0)].concat(),
    );
    let exponential = bytes(
        10,
        &[
            bytes(
                1,
                &[
                    attributes(1),
                    fixed64(2, 10),
                    fixed64(3, 20),
                    fixed64(4, 9),
                    double(5, 3.5),
                    varint(6, 3),
                    fixed64(7, 1),
                    bytes(8, &[varint(1, 1), bytes(2, &[[1_u8, 2, 3]])]),
                    bytes(9, &[varint(1, 4), varint(2, 1), varint(2, 300)]),
                    varint(10, 1),
                    exemplar(11),
                    double(12, 0.1),
                    double(13, 9.5),
                    double(14, 0.01),
                ],
            ),
            varint(2, 1),
        ],
    );
    let quantile = |at: f64, value: f64| bytes(6, &[double(1, at), double(2, value)]);
    let summary = bytes(
        11,
        &[bytes(
            1,
            &[
                attributes(7),
                fixed64(2, 10),
                fixed64(3, 20),
                fixed64(4, 3),
                double(5, 4.5),
                quantile(0.5, 1.0),
                quantile(0.99, 2.0),
                varint(8, 1),
            ],
        )],
    );
    let all: &[(&str, Bytes)] = &[
        ("an empty request", Vec::new()),
        (
            "a gauge",
            one_metric(
                "a.gauge",
                &[bytes(
                    5,
                    &[point(&[fixed64(6, 5)]), point(&[double(4, 1.5)])],
                )],
            ),
        ),
        (
            "a gauge with exemplars",
            one_metric(
                "a.gauge.exemplars",
                &[bytes(
                    5,
                    &[point(&[fixed64(6, u64::MAX), exemplar(5), varint(8, 1)])],
                )],
            ),
        ),
        (
            "a sum",
            one_metric(
                "a.sum",
                &[bytes(
                    7,
                    &[
                        point(&[double(4, f64::INFINITY)]),
                        varint(2, 2),
                        varint(3, 1),
                    ],
                )],
            ),
        ),
        ("a histogram", one_metric("a.histogram", &[packed])),
        (
            "a histogram that is not packed",
            one_metric("an.unpacked.histogram", &[unpacked]),
        ),
        (
            "an exponential histogram",
            one_metric("an.exponential.histogram", &[exponential]),
        ),
        ("a summary", one_metric("a.summary", &[summary])),
        ("a metric without data", one_metric("no.data", &[])),
        (
            "a gauge without points",
            one_metric("no.points", &[empty(5)]),
        ),
        (
            "a point without a value",
            one_metric("no.value", &[bytes(5, &[point(&[])])]),
        ),
        (
            "an empty point",
            one_metric("empty.point", &[bytes(5, &[empty(1)])]),
        ),
        (
            "a metric with metadata",
            one_metric(
                "metadata",
                &[
                    bytes(5, &[point(&[fixed64(6, 1)])]),
                    attribute(12, "m", &[text(1, "v")]),
                ],
            ),
        ),
        (
            "a gauge in two parts",
            one_metric(
                "two.parts",
                &[
                    bytes(5, &[point(&[fixed64(6, 1)])]),
                    bytes(5, &[point(&[fixed64(6, 2)])]),
                ],
            ),
        ),
        (
            "a gauge that is then a sum",
            one_metric(
                "two.kinds",
                &[
                    bytes(5, &[point(&[fixed64(6, 1)])]),
                    bytes(7, &[point(&[fixed64(6, 2)])]),
                ],
            ),
        ),
        (
            "a debug metric",
            one_metric(
                "debug.cache.hits",
                &[bytes(7, &[point(&[fixed64(6, 3)]), varint(2, 1)])],
            ),
        ),
    ];
    all.iter()
        .map(|(name, body)| case(&format!("metrics: {name}"), Signal::Metrics, body.clone()))
        .collect()
}

/// What no receiver should take.
fn broken() -> Vec<Case> {
    let whole = one_span("whole", &[attributes(9)]);
    let with_ids = |trace: &[u8], span: &[u8]| {
        bytes(
            1,
            &[bytes(
                2,
                &[bytes(2, &[bytes(1, &[trace]), bytes(2, &[span])])],
            )],
        )
    };
    let all: &[(&str, Bytes)] = &[
        (
            "a request that ends too early",
            whole[..whole.len() - 3].to_vec(),
        ),
        ("a length beyond the end", vec![0x0a, 0xff, 0xff, 0x03]),
        ("a field number of zero", vec![0x02, 0x00]),
        ("a wire type that does not exist", vec![0x0f]),
        ("a known field of another wire type", varint(1, 5)),
        (
            "a group that does not end",
            one_span("g", &[vec![0xbb, 0x3e]]),
        ),
        ("text", b"this is not protobuf".to_vec()),
        ("a trace id of 15 bytes", with_ids(&[1; 15], &[1; 8])),
        ("a span id of 9 bytes", with_ids(&[1; 16], &[1; 9])),
    ];
    all.iter()
        .map(|(name, body)| case(&format!("broken: {name}"), Signal::Traces, body.clone()))
        .collect()
}
