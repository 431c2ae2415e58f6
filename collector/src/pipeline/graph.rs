//! Builds the graph, starts it, and stops it.
//!
//! In: a configuration without errors. Out: a [`Running`] collector, or the first component
//! that could not start. Invariant: things start from the end of the flow to its beginning, and
//! stop from its beginning to its end, so that nothing is handed to what has stopped.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::{Output, Sender, SendingSettings};
use crate::budget::Budget;
use crate::component::{
    BuildExporter, BuildExtension, BuildProcessor, BuildReceiver, BuiltExporter, ComponentId,
    Context, Exporter, Outputs, Readiness, RunningExtension, RunningReceiver, Sink, Stage,
    StartError,
};
use crate::config::{Config, Defined, PipelineConfig, Service};
use crate::network::Server;
use crate::telemetry::{self, Description, Registry};

/// How long shutting down may take in all.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of that the receivers may take to finish what is in flight.
const RECEIVER_SHARE: Duration = Duration::from_secs(4);

/// A collector at work.
pub struct Running {
    receivers: Vec<Box<dyn RunningReceiver>>,
    /// For each pipeline, what holds batches back, in the order of flow.
    waiting: Vec<Vec<Arc<dyn Sink>>>,
    /// The exporters' queues.
    senders: Vec<Arc<dyn Sink>>,
    exporters: Vec<Arc<dyn Exporter>>,
    extensions: Vec<Box<dyn RunningExtension>>,
    readiness: watch::Sender<Readiness>,
    metrics: Vec<Server>,
}

/// What every step of starting needs.
struct Start<'c> {
    running: Running,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
    service: &'c Service,
}

/// An exporter that is built, and how batches are sent to it.
type Built = HashMap<ComponentId, (Arc<dyn Exporter>, SendingSettings)>;

/// The beginning of a pipeline: who feeds it, with what, and where that goes.
type Input<'c> = (&'c PipelineConfig, Arc<Output>);

/// Starts everything that the configuration's service names.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let Config {
        receivers,
        processors,
        exporters,
        extensions,
        service,
    } = config;
    let running = Running {
        receivers: Vec::new(),
        waiting: Vec::new(),
        senders: Vec::new(),
        exporters: Vec::new(),
        extensions: Vec::new(),
        readiness: watch::Sender::new(Readiness::Unavailable),
        metrics: Vec::new(),
    };
    let mut start = Start {
        running,
        registry: Arc::default(),
        budget: Arc::default(),
        service: &service,
    };
    start.show(extensions).await?;
    let built = start.build(exporters)?;
    let inputs = start.connect(&processors, &built)?;
    start.receive(receivers, &inputs).await?;
    start.running.readiness.send_replace(Readiness::Ready);
    Ok(start.running)
}

impl<'c> Start<'c> {
    fn context(&self, id: &ComponentId) -> Context {
        Context {
            id: id.clone(),
            registry: Arc::clone(&self.registry),
            budget: Arc::clone(&self.budget),
        }
    }

    fn is_used(&self, id: &ComponentId, list: fn(&PipelineConfig) -> &Vec<ComponentId>) -> bool {
        self.service
            .pipelines
            .iter()
            .any(|pipeline| list(pipeline).contains(id))
    }

    /// Starts what others look at: the metrics endpoint and the extensions.
    async fn show(
        &mut self,
        extensions: Vec<Defined<Box<dyn BuildExtension>>>,
    ) -> Result<(), StartError> {
        self.registry.describe(Description::of(self.service));
        for reader in &self.service.telemetry.readers {
            let server = telemetry::server::start(reader, Arc::clone(&self.registry)).await?;
            self.running.metrics.push(server);
        }
        for Defined { id, build, .. } in extensions {
            if self.service.extensions.contains(&id) {
                let readiness = self.running.readiness.subscribe();
                let started = build.start(self.context(&id), readiness).await?;
                self.running.extensions.push(started);
            }
        }
        Ok(())
    }

    fn build(
        &mut self,
        exporters: Vec<Defined<Box<dyn BuildExporter>>>,
    ) -> Result<Built, StartError> {
        let mut built = HashMap::new();
        for Defined { id, build, .. } in exporters {
            if self.is_used(&id, |pipeline| &pipeline.exporters) {
                let BuiltExporter { exporter, sending } = build.build(&self.context(&id))?;
                self.running.exporters.push(Arc::clone(&exporter));
                built.insert(id, (exporter, sending));
            }
        }
        Ok(built)
    }

    /// Makes the pipelines; each exporter has one sender for each signal, as in otelcol.
    fn connect(
        &mut self,
        processors: &[Defined<Arc<dyn BuildProcessor>>],
        built: &Built,
    ) -> Result<Vec<Input<'c>>, StartError> {
        let mut senders: HashMap<(&ComponentId, Signal), Arc<dyn Sink>> = HashMap::new();
        let mut inputs = Vec::new();
        for pipeline in &self.service.pipelines {
            let mut sinks = Vec::new();
            for id in &pipeline.exporters {
                let Some((exporter, sending)) = built.get(id) else {
                    continue;
                };
                let sender = senders.entry((id, pipeline.signal)).or_insert_with(|| {
                    let (context, exporter) = (self.context(id), Arc::clone(exporter));
                    Arc::new(Sender::start(context, exporter, sending, pipeline.signal))
                });
                sinks.push(Arc::clone(sender));
            }
            let waiting = &mut self.running.waiting;
            let (registry, budget) = (&self.registry, &self.budget);
            let context = |id: &ComponentId| Context {
                id: id.clone(),
                registry: Arc::clone(registry),
                budget: Arc::clone(budget),
            };
            let output = chain(pipeline, processors, sinks, &context, waiting)?;
            inputs.push((pipeline, Arc::new(output)));
        }
        self.running.senders.extend(senders.into_values());
        Ok(inputs)
    }

    async fn receive(
        &mut self,
        receivers: Vec<Defined<Box<dyn BuildReceiver>>>,
        inputs: &[Input<'_>],
    ) -> Result<(), StartError> {
        for Defined { id, build, .. } in receivers {
            let fed = inputs
                .iter()
                .filter(|(pipeline, _)| pipeline.receivers.contains(&id));
            let pipelines: Vec<_> = fed
                .map(|(pipeline, output)| (pipeline.signal, Arc::clone(output)))
                .collect();
            if !pipelines.is_empty() {
                let started = build
                    .start(self.context(&id), Outputs { pipelines })
                    .await?;
                self.running.receivers.push(started);
            }
        }
        Ok(())
    }
}

/// Puts a pipeline's processors together, from the last to the first.
fn chain(
    pipeline: &PipelineConfig,
    processors: &[Defined<Arc<dyn BuildProcessor>>],
    sinks: Vec<Arc<dyn Sink>>,
    context: &dyn Fn(&ComponentId) -> Context,
    waiting: &mut Vec<Vec<Arc<dyn Sink>>>,
) -> Result<Output, StartError> {
    let mut output = Output {
        processors: Vec::new(),
        sinks,
    };
    let mut held = Vec::new();
    for id in pipeline.processors.iter().rev() {
        let Some(defined) = processors.iter().find(|defined| defined.id == *id) else {
            continue;
        };
        match defined.build.build(&context(id), pipeline.signal)? {
            Stage::Function(function) => output.processors.insert(0, function),
            Stage::Waiting(start) => {
                let sink = start(output);
                held.push(Arc::clone(&sink));
                output = Output {
                    processors: Vec::new(),
                    sinks: vec![sink],
                };
            }
        }
    }
    held.reverse();
    waiting.push(held);
    Ok(output)
}

impl Running {
    /// Drains in the order of flow and ends within [`SHUTDOWN_TIMEOUT`].
    pub async fn stop(self) {
        let start = Instant::now();
        let deadline = start + SHUTDOWN_TIMEOUT;
        self.readiness.send_replace(Readiness::Unavailable);
        all(self
            .receivers
            .into_iter()
            .map(|receiver| receiver.stop(start + RECEIVER_SHARE)))
        .await;
        // Pipelines side by side, so that one whose target is away takes no time from others.
        all(self.waiting.into_iter().map(|sinks| async move {
            for sink in sinks {
                sink.stop(deadline).await;
            }
        }))
        .await;
        all(self
            .senders
            .into_iter()
            .map(|s| async move { s.stop(deadline).await }))
        .await;
        for exporter in &self.exporters {
            exporter.stop().await;
        }
        for extension in self.extensions {
            extension.stop().await;
        }
        for metrics in self.metrics {
            metrics
                .stop(Instant::now() + Duration::from_millis(100))
                .await;
        }
    }
}

/// Runs everything side by side; what panics has ended as well.
async fn all(tasks: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let mut running: JoinSet<()> = tasks.collect();
    while running.join_next().await.is_some() {}
}
