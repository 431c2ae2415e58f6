//! The collector's own log.
//!
//! In: events from everywhere, and `service.telemetry.logs`. Out: lines on stderr, on stdout or
//! in files, and the last warnings and errors for those who look. Invariant: an output that fails
//! is passed over; what holds memory here is bounded.
//!
//! - `line`: the shape of a line
//! - `recent`: the last warnings and errors
//! - `sampling`: how often the same message is shown

mod line;
mod recent;
mod sampling;

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogEncoding, LogOutput, LogsConfig, Telemetry};
use line::Fields;
pub use recent::{Recent, recent};
use sampling::Sampler;

/// How the process logs at this moment; `None` until [`start`] was called.
static STATE: RwLock<Option<Arc<State>>> = RwLock::new(None);

/// The level of [`STATE`], as 0 for nothing to 5 for everything.
static LEVEL: AtomicU8 = AtomicU8::new(0);

struct State {
    encoding: LogEncoding,
    /// What stands in every line, as it is written there.
    constant: Vec<(String, serde_json::Value)>,
    sampler: Option<Sampler>,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
}

/// Starts logging for the whole process, or goes on as another configuration says; files are
/// opened again, so that those that were renamed are left alone.
pub fn start(config: &Telemetry) -> io::Result<()> {
    let LogsConfig {
        level,
        encoding,
        outputs,
        initial_fields,
        sampling,
        shows_resource,
    } = &config.logs;
    let mut constant = Vec::new();
    let shown = config.resource.iter().filter(|_| *shows_resource);
    let resource: serde_json::Map<_, _> = shown
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?.into())))
        .collect();
    if !resource.is_empty() {
        constant.push(("resource".to_owned(), resource.into()));
    }
    constant.extend(initial_fields.iter().cloned());
    let opened: io::Result<Vec<_>> = outputs.iter().map(open).collect();
    let state = State {
        encoding: *encoding,
        constant,
        sampler: sampling.map(Sampler::of),
        outputs: Mutex::new(opened?),
    };
    *STATE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(state));
    LEVEL.store(rank(*level), Ordering::Relaxed);
    let subscriber = Registry::default().with(Log);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        // Logging was started before; events that were off may be on now.
        tracing::callsite::rebuild_interest_cache();
    }
    Ok(())
}

/// Opens what lines are written to.
pub fn open(output: &LogOutput) -> io::Result<Box<dyn Write + Send>> {
    Ok(match output {
        LogOutput::Stderr => Box::new(io::stderr()),
        LogOutput::Stdout => Box::new(io::stdout()),
        LogOutput::File(path) => {
            let file = File::options().create(true).append(true).open(path);
            let named = |error: io::Error| {
                let message = format!("cannot write {}: {error}", path.display());
                io::Error::new(error.kind(), message)
            };
            Box::new(file.map_err(named)?)
        }
    })
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Takes every event of the process.
struct Log;

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = *metadata.level();
        // What libraries say below info is about them, not about telemetry.
        let is_own = metadata.target().starts_with("collector");
        rank(level) <= LEVEL.load(Ordering::Relaxed) && (is_own || level <= Level::INFO)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let state = STATE.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(state) = state else { return };
        let (level, now) = (*event.metadata().level(), SystemTime::now());
        let fields = Fields::of(event);
        if level <= Level::WARN || fields.tells_of_failure() {
            recent::keep(level, now, &fields);
        }
        let sampler = state.sampler.as_ref().filter(|_| level > Level::ERROR);
        if sampler.is_some_and(|sampler| !sampler.shows(level, &fields.message)) {
            return;
        }
        let line = line::write(state.encoding, level, now, &fields, &state.constant);
        let mut outputs = state.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in &mut *outputs {
            // A full disk or a closed pipe must not end what is logged about.
            let _ = output.write_all(line.as_bytes());
        }
    }
}
