//! The Prometheus endpoint.
//!
//! In: a registry and an address. Out: its text under `/metrics`.
//! Invariant: answers come from memory; a scrape never waits for a pipeline.

use std::sync::Arc;

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::{Registry, prometheus};
use crate::component::StartError;
use crate::config::{Naming, ReaderConfig};
use crate::network::{self, Body, Protocol, Server, ServerSettings};

/// Serves `/metrics` as a reader asks for it.
pub async fn start(reader: &ReaderConfig, registry: Arc<Registry>) -> Result<Server, StartError> {
    let component = "service::telemetry::metrics";
    let listener = network::bind(component, &reader.address).await?;
    let settings = ServerSettings::of(Protocol::Http);
    let naming = Arc::new(reader.naming.clone());
    Ok(network::serve(listener, settings, move |request| {
        let (registry, naming) = (Arc::clone(&registry), Arc::clone(&naming));
        async move { answer(request.uri().path(), &registry, &naming) }
    }))
}

fn answer(path: &str, registry: &Registry, naming: &Naming) -> Response<Body> {
    let mut response = Response::new(Body::default());
    if path == "/metrics" {
        let resource = &registry.description().resource;
        let text = prometheus::render(&registry.read(), resource, naming);
        *response.body_mut() = Body::new(Full::from(text));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
