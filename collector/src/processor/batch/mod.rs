//! The `batch` processor: joins small requests to larger ones.
//!
//! In: batches. Out: batches of about `send_batch_size` items, or fewer after `timeout`.
//! Invariant: what it holds is bounded: one batch being filled, one being passed on, and
//! [`WAITING_REQUESTS`] behind them; when what follows is full, those before it are refused.

mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collector_otlp::{Request, Signal};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep_until, timeout, timeout_at};

use crate::batch::Batch as Envelope;
use crate::component::{
    BuildProcessor, Context, Failure, Kind, Patience, Sink, Stage, StartError, Task,
};
use crate::pipeline::Output;
use crate::telemetry::{Counter, Histogram};
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "batch",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// How many requests wait for the task.
const WAITING_REQUESTS: usize = 64;

/// How long a sender waits for room before it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before what follows is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// otelcol's bounds of `batch_send_size`.
const SIZE_BOUNDS: &[u64] = &[
    10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000,
    10_000, 20_000, 30_000, 50_000, 100_000,
];

impl BuildProcessor for Config {
    fn build(&self, context: &Context, _: Signal) -> Result<Stage, StartError> {
        let (config, context) = (self.clone(), context.clone());
        Ok(Stage::Waiting(Box::new(move |next| {
            let id = context.id.to_string();
            let labels = [("processor", id.as_str())];
            let counter = |name, help| context.registry.counter(name, help, &labels);
            let by_size = counter(
                "otelcol_processor_batch_batch_size_trigger_send",
                "Number of times the batch was sent due to a size trigger",
            );
            let by_timeout = counter(
                "otelcol_processor_batch_timeout_trigger_send",
                "Number of times the batch was sent due to a timeout trigger",
            );
            let help = "Number of units in the batch";
            let name = "otelcol_processor_batch_batch_send_size";
            let sizes = context.registry.histogram(name, help, &labels, SIZE_BOUNDS);
            let (send, receive) = mpsc::channel(WAITING_REQUESTS);
            let stopping = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stopping);
            let batcher = Batcher {
                config,
                next,
                held: Vec::new(),
                items: 0,
                by_size,
                by_timeout,
                sizes,
                id,
                stopping: stopped,
            };
            let task = Mutex::new(Some(tokio::spawn(batcher.run(receive))));
            Arc::new(Batch {
                send: std::sync::Mutex::new(Some(send)),
                task,
                stopping,
            })
        })))
    }
}

/// The end of the task that others hold.
struct Batch {
    send: std::sync::Mutex<Option<mpsc::Sender<Request>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

impl Sink for Batch {
    fn accept(&self, batch: Envelope, patience: Patience) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let send = {
                let held = self
                    .send
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                held.clone()
            };
            let Some(send) = send else {
                return Err(Failure::retryable("the collector is stopping"));
            };
            let permit = match patience {
                Patience::Wait => send.reserve().await.ok(),
                Patience::Refuse => timeout(ROOM_TIMEOUT, send.reserve())
                    .await
                    .ok()
                    .and_then(Result::ok),
            };
            match permit {
                Some(permit) => {
                    permit.send(batch.request);
                    Ok(())
                }
                None => Err(Failure::retryable(
                    "the exporters do not keep up; try again later",
                )),
            }
        })
    }

    fn stop(&self, deadline: Instant) -> Task<'_, ()> {
        Box::pin(async move {
            self.stopping.store(true, Ordering::Relaxed);
            drop(
                self.send
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .take(),
            );
            let Some(mut task) = self.task.lock().await.take() else {
                return;
            };
            if timeout_at(deadline, &mut task).await.is_err() {
                tracing::error!(
                    "a batch could not be passed on before the shutdown deadline; it is lost"
                );
                task.abort();
            }
        })
    }
}

/// The task.
struct Batcher {
    config: Config,
    next: Output,
    held: Vec<Request>,
    items: usize,
    by_size: Counter,
    by_timeout: Counter,
    sizes: Histogram,
    id: String,
    stopping: Arc<AtomicBool>,
}

impl Batcher {
    async fn run(mut self, mut receive: mpsc::Receiver<Request>) {
        let mut due = Instant::now();
        loop {
            let received = tokio::select! {
                received = receive.recv() => received,
                () = sleep_until(due), if !self.held.is_empty() => {
                    self.by_timeout.add(1);
                    self.pass_on(0).await;
                    continue;
                }
            };
            let Some(request) = received else {
                self.pass_on(0).await;
                return;
            };
            if self.held.is_empty() {
                due = Instant::now() + self.config.timeout;
            }
            self.items += request.items();
            self.held.push(request);
            if self.items >= self.config.send_batch_size || self.config.timeout.is_zero() {
                self.by_size.add(1);
                let at_once = self.config.timeout.is_zero();
                self.pass_on(if at_once {
                    0
                } else {
                    self.config.send_batch_size
                })
                .await;
                due = Instant::now() + self.config.timeout;
            }
        }
    }

    /// Sends what is held, in pieces no larger than allowed; a last piece of fewer than
    /// `enough` items stays, to be filled.
    async fn pass_on(&mut self, enough: usize) {
        let merged = Request::merge(&std::mem::take(&mut self.held));
        self.items = 0;
        let Some(batch) = merged else { return };
        let mut pieces = match batch.split(self.config.send_batch_max_size) {
            Ok(pieces) => pieces,
            Err(error) => {
                // Requests are validated when they are made, so this cannot come about.
                tracing::error!(processor = %self.id, %error, "a batch is dropped");
                return;
            }
        };
        if let Some(last) = pieces.pop_if(|last| last.items() < enough) {
            self.items = last.items();
            self.held.push(last);
        }
        for piece in pieces {
            self.sizes.record(piece.items() as u64);
            self.deliver(piece).await;
        }
    }

    /// Its senders have been answered, so a batch waits here for as long as what follows is full.
    async fn deliver(&self, batch: Request) {
        let mut warned = false;
        loop {
            match self.next.send(batch.clone().into(), Patience::Wait).await {
                Ok(()) => return,
                Err(Failure::Retryable { reason, .. })
                    if !self.stopping.load(Ordering::Relaxed) =>
                {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(processor = %self.id, %reason, "a batch waits for what follows");
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(failure) => {
                    let dropped_items = batch.items();
                    tracing::error!(processor = %self.id, %failure, dropped_items, "a batch is dropped");
                    return;
                }
            }
        }
    }
}
