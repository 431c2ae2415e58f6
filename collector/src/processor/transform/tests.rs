//! From YAML to the JSON of what came out.

use std::sync::Arc;

use collector_otlp::{Request, Signal};

use super::Config;
use crate::budget::Budget;
use crate::component::{BuildProcessor, ComponentId, Context, Failure};
use crate::config::Section;
use crate::config::diagnostic::{Diagnostics, Position};
use crate::config::yaml;
use crate::telemetry::Registry;
use crate::walk;

const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[{"name":"GET /users/17","kind":2,"attributes":[{"key":"a","value":{"stringValue":"äöü"}},{"key":"b","value":{"intValue":"1"}},{"key":"token.x","value":{"stringValue":"secret 42"}}],"events":[{"name":"e"}],"status":{"message":"m","code":1}}]}]}]}"#;
const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9,"body":{"stringValue":"hello"}}]}]}]}"#;
const METRIC: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"5"}]}}]}]}]}"#;

fn read(text: &str) -> (Config, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let node = yaml::parse(text, &diagnostics).unwrap();
    let section = Section::of(&node, Position::default(), &diagnostics);
    let config = Config::read(&section);
    drop(section);
    let entries = diagnostics.into_sorted().into_iter();
    (config, entries.map(|entry| entry.message).collect())
}

fn transformed(text: &str, signal: Signal, json: &str) -> Result<String, Failure> {
    let (config, messages) = read(text);
    assert_eq!(messages, Vec::<String>::new(), "{text}");
    let context = Context {
        id: ComponentId::parse("transform").unwrap(),
        registry: Arc::new(Registry::default()),
        budget: Arc::new(Budget::of(1 << 20)),
        authenticators: crate::authentication::Authenticators::default(),
    };
    let Ok(stage) = config.build(&context, signal) else {
        panic!("it cannot be built");
    };
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    let out = walk::process(stage, request)?;
    let again = Request::parse(signal, out.bytes().clone()).unwrap();
    assert_eq!(again.items(), out.items());
    Ok(String::from_utf8(out.to_json().unwrap()).unwrap())
}

fn span(statement: &str) -> String {
    let text = format!("trace_statements: [{{context: span, statements: ['{statement}']}}]");
    transformed(&text, Signal::Traces, SPAN).unwrap()
}

#[test]
fn each_editor_does_what_it_says() {
    for (statement, expected) in [
        (r#"set(name, "x")"#, r#""name":"x","kind":2"#),
        (r#"set(kind, SPAN_KIND_CLIENT)"#, r#""kind":3"#),
        (
            r#"set(status.code, STATUS_CODE_ERROR)"#,
            r#""status":{"message":"m","code":2}"#,
        ),
        (
            r#"set(status.message, Concat([name, attributes["b"]], " "))"#,
            r#""message":"GET /users/17 1""#,
        ),
        (
            r#"set(attributes["c"], 1.5)"#,
            r#"{"key":"c","value":{"doubleValue":1.5}}"#,
        ),
        (
            r#"set(attributes["b"], resource.attributes["service.name"])"#,
            r#"{"key":"b","value":{"stringValue":"shop"}}"#,
        ),
        (
            r#"set(attributes["c"], attributes["b"] + 1) where attributes["b"] == 1"#,
            r#"{"key":"c","value":{"intValue":"2"}}"#,
        ),
        (
            r#"set(trace_id.string, "5b8efff798038103d269b633813fc60c")"#,
            r#""traceId":"5b8efff798038103d269b633813fc60c""#,
        ),
        (r#"set(end_time_unix_nano, 7)"#, r#""endTimeUnixNano":"7""#),
        (
            r#"delete_key(attributes, "a")"#,
            r#""attributes":[{"key":"b""#,
        ),
        (
            r#"delete_matching_keys(attributes, "^[ab]$")"#,
            r#""attributes":[{"key":"token.x""#,
        ),
        (
            r#"keep_keys(attributes, ["b", "z"])"#,
            r#""attributes":[{"key":"b","value":{"intValue":"1"}}],"events""#,
        ),
        (
            r#"keep_matching_keys(attributes, "^token")"#,
            r#""attributes":[{"key":"token.x""#,
        ),
        (
            r#"truncate_all(attributes, 3)"#,
            r#"{"key":"a","value":{"stringValue":"ä"}},{"key":"b","value":{"intValue":"1"}},{"key":"token.x","value":{"stringValue":"sec"}}"#,
        ),
        (
            r#"replace_pattern(name, "/users/(\\d+)", "/users/{id $1}")"#,
            r#""name":"GET /users/{id 17}""#,
        ),
        (
            r#"replace_pattern(attributes["token.x"], "\\d", "%")"#,
            r#""stringValue":"secret %%"#,
        ),
        (
            r#"replace_all_patterns(attributes, "value", "secret", "hidden")"#,
            r#""stringValue":"hidden 42""#,
        ),
        (
            r#"replace_all_patterns(attributes, "key", "^token\\.", "t_")"#,
            r#"{"key":"t_x","value":{"stringValue":"secret 42"}}"#,
        ),
        (
            r#"replace_match(name, "GET /users/*", "GET /users/{id}")"#,
            r#""name":"GET /users/{id}""#,
        ),
        (
            r#"replace_all_matches(attributes, "secret ?[0-9]", "hidden")"#,
            r#"{"key":"token.x","value":{"stringValue":"hidden"}}"#,
        ),
        (
            r#"merge_maps(attributes, ExtractPatterns(name, "^(?P<verb>[A-Z]+) .*/(?P<id>\\d+)$"), "insert")"#,
            r#"{"key":"verb","value":{"stringValue":"GET"}},{"key":"id","value":{"stringValue":"17"}}"#,
        ),
        (
            r#"set(value=1.5, target=attributes["c"])"#,
            r#"{"key":"c","value":{"doubleValue":1.5}}"#,
        ),
        (
            r#"set(attributes["c"], {"of": name, "in": {"list": [1, attributes["b"]]}})"#,
            r#"{"key":"c","value":{"kvlistValue":{"values":[{"key":"of","value":{"stringValue":"GET /users/17"}},{"key":"in","value":{"kvlistValue":{"values":[{"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"intValue":"1"}]}}}]}}}]}}}"#,
        ),
        (
            r#"merge_maps(attributes, {"b": 2, "c": true}, strategy="upsert")"#,
            r#"{"key":"b","value":{"intValue":"2"}},{"key":"token.x","value":{"stringValue":"secret 42"}},{"key":"c","value":{"boolValue":true}}"#,
        ),
        (
            r#"append(attributes["b"], "x")"#,
            r#"{"key":"b","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}}"#,
        ),
        (
            r#"append(attributes["new"], values=[name, [1], {"k": 1}, nil])"#,
            r#"{"key":"new","value":{"arrayValue":{"values":[{"stringValue":"GET /users/17"},{"arrayValue":{"values":[{"intValue":"1"}]}},{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"1"}}]}},{}]}}}"#,
        ),
        (
            r#"limit(attributes, 2, ["token.x"])"#,
            r#""attributes":[{"key":"a","value":{"stringValue":"äöü"}},{"key":"token.x""#,
        ),
    ] {
        let json = span(statement);
        assert!(json.contains(expected), "{statement}: {json}");
    }
    for statement in [
        r#"set(name, "x") where kind == SPAN_KIND_CLIENT"#,
        r#"set(attributes["a"], nil)"#,
        r#"set(name, 1)"#,
        r#"set(attributes["b"], 1)"#,
        r#"limit(attributes, 3, [])"#,
        r#"truncate_all(attributes, 100)"#,
        r#"replace_match(name, "users", "x")"#,
    ] {
        assert_eq!(span(statement), SPAN, "{statement}");
    }
}

#[test]
fn every_context_changes_its_own() {
    let group = |context: &str, statement: &str| {
        format!("trace_statements: [{{context: {context}, statements: ['{statement}']}}]")
    };
    for (context, statement, expected) in [
        (
            "resource",
            r#"set(attributes["env"], "prod")"#,
            r#"{"key":"env","value":{"stringValue":"prod"}}]},"scopeSpans""#,
        ),
        (
            "scope",
            r#"set(version, "2")"#,
            r#""scope":{"name":"lib","version":"2"}"#,
        ),
        (
            "spanevent",
            r#"set(attributes["of"], span.name)"#,
            r#"{"name":"e","attributes":[{"key":"of","value":{"stringValue":"GET /users/17"}}]}"#,
        ),
    ] {
        let json = transformed(&group(context, statement), Signal::Traces, SPAN).unwrap();
        assert!(json.contains(expected), "{json}");
    }
    let log = r#"log_statements: ['set(log.body, Concat([log.body, "world"], " ")) where log.severity_number == 9', 'set(log.severity_text, "INFO")']"#;
    let json = transformed(log, Signal::Logs, LOG).unwrap();
    assert!(
        json.contains(r#""severityText":"INFO","body":{"stringValue":"hello world"}"#),
        "{json}"
    );
    let metric = r#"metric_statements:
- {context: metric, statements: ['set(name, "n")', 'set(unit, "s")']}
- {context: datapoint, conditions: ['metric.name == "n"'], statements: ['set(value_double, Double(value_int) / 2)', 'set(attributes["m"], metric.name)']}"#;
    let json = transformed(metric, Signal::Metrics, METRIC).unwrap();
    assert!(json.contains(r#""name":"n","unit":"s","gauge""#), "{json}");
    assert!(
        json.contains(r#""asDouble":2.5,"attributes":[{"key":"m","value":{"stringValue":"n"}}]"#),
        "{json}"
    );
}

#[test]
fn groups_act_in_the_order_in_which_they_are_written() {
    let text = r#"trace_statements:
- {context: span, statements: ['set(attributes["seen"], resource.attributes["late"])']}
- {context: resource, statements: ['set(attributes["late"], 1)']}
- {context: span, conditions: ['name == "other"'], statements: ['set(name, "never")']}
- {context: span, statements: ['set(attributes["then"], resource.attributes["late"])']}"#;
    let json = transformed(text, Signal::Traces, SPAN).unwrap();
    assert!(!json.contains("seen") && !json.contains("never"), "{json}");
    assert!(
        json.contains(r#"{"key":"then","value":{"intValue":"1"}}"#),
        "{json}"
    );
}

#[test]
fn errors_are_passed_on_or_not() {
    let text = |mode: &str| {
        format!(
            "error_mode: {mode}\ntrace_statements: [{{context: span, statements: ['set(name, ToLowerCase(attributes[\"b\"]))', 'set(kind, 5)']}}]"
        )
    };
    let error = transformed(&text("propagate"), Signal::Traces, SPAN).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected a string but got an integer"),
        "{error}"
    );
    let json = transformed(&text("ignore"), Signal::Traces, SPAN).unwrap();
    assert!(json.contains(r#""kind":5"#));
}

#[test]
fn what_is_wrong_is_said() {
    for (statement, message) in [
        (
            "sett(name, 1)",
            "at column 1 of this OTTL: there is no function \"sett\" that changes anything",
        ),
        (
            "copy_metric(name)",
            "at column 1 of this OTTL: the function copy_metric is not supported yet",
        ),
        (
            "append(attributes[\"a\"])",
            "at column 1 of this OTTL: append takes a value or values",
        ),
        (
            "append(attributes[\"a\"], values=name)",
            "at column 32 of this OTTL: expected a list such as [\"a\", \"b\"]",
        ),
        (
            "set(resource.attributes[\"a\"], 1)",
            "at column 5 of this OTTL: a statement about a span cannot change the resource above it",
        ),
        (
            "set(resource.cache[\"a\"], 1)",
            "at column 5 of this OTTL: a span has a cache of its own",
        ),
        (
            "set(name)",
            "at column 1 of this OTTL: set takes 2 arguments, not 1",
        ),
        (
            "set(name, 1, 2)",
            "at column 1 of this OTTL: set takes 2 arguments, not 3",
        ),
        (
            "limit(attributes, 1, [\"a\", \"b\"])",
            "at column 1 of this OTTL: 2 keys do not fit a limit of 1",
        ),
        (
            "replace_pattern(name, \"(\", \"\")",
            "at column 23 of this OTTL: pattern is not valid: unclosed group",
        ),
        (
            "truncate_all(attributes, -1)",
            "at column 26 of this OTTL: expected a whole number of zero or more",
        ),
        (
            "name == 1",
            "at column 1 of this OTTL: a statement is a function, such as set(attributes[\"a\"], 1)",
        ),
    ] {
        let text = format!("trace_statements: [{{context: span, statements: ['{statement}']}}]");
        let (_, messages) = read(&text);
        assert_eq!(messages.len(), 1, "{statement}: {messages:?}");
        assert_eq!(messages, [message]);
    }
    for (text, message) in [
        (
            "trace_statements: ['set(attributes[\"a\"], 1)']",
            "these statements do not say what they are about",
        ),
        (
            "log_statements: [{context: span, statements: ['set(name, \"\")']}]",
            "logs has no context span",
        ),
        ("flatten_data: true", "flatten_data is not supported yet"),
        (
            "log_statements: [{context: log}]",
            "a group needs at least one statement",
        ),
    ] {
        assert_eq!(read(text).1, [message], "{text}");
    }
}

/// What statements make of a log record with a body and attributes in JSON.
fn log(statements: &[&str], body: &str, attributes: &str) -> Result<String, Failure> {
    let json = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{body},"attributes":[{attributes}]}}]}}]}}]}}"#
    );
    let statements: Vec<String> = statements.iter().map(|text| format!("'{text}'")).collect();
    let text = format!(
        "log_statements: [{{context: log, statements: [{}]}}]",
        statements.join(", ")
    );
    transformed(&text, Signal::Logs, &json)
}

#[test]
fn what_is_parsed_is_kept_for_the_statements_that_follow() {
    let text = r#"{"stringValue":"{\"a\":{\"b\":[1,{\"c\":\"x\"}]},\"level\":\"warn\"}"}"#;
    let statements = [
        r#"set(cache["unused"], 1)"#,
        r#"merge_maps(cache, ParseJSON(body), "upsert")"#,
        r#"delete_key(cache, "unused")"#,
        r#"set(severity_text, cache["level"]) where cache["level"] != nil"#,
        r#"delete_matching_keys(cache, "^level$")"#,
        r#"flatten(cache, "log")"#,
        r#"set(attributes["count"], Len(cache))"#,
        r#"merge_maps(attributes, cache, "insert")"#,
        r#"set(body, "done")"#,
    ];
    let out = log(&statements, text, "").unwrap();
    for expected in [
        r#""body":{"stringValue":"done"}"#,
        r#""severityText":"warn""#,
        r#""attributes":[{"key":"count","value":{"intValue":"2"}},{"key":"log.a.b.0","value":{"doubleValue":1.0}},{"key":"log.a.b.1.c","value":{"stringValue":"x"}}]"#,
    ] {
        assert!(out.contains(expected), "{out}");
    }
}

#[test]
fn what_stands_in_maps_and_lists_is_changed_there() {
    let map = r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{"intValue":"2"}]}}},{"key":"b","value":{"stringValue":"x"}}]}}"#;
    let nested = r#"{"key":"k","value":{"stringValue":"v"}}"#;
    for (statement, expected) in [
        (
            r#"set(body["a"][1], "two")"#,
            r#"[{"intValue":"1"},{"stringValue":"two"}]"#,
        ),
        (
            r#"set(body["new"]["inner"], true)"#,
            r#"{"key":"new","value":{"kvlistValue":{"values":[{"key":"inner","value":{"boolValue":true}}]}}}"#,
        ),
        (
            r#"set(attributes["new"][1]["inner"], true)"#,
            r#"{"key":"new","value":{"arrayValue":{"values":[{},{"kvlistValue":{"values":[{"key":"inner","value":{"boolValue":true}}]}}]}}}"#,
        ),
        (
            r#"delete_key(body, "a")"#,
            r#""body":{"kvlistValue":{"values":[{"key":"b","value":{"stringValue":"x"}}]}}"#,
        ),
        (
            r#"keep_keys(body, ["a"])"#,
            r#"{"intValue":"2"}]}}}]}},"attributes""#,
        ),
        (
            r#"merge_maps(body, attributes, "insert")"#,
            r#"{"key":"b","value":{"stringValue":"x"}},{"key":"k","value":{"stringValue":"v"}}]"#,
        ),
        (
            r#"set(attributes["copy"]["of"], body["b"])"#,
            r#"{"key":"copy","value":{"kvlistValue":{"values":[{"key":"of","value":{"stringValue":"x"}}]}}}"#,
        ),
        (
            r#"set(attributes, body)"#,
            r#""attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{"intValue":"2"}]}}},{"key":"b","value":{"stringValue":"x"}}]"#,
        ),
        (
            r#"set(attributes["all"], attributes)"#,
            r#"{"key":"all","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}}"#,
        ),
        (
            r#"set(body["b"], attributes)"#,
            r#"{"key":"b","value":{"kvlistValue":{"values":[{"key":"k""#,
        ),
    ] {
        let out = log(&[statement], map, nested).unwrap();
        assert!(out.contains(expected), "{statement}: {out}");
    }
    for (statement, why) in [
        (
            r#"set(body["b"]["c"], 1)"#,
            "there are no such keys in a string",
        ),
        (r#"set(body["a"][2], 1)"#, "the list has no place 2"),
        (
            r#"set(attributes["new"][1001], 1)"#,
            "a new list has no place beyond 1000",
        ),
        (
            r#"delete_key(attributes["none"], "a")"#,
            "expected a map but got nil",
        ),
    ] {
        let failure = log(&[statement], map, nested).unwrap_err().to_string();
        assert!(failure.ends_with(why), "{failure}");
    }
}

#[test]
fn what_is_no_map_changes_nothing_where_only_a_map_can_stand() {
    let nested = r#"{"key":"k","value":{"stringValue":"v"}}"#;
    let statements = [
        r#"set(attributes, body)"#,
        r#"set(cache["a"], "kept")"#,
        r#"set(cache, body)"#,
        r#"set(cache, attributes["none"])"#,
        r#"set(severity_text, cache["a"])"#,
    ];
    for body in [r#"{"intValue":"1"}"#, r#"{"arrayValue":{}}"#] {
        let out = log(&statements, body, nested).unwrap();
        assert!(out.contains(nested), "{out}");
        assert!(out.contains(r#""severityText":"kept""#), "{out}");
    }
}

#[test]
fn nothing_becomes_too_deep_for_those_who_read_it() {
    let deeper = r#"set(cache["a"], cache)"#;
    let all = [&[deeper; 20][..], &[r#"set(body, cache)"#]].concat();
    assert!(log(&all, r#"{"stringValue":""}"#, "").is_ok());
    let failure = log(&[deeper; 40], r#"{"stringValue":""}"#, "").unwrap_err();
    assert!(
        failure
            .to_string()
            .ends_with("nested deeper than 24 levels")
    );
}

#[test]
fn beside_what_came_in_deep_things_are_changed_but_made_no_deeper() {
    let lists = (0..30).fold(r#"{"intValue":"1"}"#.to_owned(), |inner, _| {
        format!(r#"{{"arrayValue":{{"values":[{inner}]}}}}"#)
    });
    let map = format!(
        r#"{{"kvlistValue":{{"values":[{{"key":"password","value":{{"stringValue":"x"}}}},{{"key":"junk","value":{lists}}}]}}}}"#
    );
    let attribute = format!(r#"{{"key":"m","value":{map}}}"#);
    for statement in [
        r#"delete_key(body, "password")"#,
        r#"keep_keys(body, ["junk"])"#,
        r#"replace_pattern(body["password"], "x", "***")"#,
        r#"set(body["password"], "***")"#,
    ] {
        let at_attribute = statement.replace("body", r#"attributes["m"]"#);
        let out = log(&[statement, &at_attribute], &map, &attribute).unwrap();
        assert!(!out.contains(r#"{"stringValue":"x"}"#), "{out}");
        assert_eq!(out.matches(&lists).count(), 2, "{out}");
    }
    for statement in [
        r#"set(body["junk"], body)"#,
        r#"set(attributes["more"], body["junk"])"#,
        r#"set(body["junk"], [body["junk"]])"#,
    ] {
        let failure = log(&[statement], &map, "").unwrap_err().to_string();
        assert!(
            failure.ends_with("nested deeper than 24 levels"),
            "{failure}"
        );
    }
}

#[test]
fn flat_attributes_have_nothing_inside() {
    let nested = r#"{"key":"k","value":{"kvlistValue":{"values":[{"key":"a","value":{"intValue":"1"}},{"key":"b","value":{"arrayValue":{"values":[{"intValue":"2"}]}}}]}}},{"key":"k.a","value":{"intValue":"3"}}"#;
    for (statement, expected) in [
        (
            "flatten(attributes)",
            r#"[{"key":"k.a","value":{"intValue":"3"}},{"key":"k.b.0","value":{"intValue":"2"}}]"#,
        ),
        (
            r#"flatten(attributes, "p", 1)"#,
            r#"[{"key":"p.k.a","value":{"intValue":"3"}},{"key":"p.k.b","value":{"arrayValue":"#,
        ),
    ] {
        let out = log(&[statement], r#"{"stringValue":""}"#, nested).unwrap();
        assert!(out.contains(expected), "{statement}: {out}");
    }
}

#[test]
fn a_long_key_is_not_written_for_everything_below_it() {
    for (leaf, leaves, key_bytes) in [
        (r#"{"boolValue":true}"#, 5_000, 10_000),
        (r#"{"kvlistValue":{}}"#, 5_000, 10_000),
        // A small record does not become a large one either.
        (r#"{"kvlistValue":{}}"#, 190, 400),
    ] {
        let leaves: Vec<String> = (0..leaves)
            .map(|number| format!(r#"{{"key":"{number}","value":{leaf}}}"#))
            .collect();
        let nested = format!(
            r#"{{"key":"{}","value":{{"kvlistValue":{{"values":[{}]}}}}}}"#,
            "k".repeat(key_bytes),
            leaves.join(",")
        );
        let failure = log(&["flatten(attributes)"], r#"{"stringValue":""}"#, &nested).unwrap_err();
        let failure = failure.to_string();
        assert!(
            failure.ends_with("flattened, this would be 16 times as large"),
            "{failure}"
        );
    }
}

#[test]
fn a_huge_map_is_merged_as_a_small_one_is() {
    const COUNT: usize = 20_000;
    let entry = |number: usize| format!(r#"{{"key":"k{number}","value":{{"intValue":"1"}}}}"#);
    let attributes: Vec<String> = (0..COUNT).map(entry).collect();
    let map: Vec<String> = (COUNT / 2..COUNT * 3 / 2)
        .map(|number| format!(r#"\"k{number}\":2"#))
        .collect();
    let json = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{{"stringValue":"{{{}}}"}},"attributes":[{}]}}]}}]}}]}}"#,
        map.join(","),
        attributes.join(","),
    );
    for (strategy, merged, kept) in [
        ("insert", COUNT / 2, COUNT),
        ("update", COUNT / 2, COUNT / 2),
        ("upsert", COUNT, COUNT / 2),
    ] {
        let text = format!(
            "log_statements: [{{context: log, statements: ['merge_maps(attributes, ParseJSON(body), \"{strategy}\")']}}]"
        );
        let out = transformed(&text, Signal::Logs, &json).unwrap();
        let count = |value: &str| out.matches(value).count();
        assert_eq!(count(r#"{"doubleValue":2.0}"#), merged, "{strategy}");
        assert_eq!(count(r#"{"intValue":"1"}"#), kept, "{strategy}");
    }
}

#[test]
fn a_key_that_stands_twice_is_merged_into_the_first_however_many_there_are() {
    let others: Vec<String> = (0..3_000)
        .map(|number| format!(r#"{{"key":"k{number}","value":{{"intValue":"1"}}}}"#))
        .collect();
    for others in [String::new(), format!("{},", others.join(","))] {
        let json = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"attributes":[{others}{{"key":"a","value":{{"intValue":"5"}}}},{{"key":"a","value":{{"intValue":"6"}}}}]}}]}}]}}]}}"#
        );
        let text = r#"log_statements: [{context: log, statements: ['merge_maps(attributes, ParseJSON("{\"a\":7,\"b\":8}"), "upsert")']}]"#;
        let out = transformed(text, Signal::Logs, &json).unwrap();
        let end = r#"{"key":"a","value":{"doubleValue":7.0}},{"key":"a","value":{"intValue":"6"}},{"key":"b","value":{"doubleValue":8.0}}]"#;
        assert!(
            out.contains(end),
            "{}",
            &out[out.len().saturating_sub(300)..]
        );
    }
}
