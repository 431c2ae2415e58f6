//! The `health_check` extension: says over HTTP whether the collector is ready.
//!
//! In: GET requests. Out: 200 while every receiver takes telemetry and, if that is asked for,
//! exporters give little up; otherwise 503.
//! Invariant: the answer comes from memory.

mod config;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::component::{
    BuildExtension, Context, Kind, Readiness, RunningExtension, StartError, Task,
};
use crate::network::{self, Body, Protocol, Server, ServerSettings};
use crate::telemetry::Registry;
pub use config::{Config, PipelineCheck, Texts};

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "health_check",
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
            let (config, since) = (Arc::new(*self), SystemTime::now());
            let failing = Arc::new(AtomicBool::new(false));
            let checking = config.pipeline_check.map(|check| {
                let failing = Arc::clone(&failing);
                tokio::spawn(watch_exporters(context.registry, check, failing))
            });
            let settings = ServerSettings::of(Protocol::Http);
            let server = network::serve(listener, settings, move |request| {
                let state = match *readiness.borrow() {
                    Readiness::Ready if failing.load(Ordering::Relaxed) => Readiness::Unavailable,
                    state => state,
                };
                let response = config.answer(request.uri().path(), state, since);
                std::future::ready(response)
            });
            Ok(Box::new(HealthCheck { server, checking }) as Box<dyn RunningExtension>)
        })
    }
}

struct HealthCheck {
    server: Server,
    checking: Option<JoinHandle<()>>,
}

impl RunningExtension for HealthCheck {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        if let Some(checking) = &self.checking {
            checking.abort();
        }
        Box::pin(
            self.server
                .stop(Instant::now() + Duration::from_millis(100)),
        )
    }
}

/// Looks every second whether exporters gave something up.
async fn watch_exporters(registry: Arc<Registry>, check: PipelineCheck, failing: Arc<AtomicBool>) {
    let total = || registry.total("otelcol_exporter_send_failed_");
    let (mut last, mut failures) = (total(), Failures::default());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        let now = ticks.tick().await;
        let grown = total();
        let is_failing = failures.count(now, grown > last, check);
        last = grown;
        if failing.swap(is_failing, Ordering::Relaxed) != is_failing {
            tracing::warn!(
                failing = is_failing,
                "what exporters give up changed the health"
            );
        }
    }
}

/// The seconds in which something was given up; as many as an interval has.
#[derive(Default)]
struct Failures(VecDeque<Instant>);

impl Failures {
    fn count(&mut self, now: Instant, failed: bool, check: PipelineCheck) -> bool {
        if failed {
            self.0.push_back(now);
        }
        while let Some(first) = self.0.front()
            && now.duration_since(*first) >= check.interval
        {
            self.0.pop_front();
        }
        self.0.len() > check.threshold
    }
}

impl Config {
    fn answer(&self, path: &str, readiness: Readiness, since: SystemTime) -> Response<Body> {
        let below = self.path.ends_with('/') && path.starts_with(&self.path);
        if path != self.path && !below {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        let status = match readiness {
            Readiness::Ready => StatusCode::OK,
            Readiness::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (kind, text) = match (&self.body, readiness) {
            (Some(texts), Readiness::Ready) => ("text/plain; charset=utf-8", texts.healthy.clone()),
            (Some(texts), Readiness::Unavailable) => {
                ("text/plain; charset=utf-8", texts.unhealthy.clone())
            }
            (None, Readiness::Ready) => ("application/json", available(since)),
            (None, Readiness::Unavailable) => (
                "application/json",
                r#"{"status":"Server not available","upSince":"0001-01-01T00:00:00Z","uptime":""}"#
                    .to_owned(),
            ),
        };
        let mut response = Response::new(Body::new(Full::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

fn available(since: SystemTime) -> String {
    let uptime = go_duration(since.elapsed().unwrap_or_default());
    let up_since = jiff::Timestamp::try_from(since).unwrap_or_default();
    format!(
        "{{\"status\":\"Server available\",\"upSince\":\"{up_since}\",\"uptime\":\"{uptime}\"}}"
    )
}

/// A duration as Go prints it: `1h2m3.5s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = (duration - Duration::from_secs(seconds - seconds % 60)).as_secs_f64();
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(go_duration(Duration::from_secs(3723)), "1h2m3s");
        let since = UNIX_EPOCH + Duration::new(951_782_400, 5);
        assert!(available(since).contains("\"2000-02-29T00:00:00.000000005Z\""));
    }

    #[test]
    fn more_failures_than_allowed_within_the_interval_are_unhealthy() {
        let check = PipelineCheck {
            interval: Duration::from_secs(10),
            threshold: 2,
        };
        let (start, mut failures) = (Instant::now(), Failures::default());
        let mut count =
            |second, failed| failures.count(start + Duration::from_secs(second), failed, check);
        assert!(!count(0, true) && !count(1, true));
        assert!(count(2, true) && count(9, false));
        assert!(!count(10, false));
    }

    #[test]
    fn a_path_matches_itself_and_a_folder_all_below_it() {
        let config = |path: &str| Config {
            endpoint: String::new(),
            path: path.to_owned(),
            body: None,
            pipeline_check: None,
        };
        let status = |path: &str, asked: &str, readiness| {
            config(path)
                .answer(asked, readiness, SystemTime::now())
                .status()
                .as_u16()
        };
        assert_eq!(status("/", "/any/thing", Readiness::Ready), 200);
        assert_eq!(status("/health", "/health", Readiness::Ready), 200);
        assert_eq!(status("/health", "/", Readiness::Ready), 404);
        assert_eq!(status("/health", "/health", Readiness::Unavailable), 503);
    }
}
