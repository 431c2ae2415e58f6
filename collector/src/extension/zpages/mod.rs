//! The `zpages` extension: pages that show people what the collector does.
//!
//! In: GET requests. Out: pages about pipelines, queues, rates and the last warnings and errors.
//! Invariant: a page is made from what is in memory, loads nothing, and shows no telemetry.
//!
//! - `history`: rates
//! - `pages`: what each page says
//! - `html`: how it looks

mod config;
mod history;
mod html;
mod pages;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::component::{
    BuildExtension, Context, Kind, Readiness, RunningExtension, StartError, Task,
};
use crate::network::{self, Body, Protocol, Server, ServerSettings};
use crate::telemetry::Registry;
pub use config::Config;
use history::History;

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "zpages",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildExtension for Config {
    fn start(
        self: Box<Self>,
        context: Context,
        readiness: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let component = format!("extensions::{}", context.id);
            let listener = network::bind(&component, &self.endpoint).await?;
            let history = Arc::new(Mutex::new(History::default()));
            let sampling =
                tokio::spawn(sample(Arc::clone(&context.registry), Arc::clone(&history)));
            let settings = ServerSettings::of(Protocol::Http);
            let server = network::serve(listener, settings, move |request| {
                let history = history.lock().unwrap_or_else(PoisonError::into_inner);
                let view = pages::View {
                    registry: &context.registry,
                    history: &history,
                    is_ready: *readiness.borrow() == Readiness::Ready,
                };
                std::future::ready(answer(request.uri().path(), &view))
            });
            Ok(Box::new(Zpages { server, sampling }) as Box<dyn RunningExtension>)
        })
    }
}

struct Zpages {
    server: Server,
    sampling: JoinHandle<()>,
}

impl RunningExtension for Zpages {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        self.sampling.abort();
        let deadline = Instant::now() + Duration::from_millis(100);
        Box::pin(self.server.stop(deadline))
    }
}

async fn sample(registry: Arc<Registry>, history: Arc<Mutex<History>>) {
    let mut ticks = tokio::time::interval(history::PERIOD);
    loop {
        let now = ticks.tick().await;
        let families = registry.read();
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        history.add(now, families);
    }
}

fn answer(path: &str, view: &pages::View<'_>) -> Response<Body> {
    let mut response = Response::new(Body::default());
    match pages::render(path, view) {
        Some(page) => {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            *response.body_mut() = Body::new(Full::from(page));
        }
        None if path == "/debug" || path == "/debug/" => {
            let start = HeaderValue::from_static("/");
            response.headers_mut().insert(LOCATION, start);
            *response.status_mut() = StatusCode::FOUND;
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
