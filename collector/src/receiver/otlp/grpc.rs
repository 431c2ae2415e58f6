//! OTLP over gRPC.
//!
//! In: unary calls of the three export services. Out: gRPC responses.
//! Invariant: a retryable failure is UNAVAILABLE with RetryInfo; bytes that will never be
//! accepted are INVALID_ARGUMENT.

use std::time::Duration;

use collector_otlp::{Request, Signal};
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;

use super::Intake;
use crate::component::Failure;
use crate::network::Body;
use crate::network::grpc::{self, Code, Status};

/// What a refused client is told to wait when nobody knows better.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The path of a signal's export method.
pub fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

pub(super) async fn answer(
    request: hyper::Request<Incoming>,
    intake: &Intake,
    limit: usize,
) -> hyper::Response<Body> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let mut response = hyper::Response::new(Body::default());
        *response.status_mut() = hyper::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    // The response of every export service is an empty message when all was taken.
    grpc::respond(export(request, intake, limit).await.map(|()| Vec::new()))
}

async fn export(
    request: hyper::Request<Incoming>,
    intake: &Intake,
    limit: usize,
) -> Result<(), Status> {
    let (head, body) = request.into_parts();
    let called = head.uri.path();
    let signal = Signal::ALL
        .into_iter()
        .find(|signal| path(*signal) == called && head.method == Method::POST)
        .filter(|signal| intake.outputs.takes(*signal))
        .ok_or_else(|| Status::new(Code::Unimplemented, format!("no pipeline takes {called}")))?;
    let message = grpc::read_message(&head.headers, body, limit).await?;
    let request = Request::parse(signal, message)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    intake.take(request).await.map_err(|failure| match failure {
        Failure::Retryable { reason, after } => {
            let retry_after = Some(after.unwrap_or(RETRY_AFTER));
            Status {
                code: Code::Unavailable,
                message: reason,
                retry_after,
            }
        }
        Failure::Permanent { reason } => Status::new(Code::InvalidArgument, reason),
    })
}
