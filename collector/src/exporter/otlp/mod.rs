//! The `otlp` exporter: OTLP over gRPC.
//!
//! In: a batch. Out: one call of the signal's export method.
//! Invariant: only the codes that OTLP names as retryable are retried; what the server rejects
//! inside a call that succeeds is logged and not sent again.

mod config;

use std::borrow::Cow;
use std::sync::Arc;

use collector_otlp::Signal;
use collector_otlp::wire::{Fields, Value};
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::http::uri::InvalidUri;

use crate::authentication::AddHeaders;
use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::network::Encoding;
use crate::network::compression::compress;
use crate::network::grpc::channel::{Channel, ChannelSettings};
use crate::network::grpc::{self, Code, Status};
use crate::receiver::otlp::export_path;
use crate::telemetry::SignalCounters;
pub use config::Config;
pub(crate) use config::headers;

/// The row of this component.
pub const KIND: Kind<dyn BuildExporter> = Kind {
    name: "otlp",
    aliases: &["otlp_grpc"],
    configure: |section| Box::new(Config::read(section)),
};

/// What this program calls itself in requests.
pub(crate) const USER_AGENT_TEXT: &str = concat!("provision-collector/", env!("CARGO_PKG_VERSION"));

impl BuildExporter for Config {
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError> {
        let component = format!("exporters::{}", context.id);
        let failed = |message| StartError {
            component: component.clone(),
            message,
        };
        let auth = self.auth.as_ref();
        let credentials = context.authenticators.outgoing(&component, auth)?;
        let tls = match self.plain {
            true => None,
            false => Some(self.tls.start().map_err(failed)?),
        };
        let mut uris = Vec::new();
        for signal in Signal::ALL {
            let uri = format!("{}{}", self.base, export_path(signal)).parse();
            uris.push(uri.map_err(|error: InvalidUri| failed(error.to_string()))?);
        }
        let channel = Channel::new(ChannelSettings {
            endpoint: self.endpoint.clone(),
            tls,
            timeout: self.timeout,
            keep_alive: self.keep_alive,
            balance: self.balance,
        });
        let id = context.id.to_string();
        let exporter = Arc::new(Otlp {
            headers: request_headers(&self),
            credentials,
            encoding: self.encoding,
            uris,
            channel,
            partial: PartialSuccess::register(context),
            id,
        });
        let sending = self.sending;
        Ok(BuiltExporter { exporter, sending })
    }
}

struct Otlp {
    /// The headers of every call.
    headers: HeaderMap,
    /// What adds to them, if anything.
    credentials: Option<Arc<dyn AddHeaders>>,
    encoding: Encoding,
    /// One for each signal, in the order of `Signal::ALL`.
    uris: Vec<Uri>,
    channel: Channel,
    partial: PartialSuccess,
    id: String,
}

impl Exporter for Otlp {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let signal = batch.request.signal();
            let uri = &self.uris[signal as usize];
            let compressed = self.encoding != Encoding::Identity;
            let message = match self.encoding {
                // What is merged need not be in one piece to be sent.
                Encoding::Identity => Cow::Borrowed(batch.request.chunks()),
                encoding => Cow::Owned(vec![compress(batch.request.bytes(), encoding, None)]),
            };
            let mut headers = self.headers.clone();
            if let Some(credentials) = &self.credentials {
                let added = credentials.add(&mut headers, &batch.metadata);
                added.map_err(Failure::permanent)?;
            }
            let answer = self
                .channel
                .call(uri, headers, &message, compressed)
                .await?;
            let message = grpc::read_answer(answer).map_err(failure)?;
            self.partial.note(&message, &self.id, signal);
            Ok(())
        })
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn request_headers(config: &Config) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
    let accepted = HeaderValue::from_static("gzip,zstd,snappy");
    headers.insert("grpc-accept-encoding", accepted);
    if config.encoding != Encoding::Identity {
        let name = HeaderValue::from_static(config.encoding.grpc_name());
        headers.insert("grpc-encoding", name);
    }
    if !config.timeout.is_zero() {
        // The specification allows eight digits.
        let milliseconds = config.timeout.as_millis().min(99_999_999);
        if let Ok(timeout) = HeaderValue::from_str(&format!("{milliseconds}m")) {
            headers.insert("grpc-timeout", timeout);
        }
    }
    for (name, value) in &config.headers {
        headers.insert(name, value.clone());
    }
    headers
}

/// Sorts statuses as OTLP's specification does.
fn failure(status: Status) -> Failure {
    let reason = format!("{:?}: {}", status.code, status.message);
    let retryable = match status.code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => status.retry_after.is_some(),
        _ => false,
    };
    match retryable {
        true => Failure::Retryable {
            reason,
            after: status.retry_after,
        },
        false => Failure::Permanent { reason },
    }
}

/// What servers rejected inside calls that succeeded.
pub(crate) struct PartialSuccess {
    rejected: SignalCounters,
}

impl PartialSuccess {
    pub(crate) fn register(context: &Context) -> Self {
        let id = context.id.to_string();
        let help = "Items that the server rejected in a partial success";
        Self {
            rejected: SignalCounters::register(
                &context.registry,
                "otelcol_exporter_partial_success_rejected",
                help,
                &[("exporter", &id)],
                &Signal::ALL,
            ),
        }
    }

    /// Counts and logs what `partial_success`, field 1 of the response, says was rejected.
    pub(crate) fn note(&self, response: &[u8], exporter: &str, signal: Signal) {
        let partial = Fields::of(response)
            .filter_map(Result::ok)
            .find(|field| field.number == 1);
        let Some(Value::Bytes(partial)) = partial.map(|field| field.value) else {
            return;
        };
        let (mut rejected, mut message) = (0, String::new());
        for field in Fields::of(partial).filter_map(Result::ok) {
            match (field.number, field.value) {
                (1, Value::Varint(number)) => rejected = number,
                (2, Value::Bytes(text)) => message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
        self.add(rejected, &message, exporter, signal);
    }

    /// The same of a response in JSON.
    pub(crate) fn note_json(&self, response: &[u8], exporter: &str, signal: Signal) {
        let Ok(answer) = serde_json::from_slice::<serde_json::Value>(response) else {
            return;
        };
        let partial = &answer["partialSuccess"];
        let keys = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"];
        let number = |value: &serde_json::Value| match value.as_str() {
            Some(text) => text.parse().ok(),
            None => value.as_u64(),
        };
        let rejected = keys.iter().find_map(|key| number(&partial[*key]));
        let message = partial["errorMessage"].as_str().unwrap_or_default();
        self.add(rejected.unwrap_or(0), message, exporter, signal);
    }

    fn add(&self, rejected: u64, message: &str, exporter: &str, signal: Signal) {
        if rejected > 0 || !message.is_empty() {
            let items = usize::try_from(rejected).unwrap_or(usize::MAX);
            self.rejected.add(signal, items);
            let signal = signal.name();
            tracing::warn!(%exporter, signal, rejected_items = rejected, %message, "the server took only part of a batch");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_exhausted_is_retried_only_with_retry_info() {
        let status = Status::new(Code::ResourceExhausted, "big");
        assert!(matches!(failure(status.clone()), Failure::Permanent { .. }));
        let after = Some(std::time::Duration::from_secs(2));
        let advised = Status {
            retry_after: after,
            ..status
        };
        assert!(matches!(failure(advised), Failure::Retryable { after: a, .. } if a == after));
        let invalid = Status::new(Code::InvalidArgument, "");
        assert!(matches!(failure(invalid), Failure::Permanent { .. }));
        let unavailable = Status::new(Code::Unavailable, "");
        assert!(matches!(failure(unavailable), Failure::Retryable { .. }));
    }
}
