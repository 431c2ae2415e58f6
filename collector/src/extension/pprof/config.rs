//! The keys of the `pprof` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: none beyond the types.
//!
//! | key | default | |
//! |---|---|---|
//! | `endpoint` | `localhost:1777` | |
//! | `save_to_file` | none | a profile of the whole run, written when the collector stops |
//!
//! Accepted without effect: `block_profile_fraction` and `mutex_profile_fraction`, which tune a
//! Go program. Not supported yet, and refused: `dialer`.

use std::path::PathBuf;

use crate::config::Section;

/// A configured `pprof` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub endpoint: String,
    /// Where a profile of the whole run goes.
    pub save_to_file: Option<PathBuf>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["dialer"]);
        section.number("block_profile_fraction");
        section.number("mutex_profile_fraction");
        let file = section.text("save_to_file");
        Self {
            endpoint: section
                .text("endpoint")
                .unwrap_or_else(|| "localhost:1777".to_owned()),
            save_to_file: file.filter(|file| !file.is_empty()).map(PathBuf::from),
        }
    }
}
