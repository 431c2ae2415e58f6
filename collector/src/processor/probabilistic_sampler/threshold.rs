//! The numbers of consistent sampling: randomness, thresholds, and how both are written.
//!
//! In: ids, percentages and hexadecimal text. Out: numbers of 56 bits.
//! Invariant: an item is kept when its randomness is not below the threshold.

/// A threshold that drops everything.
pub(super) const NEVER: u64 = 1 << 56;
/// A threshold that keeps everything.
pub(super) const ALWAYS: u64 = 0;
/// The randomness of what has none: kept by every threshold but [`NEVER`].
pub(super) const MISSING: u64 = (1 << 56) - 1;

/// Hexadecimal digits in 56 bits.
const DIGITS: usize = 14;
/// How many buckets a hash falls into.
const BUCKETS: u64 = 1 << 14;

/// The threshold of a percentage, in steps of one bucket as hashing has them.
pub(super) fn of_percentage(percentage: f32) -> u64 {
    let scaled = (percentage.min(100.0) * (BUCKETS as f32 / 100.0)) as u64;
    match scaled {
        0 => NEVER,
        scaled => (BUCKETS - scaled) << 42,
    }
}

/// The threshold of a probability, with so many digits; `None` when it is out of range.
pub(super) fn of_probability(probability: f64, precision: u32) -> Option<u64> {
    let smallest = 1.0 / NEVER as f64;
    if !(smallest..=1.0).contains(&probability) {
        return None;
    }
    if probability == 1.0 {
        return Some(ALWAYS);
    }
    // Near zero and one the first digits are all 0 or f, so that more of them are needed.
    let leading = |fraction: f64| (exponent(fraction) / 4).unsigned_abs();
    let digits = precision + leading(probability).max(leading(1.0 - probability));
    let scaled = (probability * NEVER as f64).round() as u64;
    let threshold = NEVER - scaled;
    match 4 * (DIGITS as u32).saturating_sub(digits) {
        0 => Some(threshold),
        shift => Some((threshold + (1 << (shift - 1))) >> shift << shift),
    }
}

/// The exponent of a number below one that is written as a fraction of at least a half.
fn exponent(fraction: f64) -> i32 {
    let bits = ((fraction.to_bits() >> 52) & 0x7ff) as i32;
    bits - 1022
}

/// What an id or attribute is worth: the same bits as otelcol's `hash_seed` mode takes.
pub(super) fn randomness(bytes: &[u8], seed: u32) -> u64 {
    let hash = seed
        .to_le_bytes()
        .iter()
        .chain(bytes)
        .fold(0x811c_9dc5u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    let bucket = u64::from(hash) & (BUCKETS - 1);
    let unused = u64::from(hash >> 18);
    let mixed = unused ^ (unused << 10);
    (BUCKETS - 1 - bucket) << 42 | (mixed << 14) | bucket
}

/// A threshold as text; none when nothing is kept.
pub(super) fn threshold_text(threshold: u64) -> String {
    match threshold {
        ALWAYS => "0".to_owned(),
        NEVER.. => String::new(),
        _ => format!("{threshold:014x}").trim_end_matches('0').to_owned(),
    }
}

/// Randomness as text.
pub(super) fn randomness_text(randomness: u64) -> String {
    format!("{randomness:014x}")
}

/// The number that a text means, which [`is_threshold`] or [`is_randomness`]; digits that are left
/// out at its end are zeros.
pub(super) fn number(text: &str) -> u64 {
    let number = u64::from_str_radix(text, 16).unwrap_or(0);
    number << (4 * DIGITS.saturating_sub(text.len()))
}

/// The randomness of a trace id by W3C's Trace Context, Level 2: its last 56 bits.
pub(super) fn of_trace_id(id: &[u8]) -> Option<u64> {
    let last = id.last_chunk::<8>()?;
    Some(u64::from_be_bytes(*last) & MISSING)
}

/// The probability of a threshold.
pub(super) fn probability(threshold: u64) -> f64 {
    (NEVER - threshold) as f64 / NEVER as f64
}

/// Whether a text is a threshold.
pub(super) fn is_threshold(text: &str) -> bool {
    (1..=DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text is randomness.
pub(super) fn is_randomness(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_probabilities_become_thresholds() {
        assert_eq!(of_percentage(0.0), NEVER);
        assert_eq!(of_percentage(0.001), NEVER);
        assert_eq!(of_percentage(100.0), ALWAYS);
        assert_eq!(of_percentage(500.0), ALWAYS);
        assert_eq!(threshold_text(of_percentage(50.0)), "8");
        assert_eq!(threshold_text(of_percentage(25.0)), "c");
        assert_eq!(threshold_text(of_percentage(10.0)), "e668");
        assert_eq!(
            of_probability(0.5, 4).map(threshold_text).as_deref(),
            Some("8")
        );
        assert_eq!(
            of_probability(0.1, 4).map(threshold_text).as_deref(),
            Some("e666")
        );
        assert_eq!(
            of_probability(0.01, 4).map(threshold_text).as_deref(),
            Some("fd70a")
        );
        assert_eq!(of_probability(1.0, 4), Some(ALWAYS));
        assert_eq!(of_probability(1.5, 4), None);
        assert_eq!(of_probability(0.0, 4), None);
    }

    #[test]
    fn texts_are_numbers_of_56_bits() {
        assert_eq!(number("8"), 1 << 55);
        assert_eq!(number("00000000000001"), 1);
        assert_eq!(probability(number("c")), 0.25);
        let id = [0xff, 1, 2, 3, 4, 5, 6, 7, 0xff, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!((of_trace_id(&id), of_trace_id(b"short")), (Some(9), None));
    }

    #[test]
    fn randomness_keeps_as_many_as_it_should() {
        let threshold = of_percentage(10.0);
        let kept = (0..100_000u64)
            .filter(|id| {
                randomness(&(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes(), 22) >= threshold
            })
            .count();
        assert!((9_500..10_500).contains(&kept), "{kept}");
        // FNV-1a of four zero bytes and "a", by its definition.
        let hash = [0u8, 0, 0, 0, b'a']
            .iter()
            .fold(2_166_136_261u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(16_777_619)
            });
        assert_eq!(randomness(b"a", 0) & 0x3fff, u64::from(hash & 0x3fff));
        assert_eq!(randomness(b"a", 0) >> 42, 0x3fff - u64::from(hash & 0x3fff));
    }
}
