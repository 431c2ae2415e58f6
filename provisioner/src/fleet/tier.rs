//! How large the parts of a platform are.
//!
//! Goes in: `environments/tiers.toml`. Comes out: [`Tier`]s. Invariant: a tier has every figure
//! that templates and systemd units need, for each role that it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::document::{ByteSize, Diagnostics, Name, Section, Source, with_document};

/// One size of platform.
#[derive(Clone, Debug, Serialize)]
pub struct Tier {
    /// `small`, `medium`, `large` or `xlarge`.
    pub name: Name,
    /// What it is made for.
    pub events_per_second: i64,
    /// Variables for all hosts; the lowest of the five levels.
    pub settings: serde_json::Value,
    /// The size of each role.
    pub roles: BTreeMap<Name, Role>,
}

impl Tier {
    /// Stands for a tier that is not described, so that the rest of a project can be checked.
    #[must_use]
    pub fn unknown(name: Name) -> Self {
        Self {
            name,
            events_per_second: 0,
            settings: serde_json::Value::Object(serde_json::Map::new()),
            roles: BTreeMap::new(),
        }
    }
}

/// The size of one role in a tier.
#[derive(Clone, Debug, Serialize)]
pub struct Role {
    /// How many hosts.
    pub instances: i64,
    /// Processors per host.
    pub cpus: i64,
    /// Memory per host.
    #[serde(rename = "memory_bytes")]
    pub memory: ByteSize,
    /// Disk per host.
    #[serde(rename = "disk_bytes")]
    pub disk: Option<ByteSize>,
    /// Instance types by cloud.
    pub instance_types: BTreeMap<String, String>,
    /// Variables for hosts of this role.
    pub settings: serde_json::Value,
    /// Memory in MiB, for templates.
    pub memory_mib: u64,
    /// 80 % of the memory in MiB: where a collector's `memory_limiter` stands.
    pub memory_limit_mib: u64,
    /// 20 % of that limit in MiB: how far a spike may reach.
    pub memory_spike_mib: u64,
    /// Processors in percent, as systemd's `CPUQuota` counts them.
    pub cpu_quota_percent: i64,
}

/// Reads all tiers.
pub fn parse_tiers(source: &Arc<Source>, diagnostics: &Diagnostics) -> BTreeMap<Name, Tier> {
    with_document(source, diagnostics, |section| read_tiers(&section))
}

pub(crate) fn read_tiers(section: &Section<'_>) -> BTreeMap<Name, Tier> {
    let mut tiers = BTreeMap::new();
    for key in section.keys() {
        let Some(child) = section.section(&key.value) else {
            continue;
        };
        match key.value.parse::<Name>() {
            Ok(name) => {
                tiers.insert(name.clone(), parse_tier(name, child));
            }
            Err(message) => section.error_at(&key.location, message, None),
        }
    }
    tiers
}

/// What is wrong is in the diagnostics; the rest is returned all the same, so that what refers to
/// the tier can be checked too.
fn parse_tier(name: Name, section: Section<'_>) -> Tier {
    let events_per_second = require_integer(&section, "events_per_second");
    let settings = section.json("settings");
    let mut roles = BTreeMap::new();
    if let Some(table) = section.section("roles") {
        for key in table.keys() {
            let Some(child) = table.section(&key.value) else {
                continue;
            };
            match key.value.parse::<Name>() {
                Ok(role) => {
                    roles.insert(role, parse_role(child));
                }
                Err(message) => table.error_at(&key.location, message, None),
            }
        }
    }
    if roles.is_empty() {
        section.error(format!("tier `{name}` has no roles"), None);
    }
    section.finish();
    Tier {
        name,
        events_per_second,
        settings,
        roles,
    }
}

fn parse_role(section: Section<'_>) -> Role {
    let instances = require_integer(&section, "instances");
    let cpus = require_integer(&section, "cpus");
    section.require("memory", None);
    let memory = section.parse::<ByteSize>("memory").map(|entry| entry.value);
    let disk = section.parse::<ByteSize>("disk").map(|entry| entry.value);
    let mut instance_types = BTreeMap::new();
    if let Some(table) = section.section("instance_types") {
        for cloud in ["aws", "gcp", "azure"] {
            let value = table.string(cloud);
            instance_types.extend(value.map(|entry| (cloud.to_owned(), entry.value)));
        }
        table.finish();
    }
    let settings = section.json("settings");
    section.finish();
    let memory = memory.unwrap_or(ByteSize(0));
    let memory_mib = memory.0 >> 20;
    let memory_limit_mib = memory_mib * 8 / 10;
    Role {
        instances,
        cpus,
        memory,
        disk,
        instance_types,
        settings,
        memory_mib,
        memory_limit_mib,
        memory_spike_mib: memory_limit_mib / 5,
        cpu_quota_percent: cpus.saturating_mul(100),
    }
}

/// A figure; 0 where it is missing, which is in the diagnostics.
fn require_integer(section: &Section<'_>, key: &str) -> i64 {
    section.require(key, None);
    section
        .integer(key, 0..=i64::MAX)
        .map_or(0, |entry| entry.value)
}
