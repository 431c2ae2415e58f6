//! The `resource` processor: edits the attributes of every resource.
//!
//! In: a batch. Out: the batch with only its Resource messages rewritten.
//! Invariant: everything outside of the resources' attributes stays byte for byte.

mod config;

use collector_otlp::edit::Edit;
use collector_otlp::{Request, Signal};

use crate::component::{BuildProcessor, Context, Failure, Kind, Processor, Stage, StartError};
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
        batch
            .edit_resources(&self.edits)
            .map_err(|error| Failure::permanent(error.to_string()))
    }
}
