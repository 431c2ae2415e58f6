//! An OTLP client written without the collector's code, which sees the whole answer.
//!
//! In: bytes for a path. Out: status, headers, trailers and body, or that the connection failed.
//! Invariant: nothing is sent twice.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::arrival::Signal;

/// How long an answer may take, as SDKs have it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client with a connection of its own.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    port: u16,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The gRPC status, from the trailers or the headers.
    pub(crate) fn grpc_status(&self) -> Option<&str> {
        let found = self.trailers.get("grpc-status");
        found
            .or_else(|| self.headers.get("grpc-status"))?
            .to_str()
            .ok()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Sender {
    /// A client that speaks HTTP/2 without TLS.
    pub(crate) fn grpc(port: u16) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        Self { client, port }
    }

    /// A client that speaks HTTP/1.1.
    pub(crate) fn http(port: u16) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, port }
    }

    /// Calls an export method; whether it was acknowledged.
    pub(crate) async fn export(&self, signal: Signal, message: &[u8]) -> bool {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = self.post(signal.method(), &headers, framed(message)).await;
        answer.is_some_and(|answer| answer.grpc_status() == Some("0"))
    }

    /// Posts anything; `None` when there was no whole answer.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Option<Answer> {
        self.send("POST", path, headers, body).await
    }

    /// Sends anything; `None` when there was no whole answer.
    pub(crate) async fn send(
        &self,
        verb: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Option<Answer> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = hyper::Request::builder().method(verb).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let call = self.client.request(request.body(Full::new(body)).unwrap());
        let answer = async {
            let (head, body) = call.await.ok()?.into_parts();
            let collected = body.collect().await.ok()?;
            Some(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                trailers: collected.trailers().cloned().unwrap_or_default(),
                body: collected.to_bytes(),
            })
        };
        tokio::time::timeout(TIMEOUT, answer).await.ok()?
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap());
    out.put_slice(message);
    out.freeze()
}
