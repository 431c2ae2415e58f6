//! A configuration as text again, for `print-config`.
//!
//! In: the merged and expanded tree. Out: YAML or JSON with sorted keys.
//! Invariant: in the redacted form, no value of a key that names a secret is shown, nor the
//! password in a URL.
//!
//! As in otelcol, the values of `headers` are secrets, and so are tokens, passwords, keys in PEM
//! and the like; unlike there, the defaults of what is not written are not filled in.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::yaml::{Node, Value, is_typed};

/// What stands for a secret, as in otelcol.
pub const REDACTED: &str = "[REDACTED]";

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// They are not.
    #[default]
    Redacted,
    /// They are.
    Unredacted,
}

/// How a configuration is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Yaml,
    /// For programs.
    Json,
}

/// The configuration as text.
pub fn print(root: &Node, mode: Mode, format: Format) -> String {
    let hidden = match mode {
        Mode::Redacted => Hidden::Nothing,
        Mode::Unredacted => Hidden::Never,
    };
    let json = convert(root, hidden);
    match format {
        Format::Yaml => {
            let mut out = String::new();
            yaml(&mut out, &json, 0, Place::Start);
            out
        }
        // Every key is a string, so this cannot fail.
        Format::Json => format!("{json:#}\n"),
    }
}

/// A value as JSON, with everything in it.
pub fn json(node: &Node) -> Json {
    convert(node, Hidden::Never)
}

/// What of a tree is hidden.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    /// Nothing, and nothing below either.
    Never,
    /// Nothing here; below, what its keys say.
    Nothing,
    /// Every single value below, but for what names things.
    Values,
    /// Every single value.
    Everything,
}

/// Keys that hold a secret, and of which everything is one that ends in `_` and them.
const SECRETS: &[&str] = &[
    "api_key",
    "apikey",
    "authorization",
    "access_key",
    "account_key",
    "client_secret",
    "connection_string",
    "credentials",
    "inline",
    "passphrase",
    "passwd",
    "password",
    "pem",
    "private_key",
    "sasl_password",
    "secret",
    "secret_key",
    "token",
];

/// Keys below which every value is one.
const HEADERS: &[&str] = &[
    "headers",
    "response_headers",
    "query_params",
    "endpoint_params",
];

/// What a header's entry in a list says without its value.
const NAMES: &[&str] = &["action", "from_context", "from_attribute", "key", "name"];

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRETS.iter().any(|secret| {
        key.strip_suffix(secret)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

fn below(key: &str, hidden: Hidden) -> Hidden {
    match hidden {
        Hidden::Never | Hidden::Everything => hidden,
        Hidden::Values if NAMES.contains(&key) => Hidden::Nothing,
        Hidden::Values => Hidden::Everything,
        Hidden::Nothing if is_secret(key) => Hidden::Everything,
        Hidden::Nothing if HEADERS.contains(&key) => Hidden::Values,
        Hidden::Nothing => Hidden::Nothing,
    }
}

fn convert(node: &Node, hidden: Hidden) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { .. } if matches!(hidden, Hidden::Values | Hidden::Everything) => {
            REDACTED.into()
        }
        Value::Scalar { text, quoted } if *quoted || !is_typed(text) => match hidden {
            Hidden::Never => text.as_str().into(),
            _ => without_password(text).into(),
        },
        Value::Scalar { text, .. } => typed(text),
        Value::Sequence(items) => items.iter().map(|item| convert(item, hidden)).collect(),
        Value::Mapping(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, node)| (key.text.clone(), convert(node, below(&key.text, hidden))))
                .collect(),
        ),
    }
}

fn typed(text: &str) -> Json {
    let plain = text.replace('_', "");
    if let Ok(truth) = plain.to_ascii_lowercase().parse::<bool>() {
        return truth.into();
    }
    let digits = plain.trim_start_matches('+');
    digits
        .parse::<i64>()
        .map(Json::from)
        .or_else(|_| digits.parse::<u64>().map(Json::from))
        .ok()
        .or_else(|| serde_json::Number::from_f64(digits.parse().ok()?).map(Json::Number))
        .unwrap_or_else(|| text.into())
}

/// `scheme://user:password@host` with its password hidden.
fn without_password(text: &str) -> String {
    let hide = || {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (userinfo, host) = rest[..end].rsplit_once('@')?;
        let (user, _) = userinfo.split_once(':')?;
        let tail = &rest[end..];
        Some(format!("{scheme}://{user}:{REDACTED}@{host}{tail}"))
    };
    hide().unwrap_or_else(|| text.to_owned())
}

/// Where a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of a line, or behind a dash, where a mapping may begin at once.
    Start,
    /// Behind a key.
    Key,
}

fn yaml(out: &mut String, value: &Json, indent: usize, place: Place) {
    const STEP: usize = 4;
    let pad = " ".repeat(indent);
    match value {
        Json::Object(entries) if !entries.is_empty() => {
            if place == Place::Key {
                out.push('\n');
            }
            for (number, (key, value)) in entries.iter().enumerate() {
                if number > 0 || place == Place::Key {
                    out.push_str(&pad);
                }
                out.push_str(&quoted(key));
                out.push(':');
                yaml(out, value, indent + STEP, Place::Key);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            if place == Place::Key {
                out.push('\n');
            }
            for (number, item) in items.iter().enumerate() {
                if number > 0 || place == Place::Key {
                    out.push_str(&pad);
                }
                out.push_str("- ");
                yaml(out, item, indent + 2, Place::Start);
            }
        }
        _ => {
            let text = match value {
                Json::Object(_) => "{}".to_owned(),
                Json::Array(_) => "[]".to_owned(),
                Json::String(text) => quoted(text),
                other => other.to_string(),
            };
            let space = if place == Place::Key { " " } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{space}{text}");
        }
    }
}

/// A string as YAML, with quotes only where it would be read as something else without.
fn quoted(text: &str) -> String {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._$".contains(c));
    let inside = |c: char| c.is_alphanumeric() || "/._-:@%+=,*$(){}[] ".contains(c);
    let ends_well = !text.ends_with([':', ' ']);
    let words = [
        "null", "~", "yes", "no", "on", "off", "y", "n", "true", "false",
    ];
    let is_word = words.contains(&text.to_ascii_lowercase().as_str());
    let plain = starts_well
        && ends_well
        && text.chars().all(inside)
        && !text.contains(": ")
        && !is_word
        && !is_typed(text);
    if plain {
        text.to_owned()
    } else {
        Json::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::Diagnostics;
    use super::super::yaml::parse;
    use super::*;

    const SOURCE: &str = r#"
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}, extensions: []}
receivers: {otlp: {protocols: {grpc: , http: {endpoint: "0.0.0.0:4318"}}}}
exporters:
  otlp:
    endpoint: https://user:geheim@storage:4317/path
    headers: {X-Key: geheim, authorization: geheim}
    tls: {insecure: false, key_pem: geheim, cert_file: /etc/cert.pem}
    sending_queue: {queue_size: 10_000}
extensions:
  headers_setter:
    headers: [{action: upsert, key: X-Org, value: geheim}, {key: t, from_context: tenant}]
  bearertokenauth: {token: geheim, filename: /run/token, scheme: "yes"}
  basicauth: {client_auth: {username: me, password: 12345}, htpasswd: {inline: "a:b"}}
processors: {x: {f: 0.5, s: "5", e: "", n: ~, long: "a: b # c", lines: "a\nb", list: [[1, 2], {a: 1, b: 2}]}}
"#;

    #[test]
    fn secrets_are_hidden_unless_asked_for() {
        let diagnostics = Diagnostics::default();
        let root = parse(SOURCE, &diagnostics).unwrap();
        let text = print(&root, Mode::Redacted, Format::Yaml);
        assert!(!text.contains("geheim") && !text.contains("12345"));
        insta::assert_snapshot!(text);
        let shown = print(&root, Mode::Unredacted, Format::Json);
        assert_eq!(shown.matches("geheim").count(), 6);
    }

    #[test]
    fn what_is_printed_reads_as_the_same_again() {
        let diagnostics = Diagnostics::default();
        let root = parse(SOURCE, &diagnostics).unwrap();
        let text = print(&root, Mode::Unredacted, Format::Yaml);
        let again = parse(&text, &diagnostics).unwrap();
        assert_eq!(print(&again, Mode::Unredacted, Format::Yaml), text);
        assert_eq!(
            convert(&again, Hidden::Never),
            convert(&root, Hidden::Never)
        );
        assert!(diagnostics.is_empty());
    }
}
