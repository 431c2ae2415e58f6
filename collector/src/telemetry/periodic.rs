//! Metrics that are sent from time to time.
//!
//! In: a registry and a [`PeriodicConfig`]. Out: requests to where it says, one at a time.
//! Invariant: what cannot be sent is logged and left, since the next time says as much and more.

use std::sync::Arc;
use std::time::SystemTime;

use collector_otlp::WireError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::metrics_request::{Span, request};
use super::{Description, Registry};
use crate::batch::Batch;
use crate::component::{BuildExporter as _, Context, Exporter, StartError};
use crate::config::{OwnExporter, PeriodicConfig};

/// A reader at work.
pub struct Periodic {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts to send.
pub fn start(config: &PeriodicConfig, context: &Context) -> Result<Periodic, StartError> {
    let built = match &config.exporter {
        OwnExporter::Grpc(config) => config.clone().build(context),
        OwnExporter::Http(config) => config.clone().build(context),
    };
    let exporter = built
        .map_err(|error| StartError {
            component: "service::telemetry::metrics".to_owned(),
            message: error.message,
        })?
        .exporter;
    let (stopping, stop) = watch::channel(false);
    let (config, registry) = (config.clone(), Arc::clone(&context.registry));
    // That of this configuration, also while another takes over.
    let description = registry.description();
    let task = tokio::spawn(run(config, exporter, (registry, description), stop));
    Ok(Periodic { stopping, task })
}

impl Periodic {
    /// Sends once more, until the deadline at the latest.
    pub async fn stop(mut self, deadline: Instant) {
        // Without a receiver the task has ended.
        let _ = self.stopping.send(true);
        if timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn run(
    config: PeriodicConfig,
    exporter: Arc<dyn Exporter>,
    (registry, description): (Arc<Registry>, Arc<Description>),
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_stopping = tokio::select! {
            _ = ticks.tick() => false,
            _ = stop.wait_for(|stopping| *stopping) => true,
        };
        match own_metrics(&registry, &description) {
            Ok(batch) => match timeout(config.timeout, exporter.export(batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "own metrics could not be sent"),
                Err(_) => {
                    tracing::warn!(timeout = ?config.timeout, "own metrics took too long to send")
                }
            },
            Err(error) => tracing::warn!(%error, "own metrics could not be written"),
        }
        if is_stopping {
            return exporter.stop().await;
        }
    }
}

fn own_metrics(registry: &Registry, description: &Description) -> Result<Batch, WireError> {
    let end = SystemTime::now();
    // The clock may have been set back since.
    let start = registry.started_at().min(end);
    let resource = &description.resource;
    request(&registry.read(), resource, Span { start, end }).map(Batch::from)
}
