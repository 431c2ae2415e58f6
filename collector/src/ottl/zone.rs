//! Time zones, as Go has them.
//!
//! In: a name, or an offset that stood in a text. Out: what the clocks there say.
//! Invariant: looking something up never fails; a time beyond the years that are known has the
//! offset of the nearest that is.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where a time is read on the clock.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Zone {
    Utc,
    /// A zone of the time zone database.
    Place(TimeZone),
    /// An offset in seconds, with the name that stood beside it, if any.
    Fixed(i32, String),
}

impl Zone {
    /// The zone with this name in the time zone database.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "" | "UTC" => Some(Self::Utc),
            "Local" => Some(Self::local()),
            name => TimeZone::get(name).ok().map(Self::Place),
        }
    }

    /// The zone of this machine.
    pub(super) fn local() -> Self {
        match TimeZone::try_system() {
            Ok(zone) if !zone.is_unknown() => Self::Place(zone),
            _ => Self::Utc,
        }
    }

    /// The zone's abbreviation and its offset in seconds, so many seconds after 1970.
    pub(super) fn at(&self, seconds: i64) -> (String, i32) {
        match self {
            Self::Utc => ("UTC".to_owned(), 0),
            Self::Fixed(offset, name) => (name.clone(), *offset),
            Self::Place(zone) => {
                let info = zone.to_offset_info(timestamp(seconds));
                (info.abbreviation().to_owned(), info.offset().seconds())
            }
        }
    }

    /// The seconds since 1970 at which clocks there show so many seconds since 1970.
    pub(super) fn instant(&self, shown: i64) -> i64 {
        let offset = |seconds| i64::from(self.at(seconds).1);
        match offset(shown) {
            0 => shown,
            // Near a change of clocks the first guess may lie on its other side.
            first => shown - offset(shown - first),
        }
    }

    /// The offset that an abbreviation stands for when clocks there show so many seconds since
    /// 1970; or else the one that it stood for last.
    pub(super) fn offset_of(&self, abbreviation: &str, shown: i64) -> Option<i32> {
        let Self::Place(zone) = self else {
            return None;
        };
        let now = Timestamp::now();
        let current = zone.to_offset_info(now);
        let current = (current.abbreviation() == abbreviation).then_some(current.offset());
        let earlier = zone.preceding(now);
        let earlier = earlier.filter(|change| change.abbreviation() == abbreviation);
        let offsets = current
            .into_iter()
            .chain(earlier.map(|change| change.offset()));
        let offsets: Vec<i32> = offsets.map(|offset| offset.seconds()).collect();
        let then = offsets
            .iter()
            .map(|offset| self.at(shown - i64::from(*offset)));
        let mut fitting = then.filter(|(name, _)| name == abbreviation);
        let fitting = fitting.next().map(|(_, offset)| offset);
        fitting.or(offsets.first().copied())
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(seconds.clamp(least, most)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JULY_2023: i64 = 1_688_212_800;
    const JANUARY_2023: i64 = 1_672_574_400;

    #[test]
    fn a_place_has_the_offset_of_its_season() {
        let Some(berlin) = Zone::named("Europe/Berlin") else {
            panic!("no time zone database");
        };
        assert_eq!(berlin.at(JULY_2023), ("CEST".to_owned(), 7_200));
        assert_eq!(berlin.at(JANUARY_2023), ("CET".to_owned(), 3_600));
        assert_eq!(berlin.instant(JULY_2023), JULY_2023 - 7_200);
        assert_eq!(berlin.offset_of("CEST", JULY_2023), Some(7_200));
        assert_eq!(berlin.offset_of("CEST", JANUARY_2023), Some(7_200));
        assert_eq!(berlin.offset_of("EST", JULY_2023), None);
        assert_eq!(berlin.at(i64::MAX).1, 3_600);
        assert_eq!(Zone::named("Europe/Nowhere"), None);
    }

    #[test]
    fn around_a_change_of_clocks_one_of_both_offsets_counts() {
        let Some(berlin) = Zone::named("Europe/Berlin") else {
            panic!("no time zone database");
        };
        // 2023-03-26: two o'clock became three o'clock, which was 01:00 UTC.
        const CHANGE: i64 = 1_679_792_400;
        assert_eq!(berlin.instant(CHANGE + 3_600 - 1), CHANGE - 1);
        assert_eq!(berlin.instant(CHANGE + 7_200), CHANGE);
        // What no clock shows is read with the offset of before.
        assert_eq!(berlin.instant(CHANGE + 3_600), CHANGE);
    }
}
