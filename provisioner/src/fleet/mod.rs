//! Which hosts there are, with all that is known about them before any is asked.
//!
//! Goes in: an environment, its inventories and its tier. Comes out: a [`Fleet`]. Invariant: no
//! network; only the project's files are read.

mod environment;
mod project;
mod settings;
mod tier;

pub use environment::{ArtifactOrigin, ArtifactSource, Environment, TlsMode};
pub use project::Project;
pub use settings::{Override, dotted_keys, merge};
pub(crate) use tier::read_tiers;
pub use tier::{Role, Tier, parse_tiers};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::document::{Diagnostics, Name, suggestion};
use crate::error::{Error, Result};
use crate::inventory::{CloudSettings, Group, Host, Inventory, Provider, Volume, VolumeIdentity};
use crate::tls::Certificates;

/// All hosts of an environment.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The environment.
    pub environment: Environment,
    /// The tier that sizes it.
    pub tier: Tier,
    /// All hosts, in the order of their groups.
    pub hosts: Vec<FleetHost>,
    /// The names of the hosts of each group, in order.
    pub groups: BTreeMap<Name, Vec<Name>>,
    /// The providers, by the name of the inventory.
    pub providers: BTreeMap<Name, Provider>,
    /// The environment's certificates, where `provision tls` made some.
    pub certificates: Certificates,
    /// Where each host stands in `hosts`.
    positions: BTreeMap<Name, usize>,
}

/// One host with its variables.
#[derive(Clone, Debug)]
pub struct FleetHost {
    /// The host as the inventory describes it.
    pub host: Host,
    /// The inventory that describes it.
    pub inventory: Name,
    /// Its groups, in the order of the alphabet.
    pub groups: Vec<Name>,
    /// The size of its role in the tier; absent when none of its groups has a role.
    pub role: Option<(String, Role)>,
    /// The instance type, where a cloud makes it.
    pub instance_type: Option<String>,
    /// Tier, environment, group and host, merged in this order.
    pub known_settings: Value,
    /// The same with `--set` over it.
    pub settings: Value,
    /// Its volumes and what identifies them here.
    pub volumes: BTreeMap<Name, (Volume, VolumeIdentity)>,
}

/// What `inventory show` prints of a host.
#[derive(Clone, Debug, Serialize)]
pub struct HostSummary {
    /// Its name.
    pub name: String,
    /// The inventory that describes it.
    pub inventory: String,
    /// Who provides it.
    pub provider: &'static str,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its address.
    pub address: Option<String>,
    /// The instance type, where a cloud makes it.
    pub instance_type: Option<String>,
    /// The size of its role.
    pub role: Option<Role>,
    /// Its variables.
    pub settings: Value,
}

impl Fleet {
    /// Puts the parts together.
    #[must_use]
    pub fn build(
        environment: Environment,
        tier: Tier,
        inventories: Vec<Inventory>,
        overrides: &[Override],
        diagnostics: &Diagnostics,
    ) -> Self {
        let mut fleet = Self {
            environment,
            tier,
            hosts: Vec::new(),
            groups: BTreeMap::new(),
            providers: BTreeMap::new(),
            certificates: Certificates::default(),
            positions: BTreeMap::new(),
        };
        let mut inventories = inventories;
        for inventory in &mut inventories {
            fleet.size_groups(inventory);
            fleet.add_inventory(inventory, overrides, diagnostics);
        }
        for inventory in inventories {
            fleet.providers.insert(inventory.name, inventory.provider);
        }
        fleet
    }

    /// A host by name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&FleetHost> {
        let position = self.positions.get(name)?;
        self.hosts.get(*position)
    }

    /// The hosts of a group, in order.
    pub fn group_hosts<'a>(&'a self, group: &str) -> impl Iterator<Item = &'a FleetHost> + use<'a> {
        let names = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| self.host(name.as_str()))
    }

    /// The names of the hosts that `--limit` leaves; all without it.
    ///
    /// # Errors
    /// It names neither a host nor a group.
    pub fn limited(&self, limits: &[String]) -> Result<Vec<String>> {
        for limit in limits {
            let group = self.groups.keys().any(|name| name.as_str() == limit);
            if !group && self.host(limit).is_none() {
                let known = self.hosts.iter().map(FleetHost::name);
                let known = known.chain(self.groups.keys().map(Name::as_str));
                let hint = suggestion(limit, known);
                let error = Error::usage(format!(
                    "--limit names `{limit}`, which is neither a host nor a group"
                ));
                return Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
        }
        let is_left = |host: &&FleetHost| {
            let names = || host.groups.iter().map(Name::as_str).chain([host.name()]);
            limits.is_empty() || names().any(|name| limits.iter().any(|limit| limit == name))
        };
        let left = self.hosts.iter().filter(is_left);
        Ok(left.map(|host| host.name().to_owned()).collect())
    }

    /// Who provides a host.
    #[must_use]
    pub fn provider(&self, host: &FleetHost) -> Option<&Provider> {
        self.providers.get(&host.inventory)
    }

    /// What `inventory show` prints.
    #[must_use]
    pub fn summaries(&self) -> Vec<HostSummary> {
        self.hosts
            .iter()
            .map(|host| HostSummary {
                name: host.host.name.to_string(),
                inventory: host.inventory.to_string(),
                provider: self.provider(host).map_or("", Provider::kind),
                groups: host.groups.iter().map(ToString::to_string).collect(),
                address: host.host.address.clone(),
                instance_type: host.instance_type.clone(),
                role: host.role.as_ref().map(|(_, role)| role.clone()),
                settings: host.settings.clone(),
            })
            .collect()
    }

    /// The part of a template's context that is equal for all hosts.
    #[must_use]
    pub fn shared_context(&self) -> Map<String, Value> {
        let groups: Map<String, Value> = self
            .groups
            .keys()
            .map(|name| {
                let hosts = self
                    .group_hosts(name.as_str())
                    .map(FleetHost::context)
                    .collect();
                (name.to_string(), Value::Array(hosts))
            })
            .collect();
        let mut tls = json!(self.certificates);
        let mode = self.environment.tls.as_ref();
        tls["mode"] = json!(mode.map_or(TlsMode::Off, |mode| mode.value).word());
        let (name, events) = (self.tier.name.as_str(), self.tier.events_per_second);
        let variables = [
            ("environment", json!(self.environment.name.as_str())),
            ("tier", json!({ "name": name, "events_per_second": events })),
            ("groups", Value::Object(groups)),
            ("tls", tls),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }

    fn add_inventory(
        &mut self,
        inventory: &Inventory,
        overrides: &[Override],
        diagnostics: &Diagnostics,
    ) {
        for group in inventory.groups.values() {
            let names = self.groups.entry(group.name.clone()).or_default();
            names.extend(group.members.iter().map(|(name, _)| name.clone()));
            self.check_role(group, diagnostics);
        }
        for group in inventory.groups.values() {
            for (name, _) in &group.members {
                let Some(host) = inventory.hosts.get(name) else {
                    continue;
                };
                if let Some(known) = self.host(name.as_str()) {
                    if known.inventory != inventory.name {
                        let message =
                            format!("host `{name}` is also in inventory `{}`", known.inventory);
                        diagnostics.error(host.location.clone(), message, None);
                    }
                    continue;
                }
                let host = self.resolve_host(inventory, host, overrides, diagnostics);
                self.positions.insert(name.clone(), self.hosts.len());
                self.hosts.push(host);
            }
        }
    }

    /// Gives groups of a cloud that have no hosts as many as their role has in the tier.
    fn size_groups(&self, inventory: &mut Inventory) {
        for group in inventory
            .groups
            .values_mut()
            .filter(|group| group.members.is_empty())
        {
            let Some(role) = &group.role else { continue };
            let sized = self
                .tier
                .roles
                .iter()
                .find(|(name, _)| name.as_str() == role.value);
            for number in 1..=sized.map_or(0, |(_, role)| role.instances) {
                let Ok(name) = format!("{}-{number}", group.name).parse::<Name>() else {
                    break;
                };
                let host =
                    Host::without_address(name.clone(), group.location.clone(), group.ssh.clone());
                inventory.hosts.entry(name.clone()).or_insert(host);
                group.members.push((name, group.location.clone()));
            }
        }
    }

    fn check_role(&self, group: &crate::inventory::Group, diagnostics: &Diagnostics) {
        let Some(role) = &group.role else { return };
        let roles = &self.tier.roles;
        let known = roles.keys().any(|known| known.as_str() == role.value);
        // A tier without roles is a mistake that was found before.
        if !known && !roles.is_empty() {
            let message = format!("tier `{}` has no role `{}`", self.tier.name, role.value);
            let hint = suggestion(&role.value, self.tier.roles.keys().map(Name::as_str));
            diagnostics.error(role.location.clone(), message, hint);
        }
    }

    fn resolve_host(
        &self,
        inventory: &Inventory,
        host: &Host,
        overrides: &[Override],
        diagnostics: &Diagnostics,
    ) -> FleetHost {
        let groups: Vec<_> = inventory
            .groups
            .values()
            .filter(|group| group.members.iter().any(|(name, _)| *name == host.name))
            .collect();
        check_roles(host, &groups, diagnostics);
        let role = groups.iter().find_map(|group| {
            let role = group.role.as_ref()?;
            let figures = self
                .tier
                .roles
                .iter()
                .find(|(name, _)| name.as_str() == role.value)?;
            Some((role.value.clone(), figures.1.clone()))
        });
        let mut settings = self.tier.settings.clone();
        if let Some((_, role)) = &role {
            merge(&mut settings, &role.settings);
        }
        merge(&mut settings, &self.environment.settings);
        for group in &groups {
            merge(&mut settings, &group.settings);
        }
        merge(&mut settings, &host.settings);
        let known = settings.clone();
        for one in overrides {
            one.apply(&mut settings);
        }
        let instance_type = match &inventory.provider {
            Provider::Cloud(CloudSettings { kind, .. }) => groups
                .iter()
                .find_map(|group| group.instance_type.clone())
                .or_else(|| role.as_ref()?.1.instance_types.get(*kind).cloned()),
            Provider::OnPrem | Provider::Lab(_) => None,
        };
        FleetHost {
            host: host.clone(),
            inventory: inventory.name.clone(),
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            role,
            instance_type,
            known_settings: known,
            settings,
            volumes: volumes_of(host, &groups, diagnostics),
        }
    }
}

/// The volumes of a host's groups, with what identifies them on this host.
fn volumes_of(
    host: &Host,
    groups: &[&Group],
    diagnostics: &Diagnostics,
) -> BTreeMap<Name, (Volume, VolumeIdentity)> {
    let mut volumes = BTreeMap::new();
    for volume in groups.iter().flat_map(|group| group.volumes.values()) {
        let mut identity = host.volumes.get(&volume.name).cloned().unwrap_or_default();
        if identity.device.is_none() {
            identity.device.clone_from(&volume.device);
        }
        let name = volume.name.clone();
        if volumes.insert(name, (volume.clone(), identity)).is_some() {
            let message = format!(
                "host `{}` has a volume `{}` of another group too",
                host.name, volume.name
            );
            diagnostics.error(volume.location.clone(), message, None);
        }
    }
    for name in host
        .volumes
        .keys()
        .filter(|name| !volumes.contains_key(*name))
    {
        let message = format!(
            "host `{}` identifies a volume `{name}` that no group of it has",
            host.name
        );
        let hint = suggestion(name.as_str(), volumes.keys().map(Name::as_str));
        diagnostics.error(host.location.clone(), message, hint);
    }
    volumes
}

/// A host is of one size.
fn check_roles(host: &Host, groups: &[&Group], diagnostics: &Diagnostics) {
    let mut roles = groups.iter().filter_map(|group| group.role.as_ref());
    let Some(first) = roles.next() else { return };
    if let Some(other) = roles.find(|role| role.value != first.value) {
        let message = format!(
            "host `{}` is in groups with two roles, `{}` and `{}`",
            host.name, first.value, other.value
        );
        let hint = "give a role to one of its groups only".to_owned();
        diagnostics.error(host.location.clone(), message, Some(hint));
    }
}

impl FleetHost {
    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.name.as_str()
    }

    /// What templates see of a host, be it their own or another one.
    #[must_use]
    pub fn context(&self) -> Value {
        let volumes: Map<String, Value> = self
            .volumes
            .iter()
            .map(|(name, (volume, _))| {
                let value = json!({ "mount": volume.mount, "size_bytes": volume.size.0 });
                (name.to_string(), value)
            })
            .collect();
        // Where the inventory says nothing, `ssh_config` may; 22 is never wrong to have open.
        let ssh_ports: BTreeSet<u16> = [22].into_iter().chain(self.host.ssh.port).collect();
        json!({
            "name": self.name(),
            "address": self.host.address.as_deref().unwrap_or_default(),
            "groups": self.groups,
            "settings": self.settings,
            "ssh_ports": ssh_ports,
            "volumes": volumes,
        })
    }
}
