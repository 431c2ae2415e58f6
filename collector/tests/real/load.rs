//! Many senders that remember what was acknowledged.
//!
//! In: the port of a collector. Out: the numbers of all spans whose request was answered well.
//! Invariant: each span is sent once; what was not acknowledged is not sent again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::task::JoinSet;

use crate::arrival::Signal;
use crate::sender::Sender;

/// The run that the spans bear.
pub(crate) const RUN: &str = "load";

/// How many send at the same time.
const SENDERS: usize = 64;

/// Spans of a request.
const SPANS: u64 = 4;

/// How long a sender rests between two requests.
const REST: Duration = Duration::from_millis(20);

/// Content that a number fixes, of up to 200 bytes.
pub(crate) fn pad(number: i64) -> String {
    let length = usize::try_from(number * 7 % 200).unwrap();
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
    std::iter::repeat_n(letter, length).collect()
}

/// A request with the spans of these numbers.
pub(crate) fn request(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    let attribute = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let span = |number: u64| {
        let signed = i64::try_from(number).unwrap();
        Span {
            trace_id: vec![1; 16],
            span_id: (number + 1).to_be_bytes().to_vec(),
            name: format!("{RUN}-{number}"),
            attributes: vec![
                attribute("number", Value::IntValue(signed)),
                attribute("text", Value::StringValue("Grüße".to_owned())),
                attribute("pad", Value::StringValue(pad(signed))),
            ],
            ..Span::default()
        }
    };
    let resource = Resource {
        attributes: vec![attribute("run", Value::StringValue(RUN.to_owned()))],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: numbers.map(span).collect(),
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource),
        scope_spans,
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Senders at work.
pub(crate) struct Load {
    acknowledged: Arc<Mutex<Vec<u64>>>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Load {
    /// Starts to send over gRPC, a connection for each sender, to spans numbered from `first`.
    pub(crate) fn start(port: u16, first: u64) -> Self {
        let mut load = Self {
            acknowledged: Arc::default(),
            refused: Arc::default(),
            stop: Arc::default(),
            senders: JoinSet::new(),
        };
        let next = Arc::new(AtomicU64::new(first));
        for _ in 0..SENDERS {
            let (next, stop) = (Arc::clone(&next), Arc::clone(&load.stop));
            let (acknowledged, refused) =
                (Arc::clone(&load.acknowledged), Arc::clone(&load.refused));
            load.senders.spawn(async move {
                let sender = Sender::grpc(port);
                while !stop.load(Ordering::Relaxed) {
                    let from = next.fetch_add(SPANS, Ordering::Relaxed);
                    let numbers = from..from + SPANS;
                    if sender
                        .export(Signal::Traces, &request(numbers.clone()))
                        .await
                    {
                        acknowledged.lock().unwrap().extend(numbers);
                    } else {
                        refused.fetch_add(SPANS, Ordering::Relaxed);
                    }
                    tokio::time::sleep(REST).await;
                }
            });
        }
        load
    }

    /// What has been acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Stops without waiting for answers.
    pub(crate) async fn abandon(mut self) {
        self.senders.shutdown().await;
    }

    /// Stops after the answers; what was acknowledged, and how many spans were not.
    pub(crate) async fn finish(mut self) -> (Vec<u64>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        (self.acknowledged(), self.refused.load(Ordering::Relaxed))
    }
}
