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

impl Spelling {
    /// How many bytes it takes at least.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Digits(text) => text.len(),
        }
    }

    /// The first place at or behind `from` where a text spells it.
    pub(super) fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let bytes = text.as_bytes();
        let first = *match self {
            Self::Text(secret) | Self::Digits(secret) => secret.as_bytes().first()?,
        };
        let is_text = matches!(self, Self::Text(_));
        let may_begin =
            |byte: &u8| *byte == first || is_text && matches!(byte, b'%' | b'\\' | b'+');
        let mut start = from;
        loop {
            start += bytes.get(start..)?.iter().position(may_begin)?;
            let rest = &bytes[start..];
            let length = match self {
                Self::Text(secret) => spelled(secret.as_bytes(), rest),
                Self::Digits(digits) => wrapped(digits.as_bytes(), rest),
            };
            match length {
                Some(length) => return Some(start..start + length),
                None => start += 1,
            }
        }
    }
}

/// How many bytes of the text spell the secret from its first byte on.
fn spelled(secret: &[u8], text: &[u8]) -> Option<usize> {
    // As it is, it may look as if it were encoded.
    if text.starts_with(secret) {
        return Some(secret.len());
    }
    let (mut known, mut read) = (0, 0);
    while let Some(expected) = secret.get(known) {
        let rest = text.get(read..)?;
        let (spelled, length) = match rest {
            [b'%', high, low, ..] if escaped_byte(*high, *low) == Some(*expected) => (1, 3),
            [b'\\', ..] if let Some(found) = json_escape(rest, &secret[known..]) => found,
            [byte, ..] if byte == expected => (1, 1),
            [b'+', ..] if *expected == b' ' => (1, 1),
            _ => return None,
        };
        known += spelled;
        read += length;
    }
    Some(read)
}

fn escaped_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// How many bytes of the secret an escape at the start of the text spells, and its length.
fn json_escape(text: &[u8], secret: &[u8]) -> Option<(usize, usize)> {
    let (character, length) = match text.get(1)? {
        b'u' => unicode_escape(text)?,
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        byte @ (b'"' | b'\\' | b'/') => (char::from(*byte), 2),
        _ => return None,
    };
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).as_bytes();
    secret.starts_with(bytes).then_some((bytes.len(), length))
}

/// The character of `\uXXXX`, or of two of them for what takes a pair.
fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let first = unit(0)?;
    let units = [Some(first), unit(6)];
    let is_pair = (0xd800..0xdc00).contains(&first);
    let taken = if is_pair { 2 } else { 1 };
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
            (
                r"a\\b
",
                r"a\\\\b\n",
            ),
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
