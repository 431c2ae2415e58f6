//! The description of a lab, as a user or a test writes it.
//!
//! In: hosts with their addresses, users and volumes. Out: a [`LabSpec`] whose parts agree with
//! each other and with the lab that exists, and whose hosts all have an address.
//!
//! Invariant: a host that exists keeps its address, its users and its volumes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{DevicePath, HostName, LabName, PackageName, UserName, VolumeName};

/// What is wrong with the description of a lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A name has other characters or another length than allowed.
    #[error("{value:?} is no {what}: {rule}")]
    Name {
        /// What kind of name it should be.
        what: &'static str,
        /// What was written.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// The subnet is not a private /24.
    #[error("{0:?} is no subnet for a lab: write a private /24 such as 10.77.0.0/24")]
    Subnet(String),
    /// Two hosts, users, volumes or devices have the same name or address.
    #[error("{what} {value} appears twice")]
    Duplicate {
        /// What appears twice.
        what: &'static str,
        /// The name or address.
        value: String,
    },
    /// An address lies outside the subnet or is one that the lab needs itself.
    #[error(
        "address {address} of host {host} cannot be used: take one from .2 to .254 of {subnet}"
    )]
    Address {
        /// The host.
        host: HostName,
        /// Its address.
        address: Ipv4Addr,
        /// The lab's subnet.
        subnet: Subnet,
    },
    /// All addresses of the subnet are taken.
    #[error("subnet {0} has no address left")]
    SubnetFull(Subnet),
    /// A volume's size is zero, too large or not a multiple of 512 bytes.
    #[error("volume {volume} of host {host} has {size_bytes} bytes: take a multiple of 512 up to {max}", max = MAX_VOLUME_BYTES)]
    VolumeSize {
        /// The host.
        host: HostName,
        /// The volume.
        volume: VolumeName,
        /// Its size.
        size_bytes: u64,
    },
    /// The lab exists and was made with other settings.
    #[error(
        "lab {lab} exists with another {what}: remove it first with `provision lab down {lab}`"
    )]
    Changed {
        /// The lab.
        lab: LabName,
        /// What differs.
        what: String,
    },
}

/// The largest volume, which is a sparse file: 16 TiB, the limit of a file on ext4.
pub const MAX_VOLUME_BYTES: u64 = 16 << 40;

/// The lowest last octet that is given to hosts without an address of their own.
const FIRST_OCTET: u8 = 11;

/// A private /24 network. Its .1 belongs to the lab's bridge, where the controller sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet([u8; 3]);

impl Subnet {
    /// The address of the bridge, from which the controller reaches the hosts.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address with this last octet.
    #[must_use]
    pub fn address(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Whether a host may have this address.
    #[must_use]
    pub fn admits(self, address: Ipv4Addr) -> bool {
        let [a, b, c, last] = address.octets();
        [a, b, c] == self.0 && (2..=254).contains(&last)
    }
}

impl Default for Subnet {
    fn default() -> Self {
        Self([10, 77, 0])
    }
}

impl FromStr for Subnet {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        text.strip_suffix("/24")
            .and_then(|address| address.parse::<Ipv4Addr>().ok())
            .filter(|address| address.is_private() && address.octets()[3] == 0)
            .map(|address| {
                let [a, b, c, _] = address.octets();
                Self([a, b, c])
            })
            .ok_or_else(|| SpecError::Subnet(text.to_owned()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.address(0))
    }
}

/// A lab: hosts in one network of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSpec {
    /// The lab's name, unique on this machine.
    pub name: LabName,
    /// The lab's network. Two labs may have the same one, as their networks never meet.
    #[serde(default)]
    pub subnet: Subnet,
    /// What the local package repository offers, each with all that it depends on.
    #[serde(default)]
    pub packages: Vec<PackageName>,
    /// The hosts.
    pub hosts: Vec<LabHost>,
}

/// One host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabHost {
    /// Its name and host name.
    pub name: HostName,
    /// Its address; the next free one when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Accounts beside root, which is always there and lets the lab's key in.
    #[serde(default)]
    pub users: Vec<LabUser>,
    /// Blank disks.
    #[serde(default)]
    pub volumes: Vec<LabVolume>,
}

/// An account on a host, into which the lab's key lets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabUser {
    /// The account's name.
    pub name: UserName,
    /// What it may do with sudo.
    #[serde(default)]
    pub sudo: Sudo,
}

/// What an account may do with sudo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sudo {
    /// Nothing.
    #[default]
    None,
    /// Everything, without being asked for a password.
    NoPassword,
    /// Everything, after giving this password. A lab's passwords are no secrets.
    Password(String),
}

/// A blank disk of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabVolume {
    /// The volume's name, unique in its host.
    pub name: VolumeName,
    /// Its size. The file behind it is sparse, so only what is written takes space.
    pub size_bytes: u64,
    /// Where the host sees it.
    pub device: DevicePath,
}

impl LabHost {
    /// A host without users or volumes, which gets the next free address.
    #[must_use]
    pub fn named(name: HostName) -> Self {
        Self {
            name,
            address: None,
            users: Vec::new(),
            volumes: Vec::new(),
        }
    }

    /// The last octet of the address; it also names the host's port on the bridge.
    pub(super) fn octet(&self) -> u8 {
        self.address.map_or(0, |address| address.octets()[3])
    }

    fn check(&self) -> Result<(), SpecError> {
        unique("user", self.users.iter().map(|user| &user.name))?;
        unique("volume", self.volumes.iter().map(|volume| &volume.name))?;
        unique("device", self.volumes.iter().map(|volume| &volume.device))?;
        let odd = |volume: &&LabVolume| {
            volume.size_bytes == 0
                || !volume.size_bytes.is_multiple_of(512)
                || volume.size_bytes > MAX_VOLUME_BYTES
        };
        if let Some(volume) = self.volumes.iter().find(odd) {
            return Err(SpecError::VolumeSize {
                host: self.name.clone(),
                volume: volume.name.clone(),
                size_bytes: volume.size_bytes,
            });
        }
        for user in &self.users {
            if let Sudo::Password(password) = &user.sudo
                && (password.is_empty() || password.contains(['\n', '\r', '\0']))
            {
                return Err(SpecError::Name {
                    what: "password",
                    value: password.clone(),
                    rule: "use at least one character and no line break",
                });
            }
        }
        Ok(())
    }
}

impl LabSpec {
    /// Joins this description with the lab that exists, and gives every host an address.
    ///
    /// Hosts that exist keep their addresses; hosts that only the existing lab has stay in it.
    ///
    /// # Errors
    /// When names, addresses or devices collide, or when the existing lab was made otherwise.
    pub fn resolve(&self, existing: Option<&Self>) -> Result<Self, SpecError> {
        unique("host", self.hosts.iter().map(|host| &host.name))?;
        self.hosts.iter().try_for_each(LabHost::check)?;
        let mut resolved = Self {
            hosts: Vec::new(),
            ..self.clone()
        };
        if let Some(existing) = existing {
            self.check_unchanged(existing)?;
            resolved.hosts.clone_from(&existing.hosts);
        }
        let known: BTreeSet<_> = resolved
            .hosts
            .iter()
            .map(|host| host.name.clone())
            .collect();
        resolved.hosts.extend(
            self.hosts
                .iter()
                .filter(|host| !known.contains(&host.name))
                .cloned(),
        );
        resolved.assign_addresses()?;
        Ok(resolved)
    }

    fn check_unchanged(&self, existing: &Self) -> Result<(), SpecError> {
        let changed = |what: String| {
            Err(SpecError::Changed {
                lab: self.name.clone(),
                what,
            })
        };
        if self.subnet != existing.subnet {
            return changed("subnet".to_owned());
        }
        if package_set(&self.packages) != package_set(&existing.packages) {
            return changed("list of packages".to_owned());
        }
        for host in &self.hosts {
            let Some(before) = existing
                .hosts
                .iter()
                .find(|before| before.name == host.name)
            else {
                continue;
            };
            let same_address = host.address.is_none() || host.address == before.address;
            if !same_address || host.users != before.users || host.volumes != before.volumes {
                return changed(format!("host {}", host.name));
            }
        }
        Ok(())
    }

    fn assign_addresses(&mut self) -> Result<(), SpecError> {
        let mut taken = BTreeSet::new();
        for host in &self.hosts {
            let Some(address) = host.address else {
                continue;
            };
            if !self.subnet.admits(address) {
                return Err(SpecError::Address {
                    host: host.name.clone(),
                    address,
                    subnet: self.subnet,
                });
            }
            if !taken.insert(address) {
                return Err(SpecError::Duplicate {
                    what: "address",
                    value: address.to_string(),
                });
            }
        }
        for host in self.hosts.iter_mut().filter(|host| host.address.is_none()) {
            let free = (FIRST_OCTET..=254)
                .chain(2..FIRST_OCTET)
                .map(|last| self.subnet.address(last))
                .find(|address| !taken.contains(address))
                .ok_or(SpecError::SubnetFull(self.subnet))?;
            taken.insert(free);
            host.address = Some(free);
        }
        Ok(())
    }
}

/// The packages without order and repetition, as they decide which repository serves.
pub(super) fn package_set(packages: &[PackageName]) -> BTreeSet<&PackageName> {
    packages.iter().collect()
}

fn unique<T: Ord + fmt::Display>(
    what: &'static str,
    values: impl Iterator<Item = T>,
) -> Result<(), SpecError> {
    let mut seen = BTreeSet::new();
    for value in values {
        let shown = value.to_string();
        if !seen.insert(value) {
            return Err(SpecError::Duplicate { what, value: shown });
        }
    }
    Ok(())
}
