//! The keys of the `debug` exporter.
//!
//! In: its section. Out: [`Config`]. Invariant: there is an output when the collector's own log is
//! not used.
//!
//! | key | default | |
//! |---|---|---|
//! | `verbosity` | `basic` | `basic`: counts; `normal`: a line for each item; `detailed`: everything |
//! | `sampling_initial` | `2` | batches of a signal in each second that are all shown |
//! | `sampling_thereafter` | `1` | after those, one in so many; `0` none |
//! | `use_internal_logger` | `true` | write to the collector's own log, as it is configured |
//! | `output_paths` | `[stdout]` | without the internal logger: `stdout`, `stderr` or files |
//!
//! Not supported yet, and refused: `sending_queue`.

use crate::config::{LogOutput, Section};

/// How much is shown of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// How many items.
    Basic,
    /// A line for each item too.
    Normal,
    /// Everything in each item too.
    Detailed,
}

/// A configured `debug` exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How much is shown.
    pub verbosity: Verbosity,
    /// Batches of a signal in each second that are all shown.
    pub sampling_initial: u64,
    /// After those, one in so many.
    pub sampling_thereafter: u64,
    /// Where to write instead of the collector's own log.
    pub outputs: Option<Vec<LogOutput>>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["sending_queue"]);
        let is_own = section.bool("use_internal_logger").unwrap_or(true);
        let paths = section.texts("output_paths");
        if is_own && !paths.is_empty() {
            section.error(
                "output_paths",
                "output_paths needs use_internal_logger: false",
            );
        }
        let outputs: Vec<_> = match section.has("output_paths") {
            true => paths
                .iter()
                .map(|(path, _)| LogOutput::parse(path))
                .collect(),
            false => vec![LogOutput::Stdout],
        };
        let levels = [
            ("basic", Verbosity::Basic),
            ("normal", Verbosity::Normal),
            ("detailed", Verbosity::Detailed),
        ];
        Self {
            verbosity: section
                .choice("verbosity", &levels)
                .unwrap_or(Verbosity::Basic),
            sampling_initial: section.number("sampling_initial").unwrap_or(2),
            sampling_thereafter: section.number("sampling_thereafter").unwrap_or(1),
            outputs: (!is_own).then_some(outputs),
        }
    }
}
