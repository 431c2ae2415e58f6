//! The `filter` processor: drops spans, span events, log records, metrics and data points.
//!
//! In: a batch. Out: the batch without what its conditions match, and without the metrics, scopes
//! and resources that are empty then. Invariant: what stays, stays byte for byte.

mod config;
#[cfg(test)]
mod tests;

use collector_otlp::pass::{Above, Level, Pass, Verdict};
use collector_otlp::{Record, Signal};

use crate::component::{BuildProcessor, Context, Failure, Kind, Stage, StartError};
use crate::matching::all_match;
use crate::ottl::{Conditions, ErrorMode, Setting, View};
use crate::telemetry::Counter;
use crate::walk::{BatchPass, Walker};
pub use config::{Config, Rules};

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "filter",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildProcessor for Config {
    fn build(&self, context: &Context, signal: Signal) -> Result<Stage, StartError> {
        let (rules, items) = match signal {
            Signal::Traces => (&self.traces, "spans"),
            Signal::Metrics => (&self.metrics, "datapoints"),
            Signal::Logs => (&self.logs, "logs"),
        };
        if let Some(fault) = rules.choice.fault(signal) {
            return Err(StartError {
                component: format!("processors::{}", context.id),
                message: format!("in a pipeline of {}: {fault}", signal.name()),
            });
        }
        if rules.is_empty() {
            return Ok(Stage::Walks(Vec::new()));
        }
        let name = format!("otelcol_processor_filter_{items}_filtered");
        let id = context.id.to_string();
        let help = "Number of items dropped by the filter processor";
        Ok(Stage::Walks(vec![Box::new(Filter {
            rules: rules.clone(),
            error_mode: self.error_mode,
            dropped: context.registry.counter(&name, help, &[("filter", &id)]),
        })]))
    }
}

struct Filter {
    rules: Rules,
    error_mode: ErrorMode,
    dropped: Counter,
}

impl Walker for Filter {
    fn pass<'a>(&'a self, signal: Signal) -> BatchPass<'a> {
        Box::new(Walk {
            filter: self,
            signal,
        })
    }
}

struct Walk<'a> {
    filter: &'a Filter,
    signal: Signal,
}

impl Walk<'_> {
    fn verdict(
        &self,
        conditions: &Conditions,
        setting: Setting<'_>,
        record: &Record<'_>,
    ) -> Result<Verdict, Failure> {
        if conditions.is_empty() {
            return Ok(Verdict::Keep);
        }
        let view = View::of(setting, record);
        Ok(match conditions.any(&view, self.filter.error_mode)? {
            true => Verdict::Drop,
            false => Verdict::Keep,
        })
    }

    /// For spans, log records and metrics, which the older form can choose too.
    fn child(&self, above: &Above<'_, '_>, record: &Record<'_>) -> Result<Verdict, Failure> {
        let rules = &self.filter.rules;
        if !rules.choice.is_everything() && !rules.choice.takes(self.signal, above, record) {
            return Ok(Verdict::Drop);
        }
        self.verdict(&rules.child, Setting::of(above), record)
    }
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        let rules = &self.filter.rules;
        let children = !rules.child.is_empty() || !rules.choice.is_everything();
        match self.signal {
            Signal::Traces if !rules.inner.is_empty() => Level::Event,
            Signal::Metrics if !rules.inner.is_empty() => Level::Item,
            Signal::Metrics if children => Level::Metric,
            Signal::Traces | Signal::Logs if children => Level::Item,
            _ => Level::Resource,
        }
    }

    fn prunes(&self) -> bool {
        true
    }

    fn touches(&self) -> Level {
        let rules = &self.filter.rules;
        let children = !rules.child.is_empty() || !rules.choice.is_everything();
        match self.signal {
            _ if !rules.without.is_empty() || !rules.resource.is_empty() => Level::Resource,
            Signal::Metrics if children => Level::Metric,
            _ => Level::Item,
        }
    }

    fn done(&mut self, dropped: usize) {
        self.filter.dropped.add(dropped as u64);
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, Failure> {
        let rules = &self.filter.rules;
        if !rules.without.is_empty() && all_match(&rules.without, resource) {
            return Ok(Verdict::Drop);
        }
        self.verdict(&rules.resource, Setting::default(), resource)
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, Failure> {
        self.child(above, metric)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, Failure> {
        match self.signal {
            Signal::Metrics => self.verdict(&self.filter.rules.inner, Setting::of(above), item),
            _ => self.child(above, item),
        }
    }

    fn event(&mut self, above: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.verdict(&self.filter.rules.inner, Setting::of(above), event)
    }
}
