//! Variables and how they override each other.
//!
//! Goes in: JSON objects from the lowest level to the highest. Comes out: one object. Invariant:
//! tables are merged key by key; everything else is replaced whole.

use std::str::FromStr;

use serde_json::Value;
use toml::de::DeTable;

use crate::document::to_json;

/// Puts `above` over `below`.
pub fn merge(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// All dotted keys of an object.
#[must_use]
pub fn dotted_keys(settings: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in settings.as_object().into_iter().flatten() {
        keys.push(key.clone());
        keys.extend(
            dotted_keys(value)
                .into_iter()
                .map(|inner| format!("{key}.{inner}")),
        );
    }
    keys
}

/// One `--set KEY.KEY=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    text: String,
    path: Vec<String>,
    value: Value,
}

impl Override {
    /// Whether a value stands there already. A key that no level below has is one that no
    /// template reads.
    #[must_use]
    pub fn is_known(&self, settings: &Value) -> bool {
        let found = self
            .path
            .iter()
            .try_fold(settings, |value, key| value.get(key));
        found.is_some()
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The dotted key.
    #[must_use]
    pub fn key(&self) -> String {
        self.path.join(".")
    }

    /// Puts the value where it belongs.
    pub fn apply(&self, settings: &mut Value) {
        let mut nested = self.value.clone();
        for key in self.path.iter().rev() {
            nested = Value::Object([(key.clone(), nested)].into_iter().collect());
        }
        merge(settings, &nested);
    }
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("write KEY=VALUE, for instance retention.logs=7d")?;
        let path: Vec<String> = key.split('.').map(ToOwned::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("`{key}` is no dotted key"));
        }
        Ok(Self {
            text: text.to_owned(),
            path,
            value: parse_value(value),
        })
    }
}

/// TOML where it is TOML, a plain text otherwise, so that `--set a=7d` needs no quotes.
fn parse_value(text: &str) -> Value {
    let document = format!("value = {text}");
    DeTable::parse(&document)
        .ok()
        .filter(|table| table.get_ref().len() == 1)
        .and_then(|table| {
            table
                .get_ref()
                .get("value")
                .map(|value| to_json(value.get_ref()))
        })
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_merged_and_the_rest_replaced() {
        let mut value = json!({ "a": { "b": 1, "c": [1, 2] }, "d": "x" });
        merge(&mut value, &json!({ "a": { "c": [3] }, "e": true }));
        assert_eq!(
            value,
            json!({ "a": { "b": 1, "c": [3] }, "d": "x", "e": true })
        );
    }

    #[test]
    fn an_override_needs_no_quotes() {
        let mut value = json!({ "retention": { "logs": "30d", "traces": "14d" } });
        "retention.logs=7d"
            .parse::<Override>()
            .unwrap()
            .apply(&mut value);
        "limit=5".parse::<Override>().unwrap().apply(&mut value);
        let expected = json!({ "retention": { "logs": "7d", "traces": "14d" }, "limit": 5 });
        assert_eq!(value, expected);
        assert!("no-value".parse::<Override>().is_err());
        assert!(".=1".parse::<Override>().is_err());
    }
}
