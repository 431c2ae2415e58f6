//! Throw-away hosts on this machine, which the rest of the program reaches over SSH like any
//! other host.
//!
//! In: a [`LabSpec`] (hosts, users, volumes, packages). Out: running systemd containers in one
//! network namespace, their state, and faults on request.
//!
//! Invariant: whatever `up` was doing when it ended or was killed, [`down`] removes every
//! process, mount, loop device, control group, namespace and file of the lab, and nothing else.
//!
//! | module | what it knows |
//! |---|---|
//! | `spec`, `name` | what a user writes; names, addresses |
//! | `record` | paths, the lock, the record on disk |
//! | `image`, `packages` | what is built once and cached for all labs |
//! | `network` | namespace, bridge, ports |
//! | `tree` | a host's files: overlay, keys, users |
//! | `volume` | sparse files and loop devices |
//! | `boot` | starting hosts and cutting their power |
//! | `process`, `group`, `mount`, `command` | the machine: `/proc`, control groups, mounts, programs |
//! | `ssh` | OpenSSH's files and ready commands |
//! | `state` | what is there right now |

mod boot;
mod command;
mod error;
mod event;
mod group;
mod image;
mod mount;
mod name;
mod network;
mod packages;
mod process;
mod record;
mod requirements;
mod spec;
mod ssh;
mod state;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

use std::path::Path;

use network::Port;
use record::{CACHE, LabDirectory, Lock, Record};

pub use error::LabError;
pub use event::{Events, LabEvent};
pub use name::{DevicePath, HostName, LabName, PackageName, UserName, VolumeName};
pub use requirements::{MissingRequirements, install_requirements, requirements};
pub use spec::{LabHost, LabSpec, LabUser, LabVolume, MAX_VOLUME_BYTES, SpecError, Subnet, Sudo};
pub use ssh::{exec_command, ssh_command};
pub use state::{HostState, LabState, Network, Power, VolumeState};

/// Brings a lab up: makes what is missing, starts what is off, and waits until every host's SSH
/// server answers.
///
/// Hosts that run are left alone, and hosts that only the existing lab has stay in it.
///
/// # Errors
/// When the machine cannot hold a lab, when the description contradicts itself or the existing
/// lab, or when a host does not come up. What was made until then stays for [`down`].
pub fn up(spec: &LabSpec, events: Events<'_>) -> Result<LabState, LabError> {
    requirements()?;
    spec.resolve(None)?;
    let lab = LabDirectory::of(&spec.name);
    let _lock = lab.lock(events)?;
    let existing = lab.read()?;
    let resolved = spec.resolve(existing.as_ref().map(|record| &record.spec))?;
    let record = match existing {
        Some(existing) if existing.image.exists() && existing.packages.exists() => Record {
            spec: resolved,
            ..existing
        },
        _ => new_record(resolved, events)?,
    };
    lab.write(&record)?;
    network::ensure(&lab, record.spec.subnet)?;
    let identity = tree::ensure_identity(&lab)?;
    for host in &record.spec.hosts {
        tree::ensure(&lab, &record, host, &identity)?;
        tree::add_names(&lab, &record.spec, host)?;
    }
    ssh::write_files(&lab, &record)?;
    boot::start(&lab, &record, &record.spec.hosts, events)?;
    state::look(&lab, &record)
}

/// Removes a lab: its processes, mounts, loop devices, control groups, namespace and directory.
///
/// The caches of images and packages stay. A lab that is not there is no error.
///
/// # Errors
/// When something of the lab is held by someone else; running it again goes on from there.
pub fn down(name: &LabName, events: Events<'_>) -> Result<(), LabError> {
    let lab = LabDirectory::of(name);
    let _lock = lab.lock(events)?;
    boot::power_off_all(&lab, events)?;
    for process in process::find_in_network(&lab.namespace_path()) {
        process.kill()?;
        events(LabEvent::Removed(format!("process {}", process.pid)));
    }
    for point in mount::unmount_below(&lab.path)? {
        events(LabEvent::Removed(format!("mount {}", point.display())));
    }
    for device in volume::detach_below(&lab.path)? {
        events(LabEvent::Removed(format!(
            "loop device {}",
            device.display()
        )));
    }
    if network::remove(&lab)? {
        events(LabEvent::Removed(format!(
            "network namespace {}",
            lab.namespace()
        )));
    }
    lab.remove()?;
    events(LabEvent::Removed(lab.path.display().to_string()));
    Ok(())
}

/// Looks at a lab; `None` when there is none of this name.
///
/// # Errors
/// When its record or the machine cannot be read.
pub fn state(name: &LabName) -> Result<Option<LabState>, LabError> {
    let lab = LabDirectory::of(name);
    lab.read()?
        .map(|record| state::look(&lab, &record))
        .transpose()
}

/// The names of all labs on this machine, in order, also of those that came up only in part.
///
/// # Errors
/// When the directory of labs cannot be read.
pub fn list() -> Result<Vec<LabName>, LabError> {
    record::names()
}

/// Cuts a host's power: all its processes end at once. Files, volumes and address stay.
///
/// What the host wrote without fsync is not lost, as this machine's page cache keeps it.
///
/// # Errors
/// When there is no such lab or host.
pub fn power_off(name: &LabName, host: &HostName, events: Events<'_>) -> Result<(), LabError> {
    let lab = LabDirectory::of(name);
    let (_lock, record) = lab.lock_existing(events)?;
    record.host(host)?;
    if boot::power_off(&lab, host)? {
        events(LabEvent::StoppedHost(host.clone()));
    }
    Ok(())
}

/// Starts a host that is off, also after it powered itself off, and waits until its
/// SSH server answers. Its network is connected afterwards.
///
/// # Errors
/// When there is no such lab or host, or when it does not come up.
pub fn start(name: &LabName, host: &HostName, events: Events<'_>) -> Result<LabState, LabError> {
    requirements()?;
    let lab = LabDirectory::of(name);
    let (_lock, record) = lab.lock_existing(events)?;
    let host = record.host(host)?;
    network::ensure(&lab, record.spec.subnet)?;
    let identity = tree::ensure_identity(&lab)?;
    tree::ensure(&lab, &record, host, &identity)?;
    boot::start(&lab, &record, std::slice::from_ref(host), events)?;
    state::look(&lab, &record)
}

/// Cuts a host off the network while it runs on.
///
/// # Errors
/// When there is no such lab or host, or when the host is off.
pub fn cut_network(name: &LabName, host: &HostName, events: Events<'_>) -> Result<(), LabError> {
    with_port(name, host, events, network::cut)
}

/// Connects a host again that was cut off.
///
/// # Errors
/// When there is no such lab or host, or when the host is off.
pub fn restore_network(
    name: &LabName,
    host: &HostName,
    events: Events<'_>,
) -> Result<(), LabError> {
    with_port(name, host, events, network::connect)
}

fn with_port(
    name: &LabName,
    host: &HostName,
    events: Events<'_>,
    act: fn(&LabDirectory, &LabHost) -> Result<(), LabError>,
) -> Result<(), LabError> {
    let lab = LabDirectory::of(name);
    let (_lock, record) = lab.lock_existing(events)?;
    let host = record.host(host)?;
    if network::ports(&lab, &[host])? == [Port::Absent] {
        return Err(LabError::HostIsOff(host.name.clone()));
    }
    act(&lab, host)
}

/// Finds or builds the image and the packages that a new lab stands on.
fn new_record(spec: LabSpec, events: Events<'_>) -> Result<Record, LabError> {
    let _lock = Lock::take(Path::new(CACHE), events)?;
    let image = image::ensure(events)?;
    let packages = packages::ensure(&image, &spec.packages, events)?;
    Ok(Record {
        format: Record::FORMAT,
        spec,
        image,
        packages,
    })
}
