//! The keys of the `memory_limiter` processor.
//!
//! In: its section. Out: [`Config`]. Invariant: there is a limit, and the spike is below it.
//!
//! | key | default | |
//! |---|---|---|
//! | `check_interval` | `1s` | otelcol requires it; the documents that omit it mean 1s |
//! | `limit_mib` | | the most that the process may use |
//! | `spike_limit_mib` | a fifth of the limit | batches are refused above limit less spike |
//! | `limit_percentage` | | of the memory of the cgroup or machine, without `limit_mib` |
//! | `spike_limit_percentage` | | |
//!
//! `min_gc_interval_when_soft_limited` and `min_gc_interval_when_hard_limited` are accepted and
//! mean nothing here, since there is no garbage collector.

use std::time::Duration;

use crate::config::Section;

/// A configured `memory_limiter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often memory is read.
    pub check_interval: Duration,
    /// The limit.
    pub limit: Amount,
    /// How far below the limit batches are refused already.
    pub spike: Option<Amount>,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Mebibytes.
    Mebibytes(u64),
    /// Per cent of what is available.
    Percent(u64),
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        for key in [
            "min_gc_interval_when_soft_limited",
            "min_gc_interval_when_hard_limited",
        ] {
            section.duration(key);
        }
        let interval = section
            .duration("check_interval")
            .unwrap_or(Duration::from_secs(1));
        if interval.is_zero() {
            section.error("check_interval", "check_interval must be longer than zero");
        }
        // In otelcol, zero means absent.
        let amount = |mebibytes, percentage| {
            let fixed = section.number_in(mebibytes, 0..=1 << 24).filter(|n| *n > 0);
            let share = section.number_in(percentage, 0..=100).filter(|n| *n > 0);
            fixed.map(Amount::Mebibytes).or(share.map(Amount::Percent))
        };
        let limit = amount("limit_mib", "limit_percentage");
        let spike = amount("spike_limit_mib", "spike_limit_percentage");
        if limit.is_none() {
            let message = "memory_limiter needs limit_mib or limit_percentage";
            section.diagnostics().error(section.position(), message);
        }
        let too_much = match (limit, spike) {
            (Some(Amount::Mebibytes(limit)), Some(Amount::Mebibytes(spike))) => spike >= limit,
            (Some(Amount::Percent(limit)), Some(Amount::Percent(spike))) => spike >= limit,
            _ => false,
        };
        if too_much {
            let key = if section.has("spike_limit_mib") {
                "spike_limit_mib"
            } else {
                "spike_limit_percentage"
            };
            section.error(key, format!("{key} must be less than the limit"));
        }
        Self {
            check_interval: interval,
            limit: limit.unwrap_or(Amount::Percent(100)),
            spike,
        }
    }
}

impl Amount {
    /// The amount in bytes, when so much is available.
    pub fn bytes(self, available: u64) -> u64 {
        match self {
            Self::Mebibytes(number) => number << 20,
            Self::Percent(number) => available / 100 * number,
        }
    }
}
