//! The sending queue and the retries of one exporter for one signal.
//!
//! In: batches. Out: attempts to export them. Invariant: a batch that was taken is exported, or
//! its loss is logged and counted; at most `queue_size` batches wait and `num_consumers` are
//! being sent.

use std::sync::Arc;

use collector_otlp::Signal;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout_at};

use super::{RetrySettings, SendingSettings};
use crate::batch::Batch;
use crate::component::{Context, Exporter, Failure, Patience, Sink, Task};
use crate::telemetry::{Counter, Gauge, item_name};

/// How long pauses between attempts are at most while the collector stops.
const STOPPING_PAUSE: Duration = Duration::from_millis(250);

/// Sends batches to an exporter, through a queue if there is one.
pub struct Sender {
    line: Arc<Line>,
    queue: Option<Queue>,
}

struct Queue {
    enqueue: std::sync::Mutex<Option<mpsc::Sender<Batch>>>,
    block_on_overflow: bool,
    consumers: Mutex<JoinSet<()>>,
    stopping: watch::Sender<bool>,
    enqueue_failed: Counter,
}

/// What every consumer shares.
struct Line {
    context: Context,
    exporter: Arc<dyn Exporter>,
    retry: Option<RetrySettings>,
    sent: Counter,
    send_failed: Counter,
    size: Gauge,
}

impl Sender {
    /// Starts the consumers.
    pub fn start(
        context: Context,
        exporter: Arc<dyn Exporter>,
        settings: &SendingSettings,
        signal: Signal,
    ) -> Self {
        let id = context.id.to_string();
        let registry = Arc::clone(&context.registry);
        let labels = [("exporter", id.as_str())];
        let typed = [("data_type", signal.name()), ("exporter", id.as_str())];
        let items = item_name(signal);
        let counter = |name: &str, help| {
            registry.counter(&format!("otelcol_exporter_{name}_{items}"), help, &labels)
        };
        let size = match settings.queue {
            Some(_) => registry.gauge(
                "otelcol_exporter_queue_size",
                "Current size of the retry queue (in batches)",
                &typed,
            ),
            None => Gauge::default(),
        };
        let line = Arc::new(Line {
            exporter,
            retry: settings.retry.clone(),
            sent: counter("sent", "Items successfully sent to destination"),
            send_failed: counter(
                "send_failed",
                "Items in failed attempts to send to destination",
            ),
            size,
            context,
        });
        let queue = settings.queue.as_ref().map(|queue| {
            let (enqueue, dequeue) = mpsc::channel(queue.queue_size);
            let dequeue = Arc::new(Mutex::new(dequeue));
            let (stopping, stop) = watch::channel(false);
            let mut consumers = JoinSet::new();
            for _ in 0..queue.num_consumers {
                consumers.spawn(consume(
                    Arc::clone(&line),
                    Arc::clone(&dequeue),
                    stop.clone(),
                ));
            }
            let help = "Fixed capacity of the retry queue (in batches)";
            registry
                .gauge("otelcol_exporter_queue_capacity", help, &typed)
                .set(i64::try_from(queue.queue_size).unwrap_or(i64::MAX));
            Queue {
                enqueue: std::sync::Mutex::new(Some(enqueue)),
                block_on_overflow: queue.block_on_overflow,
                consumers: Mutex::new(consumers),
                stopping,
                enqueue_failed: counter(
                    "enqueue_failed",
                    "Items failed to be added to the sending queue",
                ),
            }
        });
        Self { line, queue }
    }

    async fn enqueue(
        &self,
        queue: &Queue,
        batch: Batch,
        patience: Patience,
    ) -> Result<(), Failure> {
        let sender = {
            let held = queue
                .enqueue
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            held.clone()
        };
        let Some(sender) = sender else {
            return Err(Failure::retryable("the collector is stopping"));
        };
        let wait = queue.block_on_overflow || patience == Patience::Wait;
        let permit = match wait {
            true => sender.reserve().await.ok(),
            false => sender.try_reserve().ok(),
        };
        let Some(permit) = permit else {
            queue.enqueue_failed.add(batch.request.items() as u64);
            let id = &self.line.context.id;
            return Err(Failure::retryable(format!(
                "the sending queue of {id} is full"
            )));
        };
        self.line.size.add(1);
        permit.send(batch);
        Ok(())
    }
}

impl Sink for Sender {
    fn accept(&self, batch: Batch, patience: Patience) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            match &self.queue {
                Some(queue) => self.enqueue(queue, batch, patience).await,
                None => self.line.deliver(batch, watch::channel(false).1).await,
            }
        })
    }

    fn stop(&self, deadline: Instant) -> Task<'_, ()> {
        Box::pin(async move {
            let Some(queue) = &self.queue else { return };
            drop(
                queue
                    .enqueue
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .take(),
            );
            // The receivers are the consumers; when all have ended nothing needs to hear it.
            let _ = queue.stopping.send(true);
            let mut consumers = queue.consumers.lock().await;
            while let Ok(Some(_)) = timeout_at(deadline, consumers.join_next()).await {}
            if !consumers.is_empty() {
                let exporter = self.line.context.id.to_string();
                let batches = self.line.size.value();
                let sending = consumers.len();
                tracing::error!(
                    %exporter,
                    queued_batches = batches,
                    being_sent_at_most = sending,
                    "the queue could not be drained before the shutdown deadline; what was in it is lost"
                );
                consumers.shutdown().await;
            }
        })
    }
}

async fn consume(
    line: Arc<Line>,
    dequeue: Arc<Mutex<mpsc::Receiver<Batch>>>,
    stop: watch::Receiver<bool>,
) {
    loop {
        let next = { dequeue.lock().await.recv().await };
        let Some(batch) = next else { return };
        line.size.add(-1);
        let dropped_items = batch.request.items();
        if let Err(failure) = line.deliver(batch, stop.clone()).await {
            let exporter = line.context.id.to_string();
            tracing::error!(%exporter, %failure, dropped_items, "exporting failed; a batch is dropped");
        }
    }
}

impl Line {
    /// Exports one batch, with retries, and counts how it ended; the caller logs a failure.
    async fn deliver(&self, batch: Batch, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let started = Instant::now();
        let items = batch.request.items() as u64;
        let exporter = self.context.id.to_string();
        let mut failures = 0;
        loop {
            let failure = match self.exporter.export(batch.clone()).await {
                Ok(()) => {
                    self.sent.add(items);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            failures += 1;
            let pause = match (&failure, &self.retry) {
                (Failure::Retryable { after, .. }, Some(retry)) => {
                    let pause = retry.pause(failures, *after);
                    let limit = retry.max_elapsed_time;
                    (limit.is_zero() || started.elapsed() + pause <= limit).then_some(pause)
                }
                _ => None,
            };
            let Some(pause) = pause else {
                self.send_failed.add(items);
                return Err(failure);
            };
            let pause = if *stop.borrow() {
                pause.min(STOPPING_PAUSE)
            } else {
                pause
            };
            tracing::info!(%exporter, %failure, ?pause, "exporting failed; it will be tried again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The sender of this channel lives in the queue; without a queue there is none.
                Ok(_) = stop.changed() => {}
            }
        }
    }
}
