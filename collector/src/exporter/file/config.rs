//! The keys of the `file` exporter.
//!
//! In: its section. Out: [`Config`]. Invariant: there is a path.
//!
//! | key | default | |
//! |---|---|---|
//! | `path` | required | created if absent; its folder must exist |
//! | `append` | `false` | without it the first batch empties the file (otelcol: the start does) |
//! | `format` | `json` | one JSON object per line and batch; `proto`: 4 bytes length, then protobuf |
//! | `flush_interval` | `1s` | after at most this long a reader sees what was written |
//! | `create_directory` | `false` | create the folder as well |
//!
//! Not supported yet, and refused: `rotation`, `compression`, `encoding`, `group_by`,
//! `directory_permissions`. There is no sending queue, as in otelcol.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Section;

/// How batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// The length as four bytes, big endian, then protobuf.
    Proto,
}

/// A configured `file` exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// Whether what the file holds at start is kept.
    pub append: bool,
    /// How batches are written.
    pub format: Format,
    /// How often the buffer is written out.
    pub flush_interval: Duration,
    /// Whether the file's folder is created.
    pub create_directory: bool,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&[
            "compression",
            "directory_permissions",
            "encoding",
            "group_by",
            "rotation",
        ]);
        let path = section.text("path");
        if path.is_none() {
            section.error("path", "a file exporter needs a path");
        }
        let interval = section
            .duration("flush_interval")
            .unwrap_or(Duration::from_secs(1));
        if interval.is_zero() {
            section.error("flush_interval", "flush_interval must be longer than zero");
        }
        let formats = [("json", Format::Json), ("proto", Format::Proto)];
        Self {
            path: path.unwrap_or_default().into(),
            append: section.bool("append").unwrap_or(false),
            format: section.choice("format", &formats).unwrap_or(Format::Json),
            flush_interval: interval,
            create_directory: section.bool("create_directory").unwrap_or(false),
        }
    }
}
