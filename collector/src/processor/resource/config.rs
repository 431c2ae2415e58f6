//! The keys of the `resource` processor.
//!
//! In: its section. Out: edits to the attributes of every resource.
//! Invariant: at least one edit.
//!
//! | key | default | |
//! |---|---|---|
//! | `attributes` | required | a list of actions, applied in order |
//!
//! The keys of an action stand in [`crate::edit`], where the `attributes` processor has them too.

use crate::config::Section;
use crate::edit::{self, Edit};

/// A configured `resource` processor.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do, in order.
    pub edits: Vec<Edit>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            edits: edit::read(section, "attributes"),
        }
    }
}
