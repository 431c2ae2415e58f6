//! The spellings of a secret that programs and people produce, found in text.
//!
//! Goes in: a secret, and any text. Comes out: where the text spells the secret. Invariant: a
//! place begins and ends between characters.

use std::ops::Range;

/// How a secret may be spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each of its bytes as it is, percent-encoded, as in a form, or escaped as in JSON: encoders
    /// differ in what they leave as it is.
    Text(String),
    /// Digits of an encoding, which may be wrapped into lines.
    Digits(String),
}

/// The bytes that one may become: `\u00xx`.
const LONGEST_ESCAPE: usize = 6;

impl Spelling {
    /// How many bytes it takes at least.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Digits(text) => text.len(),
        }
    }

    /// The first place at or behind `from` where a text spells it.
    pub(super) fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let (Self::Text(secret) | Self::Digits(secret)) = self;
        let first = *secret.as_bytes().first()?;
        let rest = text.get(from..)?;
        // As it is, it is found fast; what is encoded or wrapped must begin before that to count.
        let plain = rest.find(secret).map(|start| from + start);
        let until = plain.unwrap_or(text.len());
        let bytes = text.as_bytes();
        let is_text = matches!(self, Self::Text(_));
        let breaks = |byte: &u8| match self {
            Self::Text(_) => is_escape(*byte),
            Self::Digits(_) => byte.is_ascii_whitespace(),
        };
        let reach = until.saturating_add(LONGEST_ESCAPE * secret.len());
        let near = &bytes[from..reach.min(bytes.len())];
        if near.iter().any(breaks) {
            for start in from..until {
                if bytes[start] != first && !(is_text && is_escape(bytes[start])) {
                    continue;
                }
                let length = match self {
                    Self::Text(_) => spelled(secret, &bytes[start..]),
                    Self::Digits(_) => wrapped(secret.as_bytes(), &bytes[start..]),
                };
                if let Some(length) = length {
                    return Some(start..start + length);
                }
            }
        }
        plain.map(|start| start..start + secret.len())
    }
}

/// Whether an encoded character may begin like this.
fn is_escape(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'+')
}

/// How many bytes of the text spell the secret from its first character on.
///
/// A character that looks like an escape may be one or stand for itself, so all readings are
/// followed; they differ in how far they have come.
fn spelled(secret: &str, text: &[u8]) -> Option<usize> {
    let (mut ends, mut next) = (vec![0], Vec::new());
    for character in secret.chars() {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        for end in ends.drain(..) {
            let rest: &[u8] = text.get(end..)?;
            if rest.starts_with(bytes) {
                next.push(end + bytes.len());
            }
            if rest.first().copied().is_some_and(is_escape)
                && let Some(length) = encoded(character, bytes, rest)
            {
                next.push(end + length);
            }
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            return None;
        }
        std::mem::swap(&mut ends, &mut next);
    }
    ends.last().copied()
}

/// How many bytes at the start of the text are this character, encoded.
fn encoded(character: char, bytes: &[u8], text: &[u8]) -> Option<usize> {
    match text {
        [b'%', ..] => {
            let pairs = text.get(..3 * bytes.len())?.as_chunks::<3>().0;
            let are_same = pairs.iter().zip(bytes).all(|(pair, byte)| {
                pair[0] == b'%' && escaped_byte(pair[1], pair[2]) == Some(*byte)
            });
            are_same.then_some(3 * bytes.len())
        }
        [b'+', ..] => (character == ' ').then_some(1),
        _ => {
            let (found, length) = json_escape(text)?;
            (found == character).then_some(length)
        }
    }
}

fn escaped_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The character that an escape at the start of the text stands for, and the escape's length.
fn json_escape(text: &[u8]) -> Option<(char, usize)> {
    Some(match text.get(1)? {
        b'u' => return unicode_escape(text),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        byte @ (b'"' | b'\\' | b'/') => (char::from(*byte), 2),
        _ => return None,
    })
}

/// The character of `\uXXXX`, or of two of them for what takes a pair.
fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(0)?;
    let units = [Some(first), unit(6)];
    let taken = if (0xd800..0xdc00).contains(&first) {
        2
    } else {
        1
    };
    let character = char::decode_utf16(units.into_iter().take(taken).flatten()).next()?;
    Some((character.ok()?, 6 * taken))
}

/// How many bytes of the text are these digits, with nothing but white space among them.
fn wrapped(digits: &[u8], text: &[u8]) -> Option<usize> {
    let mut read = 0;
    for digit in digits {
        while read > 0 && text.get(read)?.is_ascii_whitespace() {
            read += 1;
        }
        if text.get(read) != Some(digit) {
            return None;
        }
        read += 1;
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_encoders_mix_its_spellings() {
        let secret = Spelling::Text("a b/ö%2\"\\😀\n".to_owned());
        for text in [
            "a b/ö%2\"\\😀\n",
            "a%20b/%C3%B6%252%22%5C%F0%9F%98%80%0A",
            "a+b%2fö%252\"\\😀%0a",
            r#"a b\/\u00f6%2\"\\\ud83d\ude00\n"#,
            r#"a b/ö%2\"\\😀\u000a"#,
        ] {
            let around = format!("%ä{text}+\\");
            assert_eq!(secret.find(&around, 0), Some(3..3 + text.len()), "{text}");
        }
        for other in [
            "a b/ö%2\"\\😀",
            "a-b/ö%2\"\\😀\n",
            "a%2",
            "\\u00",
            "\\ud83d",
            "a%20b/\\",
        ] {
            assert_eq!(secret.find(other, 0), None, "{other}");
        }
    }

    #[test]
    fn a_secret_that_looks_encoded_is_found_as_it_is_and_encoded() {
        for (secret, encoded) in [
            ("p%25x%2541", "p%2525x%252541"),
            (r"a\\b\n", r"a\\\\b\\n"),
            (r#"ab%25"cd"#, r#"ab%25\"cd"#),
            ("ab%25 cd", "ab%25%20cd"),
            (r"p\\server x", r"p\\server%20x"),
            ("öbö/u%255", r"\u00f6b\u00f6/u%255"),
        ] {
            let spelling = Spelling::Text(secret.to_owned());
            assert_eq!(spelling.find(secret, 0), Some(0..secret.len()), "{secret}");
            assert_eq!(
                spelling.find(encoded, 0),
                Some(0..encoded.len()),
                "{encoded}"
            );
        }
    }

    #[test]
    fn digits_are_found_across_lines() {
        let digits = Spelling::Digits("abcdef".to_owned());
        assert_eq!(digits.find("x abc\n  def y", 0), Some(2..11));
        assert_eq!(digits.find("x abc\r\ndef", 3), None);
        assert_eq!(digits.find("ab cdx abcde", 0), None);
    }
}
