//! A validated export request.
//!
//! In: protobuf bytes or JSON from anyone. Out: a [`Request`], and requests made from it.
//! Invariant: the bytes of a `Request` are well formed at every level, their strings are UTF-8,
//! and `items` is the number of spans, log records or data points in them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::{JsonError, WireError};
use crate::pass::{Outcome, normal_form};
use crate::schema::Signal;
use crate::split::split;
use crate::validate::{replace_invalid_strings, validate};
use crate::{decode, encode};

/// An export request of one signal, kept as protobuf bytes.
#[derive(Clone, Debug)]
pub struct Request {
    signal: Signal,
    chunks: Chunks,
    items: usize,
    replaced_strings: usize,
    /// Whether it is known to be in its normal form.
    is_normal: bool,
}

/// The bytes of a request: one behind another they are one message.
#[derive(Clone, Debug)]
enum Chunks {
    One(Bytes),
    Many {
        list: Arc<[Bytes]>,
        /// All of them in one piece, once somebody has asked for that.
        joined: OnceLock<Bytes>,
    },
}

impl PartialEq for Request {
    fn eq(&self, other: &Self) -> bool {
        let counts = |request: &Self| (request.signal, request.items, request.replaced_strings);
        counts(self) == counts(other) && self.bytes() == other.bytes()
    }
}

impl Eq for Request {}

impl Request {
    /// Validates protobuf bytes at every level; strings that are not UTF-8 are mended.
    pub fn parse(signal: Signal, bytes: Bytes) -> Result<Self, WireError> {
        let summary = validate(&bytes, signal.request())?;
        let bytes = match summary.invalid_strings {
            0 => bytes,
            _ => replace_invalid_strings(&bytes, signal.request())?.into(),
        };
        let replaced_strings = summary.invalid_strings;
        Ok(Self {
            signal,
            chunks: Chunks::One(bytes),
            items: summary.items,
            replaced_strings,
            is_normal: !summary.scattered,
        })
    }

    /// Reads an OTLP/JSON request.
    pub fn parse_json(signal: Signal, json: &[u8]) -> Result<Self, JsonError> {
        let bytes = decode::decode(json, signal.request())?;
        Self::parse(signal, bytes.into())
            .map_err(|error| JsonError(serde::de::Error::custom(error)))
    }

    /// The kind of telemetry in the request.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The number of spans, log records or data points.
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many strings were not UTF-8 when the request was parsed.
    pub fn replaced_strings(&self) -> usize {
        self.replaced_strings
    }

    /// The protobuf bytes of the export request, in one piece.
    ///
    /// A request that was merged is copied into one piece for that, once.
    pub fn bytes(&self) -> &Bytes {
        match &self.chunks {
            Chunks::One(bytes) => bytes,
            Chunks::Many { list, joined } => joined.get_or_init(|| list.concat().into()),
        }
    }

    /// The same bytes as they are held, in as many pieces as requests were merged.
    pub fn chunks(&self) -> &[Bytes] {
        match &self.chunks {
            Chunks::One(bytes) => std::slice::from_ref(bytes),
            Chunks::Many { list, .. } => list,
        }
    }

    /// How many bytes they are.
    pub fn byte_len(&self) -> usize {
        self.chunks().iter().map(Bytes::len).sum()
    }

    /// The request as one line of OTLP/JSON, without a newline.
    pub fn to_json(&self) -> Result<Vec<u8>, WireError> {
        encode::encode(self.bytes(), self.signal.request())
    }

    /// Joins requests of one signal without copying them; requests of another signal than the first's stay out.
    ///
    /// Returns `None` when there is nothing to join.
    pub fn merge(requests: &[Self]) -> Option<Self> {
        let [first, rest @ ..] = requests else {
            return None;
        };
        if rest.is_empty() {
            return Some(first.clone());
        }
        let same = || {
            requests
                .iter()
                .filter(|request| request.signal == first.signal)
        };
        let chunks = same().flat_map(|request| request.chunks().iter().cloned());
        Some(Self {
            signal: first.signal,
            chunks: Chunks::Many {
                list: chunks.collect(),
                joined: OnceLock::new(),
            },
            items: same().map(|request| request.items).sum(),
            replaced_strings: same().map(|request| request.replaced_strings).sum(),
            is_normal: same().all(|request| request.is_normal),
        })
    }

    /// A request from bytes that one has been parsed from before, and that were kept unchanged.
    ///
    /// Nothing is looked at: bytes and `items` must be those of [`Self::bytes`] and
    /// [`Self::items`], and what stored them must notice damage.
    pub fn stored(signal: Signal, bytes: Bytes, items: usize) -> Self {
        Self {
            signal,
            chunks: Chunks::One(bytes),
            items,
            replaced_strings: 0,
            is_normal: false,
        }
    }

    /// Cuts the request into requests of at most `most` items, in order; zero means no limit.
    pub fn split(self, most: usize) -> Result<Vec<Self>, WireError> {
        self.split_after(most, most)
    }

    /// Cuts the request into requests of at most `most` items, the first of at most `first`.
    ///
    /// Zero means no limit.
    pub fn split_after(self, first: usize, most: usize) -> Result<Vec<Self>, WireError> {
        if first == 0 || most == 0 || self.items <= first {
            return Ok(vec![self]);
        }
        let pieces = split(self.bytes(), self.signal.request(), first, most)?;
        let request = |piece: crate::split::Piece| Self {
            signal: self.signal,
            chunks: Chunks::One(piece.bytes.into()),
            items: piece.items,
            replaced_strings: 0,
            is_normal: false,
        };
        Ok(pieces.into_iter().map(request).collect())
    }

    /// Walks through the request, usually with [`run`](crate::pass::run), and takes over what
    /// became of it; a request that the walk leaves alone keeps its bytes.
    pub fn apply<E: From<WireError>>(
        self,
        walk: impl FnOnce(Signal, &[u8]) -> Result<Outcome, E>,
    ) -> Result<Self, E> {
        let bytes = self.bytes();
        let outcome = match self.is_normal && u32::try_from(bytes.len()).is_ok() {
            true => walk(self.signal, bytes)?,
            false => walk(self.signal, &normal_form(bytes, self.signal)?)?,
        };
        Ok(match outcome.bytes {
            None => self,
            Some(bytes) => Self {
                chunks: Chunks::One(bytes.into()),
                items: self.items.saturating_sub(outcome.dropped),
                is_normal: true,
                ..self
            },
        })
    }
}
