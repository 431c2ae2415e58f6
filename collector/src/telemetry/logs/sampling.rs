//! How often the same message is shown.
//!
//! In: levels and messages. Out: whether to show each. Invariant: memory does not grow; messages
//! that share a cell are counted together.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::Level;

use crate::config::LogSampling;

/// How many cells there are, as in otelcol's logger.
const CELLS: usize = 4096;

pub(super) struct Sampler {
    config: LogSampling,
    begun: Instant,
    /// The period, and in it the count, of each cell.
    cells: Vec<(AtomicU64, AtomicU64)>,
}

impl Sampler {
    pub(super) fn of(config: LogSampling) -> Self {
        let cells = (0..CELLS).map(|_| Default::default()).collect();
        Self {
            config,
            begun: Instant::now(),
            cells,
        }
    }

    pub(super) fn shows(&self, level: Level, message: &str) -> bool {
        let tick = self.config.tick.as_nanos().max(1);
        let period = u64::try_from(self.begun.elapsed().as_nanos() / tick).unwrap_or(u64::MAX);
        self.shows_in(period, level, message)
    }

    fn shows_in(&self, period: u64, level: Level, message: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (level.to_string(), message).hash(&mut hasher);
        let (last, count) = &self.cells[(hasher.finish() % CELLS as u64) as usize];
        if last.swap(period, Ordering::Relaxed) != period {
            count.store(0, Ordering::Relaxed);
        }
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let beyond = number.saturating_sub(self.config.initial);
        let thereafter = self.config.thereafter;
        beyond == 0 || (thereafter > 0 && beyond.is_multiple_of(thereafter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_a_period_are_shown_and_then_one_in_so_many() {
        let sampler = Sampler::of(LogSampling {
            initial: 3,
            thereafter: 10,
            ..LogSampling::default()
        });
        let shown = |period| {
            (0..33)
                .filter(|_| sampler.shows_in(period, Level::INFO, "again"))
                .count()
        };
        assert_eq!((shown(0), shown(1)), (6, 6));
        assert!(sampler.shows_in(1, Level::INFO, "another"));
    }
}
