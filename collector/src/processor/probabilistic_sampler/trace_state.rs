//! The part of W3C's tracestate that says how a span was sampled.
//!
//! In: a span's tracestate. Out: whether it speaks of sampling, and one that does.
//! Invariant: entries of other vendors stay as they are, behind ours.

use super::threshold::{is_randomness, is_threshold};

/// How long a tracestate may be, and our part of it.
const MAX_LENGTH: usize = 1024;
const MAX_OWN_LENGTH: usize = 256;
/// How many entries a tracestate has, at most.
const MAX_ENTRIES: usize = 32;

/// What a tracestate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TraceState<'s> {
    /// The randomness that it says.
    pub(super) randomness: Option<&'s str>,
    /// The threshold that it says.
    pub(super) threshold: Option<&'s str>,
    /// What else our entry has.
    own: Vec<&'s str>,
    /// The entries of others.
    others: Vec<&'s str>,
}

impl<'s> TraceState<'s> {
    /// Reads a tracestate; `None` when it is malformed.
    pub(super) fn parse(text: &'s str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let mut state = Self::default();
        if text.is_empty() {
            return Some(state);
        }
        for (index, entry) in text.split(',').enumerate() {
            let entry = entry.trim_matches([' ', '\t']);
            if index + 1 >= MAX_ENTRIES {
                return None;
            }
            if entry.is_empty() {
                continue;
            }
            let (key, value) = entry.split_once('=')?;
            if !is_key(key) || !is_value(value) {
                return None;
            }
            match key {
                "ot" => state.read_own(value)?,
                _ => state.others.push(entry),
            }
        }
        Some(state)
    }

    fn read_own(&mut self, value: &'s str) -> Option<()> {
        if value.len() > MAX_OWN_LENGTH {
            return None;
        }
        for member in value.split(';') {
            let (key, value) = member.split_once(':')?;
            let sound = key.starts_with(|c: char| c.is_ascii_lowercase())
                && key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            match key {
                _ if !sound => return None,
                "rv" if is_randomness(value) => self.randomness = Some(value),
                "th" if is_threshold(value) => self.threshold = Some(value),
                "rv" | "th" => return None,
                _ => self.own.push(member),
            }
        }
        Some(())
    }

    /// The tracestate with randomness and threshold; either may be empty.
    pub(super) fn written(&self, randomness: &str, threshold: &str) -> String {
        let mut own = Vec::new();
        if !randomness.is_empty() {
            own.push(format!("rv:{randomness}"));
        }
        if !threshold.is_empty() {
            own.push(format!("th:{threshold}"));
        }
        own.extend(self.own.iter().map(|member| (*member).to_owned()));
        let mut entries = Vec::new();
        if !own.is_empty() {
            entries.push(format!("ot={}", own.join(";")));
        }
        entries.extend(self.others.iter().map(|entry| (*entry).to_owned()));
        entries.join(",")
    }
}

fn is_key(key: &str) -> bool {
    let punctuation =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*/_".contains(&byte);
    let (first, system) = match key.split_once('@') {
        Some((tenant, system)) => (tenant, Some(system)),
        None => (key, None),
    };
    let starts = |text: &str, digits: bool| {
        text.starts_with(|c: char| c.is_ascii_lowercase() || (digits && c.is_ascii_digit()))
            && text.bytes().all(punctuation)
    };
    let longest = if system.is_some() { 241 } else { 256 };
    starts(first, system.is_some())
        && first.len() <= longest
        && system.is_none_or(|system| starts(system, false) && system.len() <= 14)
}

fn is_value(value: &str) -> bool {
    let sound = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(sound) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_stay_behind_ours() {
        let state = TraceState::parse("a=b, ot=x:1;y:2 ,,c@d=e f").unwrap();
        assert_eq!((state.randomness, state.threshold), (None, None));
        assert_eq!(
            state.written("0123456789abcd", "8"),
            "ot=rv:0123456789abcd;th:8;x:1;y:2,a=b,c@d=e f"
        );
        assert_eq!(TraceState::default().written("", "0"), "ot=th:0");
        assert_eq!(TraceState::parse("a=b").unwrap().written("", ""), "a=b");
    }

    #[test]
    fn sampling_is_seen_and_nonsense_refused() {
        let state = TraceState::parse("ot=th:8;rv:0123456789abcd").unwrap();
        assert_eq!(state.threshold, Some("8"));
        assert_eq!(state.randomness, Some("0123456789abcd"));
        for text in [
            "a",
            "A=b",
            "a=",
            "a=b=c",
            "ot=th:xyz",
            "ot=rv:12",
            "ot=th",
            "ot=X:1",
            "a=é",
        ] {
            assert_eq!(TraceState::parse(text), None, "{text}");
        }
    }
}
