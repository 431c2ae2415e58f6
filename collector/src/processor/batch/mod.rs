//! The `batch` processor: joins small requests to larger ones.
//!
//! In: its configuration. Out: the rule by which the queues behind its pipeline join requests.
//! Invariant: it holds nothing itself, so no request is answered before a queue has it, and none
//! waits for others in front of a queue on disk.

mod config;

use std::sync::Arc;

use collector_otlp::Signal;

use crate::component::{BuildProcessor, Context, Kind, Stage, StartError};
use crate::pipeline::{Batching, BatchingTelemetry, Measure};
use crate::telemetry::Registry;
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "batch",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// otelcol's bounds of `batch_send_size`.
const SIZE_BOUNDS: &[u64] = &[
    10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000,
    10_000, 20_000, 30_000, 50_000, 100_000,
];

/// otelcol's bounds of `batch_send_size_bytes`.
const BYTE_BOUNDS: &[u64] = &[
    10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000,
    10_000, 20_000, 30_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000,
    800_000, 900_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 6_000_000, 7_000_000,
    8_000_000, 9_000_000,
];

impl BuildProcessor for Config {
    fn build(&self, context: &Context, _: Signal) -> Result<Stage, StartError> {
        Ok(Stage::Batching(Box::new(Batching {
            name: context.id.to_string(),
            timeout: self.timeout,
            enough: self.send_batch_size,
            most: self.send_batch_max_size,
            measure: Measure::Items,
            metadata_keys: self.metadata_keys.clone(),
            metadata_cardinality_limit: self.metadata_cardinality_limit,
            telemetry: telemetry(&context.registry, &context.id.to_string()),
        })))
    }
}

fn telemetry(registry: &Arc<Registry>, id: &str) -> BatchingTelemetry {
    let labels = [("processor", id)];
    let counter = |what: &str, help| {
        let name = format!("otelcol_processor_batch_{what}_trigger_send");
        registry.counter(&name, help, &labels)
    };
    let histogram = |what: &str, help, bounds| {
        let name = format!("otelcol_processor_batch_{what}");
        Some(registry.histogram(&name, help, &labels, bounds))
    };
    BatchingTelemetry {
        by_size: counter(
            "batch_size",
            "Number of times the batch was sent due to a size trigger",
        ),
        by_timeout: counter(
            "timeout",
            "Number of times the batch was sent due to a timeout trigger",
        ),
        sizes: histogram(
            "batch_send_size",
            "Number of units in the batch",
            SIZE_BOUNDS,
        ),
        bytes: histogram(
            "batch_send_size_bytes",
            "Number of bytes in batch that was sent",
            BYTE_BOUNDS,
        ),
        cardinality: registry.gauge(
            "otelcol_processor_batch_metadata_cardinality",
            "Number of distinct metadata value combinations being processed",
            &labels,
        ),
    }
}
