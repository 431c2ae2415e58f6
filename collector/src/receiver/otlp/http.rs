//! OTLP over HTTP.
//!
//! In: POST requests, protobuf or JSON. Out: responses in the request's own content type.
//! Invariant: 400 and 413 mean never, 503 with Retry-After means later.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use collector_otlp::{Request, Signal};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_ENCODING, CONTENT_TYPE,
    HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode};

use super::{Cors, Http, Intake};
use crate::budget::Account;
use crate::component::Failure;
use crate::network::body::{REQUEST_BYTES, read_body};
use crate::network::compression::decompress;
use crate::network::grpc::{Code, Status};
use crate::network::{Body, BodyError, Encoding, Lingering, RETRY_AFTER as DEFAULT_RETRY_AFTER};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

/// Why a request is answered with an error.
struct Refusal {
    http: StatusCode,
    status: Status,
}

impl Refusal {
    fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            status: Status::new(code, message),
        }
    }
}

pub(super) async fn answer(
    request: hyper::Request<Incoming>,
    intake: &Intake,
    config: &Http,
) -> Response<Body> {
    let request = Lingering::of(request);
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| config.cors.allows(origin));
    let mut response = if request.method() == Method::OPTIONS && allowed.is_some() {
        preflight(&config.cors)
    } else {
        let exported = export(request, intake, config);
        match tokio::time::timeout(config.write_timeout, exported).await {
            Ok(response) => response,
            Err(_) => late(),
        }
    };
    for (name, value) in &config.response_headers {
        response.headers_mut().insert(name, value.clone());
    }
    if let Some(origin) = allowed {
        let exposed = config.cors.exposed_headers.join(", ");
        if let Ok(exposed) = HeaderValue::from_str(&exposed)
            && !exposed.is_empty()
        {
            response
                .headers_mut()
                .insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
            .headers_mut()
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("origin"));
    }
    response
}

async fn export(
    request: hyper::Request<Lingering>,
    intake: &Intake,
    config: &Http,
) -> Response<Body> {
    let called = request.uri().path();
    let found = Signal::ALL
        .into_iter()
        .zip(&config.paths)
        .find(|(_, path)| *path == called);
    let Some((signal, _)) = found.filter(|(signal, _)| intake.outputs.takes(*signal)) else {
        return plain(StatusCode::NOT_FOUND, "404 page not found");
    };
    if request.method() != Method::POST {
        let text = "405 method not allowed, supported: [POST]";
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(format) = format_of(request.headers()) else {
        let text =
            "415 unsupported media type, supported: [application/json, application/x-protobuf]";
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    };
    if let Some(check) = &intake.check
        && let Err(reason) = check.check(request.headers()).await
    {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, reason);
        let mut response = refuse(refusal, format);
        let challenge = HeaderValue::from_static(check.challenge());
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return response;
    }
    match take(request, signal, format, intake, config).await {
        Ok(()) => body(
            StatusCode::OK,
            format,
            match format {
                Format::Protobuf => Vec::new(),
                Format::Json => br#"{"partialSuccess":{}}"#.to_vec(),
            },
        ),
        Err(refusal) => refuse(refusal, format),
    }
}

async fn take(
    request: hyper::Request<Lingering>,
    signal: Signal,
    format: Format,
    intake: &Intake,
    config: &Http,
) -> Result<(), Refusal> {
    let (head, incoming) = request.into_parts();
    let encoding = encoding_of(&head.headers, config)?;
    let Some(account) = head.extensions.get::<Arc<Account>>() else {
        return Err(out_of_memory());
    };
    let mut lease = account.lease();
    lease.charge(REQUEST_BYTES);
    let limit = config.max_body_bytes;
    let read = read_body(incoming, limit, &mut lease);
    let read = tokio::time::timeout(config.read_timeout, read).await;
    let mut bytes = read.unwrap_or(Err(BodyError::Stalled)).map_err(refused)?;
    if encoding != Encoding::Identity {
        let mut room = |more| lease.try_grow(more, 1);
        bytes = decompress(&bytes, encoding, limit, &mut room).map_err(refused)?;
    }
    let request = match format {
        Format::Protobuf => Request::parse(signal, bytes).map_err(|e| malformed(e.to_string()))?,
        Format::Json => {
            // The protobuf form is no longer than the JSON that it is made from.
            if !lease.try_grow(bytes.len(), 1) {
                return Err(out_of_memory());
            }
            Request::parse_json(signal, &bytes).map_err(|e| malformed(e.to_string()))?
        }
    };
    lease.shrink_to(REQUEST_BYTES + request.bytes().len());
    let taken = intake.take(request, &head.headers, lease.share()).await;
    taken.map_err(|failure| match failure {
        Failure::Retryable { reason, after } => retry_later(reason, after),
        Failure::Permanent { reason } => malformed(reason),
    })
}

fn encoding_of(headers: &HeaderMap, config: &Http) -> Result<Encoding, Refusal> {
    let name = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let name = name.unwrap_or_default();
    let known = Encoding::of_http(name).filter(|encoding| config.encodings.contains(encoding));
    known.ok_or_else(|| {
        let name = String::from_utf8_lossy(name);
        let all: Vec<_> = config.encodings.iter().map(|e| e.http_name()).collect();
        let all = all.join(", ");
        let message = format!("content encoding {name:?} is not supported; use one of {all}");
        let http = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Refusal::new(http, Code::InvalidArgument, message)
    })
}

fn refused(error: BodyError) -> Refusal {
    match error {
        BodyError::TooLarge { .. } => {
            let http = StatusCode::PAYLOAD_TOO_LARGE;
            Refusal::new(
                http,
                Code::ResourceExhausted,
                format!("the body is {error}"),
            )
        }
        BodyError::NoRoom => out_of_memory(),
        BodyError::Stalled => {
            // 408 is not for retries, as the OTLP specification has it.
            let http = StatusCode::SERVICE_UNAVAILABLE;
            let text = "the body did not arrive in time";
            Refusal::new(http, Code::DeadlineExceeded, text)
        }
        BodyError::Broken(_) | BodyError::Malformed { .. } => malformed(error.to_string()),
    }
}

fn malformed(text: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, text)
}

fn retry_later(reason: String, after: Option<Duration>) -> Refusal {
    Refusal {
        http: StatusCode::SERVICE_UNAVAILABLE,
        status: Status {
            retry_after: Some(after.unwrap_or(DEFAULT_RETRY_AFTER)),
            ..Status::new(Code::Unavailable, reason)
        },
    }
}

fn out_of_memory() -> Refusal {
    let text = "the memory that telemetry may take is in use; try again later";
    retry_later(text.to_owned(), None)
}

/// The answer when there has been none within `write_timeout`.
fn late() -> Response<Body> {
    let text = "the telemetry was not taken in time; try again later";
    refuse(retry_later(text.to_owned(), None), Format::Json)
}

fn format_of(headers: &HeaderMap) -> Option<Format> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    match kind.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Format::Protobuf),
        "application/json" => Some(Format::Json),
        _ => None,
    }
}

fn refuse(refusal: Refusal, format: Format) -> Response<Body> {
    let Refusal { http, status } = refusal;
    let mut response = body(
        http,
        format,
        match format {
            Format::Protobuf => Status {
                retry_after: None,
                ..status.clone()
            }
            .encode(),
            Format::Json => {
                let message = serde_json::Value::from(status.message.as_str());
                format!("{{\"code\":{},\"message\":{message}}}", status.code as u8).into_bytes()
            }
        },
    );
    if let Some(after) = status.retry_after {
        let seconds = after.as_secs_f64().ceil() as u64;
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn body(status: StatusCode, format: Format, bytes: Vec<u8>) -> Response<Body> {
    let kind = match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    };
    respond(status, kind, bytes.into())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn respond(status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(bytes)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn preflight(cors: &Cors) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    let mut names: Cow<'_, str> = "content-type, content-encoding".into();
    for name in &cors.allowed_headers {
        names = format!("{names}, {name}").into();
    }
    if let Ok(names) = HeaderValue::from_str(&names) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if let Some(seconds) = cors.max_age_seconds {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
    response
}

impl Cors {
    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        self.allowed_origins
            .iter()
            .any(|pattern| match pattern.split_once('*') {
                None => pattern.eq_ignore_ascii_case(origin),
                Some((before, after)) => {
                    origin.len() >= before.len() + after.len()
                        && origin.starts_with(before)
                        && origin.ends_with(after)
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_does_not_arrive_may_be_sent_again() {
        // The answers that the OTLP specification has clients retry.
        let retryable = [429, 502, 503, 504];
        let stalled = refused(BodyError::Stalled);
        assert!(retryable.contains(&stalled.http.as_u16()));
        assert_eq!(stalled.status.code, Code::DeadlineExceeded);
    }

    #[test]
    fn origins_match_their_patterns() {
        let cors = |pattern: &str| Cors {
            allowed_origins: vec![pattern.to_owned()],
            ..Cors::default()
        };
        let allows = |pattern, origin| cors(pattern).allows(&HeaderValue::from_static(origin));
        assert!(allows("*", "https://a.example"));
        assert!(allows("https://*.example", "https://a.example"));
        assert!(allows("https://a.example", "https://a.example"));
        assert!(!allows("https://*.example", "http://a.example"));
        assert!(!allows("https://a.example", "https://b.example"));
        assert!(!allows("aa*aa", "aaa"));
    }
}
