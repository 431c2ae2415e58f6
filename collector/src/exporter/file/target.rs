//! The file on the disk, and those that were full.
//!
//! In: bytes. Out: a file, which becomes another when it is full. Invariant: a full file is
//! renamed and never written again; only files with the name that a full one gets are removed.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::config::{Config, Rotation};
use super::writer::Target;

/// How the time stands in the name of a full file.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// A file that becomes another when it is full.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    /// How long the file is; what others write into it is not counted.
    length: u64,
    rotation: Option<Rotation>,
}

impl Rotating {
    /// Opens the file, or creates it.
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        let folder = config.path.parent().filter(|path| *path != Path::new(""));
        if let (Some(folder), Some(mode)) = (folder, config.create_directory) {
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(folder)?;
        }
        let file = open(&config.path)?;
        Ok(Self {
            path: config.path.clone(),
            length: file.metadata()?.len(),
            file,
            rotation: config.rotation,
        })
    }

    fn remove_old(&self, rotation: &Rotation, now: Timestamp) -> io::Result<()> {
        let mut full = self.full_files(rotation)?;
        // The newest first.
        full.sort_by(|a, b| b.cmp(a));
        let kept = rotation.max_backups.unwrap_or(usize::MAX);
        for (number, (time, path)) in full.iter().enumerate() {
            let age = now.duration_since(*time);
            let is_old = rotation
                .max_age
                .is_some_and(|most| age.unsigned_abs() > most && age.is_positive());
            if number >= kept || is_old {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn full_files(&self, rotation: &Rotation) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let (stem, extension) = parts(&self.path);
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let time = name.to_str().and_then(|name| {
                let stamp = name.strip_prefix(&stem)?.strip_prefix('-')?;
                let stamp = stamp.strip_suffix(&extension)?;
                let time = DateTime::strptime(STAMP, stamp).ok()?;
                Some(time.to_zoned(zone(rotation)).ok()?.timestamp())
            });
            found.extend(time.map(|time| (time, entry.path())));
        }
        Ok(found)
    }

    /// The name of a file that becomes full now.
    fn full_name(&self, rotation: &Rotation, now: Timestamp) -> PathBuf {
        let (stem, extension) = parts(&self.path);
        let stamp = now.to_zoned(zone(rotation)).strftime(STAMP).to_string();
        self.path
            .with_file_name(format!("{stem}-{stamp}{extension}"))
    }
}

fn open(path: &Path) -> io::Result<File> {
    // The writer empties the file if it must, and appends in any case.
    File::options().create(true).append(true).open(path)
}

fn zone(rotation: &Rotation) -> TimeZone {
    match rotation.local_time {
        true => TimeZone::system(),
        false => TimeZone::UTC,
    }
}

/// A file's name before its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map_or(String::new(), |part| part.to_string_lossy().into_owned())
    };
    let extension = text(path.extension());
    let dot = if extension.is_empty() { "" } else { "." };
    (text(path.file_stem()), format!("{dot}{extension}"))
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Target for Rotating {
    fn empty(&mut self) -> io::Result<()> {
        match self.file.set_len(0) {
            // Pipes and terminals have no length.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            Ok(()) => {
                self.length = 0;
                Ok(())
            }
            other => other,
        }
    }

    fn is_full(&self, more: usize) -> bool {
        let most = self.rotation.map(|rotation| rotation.max_bytes);
        most.is_some_and(|most| self.length > 0 && self.length + more as u64 > most)
    }

    fn begin_another(&mut self) -> io::Result<()> {
        let Some(rotation) = self.rotation else {
            return Ok(());
        };
        let mut now = Timestamp::now();
        // Two files that become full in one millisecond get different names.
        while self.full_name(&rotation, now).exists() {
            now += jiff::SignedDuration::from_millis(1);
        }
        self.synchronise()?;
        std::fs::rename(&self.path, self.full_name(&rotation, now))?;
        self.file = open(&self.path)?;
        self.length = 0;
        if let Err(error) = self.remove_old(&rotation, now) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "full files that are too old could not be removed");
        }
        Ok(())
    }

    fn synchronise(&mut self) -> io::Result<()> {
        match self.file.sync_all() {
            // Pipes and terminals cannot be synchronised, and need not be.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::file::Format;
    use std::time::Duration;

    fn config(path: &Path, rotation: Rotation) -> Config {
        Config {
            path: path.to_owned(),
            append: false,
            format: Format::Json,
            flush_interval: Duration::from_secs(1),
            is_compressed: false,
            create_directory: Some(0o700),
            rotation: Some(rotation),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn full_files_are_renamed_and_the_oldest_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let rotation = Rotation {
            max_bytes: 5,
            max_backups: Some(2),
            max_age: Some(Duration::from_secs(86_400)),
            local_time: false,
        };
        let path = inner.join("out.json");
        let mut file = Rotating::open(&config(&path, rotation)).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&inner).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        for other in [
            "out-2020-01-01T00-00-00.000.json",
            "out-mine.json",
            "other.json",
        ] {
            std::fs::write(inner.join(other), "").unwrap();
        }
        assert!(!file.is_full(100));
        for text in ["one", "two", "three", "four"] {
            file.write_all(text.as_bytes()).unwrap();
            assert!(file.is_full(3));
            file.begin_another().unwrap();
        }
        let names = names(&inner);
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(
            (&*names[0], &*names[3], &*names[4]),
            ("other.json", "out-mine.json", "out.json")
        );
        let read = |name: &str| std::fs::read_to_string(inner.join(name)).unwrap();
        assert_eq!(
            [&names[1], &names[2]].map(|name| read(name)),
            ["three", "four"]
        );
        assert_eq!(read("out.json"), "");
    }
}
