//! Takes secrets out of text.
//!
//! Goes in: any text. Comes out: the same with every form of every secret replaced. Invariant:
//! what passes through here holds no secret in plain, JSON, base64 (at any alignment, wrapped or
//! not), hex, percent or form encoding, nor in a mixture of those that leave some characters.

use std::io::Write as _;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

use super::Secrets;
use super::spelling::Spelling;

/// Takes secrets out of text.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Every form with what stands in its place, longest first.
    forms: Vec<(Spelling, String)>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} forms)", self.forms.len())
    }
}

impl Redactor {
    /// For all secrets of an environment.
    #[must_use]
    pub fn new(secrets: &Secrets) -> Self {
        let mut redactor = Self::default();
        for (name, secret) in secrets.iter() {
            redactor.add(name.as_str(), secret.expose());
        }
        redactor
    }

    /// For the output of a command, whatever it may hold.
    pub(super) fn of_output(name: &str, output: &str) -> Self {
        let mut redactor = Self::default();
        for line in output.lines().map(str::trim) {
            if line.len() >= super::SECRET_MINIMUM_BYTES {
                redactor.add(name, line);
            }
        }
        redactor
    }

    /// Takes secrets out of what a panic says, from now on. Such a message may quote any text
    /// that the program had in its hands.
    pub fn guard_panics(&self) {
        let redactor = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "{}", redactor.redact(&panic.to_string()));
        }));
    }

    fn add(&mut self, name: &str, value: &str) {
        let mark = format!("«secret {name}»");
        let hex = |digits: fn(u8) -> String| value.bytes().map(digits).collect::<String>();
        let mut digits = vec![
            hex(|byte| format!("{byte:02x}")),
            hex(|byte| format!("{byte:02X}")),
        ];
        for offset in 0..3 {
            digits.push(base64_inside(&STANDARD, value, offset));
            digits.push(base64_inside(&URL_SAFE, value, offset));
        }
        let lines = value.lines();
        let lines = lines.filter(|line| line.len() >= super::SECRET_MINIMUM_BYTES);
        let mut forms = vec![Spelling::Text(value.to_owned())];
        forms.extend(lines.map(|line| Spelling::Text(line.to_owned())));
        forms.extend(digits.into_iter().map(Spelling::Digits));
        forms.retain(|form| form.len() >= super::SECRET_MINIMUM_BYTES.min(value.len()));
        for form in forms {
            if !self.forms.iter().any(|(known, _)| *known == form) {
                self.forms.push((form, mark.clone()));
            }
        }
        self.forms
            .sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut redacted = text.to_owned();
        for (form, mark) in &self.forms {
            let (mut out, mut from) = (String::new(), 0);
            while let Some(place) = form.find(&redacted, from) {
                out.push_str(&redacted[from..place.start]);
                out.push_str(mark);
                from = place.end;
            }
            if from > 0 {
                out.push_str(&redacted[from..]);
                redacted = out;
            }
        }
        redacted
    }

    /// Takes secrets out of every text of a JSON value; what is no text stays as it is.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(list) => list.iter_mut().for_each(|one| self.redact_json(one)),
            Value::Object(map) => map.values_mut().for_each(|one| self.redact_json(one)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether the text holds any form of any secret.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        let mut forms = self.forms.iter();
        forms.any(|(form, _)| form.find(text, 0).is_some())
    }
}

/// The part of a base64 text that depends on the secret alone, when `offset` bytes stand before.
fn base64_inside(engine: &impl base64::Engine, value: &str, offset: usize) -> String {
    let mut bytes = vec![0u8; offset];
    bytes.extend_from_slice(value.as_bytes());
    let skip = (offset * 8).div_ceil(6);
    let whole = bytes.len() * 8 / 6;
    let text = engine.encode(&bytes);
    text.get(skip..whole).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    const VALUE: &str = "pa$$ wörd/+\"x\"";

    fn redactor() -> Redactor {
        let mut redactor = Redactor::default();
        redactor.add("token", VALUE);
        redactor
    }

    #[test]
    fn every_form_is_taken_out() {
        let redactor = redactor();
        let forms = [
            VALUE.to_owned(),
            STANDARD.encode(VALUE),
            STANDARD.encode(format!("user:{VALUE}")),
            STANDARD.encode(format!("ab{VALUE}cd")),
            URL_SAFE.encode(format!("a{VALUE}")),
            "pa%24%24%20w%C3%B6rd%2F%2B%22x%22".to_owned(),
            "pa%24%24%20w%c3%b6rd%2f%2b%22x%22".to_owned(),
            "pa$$%20w%C3%B6rd/+%22x%22".to_owned(),
            "pa%24%24+w%C3%B6rd%2F%2B%22x%22".to_owned(),
            STANDARD.encode(VALUE).replace("d2", "d\n2"),
            serde_json::to_string(VALUE).unwrap(),
            hex(VALUE),
            hex(VALUE).to_uppercase(),
        ];
        for form in forms {
            let text = format!("before {form} after");
            assert!(redactor.finds(&text), "{form}");
            let redacted = redactor.redact(&text);
            assert!(redacted.contains("«secret token»"), "{redacted}");
            assert!(!redactor.finds(&redacted), "{redacted}");
        }
    }

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn json_stays_json() {
        let mut redactor = Redactor::default();
        redactor.add("number", "123456");
        let mut value = serde_json::json!({ "elapsed": 123_456, "said": ["a 123456 b"] });
        redactor.redact_json(&mut value);
        let expected = serde_json::json!({ "elapsed": 123_456, "said": ["a «secret number» b"] });
        assert_eq!(value, expected);
    }

    /// In a process of its own, as the hook of a process is that of all its tests.
    #[test]
    fn panics_do_not_show_it() {
        const MARK: &str = "REDACTOR_PANICS";
        if std::env::var_os(MARK).is_some() {
            redactor().guard_panics();
            panic!("in the middle of {VALUE}");
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "secret::redactor::tests::panics_do_not_show_it"])
            .arg("--nocapture")
            .env(MARK, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("in the middle of «secret token»"), "{said}");
        assert!(!redactor().finds(&said), "{said}");
    }

    #[test]
    fn it_is_taken_out_wherever_it_stands() {
        let text = format!("{VALUE}{VALUE} {0}\n{0}", STANDARD.encode(VALUE));
        let mark = "«secret token»";
        let redacted = redactor().redact(&text);
        assert_eq!(redacted.matches(mark).count(), 4, "{redacted}");
        assert!(
            redacted.starts_with(&format!("{mark}{mark} {mark}")),
            "{redacted}"
        );
    }

    #[test]
    fn other_text_stays() {
        assert_eq!(redactor().redact("nothing to see"), "nothing to see");
    }
}
