//! `ParseJSON`: a text's JSON as a value.
//!
//! In: a text. Out: a map or a list, with every number as a double, as otelcol has it.
//! Invariant: what comes out is nested no deeper than readers of protobuf follow.

use std::borrow::Cow;

use collector_otlp::{AnyValue, wire};
use serde_json::Value as Json;

use super::fault::EvalFault;
use super::value::Value;

/// How deep maps and lists may be inside of each other. Each is three messages deep, and most
/// readers of protobuf follow a hundred.
pub(super) const DEPTH: usize = 24;

/// The value of a JSON object or array.
pub(super) fn parse(text: &[u8]) -> Result<Value<'static>, EvalFault> {
    let parsed = serde_json::from_slice(text);
    let parsed: Json = parsed.map_err(|error| EvalFault::new(format!("not JSON: {error}")))?;
    match &parsed {
        Json::Object(_) => Ok(Value::Map(Cow::Owned(list(&parsed, DEPTH)?))),
        Json::Array(_) => Ok(Value::List(Cow::Owned(list(&parsed, DEPTH)?))),
        _ => Err(EvalFault::new("ParseJSON takes an object or an array")),
    }
}

/// The bytes of an `ArrayValue` or a `KeyValueList`.
fn list(json: &Json, depth: usize) -> Result<Vec<u8>, EvalFault> {
    let Some(depth) = depth.checked_sub(1) else {
        let message = format!("JSON is nested deeper than {DEPTH} levels");
        return Err(EvalFault::new(message));
    };
    let mut out = Vec::new();
    match json {
        Json::Array(elements) => {
            for element in elements {
                wire::write_bytes(&mut out, 1, &any(element, depth)?);
            }
        }
        Json::Object(entries) => {
            for (key, value) in entries {
                let mut pair = Vec::new();
                wire::write_bytes(&mut pair, 1, key.as_bytes());
                wire::write_bytes(&mut pair, 2, &any(value, depth)?);
                wire::write_bytes(&mut out, 1, &pair);
            }
        }
        _ => {}
    }
    Ok(out)
}

/// The bytes of an `AnyValue`.
fn any(json: &Json, depth: usize) -> Result<Vec<u8>, EvalFault> {
    let mut out = Vec::new();
    match json {
        Json::Null => {}
        Json::Bool(flag) => AnyValue::Bool(*flag).write(&mut out),
        Json::Number(number) => {
            AnyValue::Double(number.as_f64().unwrap_or_default()).write(&mut out);
        }
        Json::String(text) => AnyValue::String(text.as_bytes()).write(&mut out),
        Json::Array(_) => AnyValue::Array(&list(json, depth)?).write(&mut out),
        Json::Object(_) => AnyValue::Map(&list(json, depth)?).write(&mut out),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_arrays_become_maps_and_lists() {
        let text = br#"{"a":1,"b":[true,null,"x"],"c":{"d":-0.5}}"#;
        let Value::Map(map) = parse(text).unwrap() else {
            panic!("a map");
        };
        let shown = AnyValue::Map(&map).text().into_owned();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            r#"{"a":1,"b":[true,null,"x"],"c":{"d":-0.5}}"#
        );
        assert!(matches!(parse(b"[]"), Ok(Value::List(_))));
        for refused in ["", "1", "\"a\"", "null", "{", "{\"a\":1}x"] {
            assert!(parse(refused.as_bytes()).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH + 1).as_bytes()).is_err());
    }
}
