//! `Format`: a text with values in it, as Go's `Sprintf` writes them.
//!
//! In: a constant format such as `%s took %.1f s`, and values. Out: a text. Invariant: each value
//! has its verb, which is checked when the configuration is read; a text grows with its values.

use collector_otlp::AnyValue;

use super::fault::EvalFault;
use super::number::{float, integer};
use super::path::hexadecimal;
use super::quote::{quoted, quoted_character};
use super::timestamp;
use super::value::Value;

/// How many times as long as its values a text may be: the elements of a list, which may be many,
/// are each as wide as the format says.
const GROWTH: usize = 16;

/// How long a text may be beside that for each of its verbs; a double has up to 309 digits.
const ROOM_BYTES: usize = 512;

/// The greatest width and precision.
const WIDEST: usize = 10_000;

/// What stands for values. Go has some more, for its own types and for pointers.
const VERBS: &str = "vdboOxXcqUeEfFgGst";

/// The verbs that can have a `#`.
const SHARP_VERBS: &str = "boOxX";

/// A format, in pieces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Plain(String),
    /// The value in this place.
    Value(usize, Verb),
}

/// How a value is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verb {
    pub(super) letter: char,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
    /// `+`: also a positive number has its sign.
    pub(super) plus: bool,
    /// `-`: what is too short stands on the left.
    pub(super) minus: bool,
    /// `0`: what is too short begins with zeros.
    pub(super) zero: bool,
    /// A space where a sign could stand.
    pub(super) space: bool,
    /// `#`: the base of a number stands before it.
    pub(super) sharp: bool,
}

impl Format {
    /// Reads a format for so many values.
    pub(super) fn of(format: &str, values: usize) -> Result<Self, EvalFault> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let (mut next, mut is_ordered) = (0, true);
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (verb, place) = Verb::read(&mut rest)?;
            if verb.letter == '%' {
                plain.push('%');
                continue;
            }
            is_ordered &= place.is_none();
            let place = place.unwrap_or(next);
            if place >= values {
                let message = format!("there is no value {} for %{}", place + 1, verb.letter);
                return Err(EvalFault::new(message));
            }
            next = place + 1;
            pieces.push(Piece::Plain(std::mem::take(&mut plain)));
            pieces.push(Piece::Value(place, verb));
        }
        if is_ordered && next < values {
            let message = format!("there are {values} values, of which the format has {next}");
            return Err(EvalFault::new(message));
        }
        plain.push_str(rest);
        pieces.push(Piece::Plain(plain));
        Ok(Self { pieces })
    }

    /// The text with these values.
    pub(super) fn write(&self, values: &[Value<'_>]) -> Result<Value<'static>, EvalFault> {
        let room = self.pieces.iter().map(|piece| match piece {
            Piece::Plain(plain) => plain.len(),
            Piece::Value(place, verb) => {
                let length = values.get(*place).map_or(0, size);
                length * GROWTH + verb.width + verb.precision.unwrap_or(0) + ROOM_BYTES
            }
        });
        let mut text = Text {
            out: Vec::new(),
            room: room.sum(),
        };
        for piece in &self.pieces {
            match piece {
                Piece::Plain(plain) => text.out.extend_from_slice(plain.as_bytes()),
                Piece::Value(place, verb) => {
                    text.value(verb, values.get(*place).unwrap_or(&Value::Nil))?;
                }
            }
        }
        // A value of bytes may be anything.
        let text = String::from_utf8_lossy(&text.out).into_owned();
        Ok(Value::Text(text.into_bytes().into()))
    }
}

impl Verb {
    /// Reads what follows a %, and the place of the value, if it says one.
    fn read(rest: &mut &str) -> Result<(Self, Option<usize>), EvalFault> {
        let mut verb = Self::default();
        loop {
            let flag = match rest.chars().next() {
                Some('+') => &mut verb.plus,
                Some('-') => &mut verb.minus,
                Some('0') => &mut verb.zero,
                Some(' ') => &mut verb.space,
                Some('#') => &mut verb.sharp,
                _ => break,
            };
            *flag = true;
            *rest = &rest[1..];
        }
        let before = place(rest)?;
        verb.width = number(rest)?.unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            *rest = after;
            verb.precision = Some(number(rest)?.unwrap_or(0));
        }
        let has_size = verb.width > 0 || verb.precision.is_some();
        if before.is_some() && has_size {
            let message = "a place such as [1] stands right before its verb";
            return Err(EvalFault::new(message));
        }
        let place = before.or(place(rest)?);
        let Some(letter) = rest.chars().next() else {
            return Err(EvalFault::new("after the last % there is no verb"));
        };
        *rest = &rest[letter.len_utf8()..];
        verb.letter = letter;
        if letter == 'v' {
            verb.plus = false;
        }
        if letter != '%' && !VERBS.contains(letter) {
            let message = format!("%{letter} is no verb of Format, whose sizes are constant");
            return Err(EvalFault::new(message));
        }
        if verb.sharp && !SHARP_VERBS.contains(letter) {
            let message = format!("%#{letter} is not supported yet");
            return Err(EvalFault::new(message));
        }
        Ok((verb, place))
    }

    fn with(&self, letter: char) -> Self {
        Self {
            letter,
            ..self.clone()
        }
    }
}

/// A number in brackets, counted from one.
fn place(rest: &mut &str) -> Result<Option<usize>, EvalFault> {
    let Some(inner) = rest.strip_prefix('[') else {
        return Ok(None);
    };
    let (digits, after) = inner.split_once(']').unwrap_or((inner, ""));
    let place = digits.parse::<usize>().ok();
    match place.and_then(|place| place.checked_sub(1)) {
        Some(place) => {
            *rest = after;
            Ok(Some(place))
        }
        None => Err(EvalFault::new("a place of a value is a number such as [1]")),
    }
}

fn number(rest: &mut &str) -> Result<Option<usize>, EvalFault> {
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(length);
    *rest = after;
    match digits.parse::<usize>() {
        _ if digits.is_empty() => Ok(None),
        Ok(number) if number <= WIDEST => Ok(Some(number)),
        _ => Err(EvalFault::new(format!("{digits} is more than {WIDEST}"))),
    }
}

/// How much a value holds, in bytes.
fn size(value: &Value<'_>) -> usize {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) | Value::List(bytes) => bytes.len(),
        _ => 0,
    }
}

/// A text in the making.
struct Text {
    out: Vec<u8>,
    room: usize,
}

impl Text {
    /// Writes a value.
    fn value(&mut self, verb: &Verb, value: &Value<'_>) -> Result<(), EvalFault> {
        if self.out.len() > self.room {
            let message = format!("the text would be {GROWTH} times as long as its values");
            return Err(EvalFault::new(message));
        }
        let letter = verb.letter;
        match value {
            Value::Nil if letter == 'v' => pad(&mut self.out, verb, b"<nil>"),
            Value::Nil => self
                .out
                .extend_from_slice(format!("%!{letter}(<nil>)").as_bytes()),
            Value::Bool(flag) if matches!(letter, 't' | 'v') => {
                pad(&mut self.out, verb, flag.to_string().as_bytes());
            }
            Value::Int(number) if is_of_integers(letter) => self.integer(verb, *number),
            Value::Double(number) => match letter {
                'b' | 'x' | 'X' => {
                    let message = format!("cannot write a double with %{letter}");
                    return Err(EvalFault::new(message));
                }
                'v' | 'g' | 'G' | 'f' | 'F' | 'e' | 'E' => float(&mut self.out, verb, *number),
                _ => self.unfit(verb, value)?,
            },
            Value::Text(text) if is_of_texts(letter) => self.text(verb, text),
            Value::Bytes(bytes) if is_of_texts(letter) && letter != 'v' => self.text(verb, bytes),
            Value::Bytes(bytes) if is_of_integers(letter) => {
                let numbers = bytes.iter().map(|byte| Value::Int(i64::from(*byte)));
                self.list(verb, numbers)?;
            }
            Value::List(list) => {
                let elements = AnyValue::Array(list).elements();
                self.list(verb, elements.map(Value::of))?;
            }
            Value::Time(time) if is_of_texts(letter) => {
                let text = timestamp::plain(time)?;
                self.text(verb, &text);
            }
            Value::Duration(length) if is_of_texts(letter) => {
                self.text(verb, timestamp::duration(*length).as_bytes());
            }
            Value::Duration(length) if is_of_integers(letter) => {
                self.integer(verb, *length as i64);
            }
            Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Duration(_) => {
                self.unfit(verb, value)?;
            }
            other => {
                let message = format!("cannot write {} with %{letter}", other.kind());
                return Err(EvalFault::new(message));
            }
        }
        Ok(())
    }

    /// What Go writes where a verb does not fit a value: the type and the value.
    fn unfit(&mut self, verb: &Verb, value: &Value<'_>) -> Result<(), EvalFault> {
        let kind = match value {
            Value::Bool(_) => "bool",
            Value::Int(_) => "int64",
            Value::Double(_) => "float64",
            Value::Duration(_) => "time.Duration",
            _ => "string",
        };
        let head = format!("%!{}({kind}=", verb.letter);
        self.out.extend_from_slice(head.as_bytes());
        match value {
            Value::Duration(length) => self.integer(&verb.with('v'), *length as i64),
            value => self.value(&verb.with('v'), value)?,
        }
        self.out.push(b')');
        Ok(())
    }

    fn list<'l>(
        &mut self,
        verb: &Verb,
        elements: impl Iterator<Item = Value<'l>>,
    ) -> Result<(), EvalFault> {
        self.out.push(b'[');
        for (place, element) in elements.enumerate() {
            if place > 0 {
                self.out.push(b' ');
            }
            match element {
                Value::Nil => self.out.extend_from_slice(b"<nil>"),
                element => self.value(verb, &element)?,
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn integer(&mut self, verb: &Verb, number: i64) {
        let out = &mut self.out;
        let character = || u32::try_from(number).ok().and_then(char::from_u32);
        let character = || character().unwrap_or(char::REPLACEMENT_CHARACTER);
        match verb.letter {
            'c' => pad(out, verb, character().to_string().as_bytes()),
            'q' => pad(
                out,
                verb,
                quoted_character(character(), verb.plus).as_bytes(),
            ),
            'U' => {
                let digits = verb.precision.unwrap_or(0).max(4);
                let plain = Verb {
                    zero: false,
                    ..verb.clone()
                };
                pad(out, &plain, format!("U+{number:0digits$X}").as_bytes());
            }
            _ => integer(out, verb, number),
        }
    }

    fn text(&mut self, verb: &Verb, text: &[u8]) {
        let out = &mut self.out;
        let most = verb.precision.unwrap_or(usize::MAX);
        match verb.letter {
            'x' | 'X' => in_hexadecimal(out, verb, &text[..most.min(text.len())]),
            'q' => pad(out, verb, quoted(cut(text, most), verb.plus).as_bytes()),
            _ => pad(out, verb, cut(text, most)),
        }
    }
}

fn is_of_integers(letter: char) -> bool {
    "vdboOxXcqU".contains(letter)
}

fn is_of_texts(letter: char) -> bool {
    "vsxXq".contains(letter)
}

/// So many characters of a text.
fn cut(text: &[u8], most: usize) -> &[u8] {
    let starts = text
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte & 0xc0 != 0x80);
    let end = starts.map(|(place, _)| place).nth(most);
    &text[..end.unwrap_or(text.len())]
}

/// Writes a text as wide as it must be.
pub(super) fn pad(out: &mut Vec<u8>, verb: &Verb, text: &[u8]) {
    let length = text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    let missing = verb.width.saturating_sub(length);
    let with = if verb.zero && !verb.minus { b'0' } else { b' ' };
    if verb.minus {
        out.extend_from_slice(text);
    }
    out.resize(out.len() + missing, with);
    if !verb.minus {
        out.extend_from_slice(text);
    }
}

fn in_hexadecimal(out: &mut Vec<u8>, verb: &Verb, bytes: &[u8]) {
    let mut digits = hexadecimal(bytes);
    let mut head = if verb.sharp { &b"0x"[..] } else { b"" };
    if verb.letter == 'X' {
        digits.make_ascii_uppercase();
        head = if verb.sharp { b"0X" } else { b"" };
    }
    let text = match (digits.is_empty(), verb.space) {
        (true, _) => Vec::new(),
        (false, false) => [head, &digits].concat(),
        (false, true) => {
            let pairs: Vec<Vec<u8>> = digits.chunks(2).map(|pair| [head, pair].concat()).collect();
            pairs.join(&b' ')
        }
    };
    pad(out, verb, &text);
}

#[cfg(test)]
mod tests;
