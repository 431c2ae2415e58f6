//! The queue as its users see it: one thread that writes, one that reads ahead.
//!
//! In: records, receipts. Out: answers, deliveries. Invariant: no caller waits for the disk on a
//! thread of its own; what waits to be written is bounded by `pending_bytes`.

use std::io;
use std::mem;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{AppendError, OpenError};
use crate::files::{Files, Lock};
use crate::ledger::{Shared, micros};
use crate::reader::Reader;
use crate::recover::{IDENTITY, recover, set_aside_before};
use crate::writer::{Bounds, Writer};
use crate::{
    Amount, Delivery, Loss, Notice, Observer, Opened, Options, Overflow, READY_BYTES, Receipt,
    Record, Stats,
};

/// The folder of the dead letters.
pub(crate) const DEAD_LETTERS: &str = "dead-letter";

/// The file that its owner has locked.
pub(crate) const LOCK: &str = "lock";

/// The most bytes that are made durable at once.
const GROUP_BYTES: u64 = 16 << 20;

/// The size of a segment, in bytes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;

/// Into how many segments a queue is divided at least.
const SEGMENTS: u64 = 8;

/// How long acknowledgements are gathered.
const GATHER: Duration = Duration::from_millis(5);

/// How many acknowledgements are gathered at most before the writer is woken.
const GATHERED: usize = 4096;

/// How long the reader rests after a failure.
const READ_PAUSE: Duration = Duration::from_millis(500);

/// After how many failures in a row the unreadable parts of a segment are given up: a minute.
const READ_FAILURES: u32 = 120;

type Answer = oneshot::Sender<Result<(), AppendError>>;

struct Pending {
    record: Record,
    answer: Answer,
    is_dead_letter: bool,
    _room: Option<OwnedSemaphorePermit>,
}

/// What the writer's thread is to do.
#[derive(Default)]
struct Inbox {
    pending: Vec<Pending>,
    receipts: Vec<Receipt>,
    closing: bool,
    closed: Vec<oneshot::Sender<()>>,
    is_gathering: bool,
    writer_is_gone: bool,
}

struct Mailbox {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

impl Mailbox {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes receipts; the writer wakes for the first and for many, not for each.
    fn put(&self, receipts: impl IntoIterator<Item = Receipt>) {
        let mut inbox = self.inbox();
        let before = inbox.receipts.len();
        inbox.receipts.extend(receipts);
        let after = inbox.receipts.len();
        let is_first = before == 0 && after > 0 && !inbox.is_gathering;
        if is_first || (before < GATHERED && after >= GATHERED) {
            self.changed.notify_one();
        }
    }
}

/// A durable queue. See the crate.
pub struct Queue {
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    dead: Arc<Shared>,
    room: Arc<Semaphore>,
    options: Options,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens the queue in a folder, which is made if need be. It opens whatever the files hold,
    /// and fails only when another process has the queue or the folder cannot be used.
    pub fn open(
        files: Arc<dyn Files>,
        folder: &Path,
        options: Options,
    ) -> Result<(Self, Opened), OpenError> {
        let unusable = |error| OpenError::Folder {
            folder: folder.to_owned(),
            error,
        };
        let letters = folder.join(DEAD_LETTERS);
        files.create_folder(&letters).map_err(unusable)?;
        for made in [Some(folder), folder.parent()].into_iter().flatten() {
            // Best effort: a folder that was there before needs no sync, and the first segment
            // is synced again.
            let _ = files.sync_folder(made);
        }
        let lock = files.lock(&folder.join(LOCK)).map_err(unusable)?;
        let lock = lock.ok_or_else(|| OpenError::Locked(folder.to_owned()))?;
        let entries = files.list(folder).map_err(unusable)?;
        let bounds = bounds(&options, options.max_bytes, options.overflow);
        let (writer, mut opened) = recover(Arc::clone(&files), folder, bounds).map_err(unusable)?;
        opened.set_aside_before = set_aside_before(&entries, folder);
        let bounds = self::bounds(&options, options.dead_letter_bytes, Overflow::DropOldest);
        let (dead, dead_opened) =
            recover(Arc::clone(&files), &letters, bounds).map_err(unusable)?;
        opened.dead_letters = dead_opened.left;
        opened.set_aside.extend(dead_opened.set_aside);
        let queue = Self::start(writer, dead, options, lock).map_err(unusable)?;
        Ok((queue, opened))
    }

    fn start(writer: Writer, dead: Writer, options: Options, lock: Lock) -> io::Result<Self> {
        let shared = Arc::clone(&writer.shared);
        let dead_shared = Arc::clone(&dead.shared);
        let mailbox = Arc::new(Mailbox {
            inbox: Mutex::default(),
            changed: Condvar::new(),
        });
        let reader = Reader::new(&writer);
        let thread = WriterThread {
            writer,
            dead,
            mailbox: Arc::clone(&mailbox),
            idle: options.idle,
            lock: Some(lock),
        };
        let reader = ReaderThread {
            reader,
            mailbox: Arc::clone(&mailbox),
            observer: options.observer.clone(),
        };
        let mut queue = Self {
            mailbox,
            shared,
            dead: dead_shared,
            room: Arc::new(Semaphore::new(
                options.pending_bytes.min(Semaphore::MAX_PERMITS),
            )),
            options,
            threads: Vec::new(),
        };
        let named = |name: &str| thread::Builder::new().name(name.into());
        queue
            .threads
            .push(named("queue-write").spawn(move || thread.run())?);
        queue
            .threads
            .push(named("queue-read").spawn(move || reader.run())?);
        Ok(queue)
    }

    /// Appends a record. `Ok` means that it is on the disk.
    ///
    /// When the future is dropped before it is ready, the record may be appended or not.
    pub async fn append(&self, record: Record) -> Result<(), AppendError> {
        self.submit(record, false).await
    }

    async fn submit(&self, record: Record, is_dead_letter: bool) -> Result<(), AppendError> {
        let wanted = record.held_bytes().min(self.options.pending_bytes);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(wanted).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut inbox = self.mailbox.inbox();
            if inbox.closing {
                return Err(AppendError::Closed);
            }
            inbox.pending.push(Pending {
                record,
                answer,
                is_dead_letter,
                _room: Some(room),
            });
            if inbox.pending.len() == 1 {
                self.mailbox.changed.notify_one();
            }
        }
        answered.await.unwrap_or(Err(AppendError::Closed))
    }

    /// The oldest record that was not handed out since the queue was opened; `None` once it is
    /// closed. One task calls this. Nothing is lost when the future is dropped.
    pub async fn next(&self) -> Option<Delivery> {
        loop {
            {
                let mut ledger = self.shared.ledger();
                if ledger.is_closed {
                    return None;
                }
                if let Some(delivery) = ledger.pop() {
                    if ledger.reader_waits && ledger.ready_bytes < READY_BYTES / 2 {
                        self.shared.readable.notify_one();
                    }
                    return Some(delivery);
                }
            }
            self.shared.ready.notified().await;
        }
    }

    /// Acknowledges a record: it is not handed out again. It returns at once.
    pub fn ack(&self, receipt: Receipt) {
        self.mailbox.put([receipt]);
    }

    /// Puts a record that nobody will ever take among the dead letters. It is not acknowledged
    /// by that, since what is refused may be a part of what was appended.
    pub async fn set_aside(&self, record: &Record, reason: &str) -> Result<(), AppendError> {
        let letter = Record {
            meta: letter_meta(reason, &record.meta),
            ..record.clone()
        };
        self.submit(letter, true).await
    }

    /// What the queue holds and did.
    pub fn stats(&self) -> Stats {
        let dead = self.dead.ledger();
        let dead_letters = dead.left;
        let dead_letters_dropped = dead.dropped;
        drop(dead);
        let ledger = self.shared.ledger();
        let age = |at: u64| Duration::from_micros(micros(SystemTime::now()).saturating_sub(at));
        Stats {
            left: ledger.left,
            disk_bytes: ledger.bytes(),
            capacity_bytes: self.options.max_bytes,
            oldest: ledger.oldest_at().map(age),
            dead_letters,
            lost: ledger.lost,
            dropped: ledger.dropped,
            dead_letters_dropped,
            fsyncs: ledger.fsyncs,
        }
    }

    /// Answers what waits, makes the acknowledgements durable and lets go of the folder. After
    /// it, no record that was acknowledged is handed out again.
    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        {
            let mut inbox = self.mailbox.inbox();
            if inbox.writer_is_gone {
                return;
            }
            inbox.closing = true;
            inbox.closed.push(closed);
            self.mailbox.changed.notify_one();
        }
        // The writer drops what it does not answer, when its thread ends.
        let _ = wait.await;
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.mailbox.inbox().closing = true;
        self.mailbox.changed.notify_one();
        for thread in self.threads.drain(..) {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

pub(crate) fn bounds(options: &Options, max_bytes: u64, overflow: Overflow) -> Bounds {
    let segment_bytes = (max_bytes / SEGMENTS).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
    Bounds {
        max_bytes,
        segment_bytes,
        damaged_bytes: options.damaged_bytes,
        overflow,
        space: Arc::clone(&options.space),
    }
}

/// The meta of a dead letter: the length of the reason, the reason, and the meta that it had.
fn letter_meta(reason: &str, meta: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(4 + reason.len() + meta.len());
    bytes.put_u32_le(reason.len() as u32);
    bytes.put_slice(reason.as_bytes());
    bytes.put_slice(meta);
    bytes.freeze()
}

struct WriterThread {
    writer: Writer,
    dead: Writer,
    mailbox: Arc<Mailbox>,
    idle: Duration,
    lock: Option<Lock>,
}

impl WriterThread {
    fn run(mut self) {
        let mut is_tidy = false;
        loop {
            let (mut pending, receipts, closing) = self.wait(is_tidy);
            is_tidy = pending.is_empty() && receipts.is_empty();
            while !pending.is_empty() {
                let group = take_group(&mut pending, self.writer.bounds.segment_bytes);
                self.commit(group);
            }
            if !receipts.is_empty() {
                self.writer.finish(&receipts);
            }
            if closing {
                self.close();
                return;
            }
            if is_tidy {
                self.writer.tidy();
                self.dead.tidy();
            }
        }
    }

    /// Waits for something to do. Nothing at all means that the queue is idle.
    fn wait(&self, is_tidy: bool) -> (Vec<Pending>, Vec<Receipt>, bool) {
        let changed = &self.mailbox.changed;
        let mut inbox = self.mailbox.inbox();
        let nothing = |inbox: &mut Inbox| {
            inbox.pending.is_empty() && inbox.receipts.is_empty() && !inbox.closing
        };
        inbox = if is_tidy {
            changed
                .wait_while(inbox, nothing)
                .unwrap_or_else(PoisonError::into_inner)
        } else {
            let waited = changed.wait_timeout_while(inbox, self.idle, nothing);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        if inbox.pending.is_empty() && !inbox.receipts.is_empty() && !inbox.closing {
            inbox.is_gathering = true;
            let few = |inbox: &mut Inbox| {
                inbox.pending.is_empty() && inbox.receipts.len() < GATHERED && !inbox.closing
            };
            let waited = changed.wait_timeout_while(inbox, GATHER, few);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            inbox.is_gathering = false;
        }
        (
            mem::take(&mut inbox.pending),
            mem::take(&mut inbox.receipts),
            inbox.closing,
        )
    }

    /// Makes a group durable and answers it.
    fn commit(&mut self, group: Vec<Pending>) {
        let (letters, group): (Vec<_>, Vec<_>) = group
            .into_iter()
            .partition(|pending| pending.is_dead_letter);
        for (writer, group) in [(&mut self.writer, group), (&mut self.dead, letters)] {
            if group.is_empty() {
                continue;
            }
            let mut records = Vec::with_capacity(group.len());
            let mut waiting = Vec::with_capacity(group.len());
            for pending in group {
                records.push(pending.record);
                waiting.push((pending.answer, pending._room));
            }
            for ((answer, room), result) in waiting.into_iter().zip(writer.commit(&records)) {
                drop(room);
                // Who no longer waits has had its record appended all the same.
                let _ = answer.send(result);
            }
        }
    }

    fn close(&mut self) {
        self.writer.close();
        self.dead.close();
        self.leave_nothing();
        self.lock = None;
    }

    /// Takes the folder away when nothing is in it: a queue that was drained leaves no trace.
    fn leave_nothing(&self) {
        let (files, folder, letters) = (&self.writer.files, &self.writer.folder, &self.dead.folder);
        let holds_only = |folder: &Path, names: &[&str]| {
            let entries = files.list(folder);
            entries.is_ok_and(|found| found.iter().all(|e| names.contains(&e.name.as_str())))
        };
        if !holds_only(letters, &[IDENTITY]) || !holds_only(folder, &[IDENTITY, LOCK, DEAD_LETTERS])
        {
            return;
        }
        // Segments must be gone for good before the identity without which they are foreign.
        if files.sync_folder(letters).is_err() || files.sync_folder(folder).is_err() {
            return;
        }
        // Whatever stays is an empty queue, and the next start uses it.
        let _ = files.remove(&letters.join(IDENTITY));
        let _ = files.remove_folder(letters);
        let _ = files.remove(&folder.join(IDENTITY));
        let _ = files.remove(&folder.join(LOCK));
        let _ = files.remove_folder(folder);
    }
}

impl Drop for WriterThread {
    /// Whatever ends the thread, nobody waits for it in vain.
    fn drop(&mut self) {
        self.lock = None;
        let mut ledger = self.writer.shared.ledger();
        ledger.is_closed = true;
        drop(ledger);
        self.writer.shared.ready.notify_one();
        self.writer.shared.readable.notify_all();
        let mut inbox = self.mailbox.inbox();
        inbox.closing = true;
        inbox.writer_is_gone = true;
        inbox.pending.clear();
        inbox.closed.clear();
    }
}

/// The first records, up to the bytes of a group.
fn take_group(pending: &mut Vec<Pending>, segment_bytes: u64) -> Vec<Pending> {
    let most = GROUP_BYTES.min(segment_bytes);
    let mut bytes = 0;
    let fits = |pending: &&Pending| {
        bytes += pending.record.body_bytes();
        bytes <= most
    };
    let count = pending.iter().take_while(fits).count().max(1);
    let rest = pending.split_off(count.min(pending.len()));
    mem::replace(pending, rest)
}

/// The thread that reads ahead.
struct ReaderThread {
    reader: Reader,
    mailbox: Arc<Mailbox>,
    observer: Option<Observer>,
}

impl ReaderThread {
    fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.reader.turn() {
                Ok(turn) => {
                    failures = 0;
                    self.report(&turn.lost);
                    self.mailbox.put(turn.lost);
                    if turn.moved {
                        continue;
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        let segment = self.reader.shared.ledger().filled.sequence;
                        self.tell(&Notice::Unreadable { segment, error });
                    }
                    failures += 1;
                    // The file is opened anew: what ails it may have passed.
                    self.reader.scanner = None;
                }
            }
            self.reader.salvages = failures >= READ_FAILURES;
            if !self.wait(failures > 0) {
                return;
            }
        }
    }

    fn tell(&self, notice: &Notice) {
        if let Some(observer) = &self.observer {
            observer(notice);
        }
    }

    fn report(&self, lost: &[Receipt]) {
        for receipts in lost.chunk_by(|a, b| a.sequence == b.sequence) {
            let mut amount = Amount::default();
            receipts.iter().for_each(|receipt| {
                amount.add(Amount {
                    records: 1,
                    weight: receipt.weight,
                })
            });
            self.tell(&Notice::Lost(Loss {
                segment: receipts[0].sequence,
                amount,
            }));
        }
    }

    /// Waits until there may be something to read; false when the queue is closed.
    fn wait(&self, failed: bool) -> bool {
        let shared = &self.reader.shared;
        let mut ledger = shared.ledger();
        if ledger.is_closed {
            return false;
        }
        ledger.reader_waits = true;
        // Whoever makes something readable needs the lock that is held since.
        let readable = &shared.readable;
        if failed {
            let waited = readable.wait_timeout(ledger, READ_PAUSE);
            ledger = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else if ledger.ready_bytes >= READY_BYTES || !ledger.settle() {
            ledger = readable
                .wait(ledger)
                .unwrap_or_else(PoisonError::into_inner);
        }
        ledger.reader_waits = false;
        true
    }
}
