//! The attempts to deliver a batch to one exporter.
//!
//! In: a batch and the requests it was made of. Out: each request's claim, settled.
//! Invariant: what is refused for good stays with whoever sent it: a batch that the other side
//! will never take is sent again request by request, and only those that fail alone are given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::RetrySettings;
use super::batching::{Formed, Piece};
use super::durable::Durable;
use crate::batch::Batch;
use crate::component::{Context, Exporter, Failure};
use crate::telemetry::Counter;

/// How long pauses between attempts are at most while the collector stops.
const STOPPING_PAUSE: Duration = Duration::from_millis(250);

/// The pause before a dead letter that could not be written is written again.
const BURY_PAUSE: Duration = Duration::from_secs(1);

/// What every consumer of one exporter's queue shares.
pub(super) struct Line {
    pub(super) context: Context,
    pub(super) exporter: Arc<dyn Exporter>,
    pub(super) retry: Option<RetrySettings>,
    pub(super) sent: Counter,
    pub(super) send_failed: Counter,
    /// The queue on disk, when what fails stays in it.
    pub(super) durable: Option<Arc<Durable>>,
    /// Whether an attempt failed while the collector stops.
    pub(super) stopped_trying: AtomicBool,
    /// How many batches are between two attempts.
    pub(super) failing: AtomicUsize,
}

impl Line {
    /// Delivers a batch or gives it up; either way every claim is settled.
    pub(super) async fn deliver(&self, formed: Formed, stop: &watch::Receiver<bool>) {
        let Some(batch) = formed.merged() else { return };
        let failure = match self.attempts(batch, stop).await {
            Ok(()) => return formed.pieces.into_iter().for_each(settled),
            Err(failure) => failure,
        };
        if formed.pieces.len() == 1 || matches!(failure, Failure::Retryable { .. }) {
            for piece in formed.pieces {
                self.give_up(piece, failure.clone(), stop).await;
            }
            return;
        }
        let (exporter, requests) = (self.context.id.to_string(), formed.pieces.len());
        tracing::warn!(%exporter, %failure, requests, "a batch was refused; its requests are sent one by one");
        for piece in formed.pieces {
            match self.attempts(piece.batch.clone(), stop).await {
                Ok(()) => settled(piece),
                Err(failure) => self.give_up(piece, failure, stop).await,
            }
        }
    }

    /// Whether the other side was found away while the collector stops.
    pub(super) fn has_stopped_trying(&self) -> bool {
        self.stopped_trying.load(Ordering::Relaxed)
    }

    /// Whether the other side refuses what it gets, or is away.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
    }

    /// Says what was not sent in time when the collector stopped.
    pub(super) fn report_lost(&self, left: &VecDeque<Formed>, cut: bool) {
        if cut || !left.is_empty() {
            let exporter = self.context.id.to_string();
            let queued_items: usize = left.iter().map(Formed::items).sum();
            tracing::error!(
                %exporter,
                queued_batches = left.len(),
                queued_items,
                being_sent = cut,
                "the queue could not be drained before the shutdown deadline; what was in it is lost"
            );
        }
    }

    /// Exports one batch, with retries.
    async fn attempts(&self, batch: Batch, stop: &watch::Receiver<bool>) -> Result<(), Failure> {
        let mut stop = stop.clone();
        let items = batch.request.items() as u64;
        let (mut started, mut failures) = (Instant::now(), 0);
        let mut failing = None;
        loop {
            let failure = match self.exporter.export(batch.clone()).await {
                Ok(()) => {
                    self.sent.add(items);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            failures += 1;
            failing.get_or_insert_with(|| Failing::of(&self.failing));
            let Failure::Retryable { reason, after } = &failure else {
                return Err(failure);
            };
            let Some(mut pause) = self.pause(failures, *after, &mut started) else {
                return Err(failure);
            };
            if *stop.borrow() {
                if self.durable.is_some() {
                    // It is on disk, and the next start goes on with it.
                    self.stopped_trying.store(true, Ordering::Relaxed);
                    return Err(failure);
                }
                pause = pause.min(STOPPING_PAUSE);
            }
            let exporter = &self.context.id;
            tracing::info!(%exporter, %reason, ?pause, items, "exporting failed; it will be tried again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The other end lives in the sender; without it there is nothing to stop for.
                Ok(_) = stop.changed() => {}
            }
        }
    }

    /// How long to wait before the next attempt; `None` when this was the last.
    fn pause(
        &self,
        failures: u32,
        asked: Option<Duration>,
        started: &mut Instant,
    ) -> Option<Duration> {
        // What is on disk is retried also where the configuration asks for one attempt only.
        let otherwise = RetrySettings::default();
        let retry = match (&self.retry, &self.durable) {
            (Some(retry), _) => retry,
            (None, Some(_)) => &otherwise,
            (None, None) => return None,
        };
        let pause = retry.pause(failures, asked);
        let limit = retry.max_elapsed_time;
        if limit.is_zero() || started.elapsed() + pause <= limit {
            return Some(pause);
        }
        if self.durable.is_none() || retry.drop_when_elapsed {
            return None;
        }
        *started = Instant::now();
        Some(pause)
    }

    /// Ends the life of a request that was not delivered, or leaves it on disk.
    async fn give_up(&self, piece: Piece, failure: Failure, stop: &watch::Receiver<bool>) {
        let items = piece.batch.request.items() as u64;
        let exporter = self.context.id.to_string();
        let Some(durable) = &self.durable else {
            self.send_failed.add(items);
            if let Some(claim) = piece.claim {
                // Whoever waits for the answer keeps the request, so nothing is lost here.
                tracing::info!(%exporter, %failure, items, "exporting failed; the sender is told");
                return claim.failed(failure);
            }
            tracing::error!(%exporter, %failure, dropped_items = items, "exporting failed; a request is dropped");
            return;
        };
        if matches!(failure, Failure::Permanent { .. }) {
            if self.bury(durable, &piece.batch, &failure, stop).await {
                self.send_failed.add(items);
                settled(piece);
            }
        } else if !*stop.borrow() {
            // Only retries that are configured to end get here; otherwise the claim is dropped
            // unsettled, and the record stays in the queue.
            self.send_failed.add(items);
            tracing::error!(%exporter, %failure, dropped_items = items, "max_elapsed_time is over; dropped as configured");
            settled(piece);
        }
    }

    /// Keeps what was refused for good as a dead letter; false when the collector stops first.
    async fn bury(
        &self,
        durable: &Durable,
        batch: &Batch,
        failure: &Failure,
        stop: &watch::Receiver<bool>,
    ) -> bool {
        let exporter = self.context.id.to_string();
        let items = batch.request.items();
        loop {
            match durable.set_aside(batch, failure).await {
                Ok(()) => {
                    tracing::error!(%exporter, %failure, items, "refused for good; kept as a dead letter");
                    return true;
                }
                Err(error) if *stop.borrow() => {
                    tracing::warn!(%exporter, %error, items, "a dead letter could not be written; it stays in the queue");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%exporter, %error, items, "a dead letter could not be written; it will be tried again");
                    tokio::time::sleep(BURY_PAUSE).await;
                }
            }
        }
    }
}

/// Counts a batch as failing for as long as it lives.
struct Failing<'c>(&'c AtomicUsize);

impl<'c> Failing<'c> {
    fn of(counter: &'c AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn settled(piece: Piece) {
    if let Some(claim) = piece.claim {
        claim.delivered();
    }
}
