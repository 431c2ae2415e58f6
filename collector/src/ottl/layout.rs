//! How a time is written: `%Y-%m-%dT%H:%M:%S%j` and the like.
//!
//! In: a format as `strptime` has them, with otelcol's directives. Out: its [`Piece`]s.
//! Invariant: a format means what it means in otelcol, which makes a layout of Go's of it. There
//! `2006` stands for the year, also where the format itself has these digits.

use super::fault::EvalFault;

/// A format, in pieces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) pieces: Vec<Piece>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// What is written as it is.
    Plain(Vec<u8>),
    Part(Part),
}

/// A part of a time, in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    LongYear,
    /// Its last two digits.
    Year,
    LongMonth,
    Month,
    MonthNumber(Padding),
    LongWeekday,
    Weekday,
    Day(Padding),
    Hour,
    /// Of twelve.
    Hour12(Padding),
    Minute(Padding),
    Second(Padding),
    /// `AM` or `PM`; or in small letters.
    Capitals,
    Small,
    /// An abbreviation.
    ZoneName,
    Offset(Offset),
    Fraction(Fraction),
}

/// What stands before a number of one digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Padding {
    Nothing,
    Space,
    Zero,
}

/// How an offset is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Offset {
    /// Whether UTC is `Z`.
    pub(super) zulu: bool,
    /// Whether there are colons.
    pub(super) colons: bool,
    /// How many numbers: hours, minutes and seconds.
    pub(super) numbers: usize,
}

/// How a fraction of a second is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fraction {
    /// What stands before it, which belongs to it.
    pub(super) point: u8,
    pub(super) digits: usize,
    /// Whether zeros at the end stay.
    pub(super) zeros: bool,
}

/// otelcol's directives, with what they are in a layout of Go's.
const DIRECTIVES: &[(char, &str)] = &[
    ('Y', "2006"),
    ('y', "06"),
    ('m', "01"),
    ('o', "_1"),
    ('q', "1"),
    ('b', "Jan"),
    ('h', "Jan"),
    ('B', "January"),
    ('d', "02"),
    ('e', "_2"),
    ('g', "2"),
    ('a', "Mon"),
    ('A', "Monday"),
    ('H', "15"),
    ('l', "3"),
    ('I', "03"),
    ('p', "PM"),
    ('P', "pm"),
    ('M', "04"),
    ('S', "05"),
    ('L', "999"),
    ('f', "999999"),
    ('s', "999999999"),
    ('Z', "MST"),
    ('z', "Z0700"),
    ('w', "-070000"),
    ('i', "-07"),
    ('j', "-07:00"),
    ('k', "-07:00:00"),
    ('D', "01/02/2006"),
    ('x', "01/02/2006"),
    ('F', "2006-01-02"),
    ('T', "15:04:05"),
    ('X', "15:04:05"),
    ('r', "03:04:05 pm"),
    ('R', "15:04"),
    ('n', "\n"),
    ('t', "\t"),
    ('%', "%"),
    ('c', "Mon Jan 02 15:04:05 2006"),
];

const fn offset(zulu: bool, colons: bool, numbers: usize) -> Part {
    Part::Offset(Offset {
        zulu,
        colons,
        numbers,
    })
}

/// What Go takes for a part of a time; the first that fits counts.
const PARTS: &[(&str, Part)] = &[
    ("January", Part::LongMonth),
    ("Jan", Part::Month),
    ("Monday", Part::LongWeekday),
    ("Mon", Part::Weekday),
    ("MST", Part::ZoneName),
    ("01", Part::MonthNumber(Padding::Zero)),
    ("02", Part::Day(Padding::Zero)),
    ("03", Part::Hour12(Padding::Zero)),
    ("04", Part::Minute(Padding::Zero)),
    ("05", Part::Second(Padding::Zero)),
    ("06", Part::Year),
    ("15", Part::Hour),
    ("1", Part::MonthNumber(Padding::Nothing)),
    ("2006", Part::LongYear),
    ("2", Part::Day(Padding::Nothing)),
    ("_2", Part::Day(Padding::Space)),
    ("3", Part::Hour12(Padding::Nothing)),
    ("4", Part::Minute(Padding::Nothing)),
    ("5", Part::Second(Padding::Nothing)),
    ("PM", Part::Capitals),
    ("pm", Part::Small),
    ("-070000", offset(false, false, 3)),
    ("-07:00:00", offset(false, true, 3)),
    ("-0700", offset(false, false, 2)),
    ("-07:00", offset(false, true, 2)),
    ("-07", offset(false, false, 1)),
    ("Z070000", offset(true, false, 3)),
    ("Z07:00:00", offset(true, true, 3)),
    ("Z0700", offset(true, false, 2)),
    ("Z07:00", offset(true, true, 2)),
    ("Z07", offset(true, false, 1)),
];

/// What Go takes for the day of a year, which no directive stands for.
const DAYS_OF_A_YEAR: [&str; 2] = ["002", "__2"];

impl Layout {
    /// Reads a format.
    pub(super) fn of(format: &str) -> Result<Self, EvalFault> {
        if format.is_empty() {
            return Err(EvalFault::new("a format of times cannot be empty"));
        }
        let native = native(format)?;
        let (mut pieces, mut plain) = (Vec::new(), Vec::new());
        let mut rest = native.as_str();
        while let Some(character) = rest.chars().next() {
            if DAYS_OF_A_YEAR.iter().any(|day| rest.starts_with(day)) {
                return Err(EvalFault::new("days of a year are not supported yet"));
            }
            let Some((part, length)) = part(rest) else {
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[character.len_utf8()..];
                continue;
            };
            if !plain.is_empty() {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Part(part));
            rest = &rest[length..];
        }
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(Self { pieces })
    }
}

/// The layout of Go's that otelcol makes of a format.
fn native(format: &str) -> Result<String, EvalFault> {
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        // A % at the end stands for itself, and so does one at the end of a line.
        let directive = characters.clone().next().filter(|next| *next != '\n');
        match (character, directive) {
            ('%', Some(directive)) => {
                characters.next();
                match DIRECTIVES.iter().find(|(known, _)| *known == directive) {
                    Some((_, native)) => out.push_str(native),
                    None => {
                        let message = format!("%{directive} is no part of a format of times");
                        return Err(EvalFault::new(message));
                    }
                }
            }
            (plain, _) => out.push(plain),
        }
    }
    Ok(out)
}

/// The part that a layout begins with, and the length of its text.
fn part(layout: &str) -> Option<(Part, usize)> {
    if let Some(fraction) = fraction(layout.as_bytes()) {
        return Some((Part::Fraction(fraction), fraction.digits + 1));
    }
    // Here the line is plain, and a year follows.
    if layout.starts_with("_2006") {
        return None;
    }
    let fits = |text: &str| {
        let rest = layout.strip_prefix(text);
        let is_word = rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        rest.is_some() && !(is_word && (text == "Jan" || text == "Mon"))
    };
    let found = PARTS.iter().find(|(text, _)| fits(text));
    found.map(|(text, part)| (*part, text.len()))
}

fn fraction(layout: &[u8]) -> Option<Fraction> {
    let [point @ (b'.' | b','), digit @ (b'0' | b'9'), ..] = layout else {
        return None;
    };
    let digits = layout[1..].iter().take_while(|byte| *byte == digit).count();
    let ends = layout
        .get(1 + digits)
        .is_none_or(|next| !next.is_ascii_digit());
    ends.then_some(Fraction {
        point: *point,
        digits,
        zeros: *digit == b'0',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_means_what_it_means_in_otelcol() {
        let pieces = |format: &str| Layout::of(format).unwrap().pieces;
        let plain = |text: &str| Piece::Plain(text.as_bytes().to_vec());
        assert_eq!(
            pieces("%Y_%b x%e"),
            [
                Piece::Part(Part::LongYear),
                plain("_"),
                Piece::Part(Part::Month),
                plain(" x"),
                Piece::Part(Part::Day(Padding::Space)),
            ]
        );
        let Piece::Part(Part::Fraction(fraction)) = pieces("%S.%L")[1] else {
            panic!("a fraction");
        };
        assert_eq!((fraction.digits, fraction.zeros), (3, false));
        assert_eq!(pieces("_%Y")[0], plain("_"));
        assert_eq!(pieces("%f"), [plain("999999")]);
        assert_eq!(pieces("%bx"), [plain("Janx")]);
        assert_eq!(pieces("%z"), [Piece::Part(offset(true, false, 2))]);
        assert_eq!(
            pieces("100%"),
            [
                Piece::Part(Part::MonthNumber(Padding::Nothing)),
                plain("00%")
            ]
        );
        for refused in ["", "%Q", "%1", "_%e"] {
            assert!(Layout::of(refused).is_err(), "{refused}");
        }
    }
}
