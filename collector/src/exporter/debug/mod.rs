//! The `debug` exporter: batches for people to read.
//!
//! In: a batch. Out: at most two events in the collector's own log, or their lines elsewhere.
//! Invariant: it never fails.
//!
//! - `normal`, `detailed`: the text of a batch, as otelcol writes it
//! - `value`: values in it

mod config;
mod detailed;
mod normal;
#[cfg(test)]
mod tests;
mod value;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use collector_otlp::wire::{Fields, Value};
use collector_otlp::{Request, Signal};

use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::pipeline::SendingSettings;
use crate::telemetry::logs;
pub use config::{Config, Verbosity};

/// The row of this component.
pub const KIND: Kind<dyn BuildExporter> = Kind {
    name: "debug",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildExporter for Config {
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError> {
        let opened = self.outputs.iter().flatten().map(logs::open);
        let outputs = opened
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError {
                component: format!("exporters::{}", context.id),
                message: error.to_string(),
            })?;
        let now = Instant::now();
        let exporter = Arc::new(Debug {
            outputs: self.outputs.is_some().then(|| Mutex::new(outputs)),
            config: *self,
            id: context.id.to_string(),
            windows: Mutex::new([(now, 0); 3]),
        });
        Ok(BuiltExporter {
            exporter,
            sending: SendingSettings::default(),
        })
    }
}

struct Debug {
    config: Config,
    id: String,
    /// When the current second of each signal began, and how many batches it has had.
    windows: Mutex<[(Instant, u64); 3]>,
    /// Where to write instead of the collector's own log.
    outputs: Option<Mutex<Vec<Box<dyn Write + Send>>>>,
}

impl Exporter for Debug {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        if self.is_sampled(batch.request.signal()) {
            self.show(&batch.request);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Debug {
    fn is_sampled(&self, signal: Signal) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, count) = &mut windows[signal as usize];
        if begun.elapsed() >= Duration::from_secs(1) {
            (*begun, *count) = (Instant::now(), 0);
        }
        *count += 1;
        let beyond = count.saturating_sub(self.config.sampling_initial);
        let thereafter = self.config.sampling_thereafter;
        beyond == 0 || (thereafter > 0 && beyond.is_multiple_of(thereafter))
    }

    fn show(&self, request: &Request) {
        let (exporter, items) = (&self.id, request.items());
        let resources = count(request.bytes(), &[1]);
        let metrics = match request.signal() {
            Signal::Metrics => count(request.bytes(), &[1, 2, 2]),
            _ => 0,
        };
        let text = self.text(request);
        if let Some(outputs) = &self.outputs {
            let head = head(request.signal(), resources, metrics, items);
            let text = text.map(|text| text + "\n").unwrap_or_default();
            let mut outputs = outputs.lock().unwrap_or_else(PoisonError::into_inner);
            for output in &mut *outputs {
                // A closed pipe must not hold telemetry up.
                let _ = output.write_all(format!("{head}\n{text}").as_bytes());
            }
            return;
        }
        match request.signal() {
            Signal::Traces => {
                tracing::info!(%exporter, "resource spans" = resources, "spans" = items, "Traces");
            }
            Signal::Metrics => {
                tracing::info!(%exporter, "resource metrics" = resources, metrics, "data points" = items, "Metrics");
            }
            Signal::Logs => {
                tracing::info!(%exporter, "resource logs" = resources, "log records" = items, "Logs");
            }
        }
        if let Some(text) = text {
            tracing::info!(%exporter, "{text}");
        }
    }

    fn text(&self, request: &Request) -> Option<String> {
        let render = match self.config.verbosity {
            Verbosity::Basic => return None,
            Verbosity::Normal => normal::render,
            Verbosity::Detailed => detailed::render,
        };
        let json = serde_json::from_slice(&request.to_json().ok()?).ok()?;
        Some(render(request.signal(), &json))
    }
}

/// The counts as one line.
fn head(signal: Signal, resources: usize, metrics: usize, items: usize) -> String {
    match signal {
        Signal::Traces => {
            format!("Traces\t{{\"resource spans\": {resources}, \"spans\": {items}}}")
        }
        Signal::Metrics => format!(
            "Metrics\t{{\"resource metrics\": {resources}, \"metrics\": {metrics}, \"data points\": {items}}}"
        ),
        Signal::Logs => {
            format!("Logs\t{{\"resource logs\": {resources}, \"log records\": {items}}}")
        }
    }
}

/// How many messages there are at the end of a path of field numbers.
fn count(message: &[u8], path: &[u32]) -> usize {
    let Some((number, rest)) = path.split_first() else {
        return 1;
    };
    let fields = Fields::of(message).filter_map(Result::ok);
    let inner = fields.filter(|field| field.number == *number);
    inner
        .map(|field| match field.value {
            Value::Bytes(bytes) => count(bytes, rest),
            _ => 0,
        })
        .sum()
}
