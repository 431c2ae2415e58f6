//! What a sending queue shows of itself.
//!
//! In: its settings and its state. Out: gauges. Invariant: size and capacity are in the same unit,
//! so that their ratio says how full it is.

use collector_otlp::Signal;
use collector_queue::Stats;

use super::QueueSettings;
use crate::component::Context;
use crate::telemetry::Gauge;

/// The gauges of one queue.
#[derive(Default)]
pub(super) struct Gauges {
    pub(super) size: Gauge,
    bytes: Gauge,
    oldest: Gauge,
    dead_letters: Gauge,
    dead_letters_dropped: Gauge,
    lost: Gauge,
    dropped: Gauge,
}

impl Gauges {
    /// Registers those that the queue has.
    pub(super) fn register(
        context: &Context,
        signal: Signal,
        settings: &QueueSettings,
        on_disk: bool,
    ) -> Self {
        let id = context.id.to_string();
        let labels = [("data_type", signal.name()), ("exporter", id.as_str())];
        let gauge = |name: &str, help| {
            let name = format!("otelcol_exporter_queue_{name}");
            context.registry.gauge(&name, help, &labels)
        };
        let capacity = gauge("capacity", "Fixed capacity of the sending queue");
        capacity.set(i64::try_from(settings.queue_size).unwrap_or(i64::MAX));
        let size = gauge("size", "Current size of the sending queue");
        if !on_disk {
            return Self {
                size,
                ..Self::default()
            };
        }
        let most = gauge("capacity_bytes", "Bytes that the queue may take on disk");
        most.set(i64::try_from(settings.limits.max_bytes).unwrap_or(i64::MAX));
        Self {
            size,
            bytes: gauge("bytes", "Bytes that the queue takes on disk"),
            oldest: gauge(
                "oldest_age_seconds",
                "Age of the oldest request that has not been delivered",
            ),
            dead_letters: gauge(
                "dead_letter_items",
                "Items that were refused for good and are kept as dead letters",
            ),
            dead_letters_dropped: gauge(
                "dead_letter_dropped_items",
                "Dead letters that were dropped to make room since the start",
            ),
            lost: gauge("lost_items", "Items in records that the disk has damaged"),
            dropped: gauge(
                "dropped_items",
                "Items that on_overflow: drop_oldest has dropped since the start",
            ),
        }
    }

    /// Shows the state of a queue on disk; `size` is in what its `queue_size` counts. Says how many
    /// items of dead letters were dropped since it was shown last.
    pub(super) fn show(&self, stats: &Stats, size: u64) -> i64 {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.size, size);
        set(&self.bytes, stats.disk_bytes);
        set(&self.oldest, stats.oldest.map_or(0, |age| age.as_secs()));
        set(&self.dead_letters, stats.dead_letters.weight);
        let known = self.dead_letters_dropped.value();
        let dropped = stats.dead_letters_dropped.weight;
        set(&self.dead_letters_dropped, dropped);
        set(&self.lost, stats.lost.weight);
        set(&self.dropped, stats.dropped.weight);
        self.dead_letters_dropped.value() - known
    }
}

#[cfg(test)]
mod tests {
    use collector_queue::Amount;

    use super::*;

    #[test]
    fn dead_letters_that_are_dropped_are_told_once() {
        let gauges = Gauges::default();
        let dropped = |weight| Stats {
            dead_letters_dropped: Amount { records: 1, weight },
            ..Stats::default()
        };
        let told = [0, 3, 3, 5].map(|weight| gauges.show(&dropped(weight), 0));
        assert_eq!(told, [0, 3, 0, 2]);
    }
}
