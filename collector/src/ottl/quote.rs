//! Texts in quotes, as Go writes them.
//!
//! In: a text. Out: a constant of Go's that has it. Invariant: what a reader could not see is
//! written as its number.

use std::sync::LazyLock;

use regex::Regex;

/// What is seen: letters, marks, numbers, punctuation and symbols, and the space.
static SEEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[ \p{L}\p{M}\p{N}\p{P}\p{S}]$").ok());

/// A text in double quotes; only of ASCII if that is wanted.
pub(super) fn quoted(text: &[u8], in_ascii: bool) -> String {
    let mut out = String::from('"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape(&mut out, character, '"', in_ascii);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A character in single quotes.
pub(super) fn quoted_character(character: char, in_ascii: bool) -> String {
    let mut out = String::from('\'');
    escape(&mut out, character, '\'', in_ascii);
    out.push('\'');
    out
}

fn escape(out: &mut String, character: char, quote: char, in_ascii: bool) {
    let letter = match character {
        '\\' => '\\',
        character if character == quote => quote,
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        _ if is_seen(character, in_ascii) => return out.push(character),
        _ => {
            let number = u32::from(character);
            return out.push_str(&match number {
                0..0x20 | 0x7f => format!("\\x{number:02x}"),
                0x20..0x1_0000 => format!("\\u{number:04x}"),
                _ => format!("\\U{number:08x}"),
            });
        }
    };
    out.extend(['\\', letter]);
}

fn is_seen(character: char, in_ascii: bool) -> bool {
    match character {
        ' '..='~' => true,
        '\0'..='\x7f' => false,
        _ if in_ascii => false,
        // The only space that is seen is that of ASCII.
        _ => {
            let mut buffer = [0; 4];
            let text = character.encode_utf8(&mut buffer);
            SEEN.as_ref().is_some_and(|seen| seen.is_match(text))
        }
    }
}
