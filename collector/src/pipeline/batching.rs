//! How requests are joined to batches, and cut, in front of an exporter.
//!
//! In: requests, one by one. Out: [`Formed`] batches of about the size that was asked for.
//! Invariant: what is open is at most one batch for each rule and each combination of metadata,
//! and no batch stays open longer than its rule's timeout.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::Request;
use tokio::time::{Duration, Instant};

use super::BatchSettings;
use super::claim::Claim;
use crate::batch::{Batch, Metadata};
use crate::component::ComponentId;
use crate::telemetry::{Counter, Gauge, Histogram};

/// A rule by which batches form: a `batch` processor's, or an exporter's own.
#[derive(Debug)]
pub struct Batching {
    /// Who made the rule; a durable queue finds the rule of a request by it after a restart.
    pub name: String,
    /// When a batch leaves at the latest; zero is at once.
    pub timeout: Duration,
    /// How much makes a batch leave at once; zero is at once.
    pub enough: usize,
    /// The most in one batch; zero is no limit.
    pub most: usize,
    /// What is counted.
    pub measure: Measure,
    /// The metadata by which batches are kept apart, in lower case.
    pub metadata_keys: Vec<String>,
    /// How many combinations of metadata there may be; zero is no limit.
    pub metadata_cardinality_limit: usize,
    /// What is told of it.
    pub telemetry: BatchingTelemetry,
}

/// What a batch's size is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Spans, log records or data points.
    Items,
    /// Bytes of protobuf.
    Bytes,
}

/// The metrics of a rule.
#[derive(Debug, Default)]
pub struct BatchingTelemetry {
    /// Batches that left because they were large enough.
    pub by_size: Counter,
    /// Batches that left because of the timeout.
    pub by_timeout: Counter,
    /// Items in each batch.
    pub sizes: Option<Histogram>,
    /// Bytes in each batch.
    pub bytes: Option<Histogram>,
    /// Combinations of metadata that are open.
    pub cardinality: Gauge,
}

/// A request, or a piece of one, that waits to be sent.
pub(super) struct Piece {
    pub(super) batch: Batch,
    /// What it owes to whoever brought it; nobody when that one was answered already.
    pub(super) claim: Option<Claim>,
}

/// A batch that may leave: what it is made of.
pub(super) struct Formed {
    pub(super) pieces: Vec<Piece>,
    pub(super) metadata: Metadata,
}

/// Batches that are still open.
#[derive(Default)]
pub(super) struct Former {
    /// By the address of the rule, and what metadata keeps apart.
    open: HashMap<(usize, Metadata), Open>,
}

struct Open {
    rule: Arc<Batching>,
    pieces: Vec<Piece>,
    size: usize,
    due: Instant,
}

/// There are more combinations of metadata than the rule allows.
#[derive(Debug)]
pub(super) struct TooManyCombinations;

impl Batching {
    /// The rule that an exporter has of its own.
    pub(super) fn of_exporter(exporter: &ComponentId, settings: &BatchSettings) -> Self {
        Self {
            name: exporter.to_string(),
            timeout: settings.flush_timeout,
            enough: settings.min_size,
            most: settings.max_size,
            measure: settings.measure,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 0,
            telemetry: BatchingTelemetry::default(),
        }
    }
}

impl Measure {
    pub(super) fn of(self, request: &Request) -> usize {
        match self {
            Self::Items => request.items(),
            Self::Bytes => request.byte_len(),
        }
    }
}

impl Formed {
    /// A batch of one request, as it came.
    pub(super) fn of(piece: Piece) -> Self {
        let metadata = piece.batch.metadata.clone();
        Self {
            pieces: vec![piece],
            metadata,
        }
    }

    /// All pieces in one request.
    pub(super) fn merged(&self) -> Option<Batch> {
        let requests: Vec<Request> = self
            .pieces
            .iter()
            .map(|piece| piece.batch.request.clone())
            .collect();
        let request = Request::merge(&requests)?;
        Some(Batch {
            metadata: self.metadata.clone(),
            ..Batch::from(request)
        })
    }

    /// The spans, log records or data points in it.
    pub(super) fn items(&self) -> usize {
        let requests = self.pieces.iter().map(|piece| &piece.batch.request);
        requests.map(Request::items).sum()
    }

    /// The bytes in it.
    pub(super) fn bytes(&self) -> usize {
        let requests = self.pieces.iter().map(|piece| &piece.batch.request);
        requests.map(|request| request.byte_len()).sum()
    }
}

impl Former {
    /// Adds a request; what is ready to leave comes back.
    pub(super) fn push(
        &mut self,
        piece: Piece,
        rule: &Arc<Batching>,
        now: Instant,
    ) -> Result<Vec<Formed>, TooManyCombinations> {
        let metadata = piece.batch.metadata.only(&rule.metadata_keys);
        let key = (Arc::as_ptr(rule).addr(), metadata);
        if !self.has_room(&key, rule) {
            return Err(TooManyCombinations);
        }
        let open = self.open.entry(key).or_insert_with(|| {
            rule.telemetry.cardinality.add(1);
            Open {
                rule: Arc::clone(rule),
                pieces: Vec::new(),
                size: 0,
                due: now + rule.timeout,
            }
        });
        let mut formed = Vec::new();
        let mut pieces = cut(piece, rule, open.size).into_iter().peekable();
        while let Some(piece) = pieces.next() {
            if open.pieces.is_empty() {
                open.due = now + rule.timeout;
            }
            open.size += rule.measure.of(&piece.batch.request);
            open.pieces.push(piece);
            let at_once = rule.timeout.is_zero() || rule.enough == 0;
            if at_once || pieces.peek().is_some() || open.size >= rule.enough {
                rule.telemetry.by_size.add(1);
                formed.push(open.take());
            }
        }
        self.forget_empty();
        Ok(formed)
    }

    /// Whether a request can be added without one combination of metadata too many.
    pub(super) fn admits(&self, batch: &Batch, rule: &Arc<Batching>) -> bool {
        let metadata = batch.metadata.only(&rule.metadata_keys);
        self.has_room(&(Arc::as_ptr(rule).addr(), metadata), rule)
    }

    fn has_room(&self, key: &(usize, Metadata), rule: &Batching) -> bool {
        let limit = rule.metadata_cardinality_limit;
        let of_the_rule = || {
            self.open
                .keys()
                .filter(|(owner, _)| *owner == key.0)
                .count()
        };
        limit == 0 || self.open.contains_key(key) || of_the_rule() < limit
    }

    /// When the next open batch is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.values().map(|open| open.due).min()
    }

    /// The batches whose time is up.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Formed> {
        let due = self.open.values_mut().filter(|open| open.due <= now);
        let formed = due
            .map(|open| {
                open.rule.telemetry.by_timeout.add(1);
                open.take()
            })
            .collect();
        self.forget_empty();
        formed
    }

    /// The open batch that has waited longest.
    pub(super) fn take_oldest(&mut self) -> Option<Formed> {
        let formed = self.open.values_mut().min_by_key(|open| open.due)?.take();
        self.forget_empty();
        Some(formed)
    }

    fn forget_empty(&mut self) {
        self.open.retain(|_, open| {
            if open.pieces.is_empty() {
                open.rule.telemetry.cardinality.add(-1);
            }
            !open.pieces.is_empty()
        });
    }
}

impl Open {
    fn take(&mut self) -> Formed {
        self.size = 0;
        let pieces = std::mem::take(&mut self.pieces);
        let metadata = pieces.first().map_or_else(Metadata::default, |piece| {
            piece.batch.metadata.only(&self.rule.metadata_keys)
        });
        let formed = Formed { pieces, metadata };
        let telemetry = &self.rule.telemetry;
        if let Some(sizes) = &telemetry.sizes {
            sizes.record(formed.items() as u64);
        }
        if let Some(bytes) = &telemetry.bytes {
            bytes.record(formed.bytes() as u64);
        }
        formed
    }
}

/// Cuts a request so that its first piece fits beside `filled`, and no piece is over the limit.
fn cut(piece: Piece, rule: &Batching, filled: usize) -> Vec<Piece> {
    let Piece { batch, claim } = piece;
    let request = &batch.request;
    let size = rule.measure.of(request);
    if rule.most == 0 || filled + size <= rule.most {
        return vec![Piece { batch, claim }];
    }
    let items_in = |room: usize| match rule.measure {
        Measure::Items => room,
        // The items of one request are taken for equally long.
        Measure::Bytes => room * request.items() / size.max(1),
    };
    let room = rule.most.saturating_sub(filled);
    // A piece has at least one item, or nothing would ever get through.
    let (first, most) = (items_in(room).max(1), items_in(rule.most).max(1));
    let requests = match request.clone().split_after(first, most) {
        Ok(requests) => requests,
        Err(error) => {
            // Requests are validated when they are made, so this cannot come about.
            tracing::error!(rule = rule.name, %error, "a request could not be cut");
            vec![request.clone()]
        }
    };
    let mut pieces: Vec<Piece> = requests
        .into_iter()
        .map(|request| Piece {
            batch: Batch {
                request,
                ..batch.clone()
            },
            claim: claim.as_ref().map(Claim::split),
        })
        .collect();
    if let (Some(first), Some(own)) = (pieces.first_mut(), claim) {
        // The pieces have a claim each, and the whole request's own is one of them.
        if let Some(extra) = first.claim.replace(own) {
            extra.delivered();
        }
    }
    pieces
}
