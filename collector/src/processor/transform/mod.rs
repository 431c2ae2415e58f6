//! The `transform` processor: does OTTL statements.
//!
//! In: a batch. Out: the batch with only those messages rewritten that a statement changed.
//! Invariant: groups act in the order in which they are written.

mod config;
#[cfg(test)]
mod tests;

use collector_otlp::pass::{Above, Level, Pass, Verdict};
use collector_otlp::{Record, Signal};

use crate::component::{BuildProcessor, Context, Failure, Kind, Stage, StartError};
use crate::ottl::{self, Setting, View};
use crate::walk::{BatchPass, Walker};
pub use config::{Config, Group};

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "transform",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildProcessor for Config {
    fn build(&self, _: &Context, signal: Signal) -> Result<Stage, StartError> {
        let groups = match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        };
        let walks = walks(groups).into_iter();
        let walkers = walks.map(|groups| Box::new(Transform { groups }) as Box<dyn Walker>);
        Ok(Stage::Walks(walkers.collect()))
    }
}

/// Groups that can act in one walk: each level's come before those of the levels below.
fn walks(groups: &[Group]) -> Vec<Vec<Group>> {
    let mut walks: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        match walks.last_mut() {
            Some(walk) if walk.last().is_some_and(|last| level(last) <= level(group)) => {
                walk.push(group.clone());
            }
            _ => walks.push(vec![group.clone()]),
        }
    }
    walks
}

fn level(group: &Group) -> Level {
    match group.context {
        ottl::Context::Resource => Level::Resource,
        ottl::Context::Scope => Level::Scope,
        ottl::Context::Metric => Level::Metric,
        ottl::Context::Span | ottl::Context::Log | ottl::Context::DataPoint => Level::Item,
        ottl::Context::SpanEvent => Level::Event,
    }
}

/// Groups that act in one walk.
struct Transform {
    groups: Vec<Group>,
}

impl Walker for Transform {
    fn pass<'a>(&'a self, _: Signal) -> BatchPass<'a> {
        Box::new(Walk {
            groups: &self.groups,
        })
    }
}

struct Walk<'a> {
    groups: &'a [Group],
}

impl<'a> Walk<'a> {
    fn run(
        &self,
        wanted: Level,
        setting: Setting<'_>,
        record: &mut Record<'a>,
    ) -> Result<Verdict, Failure> {
        for group in self.groups.iter().filter(|group| level(group) == wanted) {
            let mode = group.error_mode;
            if group.conditions.is_empty()
                || group.conditions.any(&View::of(setting, record), mode)?
            {
                group.statements.run(record, setting, mode)?;
            }
        }
        Ok(Verdict::Keep)
    }
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        self.groups
            .iter()
            .map(level)
            .max()
            .unwrap_or(Level::Resource)
    }

    fn touches(&self) -> Level {
        let levels = self.groups.iter().map(level);
        levels.min().unwrap_or(Level::Event)
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.run(Level::Resource, Setting::default(), resource)
    }

    fn scope(&mut self, resource: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.run(Level::Scope, Setting::in_resource(resource), scope)
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, Failure> {
        self.run(Level::Metric, Setting::of(above), metric)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.run(Level::Item, Setting::of(above), item)
    }

    fn event(&mut self, above: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.run(Level::Event, Setting::of(above), event)
    }
}
