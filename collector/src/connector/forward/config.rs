//! The keys of the `forward` connector: it has none.
//!
//! In: its section. Out: [`Config`]. Invariant: a key that is there all the same is an error.

use crate::config::Section;

/// A configured `forward` connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config;

impl Config {
    /// Reads the section.
    pub fn read(_: &Section<'_>) -> Self {
        Self
    }
}
