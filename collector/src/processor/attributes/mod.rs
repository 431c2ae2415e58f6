//! The `attributes` processor: edits the attributes of spans, log records and data points.
//!
//! In: a batch. Out: the batch with only those items rewritten whose attributes changed.
//! Invariant: an item that `include` and `exclude` do not choose stays byte for byte.

mod config;

use collector_otlp::pass::{Above, Level, Pass, Verdict};
use collector_otlp::{Record, Signal};

use crate::component::{BuildProcessor, Context, Failure, Kind, Stage, StartError};
use crate::edit;
use crate::walk::{BatchPass, Walker};
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
        Ok(Stage::Walks(vec![Box::new(Attributes {
            config: self.clone(),
        })]))
    }
}

struct Attributes {
    config: Config,
}

impl Walker for Attributes {
    fn pass<'a>(&'a self, signal: Signal) -> BatchPass<'a> {
        Box::new(Walk {
            config: &self.config,
            signal,
            chosen: self.config.choice.is_everything(),
        })
    }
}

struct Walk<'a> {
    config: &'a Config,
    signal: Signal,
    /// Whether items are edited without a further look: all of them, or those of this metric.
    chosen: bool,
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        Level::Item
    }

    fn touches(&self) -> Level {
        Level::Item
    }

    fn looks_up(&self) -> bool {
        !self.config.choice.is_everything()
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, Failure> {
        self.chosen = self.config.choice.takes(self.signal, above, metric);
        Ok(Verdict::Keep)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, Failure> {
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
