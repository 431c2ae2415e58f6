//! A value as text, written as otelcol writes it.
//!
//! In: an [`AnyValue`]. Out: its text; arrays and maps as JSON, bytes as base64.
//! Invariant: the text of a string is the string, without a copy.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::any_value::AnyValue;

/// Doubles from here on are written with an exponent.
const LARGEST_PLAIN: f64 = 1e21;
/// Doubles below this are written with an exponent.
const SMALLEST_PLAIN: f64 = 1e-6;

impl<'a> AnyValue<'a> {
    /// The value as text.
    pub fn text(&self) -> Cow<'a, [u8]> {
        let text = match *self {
            Self::String(text) => return Cow::Borrowed(text),
            Self::Empty => return Cow::Borrowed(b""),
            Self::Bool(true) => return Cow::Borrowed(b"true"),
            Self::Bool(false) => return Cow::Borrowed(b"false"),
            Self::Int(number) => number.to_string().into_bytes(),
            Self::Double(number) => double(number).into_bytes(),
            Self::Bytes(bytes) => STANDARD.encode(bytes).into_bytes(),
            Self::Array(_) | Self::Map(_) => {
                let mut out = Vec::new();
                json(self, &mut out);
                out
            }
        };
        Cow::Owned(text)
    }
}

/// A double as Go's JSON writes it.
pub(crate) fn double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(SMALLEST_PLAIN..LARGEST_PLAIN).contains(&size) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        };
    }
    format!("{number}")
}

fn json(value: &AnyValue<'_>, out: &mut Vec<u8>) {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::String(text) => quote(text, out),
        AnyValue::Bytes(bytes) => quote(STANDARD.encode(bytes).as_bytes(), out),
        AnyValue::Array(_) => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json(&element, out);
            }
            out.push(b']');
        }
        AnyValue::Map(_) => {
            let sorted: BTreeMap<_, _> = value.pairs().collect();
            out.push(b'{');
            for (index, (key, element)) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                quote(key, out);
                out.push(b':');
                json(element, out);
            }
            out.push(b'}');
        }
        _ => out.extend_from_slice(&value.text()),
    }
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\0'..=' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if character != ' ' => {
                out.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes());
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn doubles_are_written_as_go_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (0.000_001, "0.000001"),
            (1.5e-7, "1.5e-7"),
        ] {
            assert_eq!(double(number), text);
        }
    }

    #[test]
    fn maps_are_json_with_sorted_keys() {
        let pair = |key: &str, value: &AnyValue<'_>| {
            let (mut pair, mut bytes) = (Vec::new(), Vec::new());
            value.write(&mut bytes);
            wire::write_bytes(&mut pair, 1, key.as_bytes());
            wire::write_bytes(&mut pair, 2, &bytes);
            let mut out = Vec::new();
            wire::write_bytes(&mut out, 1, &pair);
            out
        };
        let list = [
            pair("b", &AnyValue::String("<ä\n\">".as_bytes())),
            pair("a", &AnyValue::Int(-1)),
            pair("c", &AnyValue::Bytes(&[1, 2])),
            pair("d", &AnyValue::Empty),
        ]
        .concat();
        let text = AnyValue::Map(&list).text().into_owned();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"a\":-1,\"b\":\"\\u003cä\\n\\\"\\u003e\",\"c\":\"AQI=\",\"d\":null}"
        );
    }
}
