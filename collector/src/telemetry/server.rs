//! The Prometheus endpoint.
//!
//! In: a registry and an address. Out: its text under `/metrics`.
//! Invariant: answers come from memory; a scrape never waits for a pipeline.

use std::sync::Arc;

use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};

use super::Registry;
use crate::component::StartError;
use crate::network::{self, Body, Protocol, Server, ServerSettings};

/// Serves `/metrics` at `address`.
pub async fn start(address: &str, registry: Arc<Registry>) -> Result<Server, StartError> {
    let component = "service::telemetry::metrics";
    let listener = network::bind(component, address).await?;
    let settings = ServerSettings::of(Protocol::Http);
    Ok(network::serve(listener, settings, move |request| {
        let registry = Arc::clone(&registry);
        async move { answer(request.uri().path(), &registry) }
    }))
}

fn answer(path: &str, registry: &Registry) -> Response<Body> {
    let mut response = Response::new(Body::default());
    if path == "/metrics" {
        *response.body_mut() = Body::new(Full::from(registry.render()));
        let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
