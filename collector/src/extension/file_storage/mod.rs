//! The `file_storage` extension: where exporters keep their queues on disk.
//!
//! In: a folder. Out: a queue for each exporter and signal that asks for one, each in a folder of
//! its own. Invariant: what another configuration or another collector has left in the folder is
//! named at start and never touched.

mod config;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use collector_queue::{
    Disk, Files, Loss, Notice, Observer, OpenError, Opened, Options, Overflow, Queue, Space,
};

use crate::component::{
    BuildExtension, Context, Kind, Offer, Readiness, RunningExtension, StartError, Storage, Task,
};
use crate::pipeline::QueueLimits;
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "file_storage",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// The pause before a locked queue is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What the files of otelcol's storage (bbolt) hold from their 17th byte on.
const BBOLT_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

impl BuildExtension for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Storage]
    }

    fn start(
        self: Box<Self>,
        context: Context,
        _: tokio::sync::watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let storage = FileStorage::new(*self, format!("extensions::{}", context.id))?;
            storage.name_backlog_of_otelcol();
            Ok(Box::new(Running(Arc::new(storage))) as Box<dyn RunningExtension>)
        })
    }
}

struct Running(Arc<FileStorage>);

impl RunningExtension for Running {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        // Each queue is closed by the exporter that fills it.
        Box::pin(std::future::ready(()))
    }

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        Some(Arc::clone(&self.0) as Arc<dyn Storage>)
    }
}

struct FileStorage {
    config: Config,
    component: String,
    files: Arc<dyn Files>,
    /// What is left of the file system is shared by all queues.
    space: Arc<Space>,
    opened: Mutex<BTreeSet<PathBuf>>,
}

impl FileStorage {
    fn new(config: Config, component: String) -> Result<Self, StartError> {
        let directory = &config.directory;
        let failed = |error: std::io::Error| StartError {
            component: component.clone(),
            message: format!("cannot use {}: {error}", directory.display()),
        };
        if config.create_directory {
            DirBuilder::new()
                .recursive(true)
                .mode(config.directory_permissions)
                .create(directory)
                .map_err(failed)?;
        }
        std::fs::read_dir(directory).map_err(failed)?;
        let files: Arc<dyn Files> = Arc::new(Disk);
        let space = Space::new(Arc::clone(&files), directory).map_err(failed)?;
        Ok(Self {
            config,
            component,
            space: Arc::new(space),
            files,
            opened: Mutex::default(),
        })
    }

    fn failed(&self, message: String) -> StartError {
        StartError {
            component: self.component.clone(),
            message,
        }
    }

    /// Names the files that otelcol's own storage has left here.
    fn name_backlog_of_otelcol(&self) {
        for path in entries(&self.config.directory) {
            if is_bbolt(&path) {
                let (extension, file) = (&self.component, path.display());
                let bytes = path.metadata().map_or(0, |metadata| metadata.len());
                tracing::warn!(%extension, %file, bytes, "this is a queue of the OpenTelemetry Collector; what is in it is not sent: let that collector drain it, or remove it");
            }
        }
    }
}

impl Storage for FileStorage {
    fn open(&self, name: &str, limits: &QueueLimits) -> Result<Queue, StartError> {
        let folder = self.config.directory.join(folder_name(name));
        let options = Options {
            overflow: match limits.drop_oldest {
                true => Overflow::DropOldest,
                false => Overflow::Refuse,
            },
            observer: Some(observer(name)),
            ..Options::new(limits.max_bytes, Arc::clone(&self.space))
        };
        let started = Instant::now();
        let (queue, opened) = loop {
            match Queue::open(Arc::clone(&self.files), &folder, options.clone()) {
                Ok(opened) => break opened,
                Err(OpenError::Locked(_)) if started.elapsed() < self.config.timeout => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) => return Err(self.failed(error.to_string())),
            }
        };
        report(name, &opened);
        let mut known = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(folder);
        Ok(queue)
    }

    fn name_orphans(&self) {
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in entries(&self.config.directory) {
            if !folder.is_dir() || known.contains(&folder) {
                continue;
            }
            let bytes: u64 = entries(&folder)
                .iter()
                .filter_map(|file| file.metadata().ok())
                .map(|metadata| metadata.len())
                .sum();
            let (extension, folder) = (&self.component, folder.display());
            tracing::warn!(%extension, %folder, bytes, "no exporter of this configuration uses this queue; what is in it is not sent: `collector queue ls` shows it");
        }
    }
}

/// Says what happens to a queue while it is at work.
fn observer(queue: &str) -> Observer {
    let queue = queue.to_owned();
    Arc::new(move |notice| match notice {
        Notice::Lost(loss) => report_loss(&queue, loss),
        Notice::Unreadable { segment, error } => {
            tracing::warn!(%queue, segment, %error, "a segment of the queue cannot be read; it is tried again");
        }
    })
}

fn report_loss(queue: &str, loss: &Loss) {
    let (requests, items) = (loss.amount.records, loss.amount.weight);
    let segment = loss.segment;
    tracing::error!(%queue, segment, lost_requests = requests, lost_items = items, "a segment of the queue is damaged; the rest of it will be sent");
}

/// Says what a queue held when it was opened.
fn report(queue: &str, opened: &Opened) {
    let Opened { left, segments, .. } = opened;
    if left.records > 0 {
        let (requests, items) = (left.records, left.weight);
        tracing::info!(%queue, requests, items, segments, "going on with what is in the queue");
    }
    for loss in &opened.losses {
        report_loss(queue, loss);
    }
    for file in &opened.set_aside {
        let (path, reason) = (file.path.display(), &file.reason);
        tracing::error!(%queue, %path, %reason, "a file of the queue was set aside");
    }
    for path in &opened.set_aside_before {
        let path = path.display();
        tracing::warn!(%queue, %path, "a file that was set aside earlier is still there: `collector queue` shows and removes it");
    }
    if opened.dead_letters.records > 0 {
        let (requests, items) = (opened.dead_letters.records, opened.dead_letters.weight);
        tracing::warn!(%queue, requests, items, "there are dead letters: `collector queue inspect` shows them");
    }
}

/// A queue's name as the name of a folder: what could mislead a file system is written as `%XX`.
fn folder_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn is_bbolt(path: &Path) -> bool {
    let mut start = [0; 20];
    let is_file = path.is_file();
    is_file
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start[16..] == BBOLT_MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_queues_become_names_of_folders() {
        assert_eq!(
            folder_name("exporter.otlp/a b.traces"),
            "exporter.otlp%2Fa%20b.traces"
        );
        assert_eq!(folder_name("é"), "%C3%A9");
    }

    #[test]
    fn files_of_otelcol_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exporter_otlp__traces");
        let mut bytes = vec![0; 4096];
        bytes[16..20].copy_from_slice(&[0xED, 0xDA, 0x0C, 0xED]);
        std::fs::write(&path, &bytes).unwrap();
        assert!(is_bbolt(&path));
        std::fs::write(&path, b"short").unwrap();
        assert!(!is_bbolt(&path));
        assert!(!is_bbolt(folder.path()));
    }
}
