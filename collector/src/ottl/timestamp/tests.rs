//! Times read and written, beside what otelcol's own code says of them.

use super::*;

/// Texts, formats and places, with what otelcol's own code makes of them: the time, what the
/// clock shows, and the zone.
const READ: &[(&str, &str, &str, &str)] = &[
    (
        "2023-05-26 12:34:56",
        "%Y-%m-%d %H:%M:%S",
        "",
        "1685104496.000000000 12:34 UTC +0000",
    ),
    (
        "2023-05-26T12:34:56.123456789Z",
        "%Y-%m-%dT%H:%M:%S.%f%z",
        "",
        "1685104496.123456789 12:34 UTC +0000",
    ),
    (
        "2023-05-26T12:34:56,5+02:00",
        "%FT%T%j",
        "",
        "1685097296.500000000 12:34 +0200 +0200",
    ),
    (
        "2023-05-26T12:34:56.5-0130",
        "%FT%T.%L%z",
        "",
        "1685109896.500000000 12:34 -0130 -0130",
    ),
    (
        "26/May/2023:12:34:56 -0700",
        "%d/%b/%Y:%H:%M:%S %z",
        "",
        "1685129696.000000000 12:34 -0700 -0700",
    ),
    (
        "Fri May 26 12:34:56 2023",
        "%c",
        "Europe/Berlin",
        "1685097296.000000000 12:34 CEST +0200",
    ),
    (
        "Friday, may 6 2023 1:02:03 PM",
        "%A, %B %g %Y %l:%M:%S %p",
        "America/New_York",
        "1683392523.000000000 13:02 EDT -0400",
    ),
    (
        "2023-01-26 12:34:56 EST",
        "%F %T %Z",
        "",
        "1674754496.000000000 12:34 EST -0500",
    ),
    (
        "2023-07-26 12:34:56 CEST",
        "%F %T %Z",
        "Europe/Berlin",
        "1690367696.000000000 12:34 CEST +0200",
    ),
    (
        "2023-01-26 12:34:56 CEST",
        "%F %T %Z",
        "Europe/Berlin",
        "1674729296.000000000 11:34 CET +0100",
    ),
    (
        "2023-01-26 12:34:56 GMT+3",
        "%F %T %Z",
        "",
        "1674736496.000000000 15:34 GMT+3 +0300",
    ),
    (
        "2023-01-26 12:34:56 GMT",
        "%F %T %Z",
        "America/New_York",
        "1674736496.000000000 12:34 GMT +0000",
    ),
    ("2023-01-26 12:34:56 PST", "%F %T %Z", "", "-"),
    (
        "2023-01-26 12:34:56 UTC",
        "%F %T %Z",
        "Asia/Tokyo",
        "1674736496.000000000 12:34 UTC +0000",
    ),
    (
        "2023-01-26 12:34:56 +0000",
        "%F %T %z",
        "Asia/Tokyo",
        "1674736496.000000000 12:34 UTC +0000",
    ),
    (
        "2023-01-26 12:34:56 +0900",
        "%F %T %z",
        "Asia/Tokyo",
        "1674704096.000000000 12:34 JST +0900",
    ),
    (
        "230126 1234",
        "%y%m%d %H%M",
        "",
        "1674736440.000000000 12:34 UTC +0000",
    ),
    (
        "690126",
        "%y%m%d",
        "",
        "-29376000.000000000 00:00 UTC +0000",
    ),
    ("2023-02-29", "%F", "", "-"),
    (
        "2024-02-29",
        "%F",
        "",
        "1709164800.000000000 00:00 UTC +0000",
    ),
    (
        "2023-03-26 02:30:00",
        "%F %T",
        "Europe/Berlin",
        "1679794200.000000000 03:30 CEST +0200",
    ),
    (
        "2023-10-29 02:30:00",
        "%F %T",
        "Europe/Berlin",
        "1698543000.000000000 02:30 CET +0100",
    ),
    (
        "2023-05-26  7",
        "%F %e",
        "",
        "1683417600.000000000 00:00 UTC +0000",
    ),
    (
        "2023-05-26",
        "%F ",
        "",
        "1685059200.000000000 00:00 UTC +0000",
    ),
    (
        "2023-05-26   x",
        "%F x",
        "",
        "1685059200.000000000 00:00 UTC +0000",
    ),
    ("2023-05-26x", "%F", "", "-"),
    ("2023-05-26 24:00", "%F %R", "", "-"),
    (
        "2023-05-26 1:00",
        "%F %R",
        "",
        "1685062800.000000000 01:00 UTC +0000",
    ),
    ("2023-5-26", "%F", "", "-"),
    (
        "5/6/2023",
        "%q/%g/%Y",
        "",
        "1683331200.000000000 00:00 UTC +0000",
    ),
    (
        "9999-12-31T23:59:59Z",
        "%FT%TZ",
        "",
        "253402300799.000000000 23:59 UTC +0000",
    ),
    (
        "2023-05-26 12 -07",
        "%F %H %i",
        "",
        "1685127600.000000000 12:00 -0700 -0700",
    ),
    (
        "2023-05-26 12 +05:30:15",
        "%F %H %k",
        "",
        "1685082585.000000000 12:00 +0530 +0530",
    ),
    (
        "2023-05-26 12 -053015",
        "%F %H %w",
        "",
        "1685122215.000000000 12:00 -0530 -0530",
    ),
    ("2023-05-26 12 +03", "%F %H %Z", "", "-"),
    ("2023-05-26 100%", "%F 100%", "", "-"),
    ("ä", "%Y", "", "-"),
    ("2023-05-26 12:34:56.", "%F %T", "", "-"),
    (
        "2023-05-26 12:34:56.1234567891234",
        "%F %T",
        "",
        "1685104496.123456789 12:34 UTC +0000",
    ),
    ("1234", "%s", "", "-"),
];

#[test]
fn texts_are_read_as_in_otelcol() {
    let clock = Layout::of("%H:%M %Z %w").unwrap();
    for (text, format, place, expected) in READ {
        // Without a place it is that of the machine.
        let place = if place.is_empty() { "UTC" } else { place };
        let reader = Reader::of(format, Some(place)).unwrap();
        let said = reader.read(text.as_bytes()).map(|time| {
            let (seconds, nanosecond) = (
                time.nanoseconds.div_euclid(SECOND),
                time.nanoseconds.rem_euclid(SECOND),
            );
            let clock = write(&clock, &time).unwrap();
            let clock = String::from_utf8(clock).unwrap();
            format!("{seconds}.{nanosecond:09} {}", &clock[..clock.len() - 2])
        });
        let said = said.unwrap_or("-".to_owned());
        assert_eq!(said, *expected, "{text:?} as {format:?}");
    }
}

/// Formats, with what otelcol's own code makes of three times.
const WRITTEN: &[(&str, [&str; 3])] = &[
    (
        "%Y-%m-%dT%H:%M:%S.%L%z",
        [
            "2023-05-06T07:08:09.05Z",
            "0999-12-31T13:00:00-0456",
            "2023-11-26T00:59:01.123-0130",
        ],
    ),
    (
        "%a %A %b %B %h %d|%e|%g|%m|%o|%q|%y",
        [
            "Sat Saturday May May May 06| 6|6|05|_5|5|23",
            "Tue Tuesday Dec December Dec 31|31|31|12|_12|12|99",
            "Sun Sunday Nov November Nov 26|26|26|11|_11|11|23",
        ],
    ),
    (
        "%H %I %l %p %P %M %S .%L .%f ,%s",
        [
            "07 07 7 AM am 08 09 .05 .05 ,05",
            "13 01 1 PM pm 00 00   ",
            "00 12 12 AM am 59 01 .123 .123456 ,123456789",
        ],
    ),
    (
        "%z %w %i %j %k %Z",
        [
            "Z +000000 +00 +00:00 +00:00:00 UTC",
            "-0456 -045602 -04 -04:56 -04:56:02 LMT",
            "-0130 -013000 -01 -01:30 -01:30:00 -0130",
        ],
    ),
    (
        "%D %F %R%n%t%%",
        [
            "05/06/2023 2023-05-06 07:08\n\t%",
            "12/31/0999 0999-12-31 13:00\n\t%",
            "11/26/2023 2023-11-26 00:59\n\t%",
        ],
    ),
    (
        "%c",
        [
            "Sat May 06 07:08:09 2023",
            "Tue Dec 31 13:00:00 0999",
            "Sun Nov 26 00:59:01 2023",
        ],
    ),
    ("%r", ["07:08:09 am", "01:00:00 pm", "12:59:01 am"]),
    (
        "5 15 2006 PM .000 _2 Monx",
        [
            "9 07 2023 AM .050  6 Monx",
            "0 13 0999 PM .000 31 Monx",
            "1 00 2023 AM .123 26 Monx",
        ],
    ),
    ("%T.%f", ["07:08:09.05", "13:00:00", "00:59:01.123456"]),
];

#[test]
fn times_are_written_as_in_otelcol() {
    let utc = Moment::utc(1_683_356_889 * SECOND + 50_000_000);
    let old = Moment {
        nanoseconds: -30_610_245_838 * SECOND,
        zone: Zone::named("America/New_York").unwrap(),
    };
    let fixed = Moment {
        nanoseconds: 1_700_965_741 * SECOND + 123_456_789,
        zone: Zone::Fixed(-5400, String::new()),
    };
    for (format, expected) in WRITTEN {
        let layout = Layout::of(format).unwrap();
        let written = [&utc, &old, &fixed].map(|time| {
            let text = write(&layout, time).unwrap();
            String::from_utf8(text).unwrap()
        });
        assert_eq!(written, *expected, "{format}");
    }
}

#[test]
fn a_text_without_a_year_means_the_nearest_past() {
    let read = |text: &str, now: i128| {
        let layout = Layout::of("%b %e %T").unwrap();
        let said = Said::read(&layout, text.as_bytes()).unwrap();
        said.likely_year(&Moment::utc(now * SECOND), &Zone::Utc)
    };
    // 2023-12-28 and 2023-01-02.
    let (december, january) = (1_703_721_600, 1_672_617_600);
    assert_eq!(read("Dec 31 23:59:59", december), Ok(2023));
    assert_eq!(read("Jan  3 00:00:00", december), Ok(2023));
    assert_eq!(read("Jan  9 00:00:00", january), Ok(2023));
    assert_eq!(read("Jan  9 00:00:01", january), Ok(2022));
    assert_eq!(read("Dec 31 23:59:59", january), Ok(2022));
    assert_eq!(read("Feb 29 00:00:00", december), Ok(2023));
}

#[test]
fn whatever_comes_is_read_or_refused() {
    let formats = [
        "%c",
        "%FT%T.%f%z",
        "%d/%b/%Y:%H:%M:%S %z",
        "%D %r %Z",
        "%F %T %k",
    ];
    let texts: Vec<&str> = READ.iter().map(|(text, ..)| *text).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for format in formats {
        let reader = Reader::of(format, Some("Europe/Berlin")).unwrap();
        for _ in 0..3_000 {
            let mut text = texts[random.usize(..texts.len())].as_bytes().to_vec();
            for _ in 0..random.usize(..4) {
                let place = random.usize(..=text.len());
                text.insert(
                    place,
                    *random.choice(b"0123459:-+.,ZTGMapUTC \xc3").unwrap(),
                );
                text.remove(random.usize(..text.len()));
            }
            if let Ok(time) = reader.read(&text) {
                assert!(time.shown().is_ok());
            }
        }
    }
}
