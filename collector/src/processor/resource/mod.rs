//! The `resource` processor: edits the attributes of every resource.
//!
//! In: a batch. Out: the batch with only its Resource messages rewritten.
//! Invariant: everything outside of the resources' attributes stays byte for byte, and a batch
//! whose resources need no change is passed on as it is.

mod config;

use collector_otlp::pass::{Level, Pass, Verdict};
use collector_otlp::{Record, Signal};

use crate::component::{BuildProcessor, Context, Failure, Kind, Stage, StartError};
use crate::edit::{self, Edit};
use crate::walk::{BatchPass, Walker};
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildProcessor> = Kind {
    name: "resource",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildProcessor for Config {
    fn build(&self, _: &Context, _: Signal) -> Result<Stage, StartError> {
        Ok(Stage::Walks(vec![Box::new(Resource {
            edits: self.edits.clone(),
        })]))
    }
}

struct Resource {
    edits: Vec<Edit>,
}

impl Walker for Resource {
    fn pass<'a>(&'a self, _: Signal) -> BatchPass<'a> {
        Box::new(Walk { edits: &self.edits })
    }
}

struct Walk<'a> {
    edits: &'a [Edit],
}

impl<'a> Pass<'a> for Walk<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        Level::Resource
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, Failure> {
        edit::apply(self.edits, resource);
        Ok(Verdict::Keep)
    }
}
