//! What a lab is right now.
//!
//! In: a lab's record, processes, ports and loop devices. Out: a [`LabState`] to show, to test
//! with, or to serialise.
//!
//! Invariant: whether a host runs is looked up, never remembered.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::error::LabError;
use super::name::{DevicePath, HostName, LabName, VolumeName};
use super::network::{self, Port};
use super::process::find_hosts;
use super::record::{LabDirectory, Record};
use super::spec::{LabHost, LabUser, Subnet};
use super::ssh::proxy_command;
use super::tree::public_key;
use super::volume;

/// A lab and how to reach it.
#[derive(Debug, Clone, Serialize)]
pub struct LabState {
    /// The lab's name.
    pub name: LabName,
    /// Its network.
    pub subnet: Subnet,
    /// The controller's address in it, on the bridge.
    pub gateway: Ipv4Addr,
    /// The directory with all of the lab's files.
    pub directory: PathBuf,
    /// The network namespace, for `nsenter --net=`.
    pub namespace: PathBuf,
    /// The private key that all hosts let in.
    pub identity: PathBuf,
    /// The pinned keys of all hosts, by name and by address.
    pub known_hosts: PathBuf,
    /// A configuration for `ssh -F`, with all hosts by name.
    pub ssh_config: PathBuf,
    /// OpenSSH's `ProxyCommand` for connections from outside the namespace.
    pub proxy_command: String,
    /// The hosts, in the order in which they were added.
    pub hosts: Vec<HostState>,
}

impl LabState {
    /// The host with this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostState> {
        self.hosts.iter().find(|host| host.name.as_str() == name)
    }
}

/// A host of a lab.
#[derive(Debug, Clone, Serialize)]
pub struct HostState {
    /// The host's name.
    pub name: HostName,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it runs.
    pub power: Power,
    /// Whether packets reach it.
    pub network: Network,
    /// The public key of its SSH server, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// Its accounts beside root.
    pub users: Vec<LabUser>,
    /// Its disks.
    pub volumes: Vec<VolumeState>,
    /// Its file tree as this machine sees it, also while the host is off.
    pub root: PathBuf,
    /// All that it wrote to its console.
    pub console: PathBuf,
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It runs.
    On {
        /// The host's first process, by its id on this machine.
        leader: i32,
    },
    /// It has no process, or is on its way up or down.
    Off,
}

/// Whether packets reach a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// They do, or will when it is on.
    Connected,
    /// They were cut off on purpose.
    Cut,
}

/// A disk of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeState {
    /// The volume's name.
    pub name: VolumeName,
    /// Its size.
    pub size_bytes: u64,
    /// Where the host sees it.
    pub device: DevicePath,
    /// The loop device behind it; none after the machine was restarted and before the next `up`.
    pub loop_device: Option<PathBuf>,
    /// The sparse file behind that. A host reads this very path in
    /// `/sys/block/loopN/loop/backing_file`, which makes it the volume's identity.
    pub backing_file: PathBuf,
}

/// Looks at all that belongs to a recorded lab.
pub(super) fn look(lab: &LabDirectory, record: &Record) -> Result<LabState, LabError> {
    let running = find_hosts(&lab.hosts());
    let loops = volume::attached()?;
    let hosts: Vec<&LabHost> = record.spec.hosts.iter().collect();
    let ports = network::ports(lab, &hosts)?;
    let mut states = Vec::new();
    for (host, port) in hosts.into_iter().zip(ports) {
        let processes = running
            .get(&lab.host(&host.name))
            .copied()
            .unwrap_or_default();
        let volumes = host.volumes.iter().map(|disk| {
            let file = lab.volume(&host.name, &disk.name);
            VolumeState {
                name: disk.name.clone(),
                size_bytes: disk.size_bytes,
                device: disk.device.clone(),
                loop_device: loops
                    .iter()
                    .find(|l| l.file == file)
                    .map(|l| l.device.clone()),
                backing_file: file,
            }
        });
        states.push(HostState {
            name: host.name.clone(),
            address: record.spec.subnet.address(host.octet()),
            power: processes
                .leader
                .map_or(Power::Off, |leader| Power::On { leader: leader.pid }),
            network: if port == Port::Cut {
                Network::Cut
            } else {
                Network::Connected
            },
            host_key: public_key(&lab.host_key(&host.name)).unwrap_or_default(),
            users: host.users.clone(),
            volumes: volumes.collect(),
            root: lab.root(&host.name),
            console: lab.console(&host.name),
        });
    }
    Ok(LabState {
        name: lab.name.clone(),
        subnet: record.spec.subnet,
        gateway: record.spec.subnet.gateway(),
        directory: lab.path.clone(),
        namespace: lab.namespace_path(),
        identity: lab.identity(),
        known_hosts: lab.known_hosts(),
        ssh_config: lab.ssh_config(),
        proxy_command: proxy_command(lab),
        hosts: states,
    })
}
