//! The keys of the `batch` processor.
//!
//! In: its section. Out: [`Config`]. Invariant: `send_batch_max_size` is zero or at least
//! `send_batch_size`.
//!
//! | key | default | |
//! |---|---|---|
//! | `timeout` | `200ms` | a batch leaves at the latest after this; `0` at once |
//! | `send_batch_size` | `8192` | items that make a batch leave at once; `0` at once |
//! | `send_batch_max_size` | `0` | the most items in a batch; `0` no limit |
//!
//! | `metadata_keys` | none | headers that keep batches apart; needs `include_metadata` |
//! | `metadata_cardinality_limit` | `1000` | combinations of them; beyond it requests are refused |

use std::time::Duration;

use crate::config::Section;

/// A configured `batch` processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long items wait at most.
    pub timeout: Duration,
    /// How many items make a batch.
    pub send_batch_size: usize,
    /// The most items in a batch; zero means no limit.
    pub send_batch_max_size: usize,
    /// Names of metadata, in lower case, that keep batches apart.
    pub metadata_keys: Vec<String>,
    /// How many combinations of metadata are open at a time; zero means no limit.
    pub metadata_cardinality_limit: usize,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let items = |key| section.number_in(key, 0..=u64::from(u32::MAX));
        let config = Self {
            timeout: section
                .duration("timeout")
                .unwrap_or(Duration::from_millis(200)),
            send_batch_size: items("send_batch_size").unwrap_or(8192) as usize,
            send_batch_max_size: items("send_batch_max_size").unwrap_or(0) as usize,
            metadata_keys: metadata_keys(section),
            metadata_cardinality_limit: items("metadata_cardinality_limit").unwrap_or(1000)
                as usize,
        };
        if (1..config.send_batch_size).contains(&config.send_batch_max_size) {
            let message = format!(
                "send_batch_max_size must be 0 or at least send_batch_size ({})",
                config.send_batch_size
            );
            section.error("send_batch_max_size", message);
        }
        config
    }
}

fn metadata_keys(section: &Section<'_>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (key, position) in section.texts("metadata_keys") {
        let key = key.to_ascii_lowercase();
        if keys.contains(&key) {
            let message = format!("{key:?} is listed twice; the case of letters does not count");
            section.diagnostics().error(position, message);
        }
        keys.push(key);
    }
    keys
}
