//! Values as otelcol prints them.
//!
//! In: pieces of OTLP/JSON. Out: text. Invariant: what is absent reads as its default.

use serde_json::Value as Json;

/// A member of an object; null if it is absent.
pub(super) fn get<'v>(value: &'v Json, key: &str) -> &'v Json {
    value.get(key).unwrap_or(&Json::Null)
}

/// A text.
pub(super) fn text<'v>(value: &'v Json, key: &str) -> &'v str {
    get(value, key).as_str().unwrap_or_default()
}

/// The items of a list.
pub(super) fn list<'v>(value: &'v Json, key: &str) -> &'v [Json] {
    get(value, key).as_array().map_or(&[], Vec::as_slice)
}

/// A whole number as text, whether it is written as a number or as a string.
pub(super) fn integer(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => "0".to_owned(),
    }
}

/// A number with a fraction.
pub(super) fn float(value: &Json) -> f64 {
    match value {
        Json::Number(number) => number.as_f64().unwrap_or_default(),
        Json::String(text) => text.parse().unwrap_or_default(),
        _ => 0.0,
    }
}

/// As Go's `%f`.
pub(super) fn fixed(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() => infinity(number),
        _ => format!("{number:.6}"),
    }
}

/// As Go's `%v`.
pub(super) fn plain(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() => infinity(number),
        _ if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) => exponential(number, 2),
        _ => number.to_string(),
    }
}

/// As Go writes a number into JSON.
fn json_number(number: f64) -> String {
    match number {
        _ if !number.is_finite() => format!("json: unsupported value: {}", plain(number)),
        _ if number != 0.0 && number.abs() >= 1e21 => exponential(number, 2),
        _ if number != 0.0 && number.abs() < 1e-6 => exponential(number, 1),
        _ => number.to_string(),
    }
}

fn infinity(number: f64) -> String {
    if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
}

fn exponential(number: f64, digits: usize) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>digits$}")
}

/// An attribute's value, with the name of its type.
pub(super) fn typed(value: &Json) -> String {
    let name = match value.as_object().and_then(|object| object.keys().next()) {
        None => "Empty",
        Some(kind) => match kind.as_str() {
            "stringValue" => "Str",
            "boolValue" => "Bool",
            "intValue" => "Int",
            "doubleValue" => "Double",
            "arrayValue" => "Slice",
            "kvlistValue" => "Map",
            "bytesValue" => "Bytes",
            _ => "Empty",
        },
    };
    format!("{name}({})", bare(value))
}

/// An attribute's value.
pub(super) fn bare(value: &Json) -> String {
    let entry = value.as_object().and_then(|object| object.iter().next());
    match entry {
        Some((kind, inner)) => match kind.as_str() {
            "stringValue" | "bytesValue" => inner.as_str().unwrap_or_default().to_owned(),
            "intValue" => integer(inner),
            "doubleValue" => json_number(float(inner)),
            "boolValue" => inner.to_string(),
            _ => raw(value),
        },
        None => String::new(),
    }
}

/// A value as JSON without the names of types, as Go writes it: keys sorted, `<`, `>` and `&`
/// escaped.
fn raw(value: &Json) -> String {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return "null".to_owned();
    };
    match kind.as_str() {
        "arrayValue" => {
            let items: Vec<_> = list(inner, "values").iter().map(raw).collect();
            format!("[{}]", items.join(","))
        }
        "kvlistValue" => {
            let mut entries = std::collections::BTreeMap::new();
            for entry in list(inner, "values") {
                entries.insert(text(entry, "key"), raw(get(entry, "value")));
            }
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{value}", quoted(key)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        "stringValue" | "bytesValue" => quoted(inner.as_str().unwrap_or_default()),
        _ => bare(value),
    }
}

fn quoted(text: &str) -> String {
    Json::from(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// Nanoseconds since the epoch as Go prints a time in UTC.
pub(super) fn time(value: &Json) -> String {
    let nanoseconds: i128 = integer(value).parse().unwrap_or_default();
    let Ok(time) = jiff::Timestamp::from_nanosecond(nanoseconds) else {
        return nanoseconds.to_string();
    };
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let whole = time.strftime("%Y-%m-%d %H:%M:%S");
    let fraction = match nanoseconds.rem_euclid(1_000_000_000) {
        0 => String::new(),
        rest => format!(".{rest:09}").trim_end_matches('0').to_owned(),
    };
    format!("{whole}{fraction} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let all = [0.1, 2.0, 1e30, 1.5e-7, 1e-5, f64::NAN, f64::NEG_INFINITY];
        let plain_expected = ["0.1", "2", "1e+30", "1.5e-07", "1e-05", "NaN", "-Inf"];
        assert_eq!(all.map(plain), plain_expected);
        let json = ["0.1", "2", "1e+30", "1.5e-7", "0.00001"];
        assert_eq!(
            [all[0], all[1], all[2], all[3], all[4]].map(json_number),
            json
        );
        assert_eq!([1.25, f64::INFINITY].map(fixed), ["1.250000", "+Inf"]);
    }
}
