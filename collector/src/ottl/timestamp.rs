//! `Time` and `FormatTime`: times as texts.
//!
//! In: a text and a [`Layout`], or a time and a [`Layout`]. Out: the time, or the text, as Go's
//! own library has it. Invariant: work grows with the text.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime};

use super::calendar::{Moment, SECOND, seconds_shown};
use super::fault::EvalFault;
use super::layout::{Fraction, Layout, Offset, Padding, Part, Piece};
use super::text::shown;
use super::zone::Zone;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// How long a name in short is.
const SHORT: usize = 3;

/// How `Time` reads texts.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    format: String,
    layout: Layout,
    /// Where the clock stands when the text does not say it.
    zone: Zone,
}

impl Reader {
    /// A reader for a format, and perhaps a name of the time zone database.
    pub(super) fn of(format: &str, location: Option<&str>) -> Result<Self, EvalFault> {
        let zone = match location.filter(|name| !name.is_empty()) {
            Some(name) => Zone::named(name).ok_or_else(|| {
                let message = format!("there is no time zone {name:?} in this machine's tzdata");
                EvalFault::new(message)
            })?,
            // Also where Z is the directive for an abbreviation, as in otelcol.
            None if format.ends_with('Z') => Zone::Utc,
            None => Zone::local(),
        };
        Ok(Self {
            format: format.to_owned(),
            layout: Layout::of(format)?,
            zone,
        })
    }

    /// The time that a text says.
    pub(super) fn read(&self, text: &[u8]) -> Result<Moment, EvalFault> {
        let fault = || {
            let message = format!("{} is no time such as {:?}", shown(text), self.format);
            EvalFault::new(message)
        };
        let said = Said::read(&self.layout, text).ok_or_else(fault)?;
        let year = match said.year {
            0 => said.likely_year(&Moment::now(), &self.zone)?,
            year => year,
        };
        let moment = said.moment(year, &self.zone)?;
        // An abbreviation that means nothing at this place may be a name of the database.
        match &moment.zone {
            Zone::Fixed(0, name) => {
                let message = || format!("there is no time zone {}", shown(name.as_bytes()));
                let zone = Zone::named(name).ok_or_else(|| EvalFault::new(message()))?;
                said.moment(year, &zone)
            }
            _ => Ok(moment),
        }
    }
}

/// What a text says of a time.
#[derive(Debug, Default)]
struct Said {
    /// Zero when nothing is said.
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    is_morning: bool,
    is_afternoon: bool,
    is_utc: bool,
    offset: Option<i32>,
    /// An abbreviation.
    zone: Option<String>,
}

impl Said {
    fn read(layout: &Layout, text: &[u8]) -> Option<Self> {
        let mut said = Self::default();
        let mut rest = text;
        for (place, piece) in layout.pieces.iter().enumerate() {
            match piece {
                Piece::Plain(plain) => rest = skip(rest, plain)?,
                Piece::Part(part) => {
                    rest = said.part(*part, rest)?;
                    let mut later = layout.pieces[place + 1..].iter();
                    let next = later.find(|piece| matches!(piece, Piece::Part(_)));
                    // A fraction that the format does not have belongs to its second.
                    if let Part::Second(_) = part
                        && !matches!(next, Some(Piece::Part(Part::Fraction(_))))
                    {
                        rest = said.fraction(rest)?;
                    }
                }
            }
        }
        if said.is_afternoon && said.hour < 12 {
            said.hour += 12;
        } else if said.is_morning && said.hour == 12 {
            said.hour = 0;
        }
        rest.is_empty().then_some(said)
    }

    /// Reads a part; what is left of the text.
    fn part<'t>(&mut self, part: Part, text: &'t [u8]) -> Option<&'t [u8]> {
        let is_zero = |padding| padding == Padding::Zero;
        let mut rest = text;
        match part {
            Part::LongYear => {
                let (digits, after) = rest.split_at_checked(4)?;
                self.year = whole(digits).filter(|_| digits[0].is_ascii_digit())?;
                rest = after;
            }
            Part::Year => {
                let (digits, after) = rest.split_at_checked(2)?;
                let year: i16 = whole(digits)?;
                self.year = if year >= 69 { year + 1900 } else { year + 2000 };
                rest = after;
            }
            Part::LongMonth => self.month = Some(name(&mut rest, &MONTHS, usize::MAX)? + 1),
            Part::Month => self.month = Some(name(&mut rest, &MONTHS, SHORT)? + 1),
            Part::MonthNumber(padding) => {
                let month = number(&mut rest, is_zero(padding))?;
                self.month = Some(month).filter(|month| (1..=12).contains(month));
                self.month?;
            }
            Part::LongWeekday => drop(name(&mut rest, &WEEKDAYS, usize::MAX)?),
            Part::Weekday => drop(name(&mut rest, &WEEKDAYS, SHORT)?),
            Part::Day(padding) => {
                if let (Padding::Space, Some(after)) = (padding, rest.strip_prefix(b" ")) {
                    rest = after;
                }
                self.day = Some(number(&mut rest, is_zero(padding))?);
            }
            Part::Hour => self.hour = below(24, number(&mut rest, false)?)?,
            Part::Hour12(padding) => self.hour = below(13, number(&mut rest, is_zero(padding))?)?,
            Part::Minute(padding) => {
                self.minute = below(60, number(&mut rest, is_zero(padding))?)?;
            }
            Part::Second(padding) => {
                self.second = below(60, number(&mut rest, is_zero(padding))?)?;
            }
            Part::Capitals => rest = self.half_of_a_day(rest, [b"AM", b"PM"])?,
            Part::Small => rest = self.half_of_a_day(rest, [b"am", b"pm"])?,
            Part::ZoneName => rest = self.zone_name(rest)?,
            Part::Offset(offset) => rest = self.offset(offset, rest)?,
            Part::Fraction(Fraction { zeros: false, .. }) => rest = self.fraction(rest)?,
            Part::Fraction(fraction) => {
                let (text, after) = rest.split_at_checked(fraction.digits + 1)?;
                self.nanosecond = nanoseconds(text)?;
                rest = after;
            }
        }
        Some(rest)
    }

    /// A fraction of a second, of as many digits as there are, or none.
    fn fraction<'t>(&mut self, text: &'t [u8]) -> Option<&'t [u8]> {
        let [b'.' | b',', digits @ ..] = text else {
            return Some(text);
        };
        let count = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count == 0 {
            return Some(text);
        }
        self.nanosecond = nanoseconds(&text[..=count])?;
        Some(&text[1 + count..])
    }

    fn half_of_a_day<'t>(&mut self, text: &'t [u8], words: [&[u8]; 2]) -> Option<&'t [u8]> {
        let (word, rest) = text.split_at_checked(2)?;
        let half = words.iter().position(|known| *known == word)?;
        self.is_morning |= half == 0;
        self.is_afternoon |= half == 1;
        Some(rest)
    }

    fn zone_name<'t>(&mut self, text: &'t [u8]) -> Option<&'t [u8]> {
        if let Some(rest) = text.strip_prefix(b"UTC") {
            self.is_utc = true;
            return Some(rest);
        }
        let (name, rest) = text.split_at_checked(abbreviation(text)?)?;
        self.zone = Some(String::from_utf8_lossy(name).into_owned());
        Some(rest)
    }

    fn offset<'t>(&mut self, offset: Offset, text: &'t [u8]) -> Option<&'t [u8]> {
        if let (true, Some(rest)) = (offset.zulu, text.strip_prefix(b"Z")) {
            self.is_utc = true;
            return Some(rest);
        }
        let (sign, mut rest) = text.split_first()?;
        let mut seconds = 0;
        for (place, most) in [24, 60, 60].into_iter().enumerate() {
            seconds *= 60;
            if place >= offset.numbers {
                continue;
            }
            if offset.colons && place > 0 {
                rest = rest.strip_prefix(b":")?;
            }
            let part = number(&mut rest, true)?;
            seconds += i32::from(below(most + 1, part)?);
        }
        self.offset = Some(match sign {
            b'+' => seconds,
            b'-' => -seconds,
            _ => return None,
        });
        Some(rest)
    }

    /// The time in a year.
    fn moment(&self, year: i16, place: &Zone) -> Result<Moment, EvalFault> {
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let invalid = || EvalFault::new("the month has no such day");
        // Without a year, what it has is checked as in a leap year, and overflows in others.
        let leaps = self.year == 0 && (month, day) == (2, 29);
        let date = match Date::new(year, month, day) {
            Err(_) if leaps => Date::new(year, 3, 1),
            date => date,
        };
        let date = date.map_err(|_| invalid())?;
        let time = date.at(self.hour, self.minute, self.second, 0).time();
        let clock = seconds_shown(date, time);
        let at = |seconds: i64, zone: Zone| Moment {
            nanoseconds: i128::from(seconds) * SECOND + i128::from(self.nanosecond),
            zone,
        };
        if self.is_utc {
            return Ok(at(clock, Zone::Utc));
        }
        if let Some(offset) = self.offset {
            let seconds = clock - i64::from(offset);
            let here = place.at(seconds);
            let name = self.zone.clone().unwrap_or_default();
            let is_here = here.1 == offset && (name.is_empty() || here.0 == name);
            let zone = match is_here {
                true => place.clone(),
                false => Zone::Fixed(offset, name),
            };
            return Ok(at(seconds, zone));
        }
        let Some(name) = &self.zone else {
            return Ok(at(place.instant(clock), place.clone()));
        };
        if let Some(offset) = place.offset_of(name, clock) {
            return Ok(at(clock - i64::from(offset), place.clone()));
        }
        let hours = name
            .strip_prefix("GMT")
            .and_then(|hours| whole::<i32>(hours.as_bytes()));
        // As in Go, the offset is where the time is read, not by how much it differs from UTC.
        let offset = hours.unwrap_or(0) * 3600;
        Ok(at(clock, Zone::Fixed(offset, name.clone())))
    }

    /// The year that a text without one means: this one, or the last where it would be more than
    /// a week ahead.
    fn likely_year(&self, now: &Moment, place: &Zone) -> Result<i16, EvalFault> {
        let this = now.shown()?;
        let moment = self.moment(this.year(), place)?;
        let week = Moment {
            nanoseconds: now.nanoseconds + 7 * 86_400 * SECOND,
            zone: now.zone.clone(),
        };
        Ok(match moment.nanoseconds > week.nanoseconds {
            true => this.year() - 1,
            false => this.year(),
        })
    }
}

/// What follows something plain; spaces stand for any number of them.
fn skip<'t>(text: &'t [u8], plain: &[u8]) -> Option<&'t [u8]> {
    let (mut text, mut plain) = (text, plain);
    while let [wanted, after @ ..] = plain {
        if *wanted == b' ' {
            if text.first().is_some_and(|byte| *byte != b' ') {
                return None;
            }
            (text, plain) = (without_spaces(text), without_spaces(plain));
        } else {
            text = text.strip_prefix(&[*wanted])?;
            plain = after;
        }
    }
    Some(text)
}

fn without_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

/// A number that is all of a text, perhaps with a sign.
fn whole<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number of one or two digits; `both` when it must be two.
fn number(rest: &mut &[u8], both: bool) -> Option<i8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| (byte - b'0') as i8);
    let (first, after) = rest.split_first()?;
    let first = digit(*first)?;
    match after
        .split_first()
        .and_then(|(second, after)| Some((digit(*second)?, after)))
    {
        Some((second, after)) => {
            *rest = after;
            Some(first * 10 + second)
        }
        None if both => None,
        None => {
            *rest = after;
            Some(first)
        }
    }
}

fn below(bound: i8, number: i8) -> Option<i8> {
    (number < bound).then_some(number)
}

/// The place of a name, of which so much is written, in any case.
fn name(rest: &mut &[u8], names: &[&str], length: usize) -> Option<i8> {
    for (place, name) in names.iter().enumerate() {
        let name = &name.as_bytes()[..length.min(name.len())];
        if let Some((text, after)) = rest.split_at_checked(name.len())
            && text.eq_ignore_ascii_case(name)
        {
            *rest = after;
            return i8::try_from(place).ok();
        }
    }
    None
}

/// The nanoseconds of a fraction with the point before it; more than nine digits do not count.
fn nanoseconds(text: &[u8]) -> Option<i32> {
    let (b'.' | b',', digits) = text.split_first()? else {
        return None;
    };
    let digits = &digits[..digits.len().min(9)];
    let value = digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + i32::from(digit - b'0'))
    });
    value.map(|value| (digits.len()..9).fold(value, |value, _| value * 10))
}

/// The length of an abbreviation of a time zone, such as `CEST`, `GMT+2` and `-03`.
fn abbreviation(text: &[u8]) -> Option<usize> {
    let capitals = text
        .iter()
        .take(6)
        .take_while(|byte| byte.is_ascii_uppercase());
    let capitals = capitals.count();
    match text {
        [b'C', b'h', b'S', b'T', ..] | [b'M', b'e', b'S', b'T', ..] => Some(4),
        [b'G', b'M', b'T', hours @ ..] => Some(3 + signed_hours(hours).unwrap_or(0)),
        [b'+' | b'-', _, _, ..] => signed_hours(text),
        _ if capitals == 3 => Some(3),
        [_, _, _, b'T', ..] | [b'W', b'I', b'T', b'A', ..] if capitals == 4 => Some(4),
        [_, _, _, _, b'T', ..] if capitals == 5 => Some(5),
        _ => None,
    }
}

/// The length of a sign and up to 23 hours.
fn signed_hours(text: &[u8]) -> Option<usize> {
    let (b'+' | b'-', digits) = text.split_first()? else {
        return None;
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let hours: u64 = whole(&digits[..count])?;
    (hours <= 23).then_some(1 + count)
}

/// `FormatTime`: a time as a text.
pub(super) fn write(layout: &Layout, time: &Moment) -> Result<Vec<u8>, EvalFault> {
    let shown = time.shown()?;
    let (zone, offset) = time.zone.at(time.nanoseconds.div_euclid(SECOND) as i64);
    let mut out = Vec::new();
    for piece in &layout.pieces {
        match piece {
            Piece::Plain(plain) => out.extend_from_slice(plain),
            Piece::Part(part) => write_part(&mut out, *part, shown, (&zone, offset)),
        }
    }
    Ok(out)
}

/// A time as Go shows it where nothing else is asked for.
pub(super) fn plain(time: &Moment) -> Result<Vec<u8>, EvalFault> {
    static PLAIN: LazyLock<Result<Layout, EvalFault>> =
        LazyLock::new(|| Layout::of("%Y-%m-%d %H:%M:%S.%s -0700 %Z"));
    write(PLAIN.as_ref().map_err(Clone::clone)?, time)
}

/// A duration as Go shows it: `1h2m3.5s`, `1.5ms`.
pub(super) fn duration(nanoseconds: i128) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    let fraction = |size: u128, unit: u128| {
        let digits = unit.ilog10() as usize;
        let (whole, part) = (size / unit, size % unit);
        let text = format!("{whole}.{part:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(size, 1_000_000)),
        _ => {
            const MINUTE: u128 = 60 * 1_000_000_000;
            let (minutes, rest) = (size / MINUTE, fraction(size % MINUTE, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    };
    format!("{sign}{text}")
}

fn write_part(out: &mut Vec<u8>, part: Part, time: DateTime, (zone, offset): (&str, i32)) {
    let month = MONTHS[time.month().unsigned_abs() as usize - 1];
    let weekday = time.date().weekday().to_sunday_zero_offset();
    let weekday = WEEKDAYS[weekday.unsigned_abs() as usize];
    let padded = |number: i8, padding| match padding {
        Padding::Nothing => number.to_string(),
        Padding::Space => format!("{number:2}"),
        Padding::Zero => format!("{number:02}"),
    };
    let half = if time.hour() >= 12 { "pm" } else { "am" };
    let text = match part {
        Part::LongYear if time.year() < 0 => format!("-{:04}", time.year().unsigned_abs()),
        Part::LongYear => format!("{:04}", time.year()),
        Part::Year => format!("{:02}", time.year().unsigned_abs() % 100),
        Part::LongMonth => month.to_owned(),
        Part::Month => month[..SHORT].to_owned(),
        Part::MonthNumber(padding) => padded(time.month(), padding),
        Part::LongWeekday => weekday.to_owned(),
        Part::Weekday => weekday[..SHORT].to_owned(),
        Part::Day(padding) => padded(time.day(), padding),
        Part::Hour => padded(time.hour(), Padding::Zero),
        Part::Hour12(padding) => padded((time.hour() + 11) % 12 + 1, padding),
        Part::Minute(padding) => padded(time.minute(), padding),
        Part::Second(padding) => padded(time.second(), padding),
        Part::Capitals => half.to_uppercase(),
        Part::Small => half.to_owned(),
        Part::ZoneName if zone.is_empty() => written_offset(
            Offset {
                zulu: false,
                colons: false,
                numbers: 2,
            },
            offset,
        ),
        Part::ZoneName => zone.to_owned(),
        Part::Offset(form) => written_offset(form, offset),
        Part::Fraction(fraction) => written_fraction(fraction, time.subsec_nanosecond()),
    };
    out.extend_from_slice(text.as_bytes());
}

fn written_offset(form: Offset, offset: i32) -> String {
    if form.zulu && offset == 0 {
        return "Z".to_owned();
    }
    // As in Go, the sign is that of the minutes.
    let sign = if offset / 60 < 0 { '-' } else { '+' };
    let seconds = offset.unsigned_abs();
    let numbers = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let numbers: Vec<String> = numbers[..form.numbers]
        .iter()
        .map(|number| format!("{number:02}"))
        .collect();
    let between = if form.colons { ":" } else { "" };
    format!("{sign}{}", numbers.join(between))
}

fn written_fraction(form: Fraction, nanosecond: i32) -> String {
    let digits = format!("{nanosecond:09}");
    let digits = &digits[..form.digits.min(digits.len())];
    let kept = match form.zeros {
        true => digits,
        false => digits.trim_end_matches('0'),
    };
    match kept {
        "" => String::new(),
        kept => format!("{}{kept}", char::from(form.point)),
    }
}

#[cfg(test)]
mod tests;
