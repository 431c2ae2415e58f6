//! The `forward` connector: what leaves one pipeline enters others of the same signal.
//!
//! In: a batch. Out: the same batch, in every pipeline that has the connector as its receiver.
//! Invariant: the sender is answered when those pipelines have answered, as one of several
//! exporters would be.

mod config;

use std::sync::Arc;

use collector_otlp::Signal;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::component::{BuildConnector, Context, Failure, Kind, Outputs, Sink, StartError, Task};
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildConnector> = Kind {
    name: "forward",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildConnector for Config {
    fn joins(&self, from: Signal, to: Signal) -> bool {
        from == to
    }

    fn build(&self, _: &Context, outputs: Outputs) -> Result<Arc<dyn Sink>, StartError> {
        Ok(Arc::new(Forward(outputs)))
    }
}

struct Forward(Outputs);

impl Sink for Forward {
    fn accept(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(self.0.send(batch))
    }

    fn stop(&self, _: Instant) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn holds_in_memory(&self) -> bool {
        false
    }
}
