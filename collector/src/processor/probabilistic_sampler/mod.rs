//! The `probabilistic_sampler` processor: keeps a share of all traces, or of log records.
//!
//! In: a batch. Out: the batch with what was decided to be kept, each item saying how it was
//! sampled. Invariant: the decision depends on the id, on what the item says of how it was sampled
//! before, and on the configuration, so that every collector decides alike, and as otelcol does.

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
pub use config::{Config, Mode, Source};
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
            way: Way::of(self),
            config: self.clone(),
            registry: Arc::clone(&context.registry),
            counters: Default::default(),
        })]))
    }
}

struct Sampler {
    config: Config,
    way: Way,
    registry: Arc<Registry>,
    /// By policy, and by whether the item was kept; made when first needed.
    counters: [[OnceLock<Counter>; 2]; Policy::ALL.len()],
}

/// How it is decided.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Nothing is kept but by priority.
    Never,
    /// With this threshold, by a hash.
    Hash(u64),
    /// With this threshold, or that of before where it is higher.
    Equalizing(u64),
    /// With so much of the probability of before.
    Proportional(f64),
}

impl Way {
    fn of(config: &Config) -> Self {
        let ratio = f64::from(config.percentage.min(100.0)) / 100.0;
        if ratio == 0.0 {
            return Self::Never;
        }
        match config.mode {
            Mode::Proportional => Self::Proportional(ratio),
            Mode::Equalizing => {
                let threshold = threshold::of_probability(ratio, config.precision);
                Self::Equalizing(threshold.unwrap_or(NEVER))
            }
            Mode::HashSeed => match threshold::of_percentage(config.percentage) {
                NEVER => Self::Never,
                threshold => Self::Hash(threshold),
            },
        }
    }
}

/// What an item was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    TraceId,
    W3c,
    Randomness,
    Attribute,
    Missing,
    Priority,
}

impl Policy {
    const ALL: [Self; 6] = [
        Self::TraceId,
        Self::W3c,
        Self::Randomness,
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
                Policy::W3c => "trace_id_w3c",
                Policy::Randomness => "sampling_randomness",
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

/// What an item says of how it was sampled.
#[derive(Clone, Copy, Default)]
struct Known {
    randomness: Option<u64>,
    threshold: Option<u64>,
}

/// What is decided about an item before its priority counts.
struct Decision {
    policy: Policy,
    randomness: u64,
    threshold: u64,
    /// Whether the item may say how it was sampled.
    says: bool,
    /// The threshold that it says already, and that it goes on saying if it is higher.
    before: Option<u64>,
}

impl Decision {
    /// What the item is to say, unless it says so already.
    fn new_threshold(&self) -> Option<String> {
        let stays = self.before.is_some_and(|before| before > self.threshold);
        (!stays).then(|| threshold::threshold_text(self.threshold))
    }
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
    /// Decides from the id, from what was hashed of the item, and from what it says already;
    /// nothing is `known` when that cannot be read.
    fn decide(&self, id: &[u8], hashed: Option<(Policy, u64)>, known: Option<Known>) -> Decision {
        let before = known.unwrap_or_default();
        let mut decision = Decision {
            policy: Policy::Missing,
            randomness: MISSING,
            threshold: self.undecided(),
            says: known.is_some(),
            before: before.threshold,
        };
        match self.way {
            Way::Never => {
                decision.policy = Policy::Priority;
                if known.is_some() {
                    decision.threshold = NEVER;
                }
            }
            Way::Hash(threshold) => {
                decision.says &= before.randomness.is_none() && before.threshold.is_none();
                if let Some((policy, randomness)) = hashed {
                    (decision.policy, decision.randomness) = (policy, randomness);
                    if decision.says {
                        decision.threshold = threshold;
                    }
                }
            }
            Way::Equalizing(_) | Way::Proportional(_) => {
                self.consistently(id, known, &mut decision)
            }
        }
        decision
    }

    /// Decides by the item's own randomness, as OpenTelemetry specifies consistent sampling.
    fn consistently(&self, id: &[u8], known: Option<Known>, decision: &mut Decision) {
        let Some(before) = known else { return };
        let of_id = || threshold::of_trace_id(id).filter(|_| is_id(id));
        let own = before.randomness.map(|own| (Policy::Randomness, own));
        let Some((policy, randomness)) = own.or_else(|| Some((Policy::W3c, of_id()?))) else {
            return;
        };
        (decision.policy, decision.randomness) = (policy, randomness);
        if before
            .threshold
            .is_some_and(|threshold| threshold > randomness)
        {
            // By what it says it would not be here, so that is not true.
            decision.before = None;
            return;
        }
        decision.threshold = match self.way {
            Way::Equalizing(threshold) => threshold.max(before.threshold.unwrap_or(ALWAYS)),
            Way::Proportional(ratio) => {
                let arriving = before.threshold.map_or(1.0, threshold::probability);
                threshold::of_probability(arriving * ratio, self.config.precision).unwrap_or(NEVER)
            }
            Way::Never | Way::Hash(_) => return,
        };
    }

    fn hashes(&self) -> bool {
        matches!(self.way, Way::Hash(_))
    }

    fn span(&self, span: &mut Record<'_>) -> (Policy, bool) {
        let id = span.bytes(SPAN_TRACE_ID);
        let hash = || (Policy::TraceId, threshold::randomness(id, self.config.seed));
        let hashed = (self.hashes() && is_id(id)).then(hash);
        let text = String::from_utf8_lossy(span.bytes(SPAN_TRACE_STATE)).into_owned();
        let state = TraceState::parse(&text);
        let known = state.as_ref().map(|state| Known {
            randomness: state.randomness.map(threshold::number),
            threshold: state.threshold.map(threshold::number),
        });
        let mut decision = self.decide(id, hashed, known);
        if let Some(priority) = span_priority(span) {
            decision.policy = Policy::Priority;
            decision.threshold = priority;
        }
        let kept = decision.threshold <= decision.randomness;
        if let (true, true, Some(state)) = (kept, decision.says, state) {
            let randomness = match self.hashes() {
                true => threshold::randomness_text(decision.randomness),
                false => state.randomness.unwrap_or_default().to_owned(),
            };
            let before = || state.threshold.unwrap_or_default().to_owned();
            let threshold = decision.new_threshold().unwrap_or_else(before);
            let written = state.written(&randomness, &threshold);
            if written != text {
                span.set_field(SPAN_TRACE_STATE, |out| {
                    wire::write_bytes(out, SPAN_TRACE_STATE, written.as_bytes());
                });
            }
        }
        (decision.policy, kept)
    }

    fn log(&self, record: &mut Record<'_>) -> (Policy, bool) {
        let id = record.bytes(LOG_TRACE_ID);
        let by_id = (self.config.source == Source::TraceId && is_id(id))
            .then(|| (Policy::TraceId, threshold::randomness(id, self.config.seed)));
        let hashed = by_id.or_else(|| self.by_attribute(record));
        let hashed = hashed.filter(|_| self.hashes());
        let mut decision = self.decide(id, hashed, known_of(record));
        if let Some(priority) = self.log_priority(record) {
            decision.policy = Policy::Priority;
            decision.threshold = priority;
        }
        let kept = decision.threshold <= decision.randomness;
        if kept && decision.says {
            if hashed.is_some() {
                let text = threshold::randomness_text(decision.randomness);
                record.upsert(RANDOMNESS, |out| {
                    AnyValue::String(text.as_bytes()).write(out)
                });
            }
            if let Some(text) = decision.new_threshold() {
                record.upsert(THRESHOLD, |out| {
                    AnyValue::String(text.as_bytes()).write(out)
                });
            }
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

/// What a log record says of how it was sampled; `None` when that cannot be read.
fn known_of(record: &Record<'_>) -> Option<Known> {
    let own = |key: &[u8], sound: fn(&str) -> bool| match record.attribute(key) {
        Some(AnyValue::String(text)) if !text.is_empty() => {
            let text = std::str::from_utf8(text).ok().filter(|text| sound(text))?;
            Some(Some(threshold::number(text)))
        }
        _ => Some(None),
    };
    Some(Known {
        randomness: own(RANDOMNESS, threshold::is_randomness)?,
        threshold: own(THRESHOLD, threshold::is_threshold)?,
    })
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
