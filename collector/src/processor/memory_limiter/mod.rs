//! The `memory_limiter` processor: refuses batches while the process uses too much memory.
//!
//! In: a batch. Out: the same batch, or a retryable failure, which receivers answer with
//! UNAVAILABLE or 503. It also sets the limit of the budget from which receivers reserve before
//! they read, so that most of what is too much is refused there. Invariant: a refusal costs no memory, and ends when memory has been freed.

mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collector_otlp::{Request, Signal};
use tokio::task::JoinHandle;

use crate::budget::Budget;
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

/// Telemetry in flight may take three quarters of the soft limit: the rest is the program itself
/// and what its allocator keeps.
const BUDGET_OF_PARTS: usize = 3;
const BUDGET_PARTS: usize = 4;

impl BuildProcessor for Config {
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError> {
        let available = memory::available_bytes().unwrap_or(u64::MAX);
        let limit = self.limit.bytes(available);
        let spike = self
            .spike
            .map_or(limit / DEFAULT_SPIKE_DIVISOR, |s| s.bytes(available));
        let soft_limit = limit.saturating_sub(spike);
        let bytes = usize::try_from(soft_limit).unwrap_or(usize::MAX);
        context
            .budget
            .limit_to(bytes / BUDGET_PARTS * BUDGET_OF_PARTS);
        let over = Arc::new(AtomicBool::new(false));
        let watch = watch(
            context.id.to_string(),
            self.check_interval,
            soft_limit,
            Arc::clone(&over),
            Arc::clone(&context.budget),
        );
        let id = context.id.to_string();
        let items = item_name(signal);
        let counter = |what: &str, help| {
            let name = format!("otelcol_processor_{what}_{items}");
            context.registry.counter(&name, help, &[("processor", &id)])
        };
        Ok(Stage::Function(Box::new(MemoryLimiter {
            over,
            budget: Arc::clone(&context.budget),
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
    budget: Arc<Budget>,
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
        if self.over.load(Ordering::Relaxed) {
            self.budget.press(false);
        }
    }
}

/// Reads memory at every interval, and says so in the log when the answer changes.
///
/// While too much is used, the budget refuses bodies before they are read.
async fn watch(
    processor: String,
    interval: Duration,
    soft_limit: u64,
    over: Arc<AtomicBool>,
    budget: Arc<Budget>,
) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let Some(used) = memory::resident_bytes() else {
            continue;
        };
        let now = used > soft_limit;
        if over.swap(now, Ordering::Relaxed) != now {
            budget.press(now);
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
