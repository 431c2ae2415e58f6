//! Actions on the attributes of a resource, from YAML to JSON.

use collector_otlp::pass::{self, Level, Pass, Verdict};
use collector_otlp::{Record, Request, Signal, WireError};
use sha2::{Digest, Sha256};

use super::{Edit, apply, hexadecimal, read, sha256};
use crate::config::Section;
use crate::config::diagnostic::{Diagnostics, Position};
use crate::config::yaml;

struct Walk<'a>(&'a [Edit]);

impl<'a> Pass<'a> for Walk<'a> {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Resource
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, WireError> {
        apply(self.0, resource);
        Ok(Verdict::Keep)
    }
}

/// The edits that a YAML list spells, and what is wrong with it.
fn edits(list: &str) -> (Vec<Edit>, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let source = format!("actions:\n{list}");
    let node = yaml::parse(&source, &diagnostics).unwrap();
    let section = Section::of(&node, Position::default(), &diagnostics);
    let edits = read(&section, "actions");
    drop(section);
    let messages = diagnostics.into_sorted();
    (
        edits,
        messages.into_iter().map(|entry| entry.message).collect(),
    )
}

/// The attributes, as JSON, after the actions.
fn after(list: &str, attributes: &str) -> String {
    let (edits, messages) = edits(list);
    assert_eq!(messages, Vec::<String>::new());
    let json = format!(r#"{{"resourceLogs":[{{"resource":{{"attributes":[{attributes}]}}}}]}}"#);
    let request = Request::parse_json(Signal::Logs, json.as_bytes()).unwrap();
    let edited = request
        .apply(|signal, source| pass::run(&mut Walk(&edits), signal, source))
        .unwrap();
    let text = String::from_utf8(edited.to_json().unwrap()).unwrap();
    let (_, text) = text.split_once(r#""resource":{"#).unwrap();
    text.strip_suffix("}]}")
        .unwrap()
        .strip_suffix('}')
        .unwrap_or_default()
        .to_owned()
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{{value}}}}}"#)
}

fn string(key: &str, value: &str) -> String {
    attribute(key, &format!(r#""stringValue":"{value}""#))
}

fn list(attributes: &[String]) -> String {
    format!(r#""attributes":[{}]"#, attributes.join(","))
}

#[test]
fn actions_follow_one_another() {
    let result = after(
        "- {key: a, value: ignored, action: insert}
- {key: absent, value: ignored, action: update}
- {key: env, value: prod}
- {key: copy, from_attribute: a, action: upsert}
- {key: a, value: -1, action: update}
- {key: b, from_attribute: nothing, action: insert}
- {key: 'on', value: true, action: insert}
- {key: ratio, value: 0.5, action: insert}
- {key: list, value: [x, 1], action: insert}
- {key: env, action: delete}
- {key: env, value: '7', action: insert}",
        &string("a", "shop"),
    );
    let expected = [
        attribute("a", r#""intValue":"-1""#),
        string("copy", "shop"),
        attribute("on", r#""boolValue":true"#),
        attribute("ratio", r#""doubleValue":0.5"#),
        attribute(
            "list",
            r#""arrayValue":{"values":[{"stringValue":"x"},{"intValue":"1"}]}"#,
        ),
        string("env", "7"),
    ];
    assert_eq!(result, list(&expected));
}

#[test]
fn what_was_added_where_nothing_was_is_found_again() {
    let result = after(
        "- {key: env, value: prod}\n- {key: env, action: delete}",
        "",
    );
    assert_eq!(result, "");
}

#[test]
fn hashes_as_otelcol_does() {
    let result = after(
        "- {key: text, action: hash}
- {key: empty, action: hash}
- {key: flag, action: hash}
- {key: number, action: hash}
- {pattern: '^secret\\.', action: hash}",
        &[
            string("text", "abc"),
            string("empty", ""),
            attribute("flag", r#""boolValue":true"#),
            attribute("number", r#""intValue":"1""#),
            string("secret.a", "abc"),
            string("text", "abc"),
        ]
        .join(","),
    );
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let expected = [
        string("text", abc),
        string("empty", ""),
        string(
            "flag",
            "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a",
        ),
        string(
            "number",
            "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8",
        ),
        string("secret.a", abc),
        string("text", abc),
    ];
    assert_eq!(result, list(&expected));
}

#[test]
fn deletes_by_key_and_by_pattern() {
    let result = after(
        "- {key: a, pattern: '^b', action: delete}",
        &[
            string("a", ""),
            string("b1", ""),
            string("c", "x"),
            string("a", ""),
        ]
        .join(","),
    );
    assert_eq!(result, list(&[string("c", "x")]));
}

#[test]
fn extracts_named_groups() {
    let result = after(
        "- {key: url, pattern: '^(?P<scheme>\\w+)://(?P<host>[^/]*)(?P<port>:\\d+)?', action: extract}
- {key: missing, pattern: '(?P<a>.)', action: extract}",
        &[string("url", "https://shop.example/x"), string("host", "old")].join(","),
    );
    let expected = [
        string("url", "https://shop.example/x"),
        string("host", "shop.example"),
        string("scheme", "https"),
        string("port", ""),
    ];
    assert_eq!(result, list(&expected));
}

#[test]
fn converts_what_can_be_converted() {
    let result = after(
        "- {key: a, converted_type: int, action: convert}
- {key: b, converted_type: int, action: convert}
- {key: c, converted_type: double, action: convert}
- {key: d, converted_type: string, action: convert}
- {key: e, converted_type: int, action: convert}",
        &[
            string("a", "42"),
            attribute("b", r#""doubleValue":1.9"#),
            attribute("c", r#""boolValue":true"#),
            attribute("d", r#""doubleValue":1.5"#),
            string("e", "no number"),
        ]
        .join(","),
    );
    let expected = [
        attribute("a", r#""intValue":"42""#),
        attribute("b", r#""intValue":"1""#),
        attribute("c", r#""doubleValue":1.0"#),
        string("d", "1.5"),
        string("e", "no number"),
    ];
    assert_eq!(result, list(&expected));
}

#[test]
fn what_an_action_cannot_use_is_refused() {
    for (entry, message) in [
        (
            "{action: delete}",
            "an entry of this list needs a key or a pattern",
        ),
        ("{value: 1}", "an entry of this list needs a key"),
        ("{key: a}", "this entry needs value or from_attribute"),
        (
            "{key: a, value: 1, action: delete}",
            "this action does not use value",
        ),
        ("{key: a, action: convert}", "convert needs converted_type"),
        (
            "{key: a, action: extract}",
            "extract needs a pattern with named groups",
        ),
        (
            "{key: a, pattern: '(.)', action: extract}",
            "every group of this pattern must have a name, as in (?P<name>.*)",
        ),
        (
            "{key: a, pattern: '(', action: hash}",
            "pattern is not valid: unclosed group",
        ),
        (
            "{key: a, from_context: b}",
            "from_context is not supported yet",
        ),
    ] {
        let (_, messages) = edits(&format!("- {entry}"));
        assert!(
            messages.iter().any(|found| found == message),
            "{entry}: {messages:?}"
        );
    }
}

#[test]
fn a_hash_is_sha_256_whatever_the_length() {
    let text: Vec<u8> = (0..200).collect();
    for length in 0..text.len() {
        let expected = Sha256::digest(&text[..length]);
        let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        let ours = hexadecimal(sha256(&text[..length]));
        assert_eq!(String::from_utf8_lossy(&ours), expected, "{length}");
    }
}
