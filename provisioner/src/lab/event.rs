//! What a caller may tell the user while a lab changes.
//!
//! In: the steps of `up`, `down` and the faults. Out: [`LabEvent`]s, each of which reads as one
//! line of text.
//!
//! Invariant: an event is information; nothing depends on what the receiver does with it.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::name::{HostName, PackageName};

/// Receives the events of one operation.
pub type Events<'a> = &'a mut dyn FnMut(LabEvent);

/// One step of an operation on a lab.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LabEvent {
    /// Another process holds this directory; the operation goes on when it is done.
    WaitingForLock(PathBuf),
    /// A command that changes the machine itself is about to run.
    Running(String),
    /// The base image is not in the cache and is being built.
    BuildingImage {
        /// The Debian suite.
        suite: String,
    },
    /// The base image was built.
    BuiltImage {
        /// Where it was put.
        path: PathBuf,
        /// How long it took.
        elapsed: Duration,
    },
    /// The local package repository is not in the cache and is being made.
    FetchingPackages(Vec<PackageName>),
    /// The local package repository was made.
    FetchedPackages {
        /// How many package files it holds, with all that they depend on.
        files: usize,
        /// How long it took.
        elapsed: Duration,
    },
    /// A limit of the kernel was raised, for the whole machine and until it restarts.
    RaisedLimit {
        /// The name that `sysctl` knows.
        name: &'static str,
        /// The value before.
        from: u64,
        /// The value now.
        to: u64,
    },
    /// A host is being started.
    StartingHost(HostName),
    /// A host's SSH server answers.
    HostAnswers {
        /// The host.
        host: HostName,
        /// Its address in the lab's network.
        address: Ipv4Addr,
        /// How long after the start of all hosts.
        elapsed: Duration,
    },
    /// A host is not waited for, because its network is cut.
    NetworkIsCut(HostName),
    /// A host's processes were ended.
    StoppedHost(HostName),
    /// A process, mount, loop device or namespace of the lab was removed.
    Removed(String),
}

impl fmt::Display for LabEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitingForLock(path) => {
                write!(
                    f,
                    "waiting for another process that uses {}",
                    path.display()
                )
            }
            Self::Running(command) => write!(f, "running {command}"),
            Self::BuildingImage { suite } => write!(f, "building the base image ({suite})"),
            Self::BuiltImage { path, elapsed } => {
                write!(
                    f,
                    "built {} in {:.1} s",
                    path.display(),
                    elapsed.as_secs_f64()
                )
            }
            Self::FetchingPackages(packages) => {
                write!(f, "fetching packages:")?;
                packages
                    .iter()
                    .try_for_each(|package| write!(f, " {package}"))
            }
            Self::FetchedPackages { files, elapsed } => {
                write!(
                    f,
                    "fetched {files} package files in {:.1} s",
                    elapsed.as_secs_f64()
                )
            }
            Self::RaisedLimit { name, from, to } => write!(f, "raised {name} from {from} to {to}"),
            Self::StartingHost(host) => write!(f, "starting {host}"),
            Self::HostAnswers {
                host,
                address,
                elapsed,
            } => {
                write!(
                    f,
                    "{host} answers at {address} after {:.1} s",
                    elapsed.as_secs_f64()
                )
            }
            Self::NetworkIsCut(host) => write!(f, "{host} is not waited for: its network is cut"),
            Self::StoppedHost(host) => write!(f, "stopped {host}"),
            Self::Removed(what) => write!(f, "removed {what}"),
        }
    }
}
