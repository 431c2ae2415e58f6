//! The keys of the `probabilistic_sampler` processor.
//!
//! In: its section. Out: how much to keep, and by what to decide.
//! Invariant: the percentage is a number of zero or more.
//!
//! | key | default | |
//! |---|---|---|
//! | `sampling_percentage` | 0 | how much is kept; 100 and more keeps everything |
//! | `hash_seed` | 0 | collectors with the same seed decide alike |
//! | `mode` | `hash_seed` | |
//! | `fail_closed` | true | whether items go that have no usable id or sampled elsewhere |
//! | `sampling_precision` | 4 | hexadecimal digits of a threshold that a priority makes |
//! | `attribute_source` | `traceID` | logs only: or `record` |
//! | `from_attribute` | | logs only: what is hashed when there is no trace id, or for `record` |
//! | `sampling_priority` | | logs only: the attribute that holds another percentage |
//!
//! Not supported, and refused: the modes `equalizing` and `proportional`.

use crate::config::Section;

/// A configured `probabilistic_sampler` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How much is kept, in percent.
    pub percentage: f32,
    /// What is hashed in front of each id.
    pub seed: u32,
    /// Whether items that cannot be decided about are dropped.
    pub fail_closed: bool,
    /// Hexadecimal digits of a threshold that a priority makes.
    pub precision: u32,
    /// What a log record is decided by.
    pub source: Source,
    /// The attribute to hash.
    pub from_attribute: Option<String>,
    /// The attribute with another percentage.
    pub priority: Option<String>,
}

/// What a log record is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its trace id.
    TraceId,
    /// An attribute.
    Record,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let percentage = section.float("sampling_percentage").unwrap_or(0.0);
        if percentage < 0.0 {
            section.error(
                "sampling_percentage",
                "sampling_percentage must not be negative",
            );
        }
        if let Some(mode) = section.text("mode")
            && !["hash_seed", ""].contains(&mode.as_str())
        {
            let message = match mode.as_str() {
                "equalizing" | "proportional" => {
                    format!("mode: {mode} is not supported yet; hash_seed is otelcol's default")
                }
                _ => format!("mode must be hash_seed, not {mode:?}"),
            };
            section.error("mode", message);
        }
        let sources = [("traceID", Source::TraceId), ("record", Source::Record)];
        let seed = section.number_in("hash_seed", 0..=u64::from(u32::MAX));
        let precision = section.number_in("sampling_precision", 1..=14);
        Self {
            percentage: percentage as f32,
            seed: seed.unwrap_or(0) as u32,
            fail_closed: section.bool("fail_closed").unwrap_or(true),
            precision: precision.unwrap_or(4) as u32,
            source: section
                .choice("attribute_source", &sources)
                .unwrap_or(Source::TraceId),
            from_attribute: section.text("from_attribute").filter(|key| !key.is_empty()),
            priority: section
                .text("sampling_priority")
                .filter(|key| !key.is_empty()),
        }
    }
}
