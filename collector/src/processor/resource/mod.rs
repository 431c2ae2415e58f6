//! The `resource` processor: edits the attributes of every resource.
//!
//! In: a batch. Out: the batch with only its Resource messages rewritten.
//! Invariant: everything outside of the resources' attributes stays byte for byte, and a batch
//! whose resources need no change is passed on as it is.

mod config;

use collector_otlp::pass::{self, Level, Pass, Verdict};
use collector_otlp::{Record, Request, Signal, WireError};

use crate::component::{BuildProcessor, Context, Failure, Kind, Processor, Stage, StartError};
use crate::edit::{self, Edit};
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "resource",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildProcessor for Config {
    fn build(&self, _: &Context, _: Signal) -> Result<Stage, StartError> {
        Ok(Stage::Function(Box::new(Resource {
            edits: self.edits.clone(),
        })))
    }
}

struct Resource {
    edits: Vec<Edit>,
}

impl Processor for Resource {
    fn process(&self, batch: Request) -> Result<Request, Failure> {
        Ok(batch
            .apply(|signal, source| pass::run(&mut Walk { edits: &self.edits }, signal, source))?)
    }
}

struct Walk<'a> {
    edits: &'a [Edit],
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Resource
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, WireError> {
        edit::apply(self.edits, resource);
        Ok(Verdict::Keep)
    }
}
