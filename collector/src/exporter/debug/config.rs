//! The keys of the `debug` exporter.
//!
//! In: its section. Out: [`Config`]. Invariant: none beyond the types.
//!
//! | key | default | |
//! |---|---|---|
//! | `verbosity` | `basic` | `basic`: counts; `normal` and `detailed`: the batch as JSON too |
//! | `sampling_initial` | `2` | messages in each second that are all shown |
//! | `sampling_thereafter` | `1` | after those, one in so many; `0` none |
//! | `use_internal_logger` | `true` | only `true` |
//!
//! Not supported yet, and refused: `output_paths`, `sending_queue`.

use crate::config::Section;

/// How much is shown of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// How many items.
    Basic,
    /// The items too.
    Full,
}

/// A configured `debug` exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How much is shown.
    pub verbosity: Verbosity,
    /// Batches in each second that are all shown.
    pub sampling_initial: u64,
    /// After those, one in so many.
    pub sampling_thereafter: u64,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["output_paths", "sending_queue"]);
        if section.bool("use_internal_logger") == Some(false) {
            section.error(
                "use_internal_logger",
                "use_internal_logger: false is not supported yet",
            );
        }
        let levels = [
            ("basic", Verbosity::Basic),
            ("normal", Verbosity::Full),
            ("detailed", Verbosity::Full),
        ];
        Self {
            verbosity: section
                .choice("verbosity", &levels)
                .unwrap_or(Verbosity::Basic),
            sampling_initial: section.number("sampling_initial").unwrap_or(2),
            sampling_thereafter: section.number("sampling_thereafter").unwrap_or(1),
        }
    }
}
