//! A group: hosts that shall be alike.
//!
//! Goes in: a `[groups.NAME]` table. Comes out: a [`Group`], and its hosts in the inventory.
//! Invariant: members are in the order in which they are rolled out.

use std::collections::BTreeMap;

use super::host::{Host, SshSettings};
use super::{add_host, parse_name};
use crate::document::{ByteSize, Diagnostics, Entry, Location, Name, Section};

/// The most hosts that `count` may ask for.
const COUNT_LIMIT: i64 = 10_000;

/// Hosts that shall be alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// The role of the tier that sizes its hosts.
    pub role: Option<Entry<String>>,
    /// The instance type for hosts that a cloud makes, where not the tier's.
    pub instance_type: Option<String>,
    /// Variables for its hosts.
    pub settings: serde_json::Value,
    /// Its hosts, in order, each with the place that names it.
    pub members: Vec<(Name, Location)>,
    /// Volumes that each of its hosts has.
    pub volumes: BTreeMap<Name, Volume>,
    /// How its hosts are reached, where they do not say.
    pub ssh: SshSettings,
    /// Where it is described.
    pub location: Location,
}

/// A volume that each host of a group has.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// Its size in bytes.
    pub size: ByteSize,
    /// `ext4` or `xfs`.
    pub filesystem: String,
    /// Where it is mounted.
    pub mount: String,
    /// Mount options beside `nofail`.
    pub options: Vec<String>,
    /// The device node on every host, where no serial is given.
    pub device: Option<String>,
    /// Where it is described.
    pub location: Location,
}

impl Group {
    pub(super) fn parse(
        name: Name,
        section: Section<'_>,
        ssh: &SshSettings,
        hosts: &mut BTreeMap<Name, Host>,
        diagnostics: &Diagnostics,
    ) -> Self {
        let ssh = SshSettings::parse(section.section("ssh"), ssh);
        let mut group = Self {
            role: section.string("role"),
            instance_type: section.string("instance_type").map(|entry| entry.value),
            settings: section.json("settings"),
            members: Vec::new(),
            volumes: parse_volumes(&section, diagnostics),
            location: section.location(),
            ssh,
            name,
        };
        group.parse_members(&section, hosts, diagnostics);
        section.finish();
        group
    }

    fn parse_members(
        &mut self,
        section: &Section<'_>,
        hosts: &mut BTreeMap<Name, Host>,
        diagnostics: &Diagnostics,
    ) {
        let ssh = &self.ssh;
        let count = section.integer("count", 1..=COUNT_LIMIT);
        if section.is_table("hosts") {
            let Some(table) = section.section("hosts") else {
                return;
            };
            for key in table.keys() {
                let Some(child) = table.section(&key.value) else {
                    continue;
                };
                let added = add_host(hosts, &key.value, &key.location, child, ssh, diagnostics);
                self.members.extend(added.map(|name| (name, key.location)));
            }
        } else {
            for entry in section.strings("hosts") {
                let name = parse_name(&entry.value, &entry.location, diagnostics);
                self.members.extend(name.map(|name| (name, entry.location)));
            }
        }
        for number in 1..=count.as_ref().map_or(0, |entry| entry.value) {
            let Some(entry) = &count else { break };
            let text = format!("{}-{number}", self.name);
            let Some(name) = parse_name(&text, &entry.location, diagnostics) else {
                break;
            };
            hosts.entry(name.clone()).or_insert_with(|| {
                Host::without_address(name.clone(), entry.location.clone(), ssh.clone())
            });
            self.members.push((name, entry.location.clone()));
        }
    }
}

fn parse_volumes(section: &Section<'_>, diagnostics: &Diagnostics) -> BTreeMap<Name, Volume> {
    let mut volumes = BTreeMap::new();
    let Some(table) = section.section("volumes") else {
        return volumes;
    };
    for key in table.keys() {
        let Some(child) = table.section(&key.value) else {
            continue;
        };
        let Some(name) = parse_name(&key.value, &key.location, diagnostics) else {
            continue;
        };
        if let Some(volume) = parse_volume(name.clone(), key.location, child) {
            volumes.insert(name, volume);
        }
    }
    volumes
}

fn parse_volume(name: Name, location: Location, section: Section<'_>) -> Option<Volume> {
    let size = section.parse::<ByteSize>("size");
    section.require("size", None);
    let filesystem = section.choice("filesystem", &[("ext4", "ext4"), ("xfs", "xfs")]);
    let mount = section.require_string("mount");
    if let Some(mount) = mount.as_ref().filter(|mount| !is_mount_point(&mount.value)) {
        section.error_at(
            &mount.location,
            format!("`{}` is no place to mount a volume", mount.value),
            Some("an absolute path other than / without . and ..".to_owned()),
        );
        return None;
    }
    let mut options = Vec::new();
    for option in section.strings("options") {
        let text = &option.value;
        if text.is_empty() || text.contains([',', ' ', '\t', '\n']) {
            let hint = Some("one option a string: options = [\"noatime\", \"discard\"]".to_owned());
            section.error_at(
                &option.location,
                format!("`{text}` is no mount option"),
                hint,
            );
        } else if !["defaults", "nofail"].contains(&text.as_str()) {
            options.push(option.value);
        }
    }
    let device = section.string("device").map(|entry| entry.value);
    section.finish();
    Some(Volume {
        name,
        size: size?.value,
        filesystem: filesystem.unwrap_or("ext4").to_owned(),
        mount: mount?.value,
        options,
        device,
        location,
    })
}

fn is_mount_point(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.ends_with('/')
        && path[1..]
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(char::is_whitespace)
}
