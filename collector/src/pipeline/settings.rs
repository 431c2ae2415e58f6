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
//! | `sending_queue.num_consumers` | `10` | 1 to 1000: batches sent at a time |
//! | `sending_queue.queue_size` | `1000` | counted by `sizer` |
//! | `sending_queue.sizer` | `requests` | `requests` (batches as they will be sent), `items`, `bytes` |
//! | `sending_queue.block_on_overflow` | `false` | wait for room rather than refuse |
//! | `sending_queue.wait_for_result` | `false` | the answer waits for delivery |
//! | `sending_queue.storage` | memory | the id of a storage extension |
//! | `sending_queue.batch.flush_timeout` | `200ms` | |
//! | `sending_queue.batch.min_size` | `8192` | |
//! | `sending_queue.batch.max_size` | `0` | no limit |
//! | `sending_queue.batch.sizer` | `items` | `items` or `bytes` |
//!
//! With `storage`, a request is on disk before it is answered. Such a queue is bounded in bytes:
//! by `queue_size` with `sizer: bytes`, and otherwise by `max_bytes` beside `queue_size`. Two
//! keys are this collector's own:
//!
//! | key | default | |
//! |---|---|---|
//! | `sending_queue.max_bytes` | 4 GiB | on disk, with `storage` |
//! | `sending_queue.on_overflow` | `refuse` | or `drop_oldest`, with `storage` |
//! | `retry_on_failure.drop_after_max_elapsed_time` | `false` | with `storage` |
//!
//! With `storage`, `max_elapsed_time` ends a series of attempts and another begins: nothing is
//! dropped by time unless `drop_after_max_elapsed_time` asks for it.

use std::time::Duration;

use super::batching::Measure;
use crate::component::{ComponentId, Offer};
use crate::config::Section;

/// How many bytes a queue takes on disk when its size is not given in bytes.
const DEFAULT_MAX_BYTES: u64 = 4 << 30;

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
    /// How much waits.
    pub queue_size: usize,
    /// What `queue_size` counts.
    pub sizer: Sizer,
    /// Whether a full queue makes the sender wait.
    pub block_on_overflow: bool,
    /// Whether the sender waits for delivery.
    pub wait_for_result: bool,
    /// The extension that keeps the queue on disk; without one it is in memory.
    pub storage: Option<ComponentId>,
    /// How the queue is bounded on disk.
    pub limits: QueueLimits,
    /// The exporter's own rule for joining requests.
    pub batch: Option<BatchSettings>,
}

/// What a queue's size is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizer {
    /// Batches as they will be sent.
    Requests,
    /// Spans, log records or data points.
    Items,
    /// Bytes of protobuf.
    Bytes,
}

/// The bounds of a queue on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most bytes on disk.
    pub max_bytes: u64,
    /// Whether a full queue drops its oldest records rather than refuse new ones.
    pub drop_oldest: bool,
}

/// An exporter's own rule for joining requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// How long items wait at most.
    pub flush_timeout: Duration,
    /// How much makes a batch.
    pub min_size: usize,
    /// The most in a batch; zero means no limit.
    pub max_size: usize,
    /// What sizes count.
    pub measure: Measure,
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
    /// Whether that also holds for what is kept on disk.
    pub drop_when_elapsed: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            limits: QueueLimits {
                max_bytes: DEFAULT_MAX_BYTES,
                drop_oldest: false,
            },
            batch: None,
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
            drop_when_elapsed: false,
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
    let sizers = [
        ("requests", Sizer::Requests),
        ("items", Sizer::Items),
        ("bytes", Sizer::Bytes),
    ];
    let sizer = section.choice("sizer", &sizers).unwrap_or(default.sizer);
    let queue_size = section.number_in("queue_size", 1..=1 << 50);
    let max_bytes = section.number_in("max_bytes", 1 << 20..=1 << 50);
    if sizer == Sizer::Bytes && max_bytes.is_some() {
        section.error("max_bytes", "with sizer: bytes, queue_size is the limit");
    }
    let overflow = [("refuse", false), ("drop_oldest", true)];
    let drop_oldest = section.choice("on_overflow", &overflow);
    let storage = section.extension("storage", Offer::Storage);
    for (key, given) in [
        ("max_bytes", max_bytes.is_some()),
        ("on_overflow", drop_oldest.is_some()),
    ] {
        if given && storage.is_none() {
            section.error(key, format!("{key} needs storage beside it"));
        }
    }
    if drop_oldest == Some(true) && queue_size.is_some() && sizer != Sizer::Bytes {
        let message = "with on_overflow: drop_oldest, max_bytes is the limit";
        section.error("queue_size", message);
    }
    let flag = |key, otherwise| section.bool(key).unwrap_or(otherwise);
    let wait_for_result = flag("wait_for_result", default.wait_for_result);
    if wait_for_result && storage.is_some() {
        let message = "wait_for_result is not supported beside storage: \
                       a queue on disk answers when the request is on it";
        section.error("wait_for_result", message);
    }
    let settings = QueueSettings {
        num_consumers: section
            .number_in("num_consumers", 1..=1000)
            .map_or(default.num_consumers, |number| number as usize),
        queue_size: queue_size.map_or(default.queue_size, |size| size as usize),
        sizer,
        block_on_overflow: flag("block_on_overflow", default.block_on_overflow),
        wait_for_result,
        storage,
        limits: QueueLimits {
            max_bytes: match (sizer, queue_size) {
                (Sizer::Bytes, Some(bytes)) => bytes,
                _ => max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
            },
            drop_oldest: drop_oldest.unwrap_or(default.limits.drop_oldest),
        },
        batch: section
            .has("batch")
            .then(|| batch(&section.section("batch"))),
    };
    section.bool("enabled").unwrap_or(true).then_some(settings)
}

fn batch(section: &Section<'_>) -> BatchSettings {
    section.unsupported(&["partition"]);
    let sizers = [("items", Measure::Items), ("bytes", Measure::Bytes)];
    let size = |key| {
        section
            .number_in(key, 0..=1 << 40)
            .map(|size| size as usize)
    };
    let settings = BatchSettings {
        flush_timeout: section
            .duration("flush_timeout")
            .unwrap_or(Duration::from_millis(200)),
        min_size: size("min_size").unwrap_or(8192),
        max_size: size("max_size").unwrap_or(0),
        measure: section.choice("sizer", &sizers).unwrap_or(Measure::Items),
    };
    if (1..settings.min_size).contains(&settings.max_size) {
        let message = format!(
            "max_size must be 0 or at least min_size ({})",
            settings.min_size
        );
        section.error("max_size", message);
    }
    settings
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
        drop_when_elapsed: section
            .bool("drop_after_max_elapsed_time")
            .unwrap_or(default.drop_when_elapsed),
    };
    section.bool("enabled").unwrap_or(true).then_some(settings)
}

/// The longest pause that a server may ask for: one that is never back is asked again.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(3600);

impl RetrySettings {
    /// The pause after so many failed attempts; what the server asked for counts when it is
    /// longer, up to an hour.
    pub fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_interval.as_secs_f64() * self.multiplier.powi(exponent);
        let capped = grown.min(self.max_interval.as_secs_f64());
        let chance = 1.0 + self.randomization_factor * (2.0 * fastrand::f64() - 1.0);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED_PAUSE);
        Duration::from_secs_f64(capped * chance).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::{Diagnostics, Position};
    use crate::config::yaml;

    #[test]
    fn settings_that_cannot_hold_together_are_refused() {
        let cases = [
            (
                "{storage: disk, wait_for_result: true}",
                "wait_for_result is not",
            ),
            (
                "{storage: disk, on_overflow: drop_oldest, queue_size: 5}",
                "max_bytes is the limit",
            ),
            ("{on_overflow: drop_oldest}", "on_overflow needs storage"),
            (
                "{storage: disk, sizer: bytes, queue_size: 9999999, max_bytes: 9999999}",
                "sizer: bytes",
            ),
            (
                "{storage: disk, sizer: bytes, queue_size: 9999999, on_overflow: drop_oldest}",
                "",
            ),
            ("{wait_for_result: true}", ""),
        ];
        for (text, complaint) in cases {
            let diagnostics = Diagnostics::default();
            let node = yaml::parse(text, &diagnostics).unwrap();
            let section = Section::of(&node, Position::default(), &diagnostics);
            let _ = queue(&section);
            drop(section);
            let said = format!("{diagnostics:?}");
            assert_eq!(
                diagnostics.is_empty(),
                complaint.is_empty(),
                "{text}: {said}"
            );
            assert!(said.contains(complaint), "{text}: {said}");
        }
    }

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
        assert_eq!(retry.pause(1, Some(Duration::MAX)), LONGEST_ASKED_PAUSE);
        let random = RetrySettings::default();
        for _ in 0..1000 {
            let pause = random.pause(1, None).as_secs_f64();
            assert!((2.5..=7.5).contains(&pause));
        }
    }
}
