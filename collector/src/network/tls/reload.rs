//! Something made from files, made again when they may have changed.
//!
//! In: a way to make it. Out: the newest that could be made.
//! Invariant: whoever asks gets one at once; a failure is logged and the old one stays.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::files::Pem;

/// Makes the thing, or says what is wrong with its files.
type Make<T> = dyn Fn() -> Result<Arc<T>, String> + Send + Sync;

/// Something that is made again when it is older than its interval, or when a file changes.
pub(super) struct Reloading<T> {
    make: Box<Make<T>>,
    interval: Option<Duration>,
    watched: Option<Pem>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    made: Instant,
    modified: Option<SystemTime>,
}

impl<T> Reloading<T> {
    /// Makes it for the first time, which must succeed.
    pub(super) fn start(
        make: impl Fn() -> Result<Arc<T>, String> + Send + Sync + 'static,
        interval: Option<Duration>,
        watched: Option<Pem>,
    ) -> Result<Self, String> {
        let state = Mutex::new(State {
            current: make()?,
            made: Instant::now(),
            modified: watched.as_ref().and_then(Pem::modified),
        });
        Ok(Self {
            make: Box::new(make),
            interval,
            watched,
            state,
        })
    }

    /// The newest.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self
            .interval
            .is_some_and(|interval| state.made.elapsed() >= interval);
        let modified = self.watched.as_ref().and_then(Pem::modified);
        if old || modified != state.modified {
            match (self.make)() {
                Ok(made) => state.current = made,
                Err(reason) => {
                    tracing::warn!(%reason, "certificates could not be read again; the old ones stay");
                }
            }
            state.made = Instant::now();
            state.modified = modified;
        }
        Arc::clone(&state.current)
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "made again every {:?}", self.interval)
    }
}
