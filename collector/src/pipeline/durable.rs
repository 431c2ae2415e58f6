//! A sending queue on disk: requests as records, and back.
//!
//! In: requests. Out: the same requests with a claim each, which acknowledges the record.
//! Invariant: what [`Durable::append`] has answered well is on disk until it was delivered, or
//! set aside among the dead letters; what is read back counts as memory until it is delivered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use collector_otlp::wire::read_varint;
use collector_otlp::{Request, Signal};
use collector_queue::{AppendError, Delivery, Queue, Record, Stats};

use super::Batching;
use super::batching::Piece;
use super::claim::Claim;
use crate::batch::{Batch, Metadata};
use crate::budget::{Account, Reservation};
use crate::component::Failure;

/// The layout of a record's metadata; another one would be another number.
const LAYOUT: u8 = 1;

/// The part of the memory for telemetry, as a divisor, above which nothing more is read back from
/// disk: what is read is copied once more when it is joined and once more when it is sent, and
/// what comes in needs room as well.
const READ_BACK_DIVISOR: usize = 8;

/// How often it is looked whether there is room again.
const READ_BACK_INTERVAL: Duration = Duration::from_millis(5);

/// The queue of one exporter for one signal.
pub(super) struct Durable {
    queue: Arc<Queue>,
    signal: Signal,
    /// The rules of the pipelines that feed it, by name.
    rules: HashMap<String, Arc<Batching>>,
}

impl Durable {
    pub(super) fn new(queue: Queue, signal: Signal, rules: Vec<Arc<Batching>>) -> Self {
        let rules = rules.into_iter().map(|rule| (rule.name.clone(), rule));
        Self {
            queue: Arc::new(queue),
            signal,
            rules: rules.collect(),
        }
    }

    /// Returns when the request is on disk.
    pub(super) async fn append(&self, batch: &Batch) -> Result<(), Failure> {
        self.queue.append(record(batch)).await.map_err(refusal)
    }

    /// The next request; `None` when the queue was closed.
    pub(super) async fn next(&self) -> Option<Piece> {
        loop {
            let Delivery {
                record, receipt, ..
            } = self.queue.next().await?;
            let queue = Arc::clone(&self.queue);
            let settle = move |verdict: Result<(), Failure>| {
                if verdict.is_ok() {
                    queue.ack(receipt);
                }
            };
            let claim = Claim::new(Box::new(settle));
            match self.batch(&record) {
                Some(batch) => {
                    return Some(Piece {
                        batch,
                        claim: Some(claim),
                    });
                }
                None => {
                    // Its checksum was right, so another version of this program wrote it.
                    let bytes = record.payload.len();
                    tracing::error!(
                        bytes,
                        "a record of a later version is left in the queue as it is"
                    );
                }
            }
        }
    }

    /// Keeps a refused request among the dead letters.
    pub(super) async fn set_aside(
        &self,
        batch: &Batch,
        failure: &Failure,
    ) -> Result<(), AppendError> {
        let reason = failure.to_string();
        self.queue.set_aside(&record(batch), &reason).await
    }

    /// The most items that a rule puts into a batch; `None` when requests are not joined.
    pub(super) fn largest_batch(&self) -> Option<u64> {
        let rules = self.rules.values();
        rules.map(|rule| rule.enough as u64).max()
    }

    pub(super) fn stats(&self) -> Stats {
        self.queue.stats()
    }

    pub(super) async fn close(&self) {
        self.queue.close().await;
    }

    fn batch(&self, record: &Record) -> Option<Batch> {
        let (rule, metadata) = read_meta(&record.meta)?;
        let items = record.weight as usize;
        let request = Request::stored(self.signal, record.payload.clone(), items);
        Some(Batch {
            metadata,
            batching: self.rules.get(&rule).cloned(),
            ..Batch::from(request)
        })
    }
}

/// Waits for memory for what was read back; `hurry` is called as long as there is none.
pub(super) async fn room_for(
    account: &Arc<Account>,
    bytes: usize,
    hurry: impl Fn(),
) -> Reservation {
    loop {
        if let Some(room) = room_now(account, bytes) {
            return room;
        }
        hurry();
        tokio::time::sleep(READ_BACK_INTERVAL).await;
    }
}

/// Memory for what was read back, if there is some. For one request at a time there always is, so
/// that a queue drains whatever else takes the memory.
fn room_now(account: &Arc<Account>, bytes: usize) -> Option<Reservation> {
    let mut lease = account.lease();
    if !lease.try_grow(bytes, READ_BACK_DIVISOR) {
        if account.held() > 0 {
            return None;
        }
        lease.charge(bytes);
    }
    Some(lease.share())
}

fn refusal(error: AppendError) -> Failure {
    match error.may_pass() {
        true => Failure::retryable(error.to_string()),
        false => Failure::permanent(error.to_string()),
    }
}

fn record(batch: &Batch) -> Record {
    let rule = batch.batching.as_ref().map_or("", |rule| &rule.name);
    Record {
        meta: write_meta(rule, &batch.metadata),
        payload: batch.request.bytes().clone(),
        weight: u32::try_from(batch.request.items()).unwrap_or(u32::MAX),
    }
}

/// The name of the rule, then names and values of the metadata, each with its length before it.
fn write_meta(rule: &str, metadata: &Metadata) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(LAYOUT);
    let mut text = |text: &str| {
        let mut length = Vec::new();
        collector_otlp::wire::write_varint(&mut length, text.len() as u64);
        out.extend_from_slice(&length);
        out.extend_from_slice(text.as_bytes());
    };
    text(rule);
    for (name, value) in metadata.entries() {
        text(name);
        text(value);
    }
    out.freeze()
}

fn read_meta(meta: &[u8]) -> Option<(String, Metadata)> {
    let (&layout, rest) = meta.split_first()?;
    if layout != LAYOUT {
        return None;
    }
    let mut position = 0;
    let mut texts = Vec::new();
    while position < rest.len() {
        let length = usize::try_from(read_varint(rest, &mut position).ok()?).ok()?;
        let end = position.checked_add(length)?;
        texts.push(String::from_utf8(rest.get(position..end)?.to_vec()).ok()?);
        position = end;
    }
    let mut texts = texts.into_iter();
    let rule = texts.next()?;
    let mut entries = Vec::new();
    while let Some(name) = texts.next() {
        entries.push((name, texts.next()?));
    }
    Some((rule, Metadata::new(entries)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_read_back_leaves_room_for_what_comes_in() {
        let budget = Arc::new(crate::budget::Budget::of(800));
        let (reader, receiver) = (budget.account(), budget.account());
        let first = room_now(&reader, 60).unwrap();
        assert!(room_now(&reader, 41).is_none(), "more than an eighth");
        let second = room_now(&reader, 40).unwrap();
        let mut coming = receiver.lease();
        coming.grow(700).await.unwrap();
        drop((first, second));
        // Nothing is left, and it goes on all the same.
        let third = room_now(&reader, 400).unwrap();
        assert_eq!((third.bytes(), budget.used()), (400, 1100));
        drop((third, coming));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn metadata_comes_back_from_a_record() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for metadata in [
            Metadata::default(),
            Metadata::new(vec![
                pair("x-tenant", "é"),
                pair("x-tenant", ""),
                pair("z", "1"),
            ]),
        ] {
            let meta = write_meta("batch/slow", &metadata);
            let (rule, read) = read_meta(&meta).unwrap();
            assert_eq!((rule.as_str(), &read), ("batch/slow", &metadata));
            // Cut short, it is refused or shorter, and never a panic.
            for end in 0..meta.len() {
                let shorter = read_meta(&meta[..end]);
                assert!(
                    shorter
                        .is_none_or(|(_, read)| read.entries().len() <= metadata.entries().len())
                );
            }
        }
        assert!(read_meta(&[9, 0]).is_none());
    }
}
