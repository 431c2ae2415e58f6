//! The `memory_limiter` processor: refuses batches while the process uses too much memory.
//!
//! In: a batch. Out: the same batch, or a retryable failure, which receivers answer with
//! UNAVAILABLE or 503. Invariant: a refusal costs no memory, and ends when memory has been freed.

mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collector_otlp::{Request, Signal};
use tokio::task::JoinHandle;

use crate::component::{BuildProcessor, Context, Failure, Kind, Processor, Stage, StartError};
use crate::telemetry::{Counter, item_name, memory};
pub use config::{Amount, Config};

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "memory_limiter",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// otelcol's spike when none is configured: a fifth of the limit.
const DEFAULT_SPIKE_DIVISOR: u64 = 5;

impl BuildProcessor for Config {
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError> {
        let available = memory::available_bytes().unwrap_or(u64::MAX);
        let limit = self.limit.bytes(available);
        let spike = self
            .spike
            .map_or(limit / DEFAULT_SPIKE_DIVISOR, |s| s.bytes(available));
        let soft_limit = limit.saturating_sub(spike);
        let over = Arc::new(AtomicBool::new(false));
        let watch = watch(
            context.id.to_string(),
            self.check_interval,
            soft_limit,
            Arc::clone(&over),
        );
        let id = context.id.to_string();
        let items = item_name(signal);
        let counter = |what: &str, help| {
            let name = format!("otelcol_processor_{what}_{items}");
            context.registry.counter(&name, help, &[("processor", &id)])
        };
        Ok(Stage::Function(Box::new(MemoryLimiter {
            over,
            watch: tokio::spawn(watch),
            accepted: counter(
                "accepted",
                "Items successfully pushed into the next component",
            ),
            refused: counter("refused", "Items that were rejected by the next component"),
            _dropped: counter("dropped", "Items that were dropped"),
        })))
    }
}

struct MemoryLimiter {
    over: Arc<AtomicBool>,
    watch: JoinHandle<()>,
    accepted: Counter,
    refused: Counter,
    /// Always zero, since what is refused stays with its sender; alerts read it.
    _dropped: Counter,
}

impl Processor for MemoryLimiter {
    fn process(&self, batch: Request) -> Result<Request, Failure> {
        if self.over.load(Ordering::Relaxed) {
            self.refused.add(batch.items() as u64);
            return Err(Failure::retryable("data refused due to high memory usage"));
        }
        self.accepted.add(batch.items() as u64);
        Ok(batch)
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Reads memory at every interval, and says so in the log when the answer changes.
async fn watch(processor: String, interval: Duration, soft_limit: u64, over: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let Some(used) = memory::resident_bytes() else {
            continue;
        };
        let now = used > soft_limit;
        if over.swap(now, Ordering::Relaxed) != now {
            let (used_mib, soft_limit_mib) = (used >> 20, soft_limit >> 20);
            match now {
                true => {
                    tracing::warn!(%processor, used_mib, soft_limit_mib, "memory usage is above the soft limit; refusing data")
                }
                false => {
                    tracing::info!(%processor, used_mib, soft_limit_mib, "memory usage is back within limits")
                }
            }
        }
    }
}
