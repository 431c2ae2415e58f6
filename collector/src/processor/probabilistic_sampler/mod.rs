//! The `probabilistic_sampler` processor: keeps a share of all traces, or of log records.
//!
//! In: a batch. Out: the batch with what was decided to be kept, each item saying how it was
//! sampled. Invariant: the decision depends on the id and the seed alone, so all spans of a trace
//! fare alike, in every collector, and as in otelcol's `hash_seed` mode.

mod config;
#[cfg(test)]
mod tests;
mod threshold;
mod trace_state;

use std::sync::{Arc, OnceLock};

use collector_otlp::pass::{Above, Level, Pass, Verdict};
use collector_otlp::{AnyValue, Record, Signal, wire};

use crate::component::{BuildProcessor, Context, Failure, Kind, Stage, StartError};
use crate::telemetry::{Counter, Registry};
use crate::walk::{BatchPass, Walker};
pub use config::{Config, Source};
use threshold::{ALWAYS, MISSING, NEVER};
use trace_state::TraceState;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "probabilistic_sampler",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// The numbers of the fields that are looked at.
const SPAN_TRACE_ID: u32 = 1;
const SPAN_TRACE_STATE: u32 = 3;
const LOG_TRACE_ID: u32 = 9;

/// The attributes of a log record that say how it was sampled.
const RANDOMNESS: &[u8] = b"sampling.randomness";
const THRESHOLD: &[u8] = b"sampling.threshold";

impl BuildProcessor for Config {
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError> {
        if signal == Signal::Metrics {
            return Err(StartError {
                component: format!("processors::{}", context.id),
                message: "metrics cannot be sampled; use this in pipelines of traces and logs"
                    .to_owned(),
            });
        }
        Ok(Stage::Walks(vec![Box::new(Sampler {
            threshold: threshold::of_percentage(self.percentage),
            config: self.clone(),
            registry: Arc::clone(&context.registry),
            counters: Default::default(),
        })]))
    }
}

struct Sampler {
    config: Config,
    threshold: u64,
    registry: Arc<Registry>,
    /// By policy, and by whether the item was kept; made when first needed.
    counters: [[OnceLock<Counter>; 2]; Policy::ALL.len()],
}

/// What an item was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    TraceId,
    Attribute,
    Missing,
    Priority,
}

impl Policy {
    const ALL: [Self; 4] = [
        Self::TraceId,
        Self::Attribute,
        Self::Missing,
        Self::Priority,
    ];
}

impl Walker for Sampler {
    fn pass<'a>(&'a self, signal: Signal) -> BatchPass<'a> {
        Box::new(Walk {
            sampler: self,
            signal,
            counts: Default::default(),
        })
    }
}

impl Sampler {
    fn counter(&self, signal: Signal, policy: Policy, kept: usize) -> &Counter {
        self.counters[policy as usize][kept].get_or_init(|| {
            let policy = match policy {
                Policy::TraceId => "trace_id_hash",
                Policy::Attribute => self.config.from_attribute.as_deref().unwrap_or_default(),
                Policy::Missing => "missing_randomness",
                Policy::Priority => "sampling_priority",
            };
            let sampled = if kept == 1 { "true" } else { "false" };
            let name = format!(
                "otelcol_processor_probabilistic_sampler_count_{}_sampled",
                signal.name()
            );
            let help = "Count of items that were sampled or not, per sampling policy";
            let labels = [("policy", policy), ("sampled", sampled)];
            self.registry.counter(&name, help, &labels)
        })
    }

    /// The threshold for an item about which nothing can be decided.
    fn undecided(&self) -> u64 {
        match self.config.fail_closed {
            true => NEVER,
            false => ALWAYS,
        }
    }
}

/// What is known about an item before its priority counts.
struct Decision {
    policy: Policy,
    randomness: u64,
    threshold: u64,
    /// Whether the item may say how it was sampled.
    says: bool,
}

struct Walk<'a> {
    sampler: &'a Sampler,
    signal: Signal,
    /// By policy, and by whether the item was kept.
    counts: [[u64; 2]; Policy::ALL.len()],
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        Level::Item
    }

    fn prunes(&self) -> bool {
        true
    }

    fn touches(&self) -> Level {
        Level::Item
    }

    fn done(&mut self, _: usize) {
        for (policy, row) in Policy::ALL.into_iter().zip(self.counts) {
            for (kept, count) in row.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                self.sampler.counter(self.signal, policy, kept).add(count);
            }
        }
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, Failure> {
        let (policy, kept) = match self.signal {
            Signal::Traces => self.sampler.span(item),
            _ => self.sampler.log(item),
        };
        self.counts[policy as usize][usize::from(kept)] += 1;
        Ok(match kept {
            true => Verdict::Keep,
            false => Verdict::Drop,
        })
    }
}

impl Sampler {
    /// Decides from what was hashed, if anything was, and from what the item says already.
    fn decide(&self, hashed: Option<(Policy, u64)>, sound: bool, sampled: bool) -> Decision {
        if self.threshold == NEVER {
            return Decision {
                policy: Policy::Priority,
                randomness: MISSING,
                threshold: NEVER,
                says: sound && !sampled,
            };
        }
        let (policy, randomness) = hashed.unwrap_or((Policy::Missing, MISSING));
        let says = sound && !sampled;
        let threshold = match hashed {
            Some(_) if says => self.threshold,
            _ => self.undecided(),
        };
        Decision {
            policy,
            randomness,
            threshold,
            says,
        }
    }

    fn span(&self, span: &mut Record<'_>) -> (Policy, bool) {
        let id = span.bytes(SPAN_TRACE_ID);
        let hashed =
            is_id(id).then(|| (Policy::TraceId, threshold::randomness(id, self.config.seed)));
        let text = String::from_utf8_lossy(span.bytes(SPAN_TRACE_STATE)).into_owned();
        let state = TraceState::parse(&text);
        let sampled = state.as_ref().is_some_and(|state| state.sampled);
        let mut decision = self.decide(hashed, state.is_some(), sampled);
        if let Some(priority) = span_priority(span) {
            decision.policy = Policy::Priority;
            decision.threshold = priority;
        }
        let kept = decision.threshold <= decision.randomness;
        if let (true, true, Some(state)) = (kept, decision.says, state) {
            let randomness = match self.threshold {
                NEVER => String::new(),
                _ => threshold::randomness_text(decision.randomness),
            };
            let written =
                state.written(&randomness, &threshold::threshold_text(decision.threshold));
            span.set_field(SPAN_TRACE_STATE, |out| {
                wire::write_bytes(out, SPAN_TRACE_STATE, written.as_bytes());
            });
        }
        (decision.policy, kept)
    }

    fn log(&self, record: &mut Record<'_>) -> (Policy, bool) {
        let id = record.bytes(LOG_TRACE_ID);
        let by_id = (self.config.source == Source::TraceId && is_id(id))
            .then(|| (Policy::TraceId, threshold::randomness(id, self.config.seed)));
        let hashed = by_id.or_else(|| self.by_attribute(record));
        let own = |key: &[u8], sound: fn(&str) -> bool| match record.attribute(key) {
            Some(AnyValue::String(text)) if !text.is_empty() => {
                Some(std::str::from_utf8(text).is_ok_and(sound))
            }
            _ => None,
        };
        let own = [
            own(RANDOMNESS, threshold::is_randomness),
            own(THRESHOLD, threshold::is_threshold),
        ];
        let sound = own.iter().flatten().all(|sound| *sound);
        let sampled = own.iter().flatten().next().is_some();
        let mut decision = self.decide(hashed, sound, sampled);
        if let Some(priority) = self.log_priority(record) {
            decision.policy = Policy::Priority;
            decision.threshold = priority;
        }
        let kept = decision.threshold <= decision.randomness;
        if kept && decision.says {
            if self.threshold != NEVER && hashed.is_some() {
                let text = threshold::randomness_text(decision.randomness);
                record.upsert(RANDOMNESS, |out| {
                    AnyValue::String(text.as_bytes()).write(out)
                });
            }
            let text = threshold::threshold_text(decision.threshold);
            record.upsert(THRESHOLD, |out| {
                AnyValue::String(text.as_bytes()).write(out)
            });
        }
        (decision.policy, kept)
    }

    fn by_attribute(&self, record: &Record<'_>) -> Option<(Policy, u64)> {
        let value = record.attribute(self.config.from_attribute.as_ref()?.as_bytes())?;
        let bytes = match value {
            AnyValue::Bytes(bytes) => bytes.into(),
            value => value.text(),
        };
        (!bytes.is_empty()).then(|| {
            (
                Policy::Attribute,
                threshold::randomness(&bytes, self.config.seed),
            )
        })
    }

    /// The threshold of the percentage that a log record asks for.
    fn log_priority(&self, record: &Record<'_>) -> Option<u64> {
        let percentage = match record.attribute(self.config.priority.as_ref()?.as_bytes())? {
            AnyValue::Double(number) => number,
            AnyValue::Int(number) => number as f64,
            _ => return None,
        };
        threshold::of_probability(percentage / 100.0, self.config.precision)
    }
}

/// Whether an id is there; one of zeros is none.
fn is_id(id: &[u8]) -> bool {
    id.iter().any(|byte| *byte != 0)
}

/// What the attribute `sampling.priority` of a span decides.
fn span_priority(span: &Record<'_>) -> Option<u64> {
    let priority = match span.attribute(b"sampling.priority")? {
        AnyValue::Int(number) => number as f64,
        AnyValue::Double(number) => number,
        AnyValue::String(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        _ => return None,
    };
    match priority {
        0.0 => Some(NEVER),
        positive if positive > 0.0 => Some(ALWAYS),
        _ => None,
    }
}
