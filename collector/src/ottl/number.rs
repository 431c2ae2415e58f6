//! Numbers as Go writes them.
//!
//! In: a number and a [`Verb`]. Out: its digits, as wide as they must be.
//! Invariant: a double is written with no more digits than tell it from all others, or with as
//! many as are asked for.

use super::format::{Verb, pad};

/// A whole number in the base of its verb.
pub(super) fn integer(out: &mut Vec<u8>, verb: &Verb, number: i64) {
    let size = number.unsigned_abs();
    let signed = number < 0 || verb.plus || verb.space;
    let digits = match verb.precision {
        Some(0) if size == 0 => {
            out.resize(out.len() + verb.width, b' ');
            return;
        }
        Some(precision) => precision,
        None if verb.zero && !verb.minus => verb.width.saturating_sub(usize::from(signed)),
        None => 0,
    };
    let mut text = match verb.letter {
        'b' => format!("{size:0digits$b}"),
        'o' | 'O' => format!("{size:0digits$o}"),
        'x' => format!("{size:0digits$x}"),
        'X' => format!("{size:0digits$X}"),
        _ => format!("{size:0digits$}"),
    };
    let head = match verb.letter {
        'b' if verb.sharp => "0b",
        'o' | 'O' if verb.sharp && !text.starts_with('0') => "0",
        'x' if verb.sharp => "0x",
        'X' if verb.sharp => "0X",
        _ => "",
    };
    text.insert_str(0, head);
    if verb.letter == 'O' {
        text.insert_str(0, "0o");
    }
    if let Some(sign) = sign(number < 0, verb) {
        text.insert(0, sign);
    }
    let plain = Verb {
        zero: false,
        ..verb.clone()
    };
    pad(out, &plain, text.as_bytes());
}

fn sign(is_negative: bool, verb: &Verb) -> Option<char> {
    match is_negative {
        true => Some('-'),
        false if verb.plus => Some('+'),
        false if verb.space => Some(' '),
        false => None,
    }
}

/// A double in the form of its verb.
pub(super) fn float(out: &mut Vec<u8>, verb: &Verb, number: f64) {
    let is_negative = number.is_sign_negative() && !number.is_nan();
    if !number.is_finite() {
        let name = if number.is_nan() { "NaN" } else { "Inf" };
        let sign = match sign(is_negative, verb) {
            None if number.is_infinite() => Some('+'),
            sign => sign,
        };
        let text: String = sign.into_iter().chain(name.chars()).collect();
        let plain = Verb {
            zero: false,
            ..verb.clone()
        };
        return pad(out, &plain, text.as_bytes());
    }
    let size = number.abs();
    let text = match verb.letter {
        'f' | 'F' => format!("{size:.0$}", verb.precision.unwrap_or(6)),
        'e' | 'E' => {
            let text = format!("{size:.0$e}", verb.precision.unwrap_or(6));
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            scientific(digits, exponent.parse().unwrap_or(0))
        }
        _ => general(size, verb.precision),
    };
    let text = match verb.letter {
        'E' | 'G' => text.to_uppercase(),
        _ => text,
    };
    match sign(is_negative, verb) {
        // Zeros stand between the sign and the digits.
        Some(sign) if verb.zero && !verb.minus && verb.width > text.len() + 1 => {
            let rest = Verb {
                width: verb.width - 1,
                ..verb.clone()
            };
            out.push(sign as u8);
            pad(out, &rest, text.as_bytes());
        }
        Some(sign) => pad(out, verb, format!("{sign}{text}").as_bytes()),
        None => pad(out, verb, text.as_bytes()),
    }
}

/// `1.5e+06`
fn scientific(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// The shorter of both forms, as `%g` has it: with an exponent where it is small or great.
fn general(size: f64, precision: Option<usize>) -> String {
    // The digits that count, and the exponent of the first of them.
    let text = match precision {
        None => format!("{size:e}"),
        Some(precision) => format!("{size:.0$e}", precision.max(1) - 1),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return "0".to_owned();
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let threshold = match precision.map(|precision| i32::try_from(precision.max(1))) {
        None => 6,
        Some(Ok(precision)) if precision <= count || count <= exponent => precision,
        Some(_) => count,
    };
    if exponent < -4 || exponent >= threshold {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return scientific(&format!("{first}{point}{rest}"), exponent);
    }
    match usize::try_from(exponent + 1) {
        Ok(whole) if whole >= digits.len() => format!("{digits:0<whole$}"),
        Ok(whole) if whole > 0 => format!("{}.{}", &digits[..whole], &digits[whole..]),
        _ => format!(
            "0.{}{digits}",
            "0".repeat((-exponent - 1).unsigned_abs() as usize)
        ),
    }
}
