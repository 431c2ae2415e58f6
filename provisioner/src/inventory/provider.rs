//! Who provides the machines.
//!
//! Goes in: `provider` and the table of that name. Comes out: a [`Provider`]. Invariant: a table
//! of another provider in the same file is refused as an unknown key.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::document::{Name, Section};

/// Who provides the machines.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Machines that are there already.
    OnPrem,
    /// Throw-away hosts on this machine.
    Lab(LabSettings),
    /// A cloud: `aws`, `gcp` or `azure`.
    Cloud(CloudSettings),
}

/// What a lab needs to be made.
#[derive(Clone, Debug)]
pub struct LabSettings {
    /// Its name; several labs may stand beside each other.
    pub name: Name,
    /// The first address of its /24.
    pub subnet: Ipv4Addr,
    /// Debian packages that its hosts can install.
    pub packages: Vec<String>,
    /// Accounts beside root on every host.
    pub users: Vec<LabUser>,
}

/// An account on every host of a lab.
#[derive(Clone, Debug)]
pub struct LabUser {
    /// Its name.
    pub name: String,
    /// It may use sudo.
    pub sudo: bool,
    /// The password that sudo asks for; none asks for none.
    pub password: Option<String>,
}

/// Where a cloud makes machines.
#[derive(Clone, Debug)]
pub struct CloudSettings {
    /// `aws`, `gcp` or `azure`.
    pub kind: &'static str,
    /// What the cloud's table says, by key.
    pub values: BTreeMap<String, String>,
    /// Lists of the cloud's table, by key.
    pub lists: BTreeMap<String, Vec<String>>,
}

struct CloudSchema {
    kind: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    lists: &'static [&'static str],
}

const CLOUDS: &[CloudSchema] = &[
    CloudSchema {
        kind: "aws",
        required: &["region"],
        optional: &["image", "key_name", "subnet", "profile"],
        lists: &["security_groups", "availability_zones"],
    },
    CloudSchema {
        kind: "gcp",
        required: &["project", "zone"],
        optional: &["image", "network", "subnetwork", "service_account"],
        lists: &["network_tags"],
    },
    CloudSchema {
        kind: "azure",
        required: &["subscription", "resource_group", "location"],
        optional: &["image", "virtual_network", "subnet", "ssh_key"],
        lists: &["zones"],
    },
];

impl Provider {
    /// The word that stands in the file.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::OnPrem => "on-prem",
            Self::Lab(_) => "lab",
            Self::Cloud(cloud) => cloud.kind,
        }
    }

    pub(super) fn parse(section: &Section<'_>) -> Option<Self> {
        let words = ["on-prem", "lab", "aws", "gcp", "azure"].map(|word| (word, word));
        section.require("provider", Some("one of on-prem, aws, gcp, azure and lab"));
        let kind = section.choice("provider", &words)?;
        if let Some(schema) = CLOUDS.iter().find(|schema| schema.kind == kind) {
            return Some(Self::Cloud(parse_cloud(schema, section)));
        }
        if kind == "on-prem" {
            return Some(Self::OnPrem);
        }
        if !section.has("lab") {
            section.error(
                "`[lab]` is missing",
                Some("[lab] name = \"NAME\"".to_owned()),
            );
        }
        parse_lab(section.section("lab")?).map(Self::Lab)
    }
}

fn parse_cloud(schema: &CloudSchema, section: &Section<'_>) -> CloudSettings {
    let mut settings = CloudSettings {
        kind: schema.kind,
        values: BTreeMap::new(),
        lists: BTreeMap::new(),
    };
    let Some(table) = section.section(schema.kind) else {
        if !section.has(schema.kind) {
            section.error(
                format!("`[{}]` is missing", schema.kind),
                Some(format!("it takes {}", schema.required.join(", "))),
            );
        }
        return settings;
    };
    for key in schema.required {
        let value = table.require_string(key);
        settings
            .values
            .extend(value.map(|entry| ((*key).to_owned(), entry.value)));
    }
    for key in schema.optional {
        let value = table.string(key);
        settings
            .values
            .extend(value.map(|entry| ((*key).to_owned(), entry.value)));
    }
    for key in schema.lists {
        let list: Vec<String> = table
            .strings(key)
            .into_iter()
            .map(|entry| entry.value)
            .collect();
        if !list.is_empty() {
            settings.lists.insert((*key).to_owned(), list);
        }
    }
    table.finish();
    settings
}

fn parse_lab(section: Section<'_>) -> Option<LabSettings> {
    section.require("name", None);
    let name = section.parse::<Name>("name");
    let subnet = match section.string("subnet") {
        None => Some(Ipv4Addr::new(10, 77, 0, 0)),
        Some(text) => {
            let base = text
                .value
                .strip_suffix(".0/24")
                .map(|three| format!("{three}.0"));
            let parsed = base.and_then(|base| base.parse::<Ipv4Addr>().ok());
            if parsed.is_none() {
                section.error_at(
                    &text.location,
                    "`subnet` must be a private IPv4 network of 24 bits",
                    Some("for instance 10.77.0.0/24".to_owned()),
                );
            }
            parsed
        }
    };
    let packages = section
        .strings("packages")
        .into_iter()
        .map(|entry| entry.value)
        .collect();
    let users = section
        .sections("users")
        .into_iter()
        .filter_map(parse_lab_user)
        .collect();
    section.finish();
    Some(LabSettings {
        name: name?.value,
        subnet: subnet?,
        packages,
        users,
    })
}

fn parse_lab_user(section: Section<'_>) -> Option<LabUser> {
    let name = section.require_string("name");
    let user = LabUser {
        sudo: section.boolean("sudo").unwrap_or(true),
        password: section.string("password").map(|entry| entry.value),
        name: name.map(|entry| entry.value).unwrap_or_default(),
    };
    section.finish();
    (!user.name.is_empty()).then_some(user)
}
