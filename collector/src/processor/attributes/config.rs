//! The keys of the `attributes` processor.
//!
//! In: its section. Out: edits, and which items they concern.
//! Invariant: at least one edit.
//!
//! | key | default | |
//! |---|---|---|
//! | `actions` | required | a list of actions, applied in order; their keys stand in [`crate::edit`] |
//! | `include` | everything | what to edit; its keys stand in [`crate::matching`] |
//! | `exclude` | nothing | what not to edit, of that |
//!
//! For metrics only `metric_names` and `resources` apply; otelcol accepts `resources` there and
//! ignores it, here it counts.

use crate::config::Section;
use crate::edit::{self, Edit};
use crate::matching::Choice;

/// A configured `attributes` processor.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do, in order.
    pub edits: Vec<Edit>,
    /// With which items.
    pub choice: Choice,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            edits: edit::read(section, "actions"),
            choice: Choice::read(section),
        }
    }
}
