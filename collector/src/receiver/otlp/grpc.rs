//! OTLP over gRPC.
//!
//! In: unary calls of the three export services. Out: gRPC responses.
//! Invariant: a retryable failure is UNAVAILABLE with RetryInfo; bytes that will never be
//! accepted are INVALID_ARGUMENT.

use bytes::Bytes;
use collector_otlp::{Request, Signal};

use super::Intake;
use crate::component::Failure;
use crate::network::RETRY_AFTER;
use crate::network::grpc::{Call, Code, Status};

/// The path of a signal's export method.
pub fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Takes one call; the response of every export service is an empty message when all was taken.
pub(super) async fn answer(call: Call, intake: &Intake, limit: usize) -> Result<Bytes, Status> {
    let called = call.head.uri.path();
    let signal = Signal::ALL
        .into_iter()
        .find(|signal| path(*signal) == called)
        .filter(|signal| intake.outputs.takes(*signal))
        .ok_or_else(|| Status::new(Code::Unimplemented, format!("no pipeline takes {called}")))?;
    if let Some(check) = &intake.check {
        let checked = check.check(&call.head.headers).await;
        checked.map_err(|reason| Status::new(Code::Unauthenticated, reason))?;
    }
    let (head, message, lease) = call.message(limit).await?;
    let request = Request::parse(signal, message)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let taken = intake.take(request, &head.headers, lease.share()).await;
    taken.map(|()| Bytes::new()).map_err(status)
}

fn status(failure: Failure) -> Status {
    match failure {
        Failure::Retryable { reason, after } => Status {
            retry_after: Some(after.unwrap_or(RETRY_AFTER)),
            ..Status::new(Code::Unavailable, reason)
        },
        Failure::Permanent { reason } => Status::new(Code::InvalidArgument, reason),
    }
}
