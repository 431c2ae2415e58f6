//! Where the machines are.
//!
//! Goes in: `inventories/NAME.toml`. Comes out: an [`Inventory`], and every mistake in it with
//! its place. Invariant: every host of an inventory is in at least one group.

mod group;
mod host;
mod pin;
mod provider;

pub use group::{Group, Volume};
pub use host::{Become, Bootstrap, Host, SshSettings, VolumeIdentity};
pub use pin::pin_host_key;
pub use provider::{CloudSettings, LabSettings, LabUser, Provider};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::{Diagnostics, Location, Name, Section, Source, suggestion, with_document};

/// One inventory file.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The file's name without its extension.
    pub name: Name,
    /// Who provides the machines.
    pub provider: Provider,
    /// All hosts by name.
    pub hosts: BTreeMap<Name, Host>,
    /// All groups by name.
    pub groups: BTreeMap<Name, Group>,
}

impl Inventory {
    /// Reads an inventory; mistakes go to `diagnostics`, and what is right is returned all the
    /// same, so that what refers to it can be checked too.
    pub fn parse(name: Name, source: &Arc<Source>, diagnostics: &Diagnostics) -> Option<Self> {
        with_document(source, diagnostics, |section| {
            Self::from_section(name, section, diagnostics)
        })
    }

    pub(crate) fn from_section(
        name: Name,
        section: Section<'_>,
        diagnostics: &Diagnostics,
    ) -> Option<Self> {
        let provider = Provider::parse(&section);
        let ssh = SshSettings::parse(section.section("ssh"), &SshSettings::default());
        let mut hosts = BTreeMap::new();
        if let Some(table) = section.section("hosts") {
            for key in table.keys() {
                let Some(child) = table.section(&key.value) else {
                    continue;
                };
                add_host(
                    &mut hosts,
                    &key.value,
                    &key.location,
                    child,
                    &ssh,
                    diagnostics,
                );
            }
        }
        let mut groups = BTreeMap::new();
        section.require(
            "groups",
            Some("every host belongs to a group: [groups.gateways.hosts]"),
        );
        if let Some(table) = section.section("groups") {
            for key in table.keys() {
                let Some(child) = table.section(&key.value) else {
                    continue;
                };
                let Some(name) = parse_name(&key.value, &key.location, diagnostics) else {
                    continue;
                };
                let group = Group::parse(name.clone(), child, &ssh, &mut hosts, diagnostics);
                groups.insert(name, group);
            }
        }
        check_membership(&hosts, &groups, diagnostics);
        let sized_by_tier = matches!(provider, Some(Provider::Cloud(_)) | None);
        for group in groups.values() {
            if group.members.is_empty() && !(sized_by_tier && group.role.is_some()) {
                let message = format!("group `{}` has no hosts", group.name);
                diagnostics.error(group.location.clone(), message, None);
            }
        }
        section.finish();
        Some(Self {
            name,
            provider: provider?,
            hosts,
            groups,
        })
    }
}

fn parse_name(text: &str, location: &Location, diagnostics: &Diagnostics) -> Option<Name> {
    match text.parse() {
        Ok(name) => Some(name),
        Err(message) => {
            diagnostics.error(location.clone(), message, None);
            None
        }
    }
}

fn add_host(
    hosts: &mut BTreeMap<Name, Host>,
    key: &str,
    location: &Location,
    section: Section<'_>,
    ssh: &SshSettings,
    diagnostics: &Diagnostics,
) -> Option<Name> {
    let name = parse_name(key, location, diagnostics)?;
    let host = Host::parse(name.clone(), location.clone(), section, ssh);
    if let Some(other) = hosts.get(&name) {
        let message = format!("host `{name}` is described a second time");
        diagnostics.error(
            location.clone(),
            message,
            Some(format!("first at {}", other.location)),
        );
        return None;
    }
    hosts.insert(name.clone(), host);
    Some(name)
}

fn check_membership(
    hosts: &BTreeMap<Name, Host>,
    groups: &BTreeMap<Name, Group>,
    diagnostics: &Diagnostics,
) {
    for group in groups.values() {
        for (member, location) in &group.members {
            if !hosts.contains_key(member) {
                let message = format!(
                    "group `{}` names a host `{member}` that is not described",
                    group.name
                );
                let hint = suggestion(member.as_str(), hosts.keys().map(Name::as_str));
                diagnostics.error(location.clone(), message, hint);
            }
        }
    }
    for host in hosts.values() {
        let is_member = |group: &Group| group.members.iter().any(|(name, _)| *name == host.name);
        if !groups.values().any(is_member) {
            let hint = match groups.keys().next() {
                Some(group) => format!(
                    "name it in a group: [groups.{group}] hosts = [\"{}\"]",
                    host.name
                ),
                None => "describe a group that names it".to_owned(),
            };
            diagnostics.error(
                host.location.clone(),
                format!(
                    "host `{}` is in no group, so nothing would ever be done on it",
                    host.name
                ),
                Some(hint),
            );
        }
    }
}
