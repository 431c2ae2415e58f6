//! Times on the calendar, in UTC.
//!
//! In: a time in nanoseconds since 1970. Out: its year, hour and so on, or the beginning of the
//! span of time that it lies in. Invariant: as in Go, spans are counted from the year 1.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::fault::EvalFault;

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
const BEFORE_1970: i128 = 62_135_596_800 * 1_000_000_000;

impl Part {
    /// This part of a time.
    pub(super) fn of(self, nanoseconds: i128) -> Result<i64, EvalFault> {
        let time = Timestamp::from_nanosecond(nanoseconds)
            .map_err(|_| EvalFault::new("the time is out of range"))?
            .to_zoned(TimeZone::UTC);
        Ok(match self {
            Self::Year => time.year().into(),
            Self::Month => time.month().into(),
            Self::Day => time.day().into(),
            Self::Weekday => time.weekday().to_sunday_zero_offset().into(),
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
        let time = 1_700_000_000_000_000_007;
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
            assert_eq!(part.of(time), Ok(expected), "{part:?}");
        }
        assert!(Part::Year.of(i128::MAX).is_err());
    }

    #[test]
    fn a_week_begins_on_monday() {
        const SECOND: i128 = 1_000_000_000;
        let time = 1_700_000_000 * SECOND;
        assert_eq!(truncated(time, 3600 * SECOND), 1_699_999_200 * SECOND);
        let week = truncated(time, 7 * 86_400 * SECOND);
        assert_eq!(Part::Weekday.of(week), Ok(1));
        assert_eq!(truncated(time, 0), time);
    }
}
