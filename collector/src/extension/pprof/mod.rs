//! The `pprof` extension: profiles for `go tool pprof`.
//!
//! In: GET requests below `/debug/pprof/`. Out: what each thread worked on the CPU meanwhile; 501
//! and the reason for what only a Go program can tell.
//! Invariant: nothing is changed about how the program runs, and nothing in it is interrupted.
//!
//! A profile names threads and not functions. Names of functions need a signal handler that walks
//! the stack of whatever it interrupts, and those have deadlocked and crashed programs: a price
//! that a collector must not pay for being looked at. `perf record -p PID` shows functions from
//! the outside.

mod config;
mod profile;
mod threads;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::component::{
    BuildExtension, Context, Kind, Readiness, RunningExtension, StartError, Task,
};
use crate::network::{self, Body, Protocol, Server, ServerSettings};
pub use config::Config;
use threads::Snapshot;

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "pprof",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// How long a profile is taken unless the request says otherwise.
const PROFILE_TIME: Duration = Duration::from_secs(30);

/// How long it may be taken at most, in seconds.
const PROFILE_LONGEST: u64 = 600;

/// The profiles of a Go program, and why there is none of them.
const ABSENT: [(&str, &str); 8] = [
    (
        "allocs",
        "allocations are not counted by where they are made",
    ),
    ("block", "waiting costs nothing here, and is not recorded"),
    ("goroutine", "there are no goroutines here"),
    (
        "heap",
        "the allocator does not record who holds memory; see otelcol_process_memory_rss",
    ),
    ("mutex", "contention is not recorded"),
    ("symbol", "profiles bear their names already"),
    ("threadcreate", "threads are made at start only"),
    ("trace", "there is no scheduler's trace here"),
];

/// The page that names what there is.
const INDEX: &str = "/debug/pprof/profile?seconds=30  what each thread works on the CPU: \
    go tool pprof -top http://…\n/debug/pprof/cmdline  the command line\n";

impl BuildExtension for Config {
    fn start(
        self: Box<Self>,
        context: Context,
        _: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let component = format!("extensions::{}", context.id);
            let listener = network::bind(&component, &self.endpoint).await?;
            let settings = ServerSettings::of(Protocol::Http);
            let server = network::serve(listener, settings, |request| {
                let uri = request.uri().clone();
                async move { answer(uri.path(), uri.query().unwrap_or_default()).await }
            });
            let saving = self.save_to_file.map(|path| (path, Recording::start()));
            Ok(Box::new(Pprof { server, saving }) as Box<dyn RunningExtension>)
        })
    }
}

struct Pprof {
    server: Server,
    saving: Option<(PathBuf, Recording)>,
}

impl RunningExtension for Pprof {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        if let Some((path, recording)) = &self.saving {
            save(path, recording);
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        Box::pin(self.server.stop(deadline))
    }
}

fn save(path: &Path, recording: &Recording) {
    let written = recording
        .profile()
        .and_then(|profile| std::fs::write(path, profile));
    if let Err(error) = written {
        tracing::error!(path = %path.display(), %error, "the profile cannot be written");
    }
}

/// A profile that is being taken.
struct Recording {
    begun: SystemTime,
    since: Instant,
    first: Snapshot,
}

impl Recording {
    fn start() -> Self {
        Self {
            begun: SystemTime::now(),
            since: Instant::now(),
            first: Snapshot::take(),
        }
    }

    fn profile(&self) -> std::io::Result<Vec<u8>> {
        let shares = Snapshot::take().since(&self.first);
        profile::write(&shares, self.begun, self.since.elapsed())
    }
}

async fn answer(path: &str, query: &str) -> Response<Body> {
    let name = match path.strip_prefix("/debug/pprof") {
        None => return text(StatusCode::NOT_FOUND, "see /debug/pprof/\n"),
        Some(rest) => rest.trim_matches('/'),
    };
    if let Some((_, why)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return text(StatusCode::NOT_IMPLEMENTED, &format!("{name}: {why}\n"));
    }
    match name {
        "" => text(StatusCode::OK, INDEX),
        "cmdline" => {
            let arguments = std::env::args_os();
            let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
            text(StatusCode::OK, &arguments.collect::<Vec<_>>().join("\0"))
        }
        "profile" => match seconds(query) {
            Some(time) => taken(time).await,
            None => {
                let asked = format!("seconds must be from 1 to {PROFILE_LONGEST}\n");
                text(StatusCode::BAD_REQUEST, &asked)
            }
        },
        _ => text(StatusCode::NOT_FOUND, "Unknown profile\n"),
    }
}

/// How long a profile is asked for.
fn seconds(query: &str) -> Option<Duration> {
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("seconds="));
    let Some(asked) = asked else {
        return Some(PROFILE_TIME);
    };
    let seconds = asked.parse().ok()?;
    (1..=PROFILE_LONGEST)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

async fn taken(time: Duration) -> Response<Body> {
    let recording = Recording::start();
    tokio::time::sleep(time).await;
    let profile = match recording.profile() {
        Ok(profile) => profile,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    };
    let mut response = Response::new(Body::new(Full::from(profile)));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, kind);
    let file = HeaderValue::from_static("attachment; filename=\"profile\"");
    headers.insert(CONTENT_DISPOSITION, file);
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(text.to_owned())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_takes_as_long_as_it_is_asked_for() {
        let whole = Duration::from_secs;
        assert_eq!(seconds(""), Some(PROFILE_TIME));
        assert_eq!(seconds("debug=1&seconds=5"), Some(whole(5)));
        assert_eq!(seconds("seconds=600"), Some(whole(600)));
        for refused in ["seconds=0", "seconds=601", "seconds=-1", "seconds=a"] {
            assert_eq!(seconds(refused), None, "{refused}");
        }
    }
}
