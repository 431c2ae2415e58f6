//! The `attributes` processor: edits the attributes of spans, log records and data points.
//!
//! In: a batch. Out: the batch with only those items rewritten whose attributes changed.
//! Invariant: an item that `include` and `exclude` do not choose stays byte for byte.

mod config;

use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::{Record, Request, Signal, WireError};

use crate::component::{BuildProcessor, Context, Failure, Kind, Processor, Stage, StartError};
use crate::edit;
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "attributes",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildProcessor for Config {
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError> {
        if let Some(fault) = self.choice.fault(signal) {
            return Err(StartError {
                component: format!("processors::{}", context.id),
                message: format!("in a pipeline of {}: {fault}", signal.name()),
            });
        }
        Ok(Stage::Function(Box::new(Attributes {
            config: self.clone(),
        })))
    }
}

struct Attributes {
    config: Config,
}

impl Processor for Attributes {
    fn process(&self, batch: Request) -> Result<Request, Failure> {
        let chosen = self.config.choice.is_everything();
        Ok(batch.apply(|signal, source| {
            let mut walk = Walk {
                config: &self.config,
                signal,
                chosen,
            };
            pass::run(&mut walk, signal, source)
        })?)
    }
}

struct Walk<'a> {
    config: &'a Config,
    signal: Signal,
    /// Whether items are edited without a further look: all of them, or those of this metric.
    chosen: bool,
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, WireError> {
        self.chosen = self.config.choice.takes(self.signal, above, metric);
        Ok(Verdict::Keep)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        let chosen = match self.signal {
            Signal::Metrics => self.chosen,
            _ => self.chosen || self.config.choice.takes(self.signal, above, item),
        };
        if chosen {
            edit::apply(&self.config.edits, item);
        }
        Ok(Verdict::Keep)
    }
}
