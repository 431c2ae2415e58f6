//! What the counters said a moment ago, and some minutes ago.
//!
//! In: counters, every [`PERIOD`]. Out: rates. Invariant: at most [`KEPT`] samples are held.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::metrics::{Family, Kind, Labels, Reading};

/// How often the counters are looked at.
pub(super) const PERIOD: Duration = Duration::from_secs(2);

/// How many samples are kept: five minutes of them.
pub(super) const KEPT: usize = 150;

/// How many periods a rate is taken over, so that it does not jump.
const RATE_PERIODS: usize = 5;

/// The counters at one moment.
struct Sample {
    at: Instant,
    families: Vec<Family>,
}

/// The counters of the last minutes.
#[derive(Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Adds what the registry says at `at`.
    pub(super) fn add(&mut self, at: Instant, mut families: Vec<Family>) {
        families.retain(|family| family.kind == Kind::Counter);
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, families });
    }

    /// Items in each second, of all counters whose names begin with `prefix` and whose labels fit.
    pub(super) fn rate(&self, prefix: &str, fits: impl Fn(&Labels) -> bool) -> f64 {
        let Some(newest) = self.samples.back() else {
            return 0.0;
        };
        let first = self.samples.len().saturating_sub(RATE_PERIODS + 1);
        between(&self.samples[first], newest, prefix, &fits)
    }

    /// The rate in each period, the oldest first.
    pub(super) fn rates(&self, prefix: &str) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(older, newer)| between(older, newer, prefix, &|_| true))
            .collect()
    }
}

fn between(older: &Sample, newer: &Sample, prefix: &str, fits: &impl Fn(&Labels) -> bool) -> f64 {
    let seconds = newer.at.duration_since(older.at).as_secs_f64();
    let grown = total(&newer.families, prefix, fits) - total(&older.families, prefix, fits);
    if seconds > 0.0 { grown / seconds } else { 0.0 }
}

/// The sum of everything whose name begins with `prefix` and whose labels fit.
pub(super) fn total(families: &[Family], prefix: &str, fits: &impl Fn(&Labels) -> bool) -> f64 {
    let found = families
        .iter()
        .filter(|family| family.name.starts_with(prefix));
    found
        .flat_map(|family| &family.series)
        .filter(|(labels, _)| fits(labels))
        .map(|(_, reading)| match reading {
            Reading::Number(number) => *number,
            Reading::Histogram { sum, .. } => *sum,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    #[test]
    fn rates_are_taken_over_the_last_periods() {
        let (registry, mut history) = (Registry::default(), History::default());
        let counter = registry.counter("sent_spans", "", &[("exporter", "a")]);
        let start = Instant::now();
        for number in 0..=200 {
            history.add(start + PERIOD * number, registry.read());
            counter.add(if number < 199 { 10 } else { 110 });
        }
        assert_eq!(history.samples.len(), KEPT);
        assert_eq!(history.rate("sent_", |_| true), (4.0 * 5.0 + 55.0) / 5.0);
        assert_eq!(history.rate("sent_", |labels| labels[0].1 == "b"), 0.0);
        assert_eq!(history.rates("sent_").last(), Some(&55.0));
        assert_eq!(History::default().rate("sent_", |_| true), 0.0);
    }
}
