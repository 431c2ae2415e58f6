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
//! | `compression` | none | `zstd`: each batch is a frame of its own, behind 4 bytes length |
//! | `create_directory` | `false` | create the folder as well |
//! | `directory_permissions` | `0755` | in octal, less the process's umask |
//! | `rotation` | off | its presence begins a new file when the old one is full |
//! | `rotation.max_megabytes` | `100` | when it is full; a batch is never divided |
//! | `rotation.max_backups` | `100` | how many full files are kept; `0` all |
//! | `rotation.max_days` | `0` | how long full files are kept; `0` for ever |
//! | `rotation.localtime` | `false` | whether the times in their names are local, not UTC |
//!
//! A full file `a.json` becomes `a-2026-01-31T12-00-00.000.json`. Refused, as in otelcol: `append`
//! with `compression` or `rotation`. With `rotation` the file is not emptied but continued.
//! Not supported yet, and refused: `encoding`, and `group_by` when it is enabled. There is no
//! sending queue, as in otelcol.

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

/// When a new file is begun, and what becomes of the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long a file may be.
    pub max_bytes: u64,
    /// How many full files are kept; `None` for all.
    pub max_backups: Option<usize>,
    /// How long full files are kept; `None` for ever.
    pub max_age: Option<Duration>,
    /// Whether the times in their names are local.
    pub local_time: bool,
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
    /// Whether batches are compressed with zstd.
    pub is_compressed: bool,
    /// With which permissions the file's folder is created, if it is.
    pub create_directory: Option<u32>,
    /// Whether and how new files are begun.
    pub rotation: Option<Rotation>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(&["encoding"]);
        let group_by = section.section("group_by");
        if group_by.bool("enabled") == Some(true) {
            group_by.error("enabled", "group_by is not supported yet");
        }
        group_by.accept(&["max_open_files", "resource_attribute"]);
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
        let append = section.bool("append").unwrap_or(false);
        let compressions = [("zstd", true), ("none", false), ("", false)];
        let is_compressed = section
            .choice("compression", &compressions)
            .unwrap_or(false);
        let rotation = rotation(&section.section("rotation"));
        for (key, is_there) in [
            ("compression", is_compressed),
            ("rotation", rotation.is_some()),
        ] {
            if append && is_there {
                section.error(key, format!("append and {key} exclude each other"));
            }
        }
        Self {
            path: path.unwrap_or_default().into(),
            append,
            format: section.choice("format", &formats).unwrap_or(Format::Json),
            flush_interval: interval,
            is_compressed,
            create_directory: permissions(section),
            rotation,
        }
    }
}

fn permissions(section: &Section<'_>) -> Option<u32> {
    let is_created = section.bool("create_directory").unwrap_or(false);
    let text = section.text("directory_permissions");
    if text.is_some() && !is_created {
        let message = "directory_permissions needs create_directory: true";
        section.error("directory_permissions", message);
    }
    let text = text.unwrap_or_else(|| "0755".to_owned());
    let bits = u32::from_str_radix(&text, 8)
        .ok()
        .filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        let message = format!("directory_permissions must be octal, such as 0755, not {text:?}");
        section.error("directory_permissions", message);
    }
    bits.filter(|_| is_created)
}

fn rotation(section: &Section<'_>) -> Option<Rotation> {
    const DAY: u64 = 24 * 60 * 60;
    let number = |key, otherwise| match section.number_in(key, 0..=1_000_000) {
        Some(number) => number,
        None => otherwise,
    };
    // As in otelcol, nothing and 0 are the same here.
    let megabytes = Some(number("max_megabytes", 0)).filter(|number| *number > 0);
    let (backups, days) = (number("max_backups", 100), number("max_days", 0));
    let rotation = Rotation {
        max_bytes: megabytes.unwrap_or(100) << 20,
        max_backups: usize::try_from(backups).ok().filter(|number| *number > 0),
        max_age: (days > 0).then(|| Duration::from_secs(days * DAY)),
        local_time: section.bool("localtime").unwrap_or(false),
    };
    section.is_present().then_some(rotation)
}
