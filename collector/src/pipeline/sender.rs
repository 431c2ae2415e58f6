//! The sending queue of one exporter for one signal.
//!
//! In: requests. Out: batches, handed to the exporter. Invariant: a request that was taken is
//! delivered, or it is on disk, or its loss is logged and counted, or whoever waits for its
//! answer is told. At most `queue_size` waits, one batch for each rule and combination of
//! metadata is open, and `num_consumers` are being sent.
//!
//! When a request is answered is the same question as where batches form:
//!
//! - on disk: once it is written; batches form from what is read back
//! - in memory: once it waits in the queue; batches form there
//! - without a queue, or with `wait_for_result`: once it is delivered; batches form while every
//!   consumer is busy, and leave as soon as one is free

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use collector_otlp::Signal;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use super::batching::{Formed, Former, Piece};
use super::claim::Claim;
use super::durable::{Durable, room_for};
use super::gauges::Gauges;
use super::line::Line;
use super::{Batching, QueueSettings, SendingSettings, Sizer};
use crate::batch::Batch;
use crate::component::{Context, Exporter, Failure, Sink, Task};
use crate::telemetry::{Counter, item_name};

/// How many batches wait between the queue on disk and the consumers: enough to keep those busy.
const BATCHES_AHEAD: usize = 2;

/// How many batches are sent at a time where whoever brings a request waits for its delivery.
const CONSUMERS_WITHOUT_QUEUE: usize = 64;

/// From how many bytes in memory on, what is being sent included, senders are slowed down to the
/// pace of the target.
const PACE_BYTES: usize = 12 << 20;

/// How long a sender is slowed down at most.
const PACE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a queue on disk may take to drain while the collector stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// How often it is looked at meanwhile.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// How often the gauges of a queue on disk are brought up to date.
const GAUGE_INTERVAL: Duration = Duration::from_millis(500);

/// Joins requests and sends them to an exporter.
pub struct Sender {
    shared: Arc<Shared>,
    tasks: tokio::sync::Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    consumers: JoinSet<()>,
    /// The reader of the queue on disk, and whoever looks after time.
    others: JoinSet<()>,
}

struct Shared {
    line: Line,
    settings: QueueSettings,
    answer: Answer,
    /// The exporter's own rule, which counts before that of a pipeline.
    rule: Option<Arc<Batching>>,
    state: Mutex<State>,
    /// There is a batch to send, or the sender stops.
    work: Notify,
    /// A first batch was opened, whose time will be up.
    opened: Notify,
    /// A batch was taken from the queue.
    room: Notify,
    stopping: watch::Sender<bool>,
    gauges: Gauges,
    enqueue_failed: Counter,
}

/// When whoever brings a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    OnDisk,
    Enqueued,
    Delivered,
}

#[derive(Default)]
struct State {
    former: Former,
    ready: VecDeque<Formed>,
    /// What `queue_size` counts when it counts items or bytes, open batches included.
    waiting: usize,
    /// The bytes of all requests that are open, ready or being sent.
    bytes: usize,
    /// Nothing comes in any more.
    closed: bool,
    /// Nothing will be ready any more.
    ended: bool,
}

/// What a [`Sender`] is started with.
pub struct SenderParts<'s> {
    /// The exporter's identity.
    pub context: Context,
    /// The exporter.
    pub exporter: Arc<dyn Exporter>,
    /// Its queue and its retries.
    pub settings: &'s SendingSettings,
    /// What it will be handed.
    pub signal: Signal,
    /// The exporter's own rule for joining requests.
    pub rule: Option<Arc<Batching>>,
    /// The queue on disk, and the rules of the pipelines that fill it.
    pub queue: Option<(collector_queue::Queue, Vec<Arc<Batching>>)>,
}

impl Sender {
    /// Starts the consumers.
    pub fn start(parts: SenderParts<'_>) -> Self {
        let signal = parts.signal;
        let shared = Arc::new(Shared::new(parts));
        let mut tasks = Tasks::default();
        for _ in 0..shared.settings.num_consumers {
            tasks.consumers.spawn(Arc::clone(&shared).consume());
        }
        tasks.others.spawn(Arc::clone(&shared).keep_time());
        if let Some(durable) = shared.line.durable.clone() {
            let reader = Arc::clone(&shared).read(Arc::clone(&durable));
            tasks.others.spawn(reader);
            tasks.others.spawn(Arc::clone(&shared).watch(durable));
        }
        tracing::debug!(exporter = %shared.line.context.id, signal = signal.name(), "sending");
        Self {
            shared,
            tasks: tokio::sync::Mutex::new(tasks),
        }
    }
}

impl Sink for Sender {
    fn accept(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let items = batch.request.items() as u64;
            let taken = match (self.shared.answer, &self.shared.line.durable) {
                (Answer::OnDisk, Some(durable)) => self.shared.store(durable, &batch).await,
                (Answer::Delivered, _) => self.shared.hand_over(batch).await,
                _ => {
                    self.shared.keep_pace().await;
                    self.shared.enqueue(batch, None).await
                }
            };
            if taken.is_err() && self.shared.answer != Answer::Delivered {
                self.shared.enqueue_failed.add(items);
            }
            taken
        })
    }

    fn holds_in_memory(&self) -> bool {
        self.shared.line.durable.is_none()
    }

    fn stop(&self, deadline: Instant) -> Task<'_, ()> {
        Box::pin(async move {
            let shared = &self.shared;
            let mut tasks = self.tasks.lock().await;
            shared.close();
            if let Some(durable) = &shared.line.durable {
                shared
                    .drain(durable, deadline.min(Instant::now() + DRAIN_TIMEOUT))
                    .await;
                // What is still on disk stays there; its claims are dropped unsettled.
                tasks.others.shutdown().await;
            }
            shared.end();
            let consumers = &mut tasks.consumers;
            while let Ok(Some(_)) = timeout_at(deadline, consumers.join_next()).await {}
            let cut = !consumers.is_empty();
            consumers.shutdown().await;
            tasks.others.shutdown().await;
            shared.report_what_is_left(cut);
            if let Some(durable) = &shared.line.durable {
                durable.close().await;
            }
        })
    }
}

impl Shared {
    fn new(parts: SenderParts<'_>) -> Self {
        let SenderParts {
            context,
            exporter,
            settings,
            signal,
            rule,
            queue,
        } = parts;
        let answer = match (&settings.queue, &queue) {
            (Some(settings), _) if settings.wait_for_result => Answer::Delivered,
            (Some(_), Some(_)) => Answer::OnDisk,
            (Some(_), None) => Answer::Enqueued,
            (None, _) => Answer::Delivered,
        };
        let id = context.id.to_string();
        let items = item_name(signal);
        let counter = |name: &str, help| {
            let name = format!("otelcol_exporter_{name}_{items}");
            context.registry.counter(&name, help, &[("exporter", &id)])
        };
        let queue_settings = settings.queue.clone().unwrap_or(QueueSettings {
            num_consumers: CONSUMERS_WITHOUT_QUEUE,
            ..QueueSettings::default()
        });
        let gauges = match settings.queue {
            Some(_) => Gauges::register(&context, signal, &queue_settings, queue.is_some()),
            None => Gauges::default(),
        };
        let durable = queue.map(|(queue, rules)| Arc::new(Durable::new(queue, signal, rules)));
        let enqueue_failed = counter(
            "enqueue_failed",
            "Items failed to be added to the sending queue",
        );
        let line = Line {
            sent: counter("sent", "Items successfully sent to destination"),
            send_failed: counter(
                "send_failed",
                "Items in failed attempts to send to destination",
            ),
            exporter,
            retry: settings.retry.clone(),
            durable,
            stopped_trying: AtomicBool::new(false),
            failing: AtomicUsize::new(0),
            context,
        };
        Self {
            line,
            settings: queue_settings,
            answer,
            rule,
            state: Mutex::default(),
            work: Notify::new(),
            opened: Notify::new(),
            room: Notify::new(),
            stopping: watch::Sender::new(false),
            gauges,
            enqueue_failed,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers when the request is on disk.
    async fn store(&self, durable: &Durable, batch: &Batch) -> Result<(), Failure> {
        loop {
            if self.state().closed {
                return Err(stopping());
            }
            let full = match self.is_full_on_disk(durable) {
                true => Err(self.full()),
                false => durable.append(batch).await,
            };
            match full {
                Err(Failure::Retryable { .. }) if self.settings.block_on_overflow => {
                    tokio::time::sleep(GAUGE_INTERVAL).await;
                }
                answer => return answer,
            }
        }
    }

    /// Answers when the request has been delivered.
    async fn hand_over(&self, batch: Batch) -> Result<(), Failure> {
        let (send, receive) = oneshot::channel();
        // Whoever waited may have gone away.
        let settle = move |verdict| drop(send.send(verdict));
        self.enqueue(batch, Some(Claim::new(Box::new(settle))))
            .await?;
        receive.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Slows a sender down while more waits in memory than will be sent soon by a target that
    /// takes what it gets. The queue is there for targets that do not.
    async fn keep_pace(&self) {
        let deadline = Instant::now() + PACE_TIMEOUT;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.state().bytes < PACE_BYTES || self.line.is_failing() {
                return;
            }
            if timeout_at(deadline, room).await.is_err() {
                return;
            }
        }
    }

    /// Puts a request into the queue in memory.
    async fn enqueue(&self, batch: Batch, claim: Option<Claim>) -> Result<(), Failure> {
        let mut piece = Piece { batch, claim };
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.try_enqueue(piece) {
                Ok(taken) => return taken,
                Err(back) if self.settings.block_on_overflow => piece = back,
                Err(back) => {
                    // Nobody waits for its verdict but whoever gets this answer.
                    drop(back);
                    return Err(self.full());
                }
            }
            room.await;
        }
    }

    /// The request comes back when there is no room.
    fn try_enqueue(&self, piece: Piece) -> Result<Result<(), Failure>, Piece> {
        let mut state = self.state();
        if state.closed {
            return Ok(Err(stopping()));
        }
        if self.answer == Answer::Enqueued || self.settings.wait_for_result {
            let size = self.size_of(&piece);
            let full = match self.settings.sizer {
                Sizer::Requests => state.ready.len() >= self.settings.queue_size,
                _ => state.waiting + size > self.settings.queue_size && state.waiting > 0,
            };
            if full {
                return Err(piece);
            }
            state.waiting += size;
        }
        Ok(self.push(&mut state, piece))
    }

    /// Adds a request to the batches that are open.
    fn push(&self, state: &mut State, piece: Piece) -> Result<(), Failure> {
        let bytes = piece.batch.request.byte_len();
        let Some(rule) = self.rule_of(&piece.batch).cloned() else {
            state.bytes += bytes;
            state.ready.push_back(Formed::of(piece));
            self.work.notify_one();
            self.show_size(state);
            return Ok(());
        };
        let due = state.former.due();
        let formed = state
            .former
            .push(piece, &rule, Instant::now())
            .map_err(|_| Failure::retryable("too many combinations of metadata are open"))?;
        state.bytes += bytes;
        for formed in formed {
            state.ready.push_back(formed);
            self.work.notify_one();
        }
        if self.answer == Answer::Delivered || state.closed {
            self.work.notify_one();
        } else if state.former.due() != due {
            self.opened.notify_one();
        }
        self.show_size(state);
        Ok(())
    }

    /// How a request is joined to others, if it is.
    fn rule_of<'s>(&'s self, batch: &'s Batch) -> Option<&'s Arc<Batching>> {
        self.rule.as_ref().or(batch.batching.as_ref())
    }

    fn size_of(&self, piece: &Piece) -> usize {
        match self.settings.sizer {
            Sizer::Requests => 0,
            Sizer::Items => piece.batch.request.items(),
            Sizer::Bytes => piece.batch.request.byte_len(),
        }
    }

    fn show_size(&self, state: &State) {
        if self.answer != Answer::OnDisk {
            let size = match self.settings.sizer {
                Sizer::Requests => state.ready.len(),
                _ => state.waiting,
            };
            self.gauges
                .size
                .set(i64::try_from(size).unwrap_or(i64::MAX));
        }
    }

    /// The next batch to send; `None` when there will be none.
    async fn next(&self) -> Option<Formed> {
        loop {
            let mut work = std::pin::pin!(self.work.notified());
            work.as_mut().enable();
            {
                let mut state = self.state();
                let mut formed = state.ready.pop_front();
                if formed.is_none() && (self.answer == Answer::Delivered || state.closed) {
                    formed = state.former.take_oldest();
                }
                if let Some(formed) = formed {
                    let size: usize = formed.pieces.iter().map(|piece| self.size_of(piece)).sum();
                    state.waiting = state.waiting.saturating_sub(size);
                    self.show_size(&state);
                    self.room.notify_waiters();
                    return Some(formed);
                }
                if state.ended {
                    return None;
                }
            }
            work.await;
        }
    }

    async fn consume(self: Arc<Self>) {
        let stop = self.stopping.subscribe();
        while let Some(formed) = self.next().await {
            let bytes = formed.bytes();
            self.line.deliver(formed, &stop).await;
            let mut state = self.state();
            // What was cut weighs a little more than what came in.
            state.bytes = state.bytes.saturating_sub(bytes);
            drop(state);
            self.room.notify_waiters();
        }
        // The next consumer may be waiting as well.
        self.work.notify_one();
    }

    /// Sends off what has been open for long enough.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let due = self.state().former.due();
            match due {
                None => self.opened.notified().await,
                Some(due) => {
                    // A batch with a shorter timeout may open in the meantime.
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.opened.notified() => continue,
                    }
                    let mut state = self.state();
                    for formed in state.former.take_due(Instant::now()) {
                        state.ready.push_back(formed);
                        self.work.notify_one();
                    }
                    self.show_size(&state);
                }
            }
        }
    }

    /// Brings what is on disk to the consumers, no faster than they take it.
    async fn read(self: Arc<Self>, durable: Arc<Durable>) {
        let account = self.line.context.budget.account();
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.state().ready.len() >= BATCHES_AHEAD {
                room.await;
                continue;
            }
            let Some(mut piece) = durable.next().await else {
                return;
            };
            let bytes = piece.batch.request.byte_len();
            piece.batch.reservation = room_for(&account, bytes, || self.hurry()).await;
            // It was answered long ago, so a combination of metadata that is one too many has the
            // others leave early.
            if let Some(rule) = self.rule_of(&piece.batch) {
                while !self.state().former.admits(&piece.batch, rule) {
                    self.hurry();
                }
            }
            if let Err(failure) = self.push(&mut self.state(), piece) {
                let exporter = &self.line.context.id;
                tracing::error!(%exporter, %failure, "a request stays in the queue");
            }
        }
    }

    /// Sends off what is open, since it holds the memory that is needed to fill it.
    fn hurry(&self) {
        let mut state = self.state();
        if let Some(formed) = state.former.take_oldest() {
            state.ready.push_back(formed);
            self.work.notify_one();
        }
    }

    /// Shows the state of the queue on disk.
    async fn watch(self: Arc<Self>, durable: Arc<Durable>) {
        let mut ticks = tokio::time::interval(GAUGE_INTERVAL);
        loop {
            ticks.tick().await;
            let stats = durable.stats();
            let dropped_items = self.gauges.show(&stats, self.size_on_disk(&stats));
            if dropped_items > 0 {
                let exporter = &self.line.context.id;
                tracing::error!(%exporter, dropped_items, "there was no room for more dead letters: the oldest are gone");
            }
        }
    }

    fn is_full_on_disk(&self, durable: &Durable) -> bool {
        let counted = self.settings.sizer != Sizer::Bytes && !self.settings.limits.drop_oldest;
        counted && self.size_on_disk(&durable.stats()) >= self.settings.queue_size as u64
    }

    /// How much waits on disk, in what `queue_size` counts.
    fn size_on_disk(&self, stats: &collector_queue::Stats) -> u64 {
        match (self.settings.sizer, self.batch_items()) {
            (Sizer::Bytes, _) => stats.disk_bytes,
            (Sizer::Items, _) => stats.left.weight,
            (Sizer::Requests, Some(items)) => stats.left.weight.div_ceil(items),
            (Sizer::Requests, None) => stats.left.records,
        }
    }

    /// About how many items a batch will have.
    fn batch_items(&self) -> Option<u64> {
        let own = self
            .rule
            .as_ref()
            .filter(|rule| rule.measure == super::Measure::Items);
        let largest = self
            .line
            .durable
            .as_ref()
            .and_then(|durable| durable.largest_batch());
        let items = own.map_or(largest, |rule| Some(rule.enough as u64))?;
        (items > 0).then_some(items)
    }

    fn full(&self) -> Failure {
        let id = &self.line.context.id;
        Failure::retryable(format!("the sending queue of {id} is full"))
    }

    /// Takes nothing more; what is open leaves as soon as a consumer is free.
    fn close(&self) {
        self.state().closed = true;
        self.stopping.send_replace(true);
        self.room.notify_waiters();
        self.work.notify_waiters();
        self.work.notify_one();
    }

    /// Gives what is on disk the time to be delivered, for as long as the other side takes it.
    async fn drain(&self, durable: &Durable, deadline: Instant) {
        let is_done = || durable.stats().left.records == 0 || self.line.has_stopped_trying();
        while !is_done() && Instant::now() < deadline {
            self.work.notify_one();
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Lets the consumers end.
    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        if self.line.durable.is_some() {
            state.former = Former::default();
            state.ready.clear();
        }
        drop(state);
        self.work.notify_waiters();
        self.work.notify_one();
    }

    fn report_what_is_left(&self, cut: bool) {
        if self.line.durable.is_none() && self.answer != Answer::Delivered {
            let left = std::mem::take(&mut self.state().ready);
            self.line.report_lost(&left, cut);
        }
    }
}

fn stopping() -> Failure {
    Failure::retryable("the collector is stopping")
}
