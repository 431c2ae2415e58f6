//! The `debug` exporter: batches to the collector's own log.
//!
//! In: a batch. Out: at most one log event. Invariant: it never fails.

mod config;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::pipeline::SendingSettings;
use crate::telemetry::item_name;
pub use config::{Config, Verbosity};

/// The row of this component.
pub const KIND: Kind<dyn BuildExporter> = Kind {
    name: "debug",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildExporter for Config {
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError> {
        let window = Mutex::new((Instant::now(), 0));
        let exporter = Arc::new(Debug {
            config: *self,
            id: context.id.to_string(),
            window,
        });
        Ok(BuiltExporter {
            exporter,
            sending: SendingSettings::default(),
        })
    }
}

struct Debug {
    config: Config,
    id: String,
    /// When the current second began, and how many batches it has had.
    window: Mutex<(Instant, u64)>,
}

impl Exporter for Debug {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        let batch = batch.request;
        if self.is_sampled() {
            let (signal, unit) = (batch.signal().name(), item_name(batch.signal()));
            let items = batch.items();
            let bytes = batch.bytes().len();
            match (self.config.verbosity, batch.to_json()) {
                (Verbosity::Full, Ok(json)) => {
                    let content = String::from_utf8_lossy(&json);
                    tracing::info!(exporter = %self.id, signal, items, unit, bytes, %content, "batch");
                }
                _ => tracing::info!(exporter = %self.id, signal, items, unit, bytes, "batch"),
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Debug {
    fn is_sampled(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        let beyond = window.1.saturating_sub(self.config.sampling_initial);
        let thereafter = self.config.sampling_thereafter;
        beyond == 0 || (thereafter > 0 && beyond.is_multiple_of(thereafter))
    }
}
