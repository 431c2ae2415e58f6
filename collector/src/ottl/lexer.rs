//! The words of an OTTL text.
//!
//! In: the text of one condition or statement. Out: [`Token`]s, each with its column.
//! Invariant: columns count characters from one, as a reader does.

use super::fault::ParseFault;

/// One word, sign or literal, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) column: usize,
    pub(super) word: Word,
}

/// What a [`Token`] is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A name or keyword.
    Name(String),
    /// A string, without its quotes.
    Text(String),
    /// `0x` and hexadecimal digits.
    Bytes(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A sign, such as `==` or `(`.
    Sign(&'static str),
}

/// Longer ones first, so that `<=` is not read as `<`.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "=~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ".", ":", "+",
    "-", "*", "/",
];

/// Cuts a text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ParseFault> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let column = text[..text.len() - rest.len()].chars().count() + 1;
        if character.is_whitespace() {
            rest = &rest[character.len_utf8()..];
            continue;
        }
        let (word, length) = match character {
            '"' => string(rest, column)?,
            _ if rest.starts_with("0x") => bytes(rest, column)?,
            '0'..='9' => number(rest, column)?,
            '.' if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                number(rest, column)?
            }
            _ if character.is_ascii_alphabetic() => {
                let length = length_of(rest, |c| c.is_ascii_alphanumeric() || c == '_');
                (Word::Name(rest[..length].to_owned()), length)
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Word::Sign(sign), sign.len()),
                None => {
                    let message = format!("{character:?} has no meaning here");
                    return Err(ParseFault::new(column, message));
                }
            },
        };
        tokens.push(Token { column, word });
        rest = &rest[length..];
    }
    Ok(tokens)
}

fn length_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn string(text: &str, column: usize) -> Result<(Word, usize), ParseFault> {
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((Word::Text(out), index + 1)),
            '\\' => match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, escaped @ ('"' | '\\' | '\''))) => out.push(escaped),
                Some((_, other)) => {
                    let message = format!(
                        "\\{other} is no escape in a string; write \\\\{other} for a pattern"
                    );
                    return Err(ParseFault::new(column, message));
                }
                None => break,
            },
            _ => out.push(character),
        }
    }
    Err(ParseFault::new(column, "this string has no end"))
}

fn bytes(text: &str, column: usize) -> Result<(Word, usize), ParseFault> {
    let digits = &text[2..2 + length_of(&text[2..], |c| c.is_ascii_hexdigit())];
    let pairs: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    match pairs {
        Some(bytes) if !digits.is_empty() && digits.len().is_multiple_of(2) => {
            Ok((Word::Bytes(bytes), 2 + digits.len()))
        }
        _ => Err(ParseFault::new(
            column,
            "bytes are 0x and pairs of hexadecimal digits",
        )),
    }
}

fn number(text: &str, column: usize) -> Result<(Word, usize), ParseFault> {
    let mut length = length_of(text, |c| c.is_ascii_digit() || c == '.');
    let fraction = text[..length].contains('.');
    if fraction && text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let digits = length_of(&text[length + 1 + sign..], |c| c.is_ascii_digit());
        length += if digits > 0 { 1 + sign + digits } else { 0 };
    }
    let digits = &text[..length];
    let word = match fraction {
        true => digits.parse().map(Word::Double).ok(),
        false => digits.parse().map(Word::Int).ok(),
    };
    match word {
        Some(word) => Ok((word, length)),
        None => Err(ParseFault::new(
            column,
            format!("{digits} is not a number of 64 bits"),
        )),
    }
}
