//! The graph of components, built once: bytes → processors → queue → exporter.
//!
//! In: a configuration. Out: a [`Running`] collector.
//! Invariant: no channel stands between two processors; only what must wait is a task.
//!
//! - `graph`: builds and starts everything, and stops it in the order of flow
//! - `sender`: the sending queue and the retries of one exporter for one signal
//! - `settings`: `sending_queue` and `retry_on_failure`

mod graph;
mod sender;
mod settings;

use std::sync::Arc;

pub use graph::{Running, start};
pub use sender::Sender;
pub use settings::{QueueSettings, RetrySettings, SendingSettings};

use crate::batch::Batch;
use crate::component::{Failure, Patience, Processor, Sink, worse};

/// A stretch of a pipeline: functions, and the sinks behind them.
pub struct Output {
    /// What every batch passes through, in order.
    pub processors: Vec<Box<dyn Processor>>,
    /// Who gets the batch then; each gets all of it.
    pub sinks: Vec<Arc<dyn Sink>>,
}

impl Output {
    /// Takes a batch through the functions and hands it to every sink.
    pub async fn send(&self, batch: Batch, patience: Patience) -> Result<(), Failure> {
        let mut batch = batch;
        for processor in &self.processors {
            batch.request = processor.process(batch.request)?;
        }
        if batch.request.items() == 0 {
            return Ok(());
        }
        let mut result = Ok(());
        for sink in &self.sinks {
            result = worse(result, sink.accept(batch.clone(), patience).await);
        }
        result
    }
}
