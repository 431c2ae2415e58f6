//! The `otlphttp` exporter: OTLP over HTTP.
//!
//! In: a batch. Out: one POST request. Invariant: 429, 502, 503 and 504 are retried, after what
//! Retry-After says; every other error is for good, as OTLP's specification has it.

mod config;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use collector_otlp::Request;
use http_body_util::Full;
use hyper::Method;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};

use crate::authentication::AddHeaders;
use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::exporter::otlp::{PartialSuccess, USER_AGENT_TEXT};
use crate::network::client::{Answer, HttpClient, HttpClientSettings};
use crate::network::compression::compress;
use crate::network::grpc::KeepAlive;
use crate::network::{Encoding, Protocol};
pub use config::{Config, Format};

/// The row of this component.
pub const KIND: Kind<dyn BuildExporter> = Kind {
    name: "otlphttp",
    aliases: &["otlp_http"],
    configure: |section| Box::new(Config::read(section)),
};

/// How much of an error's body goes into the log.
const ERROR_TEXT_CHARS: usize = 200;

impl BuildExporter for Config {
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError> {
        let component = format!("exporters::{}", context.id);
        let auth = self.auth.as_ref();
        let credentials = context.authenticators.outgoing(&component, auth)?;
        let failed = |message| StartError { component, message };
        let client = HttpClient::new(HttpClientSettings {
            protocol: Protocol::Http,
            tls: self.tls.start().map_err(failed)?,
            timeout: self.timeout,
            keep_alive: KeepAlive::default(),
            proxy: self.proxy.clone(),
        });
        let sending = self.sending.clone();
        let id = context.id.to_string();
        let exporter = Arc::new(OtlpHttp {
            config: *self,
            client,
            credentials,
            partial: PartialSuccess::register(context),
            id,
        });
        Ok(BuiltExporter { exporter, sending })
    }
}

struct OtlpHttp {
    config: Config,
    client: HttpClient,
    credentials: Option<Arc<dyn AddHeaders>>,
    partial: PartialSuccess,
    id: String,
}

impl Exporter for OtlpHttp {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut request = self.request(&batch.request)?;
            if let Some(credentials) = &self.credentials {
                let added = credentials.add(request.headers_mut(), &batch.metadata);
                added.map_err(Failure::permanent)?;
            }
            let answer = self.client.call(request).await?;
            if !answer.status.is_success() {
                return Err(failure(&answer));
            }
            let signal = batch.request.signal();
            match self.config.format {
                Format::Proto => self.partial.note(&answer.body, &self.id, signal),
                Format::Json => self.partial.note_json(&answer.body, &self.id, signal),
            }
            Ok(())
        })
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl OtlpHttp {
    fn request(&self, batch: &Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let Some(url) = &self.config.urls[batch.signal() as usize] else {
            let signal = batch.signal().name();
            return Err(Failure::permanent(format!(
                "no endpoint for {signal} is configured"
            )));
        };
        let (kind, body) = match self.config.format {
            Format::Proto => ("application/x-protobuf", batch.bytes().clone()),
            Format::Json => {
                let json = batch
                    .to_json()
                    .map_err(|e| Failure::permanent(e.to_string()))?;
                ("application/json", Bytes::from(json))
            }
        };
        let encoding = self.config.encoding;
        let body = compress(&body, encoding, self.config.level);
        let mut request = hyper::Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        if encoding != Encoding::Identity {
            let name = HeaderValue::from_static(encoding.http_name());
            headers.insert(CONTENT_ENCODING, name);
        }
        for (name, value) in &self.config.headers {
            headers.insert(name, value.clone());
        }
        Ok(request)
    }
}

fn failure(answer: &Answer) -> Failure {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(ERROR_TEXT_CHARS)
        .collect();
    let reason = format!("HTTP {}: {text}", answer.status);
    if !matches!(answer.status.as_u16(), 429 | 502 | 503 | 504) {
        return Failure::Permanent { reason };
    }
    let header = answer
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let after = header.and_then(|text| retry_after(text.trim(), SystemTime::now()));
    Failure::Retryable { reason, after }
}

/// The wait that Retry-After asks for: seconds, or until a date of HTTP.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:07 GMT").unwrap();
        let after = |text| retry_after(text, now);
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(30)));
        let past = "Sun, 06 Nov 1994 08:00:00 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
