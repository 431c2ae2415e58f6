//! The `otlp` exporter: OTLP over gRPC.
//!
//! In: a batch. Out: one call of the signal's export method.
//! Invariant: only the codes that OTLP names as retryable are retried; what the server rejects
//! inside a call that succeeds is logged and not sent again.

mod config;

use std::sync::Arc;

use bytes::Bytes;
use collector_otlp::wire::{Fields, Value};
use collector_otlp::{Request, Signal};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Uri};

use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::network::client::HttpClient;
use crate::network::grpc::{self, Code, Status};
use crate::network::{Encoding, Protocol};
use crate::receiver::otlp::export_path;
pub use config::Config;
pub(crate) use config::{encoding, headers};

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
        let tls = self.tls.client_config().map_err(failed)?;
        let uri = |signal: Signal| format!("{}{}", self.base, export_path(signal)).parse();
        let mut uris = Vec::new();
        for signal in Signal::ALL {
            let explain = |error: hyper::http::uri::InvalidUri| failed(error.to_string());
            uris.push(uri(signal).map_err(explain)?);
        }
        let client = HttpClient::new(Protocol::Grpc, tls, self.timeout, self.keep_alive);
        let sending = self.sending.clone();
        let id = context.id.to_string();
        let exporter = Arc::new(Otlp {
            config: *self,
            uris,
            client,
            id,
        });
        Ok(BuiltExporter { exporter, sending })
    }
}

struct Otlp {
    config: Config,
    /// One for each signal, in the order of `Signal::ALL`.
    uris: Vec<Uri>,
    client: HttpClient,
    id: String,
}

impl Exporter for Otlp {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let answer = self.client.call(self.request(&batch.request)).await?;
            let message = grpc::read_answer(answer).map_err(failure)?;
            warn_of_rejected(&message, &self.id, batch.request.signal());
            Ok(())
        })
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Otlp {
    fn request(&self, batch: &Request) -> hyper::Request<Full<Bytes>> {
        let framed = grpc::frame(batch.bytes(), self.config.encoding);
        let mut request = hyper::Request::new(Full::new(framed));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uris[batch.signal() as usize].clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        if self.config.encoding == Encoding::Gzip {
            headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        for (name, value) in &self.config.headers {
            headers.insert(name, value.clone());
        }
        request
    }
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

/// Logs what `partial_success` says was rejected: field 1 of the response.
pub(crate) fn warn_of_rejected(response: &[u8], exporter: &str, signal: Signal) {
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
    if rejected > 0 || !message.is_empty() {
        let signal = signal.name();
        tracing::warn!(%exporter, signal, rejected_items = rejected, %message, "the server took only part of a batch");
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
