//! The HTTP client of exporters.
//!
//! In: a whole request. Out: a whole response, trailers too, or a retryable failure.
//! Invariant: a call ends by its timeout, and the next one connects again when it must.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Protocol;
use crate::component::Failure;

/// The longest response that a client reads.
pub const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How an HTTP/2 connection is asked whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How often; zero means never.
    pub interval: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// Whether it is asked while no call is open.
    pub while_idle: bool,
}

impl Default for KeepAlive {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(10));
        Self {
            interval,
            timeout,
            while_idle: false,
        }
    }
}

/// Connections to one or more servers, kept open and opened again as needed.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// A response, whole.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What came after the body.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl HttpClient {
    /// A client whose calls take no longer than `timeout`; zero means no limit.
    pub fn new(
        protocol: Protocol,
        tls: rustls::ClientConfig,
        timeout: Duration,
        keep_alive: KeepAlive,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let connector = match protocol {
            Protocol::Grpc => builder.enable_http2().wrap_connector(connector),
            Protocol::Http => builder.enable_all_versions().wrap_connector(connector),
        };
        let inner = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(protocol == Protocol::Grpc)
            .http2_keep_alive_interval(Some(keep_alive.interval).filter(|time| !time.is_zero()))
            .http2_keep_alive_timeout(keep_alive.timeout)
            .http2_keep_alive_while_idle(keep_alive.while_idle)
            .http2_initial_connection_window_size(1 << 20)
            .build(connector);
        Self { inner, timeout }
    }

    /// Sends a request and reads the response.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let timeout = if self.timeout.is_zero() {
            Duration::MAX
        } else {
            self.timeout
        };
        match tokio::time::timeout(timeout, self.attempt(request)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::retryable(format!(
                "no answer within {:?}",
                self.timeout
            ))),
        }
    }

    async fn attempt(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|error| broken(&error))?;
        let (head, mut body) = response.into_parts();
        let mut read = Vec::new();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| broken(&error))?.into_data() {
                Ok(data) if read.len() + data.len() > MAX_RESPONSE_BYTES => {
                    let limit = MAX_RESPONSE_BYTES;
                    return Err(Failure::permanent(format!(
                        "a response of over {limit} bytes"
                    )));
                }
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            trailers,
            body: read.into(),
        })
    }
}

/// A failure whose text names the innermost cause, which is the one that helps.
fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    Failure::retryable(text)
}
