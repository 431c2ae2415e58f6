//! Builds the graph, starts it, and stops it.
//!
//! In: a configuration without errors. Out: a [`Running`] collector, or the first component
//! that could not start. Invariant: things start from the end of the flow to its beginning, and
//! stop from its beginning to its end, so that nothing is handed to what has stopped.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::Signal;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Duration, Instant};

use super::joints::Joints;
use super::{Batching, Output, Sender, SenderParts, SendingSettings};
use crate::authentication::Authenticators;
use crate::budget::Budget;
use crate::component::{
    BuildConnector, BuildExporter, BuildExtension, BuildProcessor, BuildReceiver, BuiltExporter,
    ComponentId, Context, Exporter, Outputs, Readiness, RunningExtension, RunningReceiver, Sink,
    StartError, Storage,
};
use crate::config::{Config, Defined, PipelineConfig, Service};
use crate::network::Server;
use crate::telemetry::periodic::Periodic;
use crate::telemetry::{self, Description, Registry};
use crate::walk::Chain;

/// How long shutting down may take in all.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of that the receivers may take to finish what is in flight.
const RECEIVER_SHARE: Duration = Duration::from_secs(4);

/// How long a queue may take to drain while a new configuration takes over.
const HAND_OVER_WAIT: Duration = Duration::from_secs(1);

/// How long own metrics may take at least to be sent for the last time, whatever came before.
const LAST_METRICS: Duration = Duration::from_secs(1);

/// How long they may take beside a new configuration, which does not wait for them.
const LAST_METRICS_BESIDE: Duration = Duration::from_secs(5);

/// How long one in memory may go on draining beside the new configuration.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3600);

/// A collector at work.
pub struct Running {
    receivers: Vec<Box<dyn RunningReceiver>>,
    /// The exporters' queues.
    senders: Vec<Arc<dyn Sink>>,
    exporters: Vec<Arc<dyn Exporter>>,
    extensions: Vec<Box<dyn RunningExtension>>,
    readiness: watch::Sender<Readiness>,
    metrics: Vec<Server>,
    periodic: Vec<Periodic>,
}

/// What every step of starting needs.
struct Start<'c> {
    running: Running,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
    authenticators: Authenticators,
    service: &'c Service,
    /// The extensions that keep queues.
    storages: HashMap<ComponentId, Arc<dyn Storage>>,
}

/// An exporter that is built, and how batches are sent to it.
type Built = HashMap<ComponentId, (Arc<dyn Exporter>, SendingSettings)>;

/// The beginning of a pipeline: who feeds it, with what, and where that goes.
type Input<'c> = (&'c PipelineConfig, Arc<Output>);

/// Starts everything that the configuration's service names; what was started before something
/// failed is stopped again.
pub async fn start(config: Config, registry: Arc<Registry>) -> Result<Running, StartError> {
    let Config {
        receivers,
        processors,
        exporters,
        connectors,
        extensions,
        service,
    } = config;
    let running = Running {
        receivers: Vec::new(),
        senders: Vec::new(),
        exporters: Vec::new(),
        extensions: Vec::new(),
        readiness: watch::Sender::new(Readiness::Unavailable),
        metrics: Vec::new(),
        periodic: Vec::new(),
    };
    let mut start = Start {
        running,
        registry,
        budget: Arc::default(),
        authenticators: Authenticators::default(),
        service: &service,
        storages: HashMap::new(),
    };
    let started = async {
        start.show(extensions).await?;
        let built = start.build(exporters)?;
        let inputs = start.connect(&processors, &connectors, &built)?;
        start.receive(receivers, &inputs).await
    };
    let started = started.await;
    if let Err(error) = started {
        start.running.stop().await;
        return Err(error);
    }
    start.running.readiness.send_replace(Readiness::Ready);
    Ok(start.running)
}

impl<'c> Start<'c> {
    fn context(&self, id: &ComponentId) -> Context {
        Context {
            id: id.clone(),
            registry: Arc::clone(&self.registry),
            budget: Arc::clone(&self.budget),
            authenticators: self.authenticators.clone(),
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
        for (number, reader) in self.service.telemetry.periodic.iter().enumerate() {
            let id = ComponentId {
                kind: "telemetry".to_owned(),
                name: Some(number.to_string()),
            };
            let periodic = telemetry::periodic::start(reader, &self.context(&id))?;
            self.running.periodic.push(periodic);
        }
        for Defined { id, build, .. } in extensions {
            if self.service.extensions.contains(&id) {
                let readiness = self.running.readiness.subscribe();
                let started = build.start(self.context(&id), readiness).await?;
                if let Some(storage) = started.storage() {
                    self.storages.insert(id, storage);
                }
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
        connectors: &'c [Defined<Arc<dyn BuildConnector>>],
        built: &Built,
    ) -> Result<Vec<Input<'c>>, StartError> {
        let pipelines = &self.service.pipelines;
        let joints = Joints {
            pipelines,
            connectors,
        };
        let mut outputs = Vec::new();
        for pipeline in pipelines {
            let context = |id: &ComponentId| self.context(id);
            outputs.push(chain(pipeline, processors, &context)?);
        }
        let mut senders: HashMap<(&ComponentId, Signal), Arc<dyn Sink>> = HashMap::new();
        for pipeline in pipelines {
            for id in &pipeline.exporters {
                let key = (id, pipeline.signal);
                let Some((exporter, sending)) =
                    built.get(id).filter(|_| !senders.contains_key(&key))
                else {
                    continue;
                };
                let feeding = pipelines.iter().enumerate().filter(|(_, other)| {
                    other.signal == pipeline.signal && other.exporters.contains(id)
                });
                let rules = feeding.flat_map(|(number, _)| joints.rules(number, &outputs));
                let rules = rules.collect();
                let sender = self.sender(key, exporter, sending, rules)?;
                senders.insert(key, Arc::new(sender));
            }
        }
        for storage in self.storages.values() {
            storage.name_orphans();
        }
        let inputs = self.join(&joints, outputs, &senders)?;
        self.running.senders.extend(senders.into_values());
        Ok(inputs)
    }

    /// Puts the ends to the pipelines: senders, and connectors with the pipelines behind them.
    fn join(
        &self,
        joints: &Joints<'c>,
        outputs: Vec<Output>,
        senders: &HashMap<(&ComponentId, Signal), Arc<dyn Sink>>,
    ) -> Result<Vec<Input<'c>>, StartError> {
        let mut open: Vec<Option<Output>> = outputs.into_iter().map(Some).collect();
        let mut finished: HashMap<usize, Arc<Output>> = HashMap::new();
        let mut inputs = Vec::new();
        for number in joints.downstream_first() {
            let Some(mut output) = open[number].take() else {
                continue;
            };
            let pipeline = &joints.pipelines[number];
            for id in &pipeline.exporters {
                if let Some(connector) = joints.connector(id) {
                    let behind = joints.behind(id, pipeline).into_iter();
                    let fed = behind.filter_map(|fed| {
                        let output = Arc::clone(finished.get(&fed)?);
                        Some((joints.pipelines[fed].signal, output))
                    });
                    let pipelines = fed.collect();
                    let built = connector.build(&self.context(id), Outputs { pipelines })?;
                    output.sinks.push(built);
                }
                output
                    .sinks
                    .extend(senders.get(&(id, pipeline.signal)).cloned());
            }
            let output = Arc::new(output);
            finished.insert(number, Arc::clone(&output));
            inputs.push((pipeline, output));
        }
        Ok(inputs)
    }

    fn sender(
        &self,
        (id, signal): (&ComponentId, Signal),
        exporter: &Arc<dyn Exporter>,
        settings: &SendingSettings,
        rules: Vec<Arc<Batching>>,
    ) -> Result<Sender, StartError> {
        let own = settings
            .queue
            .as_ref()
            .and_then(|queue| queue.batch.as_ref());
        let rule = own.map(|own| Arc::new(Batching::of_exporter(id, own)));
        let queue = match settings
            .queue
            .as_ref()
            .map(|q| (q.storage.as_ref(), &q.limits))
        {
            Some((Some(wanted), limits)) => {
                let storage = self.storages.get(wanted).ok_or_else(|| StartError {
                    component: format!("exporters::{id}"),
                    message: format!("the extension {wanted} is no storage"),
                })?;
                let name = format!("exporter.{id}.{}", signal.name());
                Some((storage.open(&name, limits)?, rules))
            }
            _ => None,
        };
        Ok(Sender::start(SenderParts {
            context: self.context(id),
            exporter: Arc::clone(exporter),
            settings,
            signal,
            rule,
            queue,
        }))
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

/// Puts a pipeline's processors together; its exporters come later.
fn chain(
    pipeline: &PipelineConfig,
    processors: &[Defined<Arc<dyn BuildProcessor>>],
    context: &dyn Fn(&ComponentId) -> Context,
) -> Result<Output, StartError> {
    let mut chain = Chain::of(pipeline.signal);
    for id in &pipeline.processors {
        let Some(defined) = processors.iter().find(|defined| defined.id == *id) else {
            continue;
        };
        chain.push(defined.build.build(&context(id), pipeline.signal)?);
    }
    let (processors, batching) = chain.finish();
    let batching = batching.map(|mut rule| {
        rule.name.clone_from(&pipeline.name);
        Arc::from(rule)
    });
    Ok(Output {
        processors,
        batching,
        sinks: Vec::new(),
    })
}

impl Running {
    /// Drains in the order of flow and ends within [`SHUTDOWN_TIMEOUT`], or shortly after, if it
    /// was all needed before the last metrics.
    pub async fn stop(self) {
        let start = Instant::now();
        let deadline = start + SHUTDOWN_TIMEOUT;
        self.readiness.send_replace(Readiness::Unavailable);
        all(self
            .receivers
            .into_iter()
            .map(|receiver| receiver.stop(start + RECEIVER_SHARE)))
        .await;
        // Side by side, so that one whose target is away takes no time from others.
        all(self
            .senders
            .into_iter()
            .map(|s| async move { s.stop(deadline).await }))
        .await;
        for exporter in &self.exporters {
            exporter.stop().await;
        }
        let last = deadline.max(Instant::now() + LAST_METRICS);
        all(self.periodic.into_iter().map(|p| p.stop(last))).await;
        for extension in self.extensions {
            extension.stop().await;
        }
        for metrics in self.metrics {
            metrics
                .stop(Instant::now() + Duration::from_millis(100))
                .await;
        }
    }

    /// Stops, so that another configuration can take over, without losing what waits in memory for
    /// a target that is away: that, and the last metrics, go on being sent until the returned task
    /// ends.
    pub async fn hand_over(self) -> JoinHandle<()> {
        let start = Instant::now();
        self.readiness.send_replace(Readiness::Unavailable);
        all(self
            .receivers
            .into_iter()
            .map(|receiver| receiver.stop(start + RECEIVER_SHARE)))
        .await;
        let (in_memory, on_disk): (Vec<_>, Vec<_>) = self
            .senders
            .into_iter()
            .partition(|sender| sender.holds_in_memory());
        // What is on disk must be closed before it can be opened again, and need not be drained.
        let deadline = Instant::now() + HAND_OVER_WAIT;
        all(on_disk
            .into_iter()
            .map(|s| async move { s.stop(deadline).await }))
        .await;
        let exporters = self.exporters;
        let mut draining = tokio::spawn(async move {
            all(in_memory
                .into_iter()
                .map(|s| async move { s.stop(start + HAND_OVER_TIMEOUT).await }))
            .await;
            for exporter in &exporters {
                exporter.stop().await;
            }
        });
        let waited = tokio::time::timeout(HAND_OVER_WAIT, &mut draining).await;
        let is_drained = waited.is_ok();
        if !is_drained {
            tracing::warn!("queues of the old configuration are still being drained");
        }
        for extension in self.extensions {
            extension.stop().await;
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        all(self.metrics.into_iter().map(|server| server.stop(deadline))).await;
        let last = Instant::now() + LAST_METRICS_BESIDE;
        tokio::spawn(async move {
            all(self.periodic.into_iter().map(|p| p.stop(last))).await;
            if !is_drained {
                // What panics has ended as well.
                let _ = draining.await;
            }
        })
    }
}

/// Runs everything side by side; what panics has ended as well.
async fn all(tasks: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let mut running: JoinSet<()> = tasks.collect();
    while running.join_next().await.is_some() {}
}
