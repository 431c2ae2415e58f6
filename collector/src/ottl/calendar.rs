//! Times on the calendar.
//!
//! In: a time in nanoseconds since 1970, and its zone. Out: its year, hour and so on, or the
//! beginning of the span of time that it lies in. Invariant: as in Go, spans are counted from the
//! year 1.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Span;
use jiff::civil::{Date, DateTime, Time};

use super::fault::EvalFault;
use super::zone::Zone;

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    Month,
    Day,
    /// From 0 for Sunday to 6.
    Weekday,
    Hour,
    Minute,
    Second,
    Nanosecond,
}

/// From the year 1 to 1970.
const BEFORE_1970: i128 = 62_135_596_800 * SECOND;

/// A second in nanoseconds.
pub(super) const SECOND: i128 = 1_000_000_000;

const DAY_SECONDS: i64 = 86_400;

/// A point in time, and where it is read on the clock.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    /// Since 1970.
    pub(super) nanoseconds: i128,
    pub(super) zone: Zone,
}

impl Moment {
    /// A time that is read in UTC.
    pub(super) fn utc(nanoseconds: i128) -> Self {
        Self {
            nanoseconds,
            zone: Zone::Utc,
        }
    }

    /// The time of the system, read in its own zone.
    pub(super) fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            nanoseconds: now.unwrap_or_default().as_nanos() as i128,
            zone: Zone::local(),
        }
    }

    /// The same zone, so many nanoseconds later.
    pub(super) fn later(&self, nanoseconds: i128) -> Self {
        Self {
            nanoseconds: self.nanoseconds + nanoseconds,
            zone: self.zone.clone(),
        }
    }

    /// What calendars and clocks show.
    pub(super) fn shown(&self) -> Result<DateTime, EvalFault> {
        let out_of_range = || EvalFault::new("the time is out of range");
        let seconds = i64::try_from(self.nanoseconds.div_euclid(SECOND));
        let seconds = seconds.map_err(|_| out_of_range())?;
        let nanosecond = self.nanoseconds.rem_euclid(SECOND) as i32;
        let shown = seconds.saturating_add(self.zone.at(seconds).1.into());
        let days = Span::new().try_days(shown.div_euclid(DAY_SECONDS));
        let date = days.and_then(|days| EPOCH.checked_add(days));
        let second = shown.rem_euclid(DAY_SECONDS);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let time = Time::new(hour as i8, minute as i8, (second % 60) as i8, nanosecond);
        match (date, time) {
            (Ok(date), Ok(time)) => Ok(date.to_datetime(time)),
            _ => Err(out_of_range()),
        }
    }
}

const EPOCH: Date = Date::constant(1970, 1, 1);

/// The seconds since 1970 that a calendar and a clock show; days may be more than the month has.
pub(super) fn seconds_shown(date: Date, time: Time) -> i64 {
    let days = date.duration_since(EPOCH).as_hours() / 24;
    let clock = [time.hour(), time.minute(), time.second()];
    let clock = clock
        .into_iter()
        .fold(0, |sum, part| sum * 60 + i64::from(part));
    days * DAY_SECONDS + clock
}

impl Part {
    /// This part of a time.
    pub(super) fn of(self, time: &Moment) -> Result<i64, EvalFault> {
        let time = time.shown()?;
        Ok(match self {
            Self::Year => time.year().into(),
            Self::Month => time.month().into(),
            Self::Day => time.day().into(),
            Self::Weekday => time.date().weekday().to_sunday_zero_offset().into(),
            Self::Hour => time.hour().into(),
            Self::Minute => time.minute().into(),
            Self::Second => time.second().into(),
            Self::Nanosecond => time.subsec_nanosecond().into(),
        })
    }
}

/// The beginning of the span of time of this length in which a time lies.
pub(super) fn truncated(nanoseconds: i128, length: i128) -> i128 {
    match length > 0 {
        true => nanoseconds - (nanoseconds + BEFORE_1970).rem_euclid(length),
        false => nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_parts() {
        // 2023-11-14T22:13:20.000000007Z, a Tuesday.
        let time = Moment::utc(1_700_000_000_000_000_007);
        for (part, expected) in [
            (Part::Year, 2023),
            (Part::Month, 11),
            (Part::Day, 14),
            (Part::Weekday, 2),
            (Part::Hour, 22),
            (Part::Minute, 13),
            (Part::Second, 20),
            (Part::Nanosecond, 7),
        ] {
            assert_eq!(part.of(&time), Ok(expected), "{part:?}");
        }
        assert!(Part::Year.of(&Moment::utc(i128::MAX)).is_err());
        assert!(
            Part::Year
                .of(&Moment::utc(i128::from(i64::MAX) * SECOND))
                .is_err()
        );
        let zone = Zone::Fixed(-22 * 3600, String::new());
        let earlier = Moment { zone, ..time };
        assert_eq!(Part::Day.of(&earlier), Ok(14));
        assert_eq!(Part::Hour.of(&earlier), Ok(0));
    }

    #[test]
    fn a_week_begins_on_monday() {
        let time = 1_700_000_000 * SECOND;
        assert_eq!(truncated(time, 3600 * SECOND), 1_699_999_200 * SECOND);
        let week = truncated(time, 7 * 86_400 * SECOND);
        assert_eq!(Part::Weekday.of(&Moment::utc(week)), Ok(1));
        assert_eq!(truncated(time, 0), time);
    }
}
