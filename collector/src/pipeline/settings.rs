//! `sending_queue`, `retry_on_failure` and `timeout`, which exporters share.
//!
//! In: an exporter's section. Out: [`SendingSettings`].
//! Invariant: the defaults are otelcol's.
//!
//! | key | default | |
//! |---|---|---|
//! | `timeout` | `5s` (`30s` for otlphttp) | of one attempt |
//! | `retry_on_failure.enabled` | `true` | |
//! | `retry_on_failure.initial_interval` | `5s` | |
//! | `retry_on_failure.randomization_factor` | `0.5` | from 0 to 1 |
//! | `retry_on_failure.multiplier` | `1.5` | at least 1 |
//! | `retry_on_failure.max_interval` | `30s` | |
//! | `retry_on_failure.max_elapsed_time` | `300s` | then the batch is dropped; `0` never |
//! | `sending_queue.enabled` | `true` | without it, the answer waits for delivery |
//! | `sending_queue.num_consumers` | `10` | 1 to 1000 |
//! | `sending_queue.queue_size` | `1000` | batches |
//! | `sending_queue.sizer` | `requests` | `items` and `bytes` are not supported yet |
//! | `sending_queue.block_on_overflow` | `false` | wait for room rather than refuse |
//!
//! Not supported yet, and refused: `sending_queue.storage`, `.batch`, `.wait_for_result`.

use std::time::Duration;

use crate::config::Section;

/// How batches are sent to an exporter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendingSettings {
    /// The queue; without one, whoever brings a batch waits for its delivery.
    pub queue: Option<QueueSettings>,
    /// The retries; without them, one attempt decides.
    pub retry: Option<RetrySettings>,
}

/// The sending queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    /// How many batches are sent at a time.
    pub num_consumers: usize,
    /// How many batches wait.
    pub queue_size: usize,
    /// Whether a full queue makes the sender wait.
    pub block_on_overflow: bool,
}

/// The retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySettings {
    /// The first pause.
    pub initial_interval: Duration,
    /// How far a pause may differ from its computed length, as a share of it.
    pub randomization_factor: f64,
    /// How much longer each pause is than the one before.
    pub multiplier: f64,
    /// The longest pause.
    pub max_interval: Duration,
    /// When to give a batch up; zero means never.
    pub max_elapsed_time: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            num_consumers: 10,
            queue_size: 1000,
            block_on_overflow: false,
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}

impl SendingSettings {
    /// Reads `sending_queue` and `retry_on_failure` from an exporter's section.
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            queue: queue(&section.section("sending_queue")),
            retry: retry(&section.section("retry_on_failure")),
        }
    }
}

fn queue(section: &Section<'_>) -> Option<QueueSettings> {
    let default = QueueSettings::default();
    section.unsupported(&["storage", "batch", "wait_for_result"]);
    let sizers = [("requests", true), ("items", false), ("bytes", false)];
    if section.choice("sizer", &sizers) == Some(false) {
        section.error("sizer", "only sizer: requests is supported yet");
    }
    let settings = QueueSettings {
        num_consumers: section
            .number_in("num_consumers", 1..=1000)
            .map_or(default.num_consumers, |number| number as usize),
        queue_size: section
            .number_in("queue_size", 1..=10_000_000)
            .map_or(default.queue_size, |number| number as usize),
        block_on_overflow: section
            .bool("block_on_overflow")
            .unwrap_or(default.block_on_overflow),
    };
    section.bool("enabled").unwrap_or(true).then_some(settings)
}

fn retry(section: &Section<'_>) -> Option<RetrySettings> {
    let default = RetrySettings::default();
    let float = |key, range: std::ops::RangeInclusive<f64>, otherwise| {
        let value = section.float(key).unwrap_or(otherwise);
        if !range.contains(&value) {
            let message = format!("{key} must be from {} to {}", range.start(), range.end());
            section.error(key, message);
        }
        value
    };
    let settings = RetrySettings {
        initial_interval: section
            .duration("initial_interval")
            .unwrap_or(default.initial_interval),
        randomization_factor: float(
            "randomization_factor",
            0.0..=1.0,
            default.randomization_factor,
        ),
        multiplier: float("multiplier", 1.0..=100.0, default.multiplier),
        max_interval: section
            .duration("max_interval")
            .unwrap_or(default.max_interval),
        max_elapsed_time: section
            .duration("max_elapsed_time")
            .unwrap_or(default.max_elapsed_time),
    };
    section.bool("enabled").unwrap_or(true).then_some(settings)
}

impl RetrySettings {
    /// The pause after so many failed attempts, before chance; what the server asked for counts
    /// when it is longer.
    pub fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_interval.as_secs_f64() * self.multiplier.powi(exponent);
        let capped = grown.min(self.max_interval.as_secs_f64());
        let chance = 1.0 + self.randomization_factor * (2.0 * fastrand::f64() - 1.0);
        Duration::from_secs_f64(capped * chance).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_maximum() {
        let retry = RetrySettings {
            randomization_factor: 0.0,
            ..RetrySettings::default()
        };
        assert_eq!(retry.pause(1, None), Duration::from_secs(5));
        assert_eq!(retry.pause(2, None), Duration::from_millis(7500));
        assert_eq!(retry.pause(50, None), Duration::from_secs(30));
        assert_eq!(retry.pause(u32::MAX, None), Duration::from_secs(30));
        assert_eq!(
            retry.pause(1, Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
        let random = RetrySettings::default();
        for _ in 0..1000 {
            let pause = random.pause(1, None).as_secs_f64();
            assert!((2.5..=7.5).contains(&pause));
        }
    }
}
