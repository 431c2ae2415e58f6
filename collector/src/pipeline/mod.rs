//! The graph of components, built once: bytes → processors → queue → exporter.
//!
//! In: a configuration. Out: a [`Running`] collector.
//! Invariant: no channel stands between two processors; only what must wait is a task.
//!
//! - `graph`: builds and starts everything, and stops it in the order of flow
//! - `joints`: which pipeline feeds which through connectors
//! - `sender`: the sending queue of one exporter for one signal, in memory or on disk
//! - `batching`: how requests are joined to batches behind a queue
//! - `line`: the attempts to deliver a batch
//! - `claim`: what a request waits for
//! - `durable`: requests as records of a queue on disk
//! - `gauges`: what a queue shows of itself
//! - `settings`: `sending_queue` and `retry_on_failure`

mod batching;
mod claim;
mod durable;
mod gauges;
mod graph;
mod joints;
mod line;
mod sender;
mod settings;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use batching::{Batching, BatchingTelemetry, Measure};
pub use graph::{Running, start};
pub use sender::{Sender, SenderParts};
pub use settings::{
    BatchSettings, QueueLimits, QueueSettings, RetrySettings, SendingSettings, Sizer,
};

use crate::batch::Batch;
use crate::component::{Failure, Processor, Sink, worse};

/// A pipeline from its first processor to its exporters.
pub struct Output {
    /// What every batch passes through, in order.
    pub processors: Vec<Box<dyn Processor>>,
    /// How requests are joined in front of the exporters.
    pub batching: Option<Arc<Batching>>,
    /// Who gets the batch then; each gets all of it.
    pub sinks: Vec<Arc<dyn Sink>>,
}

impl Output {
    /// Takes a batch through the functions and hands it to every sink.
    ///
    /// Every sink gets it, also when another one refuses, and none waits for another.
    pub async fn send(&self, batch: Batch) -> Result<(), Failure> {
        let mut batch = batch;
        for processor in &self.processors {
            batch.request = processor.process(batch.request)?;
        }
        if batch.request.items() == 0 {
            return Ok(());
        }
        if self.batching.is_some() {
            batch.batching.clone_from(&self.batching);
        }
        match self.sinks.as_slice() {
            [] => Ok(()),
            [sink] => sink.accept(batch).await,
            sinks => {
                let answers = sinks.iter().map(|sink| sink.accept(batch.clone()));
                let answers = futures_util::future::join_all(answers).await;
                answers.into_iter().fold(Ok(()), worse)
            }
        }
    }
}
