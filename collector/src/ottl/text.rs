//! What texts are made of: parts that a pattern names, pairs of key and value, and globs.
//!
//! In: a text. Out: a map of texts, or a pattern for one. Invariant: time grows with the text.

use std::borrow::Cow;
use std::collections::HashMap;

use collector_otlp::{AnyValue, wire};
use regex::bytes::Regex;

use super::fault::EvalFault;
use super::value::Value;

/// What stands between a key and its value, and between pairs.
pub(super) const DELIMITERS: (&str, &str) = ("=", " ");

/// The longest part of a text that ends between two characters.
pub(super) fn boundary(text: &[u8], most: usize) -> usize {
    let is_start = |index: &usize| text.get(*index).is_none_or(|byte| byte & 0xc0 != 0x80);
    (0..=most.min(text.len())).rev().find(is_start).unwrap_or(0)
}

/// How much of a text a message shows: texts come from whoever sends telemetry, and each of
/// their items may fail.
const SHOWN_BYTES: usize = 100;

/// A text for a message, in quotes.
pub(super) fn shown(text: &[u8]) -> String {
    let most = boundary(text, SHOWN_BYTES);
    let dots = if most < text.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(&text[..most]))
}

fn map<'t>(pairs: impl Iterator<Item = (&'t [u8], &'t [u8])>) -> Value<'static> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        let mut any = Vec::new();
        AnyValue::String(value).write(&mut any);
        let mut pair = Vec::new();
        wire::write_bytes(&mut pair, 1, key);
        wire::write_bytes(&mut pair, 2, &any);
        wire::write_bytes(&mut out, 1, &pair);
    }
    Value::Map(Cow::Owned(out))
}

/// `ExtractPatterns`: the named groups of a pattern; nothing where it does not match.
pub(super) fn groups(pattern: &Regex, text: &[u8]) -> Value<'static> {
    let Some(found) = pattern.captures(text) else {
        return map(std::iter::empty());
    };
    map(pattern.capture_names().flatten().map(|name| {
        let part = found.name(name).map_or(&b""[..], |part| part.as_bytes());
        (name.as_bytes(), part)
    }))
}

/// `ParseKeyValue`: pairs such as `a=1 b="two words"`, of which the last with a key counts.
pub(super) fn pairs(
    text: &[u8],
    delimiter: &[u8],
    between: &[u8],
) -> Result<Value<'static>, EvalFault> {
    if text.is_empty() {
        return Err(EvalFault::new(
            "ParseKeyValue takes a text that is not empty",
        ));
    }
    if delimiter.is_empty() || between.is_empty() || delimiter == between {
        let message = "ParseKeyValue takes two delimiters that differ and are not empty";
        return Err(EvalFault::new(message));
    }
    let parts = split(text, between)?;
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut found: Vec<(&[u8], &[u8])> = Vec::new();
    for part in &parts {
        let Some(at) = memchr::memmem::find(part, delimiter) else {
            let message = format!("{} is not a key and a value", shown(part));
            return Err(EvalFault::new(message));
        };
        let key = part[..at].trim_ascii();
        let value = part[at + delimiter.len()..].trim_ascii();
        let place = *places.entry(key).or_insert(found.len());
        match found.get_mut(place) {
            Some(pair) => pair.1 = value,
            None => found.push((key, value)),
        }
    }
    Ok(map(found.into_iter()))
}

/// The parts between delimiters that stand in no quotes; quotes are left out.
fn split(text: &[u8], between: &[u8]) -> Result<Vec<Vec<u8>>, EvalFault> {
    let (mut parts, mut current) = (Vec::new(), Vec::new());
    let mut quote = None;
    let mut is_escaped = false;
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if quote.is_none()
            && let Some(after) = rest.strip_prefix(between)
        {
            if !current.is_empty() {
                parts.push(std::mem::take(&mut current));
            }
            rest = after;
            continue;
        }
        rest = after;
        if !is_escaped && quote.is_none() && matches!(byte, b'"' | b'\'') {
            quote = Some(*byte);
            continue;
        }
        if !is_escaped && quote == Some(*byte) {
            quote = None;
            continue;
        }
        is_escaped = !is_escaped && *byte == b'\\';
        current.push(*byte);
    }
    if quote.is_some() {
        return Err(EvalFault::new("a quoted value does not end"));
    }
    if !current.is_empty() {
        parts.push(current);
    }
    Ok(parts)
}

/// A glob as a pattern for a whole text: `*`, `?`, `[a-z]`, `[!a-z]` and `{a,b}`.
pub(super) fn glob(glob: &str) -> String {
    let mut out = "^(?s:".to_owned();
    let (mut depth, mut in_class) = (0, false);
    let mut characters = glob.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '\\' | '[' | '^' | '&' | '~' if in_class => out.extend(['\\', character]),
            _ if in_class => out.push(character),
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => {
                in_class = true;
                out.push('[');
                if characters.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '\\' => {
                let literal = characters.next().unwrap_or('\\');
                out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
            plain => out.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(")$");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Value<'_>) -> String {
        let Value::Map(map) = value else {
            panic!("a map");
        };
        String::from_utf8(AnyValue::Map(&map).text().into_owned()).unwrap()
    }

    #[test]
    fn pairs_are_split_outside_of_quotes() {
        let parsed = |text: &str| pairs(text.as_bytes(), b"=", b" ").map(written);
        assert_eq!(
            parsed(r#" a=1  b="two words" c='=x' a=2 "#).unwrap(),
            r#"{"a":"2","b":"two words","c":"=x"}"#
        );
        for refused in ["", "a", "a=\"b", "a=1 b"] {
            assert!(parsed(refused).is_err(), "{refused}");
        }
        let others = pairs(b"a:1;;b:2", b":", b";;").map(written);
        assert_eq!(others.unwrap(), r#"{"a":"1","b":"2"}"#);
        assert!(pairs(b"a=1", b"=", b"=").is_err());
    }

    #[test]
    fn a_message_shows_the_beginning_of_a_long_text() {
        assert_eq!(shown(b"a\"b"), r#""a\"b""#);
        let long = format!("{}ä{}", "a".repeat(99), "b".repeat(1_000_000));
        assert_eq!(shown(long.as_bytes()), format!("{:?}…", "a".repeat(99)));
        let faults = [
            pairs(long.as_bytes(), b"=", b" "),
            super::super::function::duration(long.as_bytes()),
        ];
        for fault in faults {
            let message = fault.unwrap_err().to_string();
            assert!(message.len() < 200, "{message}");
        }
    }

    #[test]
    fn globs_match_whole_texts() {
        let matches = |pattern: &str, text: &str| {
            let pattern = crate::pattern::compile(&glob(pattern)).unwrap();
            pattern.is_match(text.as_bytes())
        };
        for (pattern, text) in [
            ("/user/*/list/*", "/user/17/list/a/b"),
            ("a?c", "abc"),
            ("[a-c]at", "bat"),
            ("[!a-c]at", "fat"),
            ("{cat,b[ae]t}s", "bets"),
            (r"1\*2.0", "1*2.0"),
            ("a*c", "a\nc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("/user/*", "x/user/1"),
            ("a?c", "ac"),
            ("[!a-c]at", "bat"),
            ("1.0", "1x0"),
            ("{cat,dog}", "cats"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
