//! What a component is, and the tables of all components.
//!
//! In: a component's section of the configuration. Out: something that can be started.
//! Invariant: a component is one folder and one row here; nothing else in the collector knows a
//! component by name.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use collector_otlp::{Request, Signal};
use collector_queue::Queue;
use futures_util::future::{join, join_all};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::authentication::Authenticators;
use crate::batch::Batch;
use crate::budget::Budget;
use crate::config::Section;
use crate::pipeline::{Batching, Output, QueueLimits, SendingSettings};
use crate::telemetry::Registry;
use crate::walk::Walker;
use crate::{connector, exporter, extension, processor, receiver};

/// Every receiver.
pub const RECEIVERS: &[Kind<dyn BuildReceiver>] = &[receiver::otlp::KIND];

/// Every processor.
pub const PROCESSORS: &[Kind<dyn BuildProcessor>] = &[
    processor::attributes::KIND,
    processor::batch::KIND,
    processor::filter::KIND,
    processor::memory_limiter::KIND,
    processor::probabilistic_sampler::KIND,
    processor::resource::KIND,
    processor::transform::KIND,
];

/// Every exporter.
pub const EXPORTERS: &[Kind<dyn BuildExporter>] = &[
    exporter::debug::KIND,
    exporter::file::KIND,
    exporter::otlp::KIND,
    exporter::otlphttp::KIND,
];

/// Every connector.
pub const CONNECTORS: &[Kind<dyn BuildConnector>] = &[connector::forward::KIND];

/// Every extension.
pub const EXTENSIONS: &[Kind<dyn BuildExtension>] = &[
    extension::basicauth::KIND,
    extension::bearertokenauth::KIND,
    extension::file_storage::KIND,
    extension::headers_setter::KIND,
    extension::health_check::KIND,
    extension::pprof::KIND,
    extension::zpages::KIND,
];

/// A row of a component table.
pub struct Kind<T: ?Sized> {
    /// The component's type as configuration files spell it.
    pub name: &'static str,
    /// Other spellings, accepted as well.
    pub aliases: &'static [&'static str],
    /// Reads the component's section; faults go to the section's diagnostics.
    pub configure: fn(&Section<'_>) -> Box<T>,
}

/// A component's identity: its type, and a name when there are several of the type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    /// The component's type, such as `otlp`.
    pub kind: String,
    /// What stands after the slash.
    pub name: Option<String>,
}

impl ComponentId {
    /// Reads `kind` or `kind/name`; `None` when either is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim().to_owned())),
            None => (text.trim(), None),
        };
        let filled = !kind.is_empty() && name.as_deref() != Some("");
        filled.then(|| Self {
            kind: kind.to_owned(),
            name,
        })
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{}/{name}", self.kind),
            None => formatter.write_str(&self.kind),
        }
    }
}

/// Work that a component does; boxed, so that traits of components are object safe.
pub type Task<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// What a component gets when it is started.
#[derive(Clone)]
pub struct Context {
    /// Its identity, for logs, errors and metrics.
    pub id: ComponentId,
    /// Where its metrics go.
    pub registry: Arc<Registry>,
    /// The memory that telemetry may take.
    pub budget: Arc<Budget>,
    /// The extensions that authenticate; all of them have started when receivers and exporters do.
    pub authenticators: Authenticators,
}

/// Why a component could not start: one line that names it and what it wanted.
#[derive(Debug, thiserror::Error)]
#[error("{component}: {message}")]
pub struct StartError {
    /// The component's section and id, such as `receivers::otlp`.
    pub component: String,
    /// What went wrong, with the address or path concerned.
    pub message: String,
}

/// Why a batch was not taken or not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The same batch may be accepted later.
    #[error("{reason}")]
    Retryable {
        /// What went wrong.
        reason: String,
        /// How long the other side asked to wait.
        after: Option<Duration>,
    },
    /// The same batch will never be accepted.
    #[error("{reason}")]
    Permanent {
        /// What went wrong.
        reason: String,
    },
}

impl From<crate::ottl::EvalFault> for Failure {
    fn from(fault: crate::ottl::EvalFault) -> Self {
        Self::permanent(fault.to_string())
    }
}

impl From<collector_otlp::WireError> for Failure {
    fn from(error: collector_otlp::WireError) -> Self {
        Self::permanent(error.to_string())
    }
}

impl Failure {
    /// A failure that may pass, with no advice about when.
    pub fn retryable(reason: impl Into<String>) -> Self {
        Self::Retryable {
            reason: reason.into(),
            after: None,
        }
    }

    /// A failure that will not pass.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent {
            reason: reason.into(),
        }
    }
}

/// A configured receiver.
pub trait BuildReceiver: Send + Sync {
    /// Binds its listeners and starts to receive.
    fn start(
        self: Box<Self>,
        context: Context,
        outputs: Outputs,
    ) -> Task<'static, Result<Box<dyn RunningReceiver>, StartError>>;
}

/// A receiver at work.
pub trait RunningReceiver: Send {
    /// Takes nothing new, finishes what is in flight, and returns by the deadline.
    fn stop(self: Box<Self>, deadline: Instant) -> Task<'static, ()>;
}

/// Where a receiver's batches go: every pipeline that names it, by signal.
#[derive(Clone, Default)]
pub struct Outputs {
    /// The first stages of the pipelines.
    pub pipelines: Vec<(Signal, Arc<Output>)>,
}

impl Outputs {
    /// Whether any pipeline takes this signal.
    pub fn takes(&self, signal: Signal) -> bool {
        self.pipelines.iter().any(|(taken, _)| *taken == signal)
    }

    /// Hands a batch to every pipeline of its signal; a retryable failure counts before others.
    pub async fn send(&self, batch: Batch) -> Result<(), Failure> {
        let signal = batch.request.signal();
        let mut outputs = self.pipelines.iter().filter(|(taken, _)| *taken == signal);
        // One pipeline is the usual case, and none waits for another one.
        let Some((_, first)) = outputs.next() else {
            return Ok(());
        };
        let others = outputs.map(|(_, output)| output.send(batch.clone()));
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            return first.send(batch).await;
        }
        let (result, others) = join(first.send(batch.clone()), join_all(others)).await;
        others.into_iter().fold(result, worse)
    }
}

/// Of two outcomes, the one that the sender must hear of.
pub fn worse(a: Result<(), Failure>, b: Result<(), Failure>) -> Result<(), Failure> {
    match (&a, &b) {
        (Err(Failure::Retryable { .. }), _) | (_, Ok(())) => a,
        (_, Err(Failure::Retryable { .. })) | (Ok(()), _) => b,
        (Err(Failure::Permanent { .. }), _) => a,
    }
}

/// A configured processor, which makes one stage for each pipeline that names it.
pub trait BuildProcessor: Send + Sync {
    /// Makes the stage for one pipeline.
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError>;
}

/// A processor in one pipeline.
pub enum Stage {
    /// Works at once, on the thread of whoever brings the batch.
    Function(Box<dyn Processor>),
    /// The same, by nothing but walks through the batch, in this order.
    Walks(Vec<Box<dyn Walker>>),
    /// Says how requests are joined, which is done in front of each exporter.
    Batching(Box<Batching>),
}

/// A processor that needs nothing but the batch.
pub trait Processor: Send + Sync {
    /// The batch, changed, or the reason why it may not pass.
    fn process(&self, batch: Request) -> Result<Request, Failure>;
}

/// Something that takes batches in.
pub trait Sink: Send + Sync {
    /// Takes one batch; `Ok` means that the sink answers for it from now on.
    fn accept(&self, batch: Batch) -> Task<'_, Result<(), Failure>>;

    /// Passes on everything that it holds and returns by the deadline.
    fn stop(&self, deadline: Instant) -> Task<'_, ()>;

    /// Whether what it holds is gone when it is stopped before it has passed it on.
    fn holds_in_memory(&self) -> bool;
}

/// A configured exporter.
pub trait BuildExporter: Send + Sync {
    /// Opens what must be open before the first batch.
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError>;
}

/// An exporter, and how batches are to be sent to it.
pub struct BuiltExporter {
    /// The exporter.
    pub exporter: Arc<dyn Exporter>,
    /// Its queue and its retries.
    pub sending: SendingSettings,
}

/// A configured connector, which ends some pipelines and begins others.
pub trait BuildConnector: Send + Sync {
    /// Whether it can begin a pipeline of `to` with what it takes from one of `from`.
    fn joins(&self, from: Signal, to: Signal) -> bool;

    /// Makes what stands at the end of pipelines; `outputs` are the pipelines that it begins.
    fn build(&self, context: &Context, outputs: Outputs) -> Result<Arc<dyn Sink>, StartError>;
}

/// Delivers batches.
pub trait Exporter: Send + Sync {
    /// One attempt to deliver one batch.
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>>;

    /// Flushes and closes, after the last batch.
    fn stop(&self) -> Task<'_, ()>;
}

/// Whether the collector is ready for telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not all listeners are bound, or the collector is stopping.
    Unavailable,
    /// Every receiver takes telemetry.
    Ready,
}

/// What other components may want of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// To check requests that come in.
    Checks,
    /// To add credentials to requests that go out.
    Credentials,
    /// To keep queues on disk.
    Storage,
}

impl fmt::Display for Offer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Checks => "checks requests for receivers",
            Self::Credentials => "adds credentials for exporters",
            Self::Storage => "keeps queues on disk",
        })
    }
}

/// A configured extension.
pub trait BuildExtension: Send + Sync {
    /// What others may use it for.
    fn offers(&self) -> &'static [Offer] {
        &[]
    }

    /// Starts it, before all receivers.
    fn start(
        self: Box<Self>,
        context: Context,
        readiness: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>>;
}

/// An extension at work.
pub trait RunningExtension: Send {
    /// Ends it, after everything else.
    fn stop(self: Box<Self>) -> Task<'static, ()>;

    /// Where exporters keep their queues, if this is a storage.
    fn storage(&self) -> Option<Arc<dyn Storage>> {
        None
    }
}

/// A place on disk where exporters keep their queues.
pub trait Storage: Send + Sync {
    /// Opens the queue of this name, or makes it.
    fn open(&self, name: &str, limits: &QueueLimits) -> Result<Queue, StartError>;

    /// Says which queues of an earlier configuration nobody has opened; called once, when all
    /// queues of this configuration are open.
    fn name_orphans(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<T: ?Sized>(rows: &[Kind<T>]) -> Vec<&'static str> {
        rows.iter().map(|row| row.name).collect()
    }

    #[test]
    fn every_folder_has_a_row_and_every_row_a_folder() {
        let tables = [
            ("receiver", names(RECEIVERS)),
            ("processor", names(PROCESSORS)),
            ("exporter", names(EXPORTERS)),
            ("connector", names(CONNECTORS)),
            ("extension", names(EXTENSIONS)),
        ];
        for (family, rows) in tables {
            let folder = format!("{}/src/{family}", env!("CARGO_MANIFEST_DIR"));
            let mut folders: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().unwrap().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            folders.sort();
            assert_eq!(folders, rows, "{family}");
        }
    }

    #[test]
    fn a_retryable_failure_is_heard_before_a_permanent_one() {
        let retryable = || Err(Failure::retryable("later"));
        let permanent = || Err(Failure::permanent("never"));
        assert_eq!(worse(permanent(), retryable()), retryable());
        assert_eq!(worse(retryable(), permanent()), retryable());
        assert_eq!(worse(Ok(()), permanent()), permanent());
        assert_eq!(worse(permanent(), Ok(())), permanent());
        assert_eq!(worse(Ok(()), Ok(())), Ok(()));
    }

    #[test]
    fn ids_are_a_kind_and_perhaps_a_name() {
        assert_eq!(ComponentId::parse("otlp/a").unwrap().to_string(), "otlp/a");
        assert_eq!(ComponentId::parse("otlp").unwrap().name, None);
        assert_eq!(ComponentId::parse("otlp/"), None);
        assert_eq!(ComponentId::parse("/a"), None);
    }
}
