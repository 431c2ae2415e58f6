//! The keys of the `probabilistic_sampler` processor.
//!
//! In: its section. Out: how much to keep, and by what to decide.
//! Invariant: the percentage is a number of zero or more.
//!
//! | key | default | |
//! |---|---|---|
//! | `sampling_percentage` | 0 | how much is kept; 100 and more keeps everything |
//! | `hash_seed` | 0 | `mode: hash_seed` only: collectors with the same seed decide alike |
//! | `mode` | `hash_seed` | `equalizing`: the share of all that there ever was; `proportional`: of what arrives; both by the randomness that OpenTelemetry specifies, and told in `tracestate` |
//! | `fail_closed` | true | whether items go that have no usable id or sampled elsewhere |
//! | `sampling_precision` | 4 | hexadecimal digits of a threshold, where `hash_seed` does not make it |
//! | `attribute_source` | `traceID` | logs and `hash_seed` only: or `record` |
//! | `from_attribute` | | logs and `hash_seed` only: what is hashed when there is no trace id, or for `record` |
//! | `sampling_priority` | | logs only: the attribute that holds another percentage |

use super::threshold::NEVER;
use crate::config::Section;

/// A configured `probabilistic_sampler` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How much is kept, in percent.
    pub percentage: f32,
    /// How it is decided.
    pub mode: Mode,
    /// What is hashed in front of each id.
    pub seed: u32,
    /// Whether items that cannot be decided about are dropped.
    pub fail_closed: bool,
    /// Hexadecimal digits of a threshold.
    pub precision: u32,
    /// What a log record is decided by.
    pub source: Source,
    /// The attribute to hash.
    pub from_attribute: Option<String>,
    /// The attribute with another percentage.
    pub priority: Option<String>,
}

/// How it is decided what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By a hash of the id; what was sampled before is not touched.
    HashSeed,
    /// By the id's own randomness, so that the share is left of all there ever was.
    Equalizing,
    /// By the id's own randomness, so that the share is left of what arrives.
    Proportional,
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
        let smallest = 100.0 / NEVER as f64;
        if percentage > 0.0 && percentage < smallest {
            section.error(
                "sampling_percentage",
                format!("sampling_percentage must be 0, or at least {smallest:e}"),
            );
        }
        let modes = [
            ("hash_seed", Mode::HashSeed),
            ("equalizing", Mode::Equalizing),
            ("proportional", Mode::Proportional),
            ("", Mode::HashSeed),
        ];
        let sources = [("traceID", Source::TraceId), ("record", Source::Record)];
        let seed = section.number_in("hash_seed", 0..=u64::from(u32::MAX));
        let precision = section.number_in("sampling_precision", 1..=14);
        Self {
            percentage: percentage as f32,
            mode: section.choice("mode", &modes).unwrap_or(Mode::HashSeed),
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
