//! A picture of a fleet: groups, hosts, ports and data paths.
//!
//! Goes in: what every host shall be. Comes out: a [`Graph`], as SVG, Mermaid or JSON. Invariant:
//! ports and paths are read from the files that would be put on the hosts, so the picture shows
//! what will be there and nothing else; no host is asked.

mod mermaid;
mod svg;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::fleet::Fleet;
use crate::plan::Desired;

/// Ports at which a platform takes telemetry from outside.
const TELEMETRY_PORTS: [u16; 2] = [4317, 4318];

/// A picture of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    /// The environment.
    pub title: String,
    /// Its groups, from where telemetry comes in to where it ends.
    pub groups: Vec<GroupNode>,
    /// Who sends to whom.
    pub paths: Vec<DataPath>,
    /// The ports at which programs outside send, by group.
    pub entries: BTreeMap<String, BTreeSet<u16>>,
}

/// A group of hosts.
#[derive(Clone, Debug, Serialize)]
pub struct GroupNode {
    /// Its name.
    pub name: String,
    /// How many groups telemetry passes before it.
    pub layer: usize,
    /// Its hosts, in order.
    pub hosts: Vec<HostNode>,
}

/// A host.
#[derive(Clone, Debug, Serialize)]
pub struct HostNode {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The ports at which it listens for others.
    pub ports: BTreeSet<u16>,
    /// Where its volumes are mounted.
    pub volumes: Vec<String>,
    /// It is drawn as one that a plan changes.
    #[serde(skip)]
    pub changes: bool,
}

/// One group sends to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataPath {
    /// The group that sends.
    pub from: String,
    /// The group that is sent to.
    pub to: String,
    /// At these ports.
    pub ports: BTreeSet<u16>,
}

impl Graph {
    /// What the files of all hosts say.
    #[must_use]
    pub fn of(fleet: &Fleet, desired: &Desired) -> Self {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let mut group_of: BTreeMap<&str, &str> = BTreeMap::new();
        for host in &fleet.hosts {
            owners.insert(host.name(), host.name());
            owners.extend(host.host.address.as_deref().map(|at| (at, host.name())));
            group_of.extend(
                host.groups
                    .first()
                    .map(|group| (host.name(), group.as_str())),
            );
        }
        let mut ports: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        let mut paths: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
        for host in &desired.hosts {
            let own = host.host.name();
            let resources = host.plays.iter().flat_map(|play| &play.resources);
            for (at, port) in resources.filter_map(|one| one.text()).flat_map(sockets) {
                if is_everywhere(at) {
                    ports.entry(own).or_default().insert(port);
                    continue;
                }
                let Some(to) = owners.get(at).filter(|to| **to != own) else {
                    continue;
                };
                if let (Some(from), Some(to)) = (group_of.get(own), group_of.get(to)) {
                    let path = ((*from).to_owned(), (*to).to_owned());
                    paths.entry(path).or_default().insert(port);
                }
            }
        }
        let paths: Vec<DataPath> = paths
            .into_iter()
            .map(|((from, to), ports)| DataPath { from, to, ports })
            .collect();
        Self::arranged(fleet, &ports, paths)
    }

    fn arranged(
        fleet: &Fleet,
        ports: &BTreeMap<&str, BTreeSet<u16>>,
        paths: Vec<DataPath>,
    ) -> Self {
        let names: Vec<&str> = fleet.groups.keys().map(|name| name.as_str()).collect();
        let layers = layers(&names, &paths);
        let mut groups: Vec<GroupNode> = names
            .iter()
            .map(|name| GroupNode {
                name: (*name).to_owned(),
                layer: layers[name],
                hosts: fleet
                    .group_hosts(name)
                    .map(|host| HostNode {
                        name: host.name().to_owned(),
                        address: host.host.address.clone().unwrap_or_default(),
                        ports: ports.get(host.name()).cloned().unwrap_or_default(),
                        volumes: host
                            .volumes
                            .values()
                            .map(|(one, _)| one.mount.clone())
                            .collect(),
                        changes: false,
                    })
                    .collect(),
            })
            .collect();
        groups.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
        let entries = groups
            .iter()
            .filter(|group| !paths.iter().any(|path| path.to == group.name))
            .filter_map(|group| {
                let open = group.hosts.iter().flat_map(|host| &host.ports);
                let open: BTreeSet<u16> = open
                    .filter(|port| TELEMETRY_PORTS.contains(port))
                    .copied()
                    .collect();
                (!open.is_empty()).then(|| (group.name.clone(), open))
            })
            .collect();
        Self {
            title: fleet.environment.name.to_string(),
            groups,
            paths,
            entries,
        }
    }

    /// Has these hosts be drawn as ones that a plan changes.
    pub fn mark(&mut self, hosts: &BTreeSet<&str>) {
        for host in self.groups.iter_mut().flat_map(|group| &mut group.hosts) {
            host.changes = hosts.contains(host.name.as_str());
        }
    }

    /// As an image that needs no other file.
    #[must_use]
    pub fn to_svg(&self) -> String {
        svg::render(self)
    }

    /// As text for Markdown pages.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self)
    }
}

/// How many groups stand before each; a circle is cut where it is met.
fn layers<'a>(names: &[&'a str], paths: &[DataPath]) -> BTreeMap<&'a str, usize> {
    let mut layers: BTreeMap<&str, usize> = names.iter().map(|name| (*name, 0)).collect();
    // The longest way has as many steps as there are groups, unless there is a circle.
    for _ in 0..names.len() {
        for path in paths.iter().filter(|path| path.from != path.to) {
            let from = layers.get(path.from.as_str()).copied().unwrap_or(0);
            if let Some(to) = layers.get_mut(path.to.as_str())
                && *to <= from
                && from + 1 < names.len()
            {
                *to = from + 1;
            }
        }
    }
    layers
}

/// The ports of a list, for people.
fn list(ports: &BTreeSet<u16>) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(", ")
}

fn is_everywhere(address: &str) -> bool {
    matches!(address, "0.0.0.0" | "::" | "*" | "")
}

/// Every `address:port` of a configuration, without those in comments.
fn sockets(text: &str) -> Vec<(&str, u16)> {
    let part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '*');
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c| !part(c)))
        .filter_map(|word| {
            let (address, port) = word.rsplit_once(':')?;
            let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
            let inside = address
                .strip_prefix('[')
                .and_then(|one| one.strip_suffix(']'));
            Some((inside.unwrap_or(address), port))
        })
        .collect()
}

#[cfg(test)]
mod tests;
