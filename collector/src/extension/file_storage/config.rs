//! The keys of the `file_storage` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: nothing on disk is touched.
//!
//! | key | default | |
//! |---|---|---|
//! | `directory` | `/var/lib/otelcol/file_storage` | one folder for each queue below it |
//! | `create_directory` | `true` | made when it is missing |
//! | `directory_permissions` | `0750` | octal; of folders that are made |
//! | `timeout` | `1s` | how long to wait for another process to let go of a queue |
//! | `fsync` | | accepted; what is answered has been synced to the disk in any case |
//! | `compaction.*` | | accepted without effect: space is freed as a queue drains |
//! | `recreate` | | accepted without effect: a damaged queue starts, and says what it lost |

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Section;

/// A configured `file_storage` extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of all queues.
    pub directory: PathBuf,
    /// Whether to make it.
    pub create_directory: bool,
    /// Who may use folders that are made.
    pub directory_permissions: u32,
    /// How long to wait for another process to let go of a queue.
    pub timeout: Duration,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.bool("fsync");
        section.bool("recreate");
        compaction(&section.section("compaction"));
        let directory = section.text("directory");
        Self {
            directory: directory
                .unwrap_or_else(|| "/var/lib/otelcol/file_storage".to_owned())
                .into(),
            create_directory: section.bool("create_directory").unwrap_or(true),
            directory_permissions: permissions(section).unwrap_or(0o750),
            timeout: section
                .duration("timeout")
                .unwrap_or(Duration::from_secs(1)),
        }
    }
}

fn permissions(section: &Section<'_>) -> Option<u32> {
    let text = section.text("directory_permissions")?;
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let message = format!("directory_permissions must be octal such as 0750, not {text:?}");
        section.error("directory_permissions", message);
    }
    mode
}

fn compaction(section: &Section<'_>) {
    for key in ["on_start", "on_rebound", "cleanup_on_start"] {
        section.bool(key);
    }
    for key in [
        "rebound_needed_threshold_mib",
        "rebound_trigger_threshold_mib",
        "max_transaction_size",
    ] {
        section.number(key);
    }
    section.text("directory");
    section.duration("check_interval");
}
