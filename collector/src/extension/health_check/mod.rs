//! The `health_check` extension: says over HTTP whether the collector is ready.
//!
//! In: GET requests. Out: 200 while every receiver takes telemetry, otherwise 503.
//! Invariant: the answer comes from memory.

mod config;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::component::{
    BuildExtension, Context, Kind, Readiness, RunningExtension, StartError, Task,
};
use crate::network::{self, Body, Protocol, Server, ServerSettings};
pub use config::Config;

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
            let settings = ServerSettings::of(Protocol::Http);
            let server = network::serve(listener, settings, move |request| {
                let response = config.answer(request.uri().path(), *readiness.borrow(), since);
                std::future::ready(response)
            });
            Ok(Box::new(HealthCheck { server }) as Box<dyn RunningExtension>)
        })
    }
}

struct HealthCheck {
    server: Server,
}

impl RunningExtension for HealthCheck {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        Box::pin(
            self.server
                .stop(Instant::now() + Duration::from_millis(100)),
        )
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
        let (status, fixed) = match readiness {
            Readiness::Ready => (StatusCode::OK, &self.healthy),
            Readiness::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, &self.unhealthy),
        };
        let (kind, text) = match (fixed, readiness) {
            (Some(text), _) => ("text/plain", text.clone()),
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
    let uptime = since.elapsed().unwrap_or_default();
    let up_since = rfc3339(since.duration_since(UNIX_EPOCH).unwrap_or_default());
    let uptime = go_duration(uptime);
    format!(
        "{{\"status\":\"Server available\",\"upSince\":\"{up_since}\",\"uptime\":\"{uptime}\"}}"
    )
}

/// A time since the epoch as RFC 3339 in UTC, by the civil calendar.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
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
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(
            rfc3339(Duration::new(951_782_400, 5)),
            "2000-02-29T00:00:00.000000005Z"
        );
        assert_eq!(
            rfc3339(Duration::from_secs(1_767_225_599)),
            "2025-12-31T23:59:59.000000000Z"
        );
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(go_duration(Duration::from_secs(3723)), "1h2m3s");
    }

    #[test]
    fn a_path_matches_itself_and_a_folder_all_below_it() {
        let config = |path: &str| Config {
            endpoint: String::new(),
            path: path.to_owned(),
            healthy: None,
            unhealthy: None,
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
