//! Where a lab's files are, its lock, and its record on disk.
//!
//! In: a lab's name. Out: paths, an exclusive hold of the lab, and the record of what `up` was
//! asked to make.
//!
//! Invariant: the record is replaced as a whole and is on disk before the first resource of a
//! lab is made; every resource can be found from the lab's name alone.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::{AtPath as _, LabError};
use super::event::{Events, LabEvent};
use super::name::{HostName, LabName, VolumeName};
use super::spec::{LabHost, LabSpec};

/// Where all labs of this machine are.
pub(super) const LABS: &str = "/var/lib/provision-lab";

/// Where images and packages are kept for all labs.
pub(super) const CACHE: &str = "/var/cache/provision-lab";

/// How long to wait for another process; building an image takes a minute or two.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);

const REMOVE_WAIT: Duration = Duration::from_secs(5);

const LOCK_POLL: Duration = Duration::from_millis(100);

/// What a lab was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The version of this record's shape.
    pub(super) format: u32,
    /// The lab, with an address for every host.
    pub(super) spec: LabSpec,
    /// The base image, read-only below every host.
    pub(super) image: PathBuf,
    /// The package repository and the layer that goes with it.
    pub(super) packages: PathBuf,
}

impl Record {
    pub(super) const FORMAT: u32 = 1;

    pub(super) fn host(&self, name: &HostName) -> Result<&LabHost, LabError> {
        self.spec
            .hosts
            .iter()
            .find(|host| host.name == *name)
            .ok_or_else(|| LabError::NoSuchHost {
                lab: self.spec.name.clone(),
                host: name.clone(),
            })
    }
}

/// The directory of one lab.
#[derive(Debug, Clone)]
pub(super) struct LabDirectory {
    pub(super) name: LabName,
    pub(super) path: PathBuf,
}

impl LabDirectory {
    pub(super) fn of(name: &LabName) -> Self {
        Self {
            name: name.clone(),
            path: Path::new(LABS).join(name.as_str()),
        }
    }

    /// The name of the network namespace.
    pub(super) fn namespace(&self) -> String {
        format!("provision-{}", self.name)
    }

    pub(super) fn namespace_path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.namespace())
    }

    pub(super) fn hosts(&self) -> PathBuf {
        self.path.join("hosts")
    }

    pub(super) fn host(&self, host: &HostName) -> PathBuf {
        self.hosts().join(host.as_str())
    }

    /// The host's whole file tree, as it sees it itself.
    pub(super) fn root(&self, host: &HostName) -> PathBuf {
        self.host(host).join("root")
    }

    pub(super) fn console(&self, host: &HostName) -> PathBuf {
        self.host(host).join("console.log")
    }

    pub(super) fn host_key(&self, host: &HostName) -> PathBuf {
        self.host(host).join("ssh_host_ed25519_key")
    }

    pub(super) fn volume(&self, host: &HostName, volume: &VolumeName) -> PathBuf {
        self.host(host)
            .join("volumes")
            .join(format!("{volume}.img"))
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.path.join("ssh/identity")
    }

    pub(super) fn known_hosts(&self) -> PathBuf {
        self.path.join("ssh/known_hosts")
    }

    pub(super) fn ssh_config(&self) -> PathBuf {
        self.path.join("ssh/config")
    }

    fn record(&self) -> PathBuf {
        self.path.join("lab.json")
    }

    /// Reads the record; `None` when the lab does not exist or was never recorded.
    pub(super) fn read(&self) -> Result<Option<Record>, LabError> {
        let path = self.record();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("read", &path),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| LabError::Record { path, source })
    }

    /// Reads the record of a lab that must exist.
    pub(super) fn read_existing(&self) -> Result<Record, LabError> {
        self.read()?
            .ok_or_else(|| LabError::NoSuchLab(self.name.clone()))
    }

    /// Replaces the record.
    pub(super) fn write(&self, record: &Record) -> Result<(), LabError> {
        let path = self.record();
        let text = serde_json::to_vec_pretty(record).map_err(|source| LabError::Record {
            path: path.clone(),
            source,
        })?;
        replace_file(&path, &text, 0o600)
    }

    /// Removes the directory with all that is in it.
    ///
    /// A program of an `up` that was just killed may add a last file meanwhile.
    pub(super) fn remove(&self) -> Result<(), LabError> {
        let deadline = Instant::now() + REMOVE_WAIT;
        loop {
            match fs::remove_dir_all(&self.path) {
                Err(error)
                    if error.kind() == ErrorKind::DirectoryNotEmpty
                        && Instant::now() < deadline =>
                {
                    sleep(LOCK_POLL);
                }
                result => return result.at("remove", &self.path),
            }
        }
    }

    /// Makes the lab's directory if needed and holds it alone.
    pub(super) fn lock(&self, events: Events<'_>) -> Result<Lock, LabError> {
        Lock::take(&self.path, events)
    }

    /// Holds a lab that must exist, without making its directory.
    pub(super) fn lock_existing(&self, events: Events<'_>) -> Result<(Lock, Record), LabError> {
        self.read_existing()?;
        let lock = self.lock(events)?;
        Ok((lock, self.read_existing()?))
    }
}

/// An exclusive hold of a directory, given up when dropped or when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: File,
}

impl Lock {
    /// Holds a directory, which is made if needed.
    pub(super) fn take(path: &Path, events: Events<'_>) -> Result<Self, LabError> {
        let deadline = Instant::now() + LOCK_WAIT;
        let mut said = false;
        loop {
            fs::create_dir_all(path).at("make", path)?;
            let Ok(directory) = File::open(path) else {
                continue_until(deadline, path)?;
                continue;
            };
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                if is_same(&directory, path) {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                        .at("restrict", path)?;
                    return Ok(Self {
                        _directory: directory,
                    });
                }
                continue;
            }
            if !said {
                events(LabEvent::WaitingForLock(path.to_owned()));
                said = true;
            }
            continue_until(deadline, path)?;
        }
    }
}

fn continue_until(deadline: Instant, path: &Path) -> Result<(), LabError> {
    if Instant::now() > deadline {
        return Err(LabError::Locked {
            path: path.to_owned(),
            waited: LOCK_WAIT,
        });
    }
    sleep(LOCK_POLL);
    Ok(())
}

/// Whether the path still leads to the directory that was opened; `down` may have removed it.
fn is_same(directory: &File, path: &Path) -> bool {
    match (directory.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(current)) => (held.dev(), held.ino()) == (current.dev(), current.ino()),
        _ => false,
    }
}

/// The labs on this machine, in order.
pub(super) fn names() -> Result<Vec<LabName>, LabError> {
    let labs = Path::new(LABS);
    let entries = match fs::read_dir(labs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("list", labs),
    };
    let mut names: Vec<LabName> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Writes a file as a whole, by way of a temporary one beside it.
pub(super) fn replace_file(path: &Path, content: &[u8], mode: u32) -> Result<(), LabError> {
    let temporary = path.with_added_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().at("write", path)
}
