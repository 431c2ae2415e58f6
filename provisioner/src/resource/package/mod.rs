//! Debian packages.
//!
//! Goes in: `package = { name | names, version }`. Comes out: the packages, installed. Invariant:
//! what the operator holds is left as it is; nothing is upgraded unless a version is given.

use provision_protocol::fact::{Fact, Query, query};
use provision_protocol::operation::{Adopt, InstallPackages, ManifestKind, operation};

use super::change::{Action, Change, Detail, Refusal};
use super::{HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{Location, Section};

/// How long apt's locks are waited for when the playbook does not say, in seconds.
pub(super) const LOCK_TIMEOUT_SECONDS: u32 = 300;

pub(super) const KIND: Kind = Kind {
    name: "package",
    summary: "Debian packages, installed",
    parse: |section| Some(Box::new(PackageSpec::parse(section)?)),
};

#[derive(Clone, Debug)]
struct PackageSpec {
    names: Vec<String>,
    version: Option<String>,
}

impl PackageSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let mut entries = section.strings("names");
        entries.extend(section.string("name"));
        let version = section.string("version");
        if entries.is_empty() {
            section.error(
                "`name` is missing",
                Some("package = { name = \"haproxy\" }".to_owned()),
            );
            return None;
        }
        for entry in &entries {
            let sound = entry.value.len() > 1
                && entry
                    .value
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c))
                && entry.value.starts_with(|c: char| c.is_ascii_alphanumeric());
            if !sound {
                let message = format!("`{}` is no name of a Debian package", entry.value);
                section.error_at(&entry.location, message, None);
            }
        }
        if let Some(version) = version.as_ref().filter(|_| entries.len() != 1) {
            section.error_at(&version.location, "`version` goes with one `name`", None);
        }
        Some(Self {
            names: entries.into_iter().map(|entry| entry.value).collect(),
            version: version.map(|entry| entry.value),
        })
    }
}

impl Spec for PackageSpec {
    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(Package {
            id: format!("package {}", self.names.join(" ")),
            spec: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct Package {
    id: String,
    spec: PackageSpec,
}

impl Resource for Package {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        let names = self.spec.names.iter();
        names
            .map(|name| thing(ManifestKind::Package, name))
            .collect()
    }

    fn queries(&self) -> Vec<Query> {
        let query = |name: &String| Query {
            kind: Some(query::Kind::Package(name.clone())),
        };
        self.spec.names.iter().map(query).collect()
    }

    fn diff(&self, facts: &[Fact], observed: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let mut change = Change::new(Action::Install);
        let mut wanted = Vec::new();
        for (index, name) in self.spec.names.iter().enumerate() {
            let fact = fact::package(facts, index)?;
            let installed = fact.installed_version.as_str();
            let version = self.spec.version.as_deref();
            let right = !installed.is_empty() && version.is_none_or(|wanted| wanted == installed);
            if right && !fact.broken {
                continue;
            }
            if fact.held {
                return Err(Refusal::new(format!(
                    "package {name} is held by the operator at {}",
                    if installed.is_empty() {
                        "not installed"
                    } else {
                        installed
                    }
                ))
                .hint(format!(
                    "`apt-mark unhold {name}` on the host, or leave it out of the playbook"
                )));
            }
            let to = version.unwrap_or("the version that apt offers");
            change.details.push(match installed {
                "" => Detail::set(name, to),
                _ if fact.broken => {
                    Detail::changed(name, format!("{installed}, half-configured"), to)
                }
                _ => Detail::changed(name, installed, to),
            });
            wanted
                .push(version.map_or_else(|| name.clone(), |version| format!("{name}={version}")));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        if !matches!(observed.hello.os_id.as_str(), "debian" | "ubuntu") {
            return Err(Refusal::new(format!(
                "packages are installed with apt, and this host runs `{}`",
                observed.hello.os_id
            )));
        }
        change.opaque = true;
        change.irreversible = true;
        change.step(operation::Kind::InstallPackages(InstallPackages {
            packages: wanted,
            lock_timeout_seconds: LOCK_TIMEOUT_SECONDS,
        }));
        Ok(Some(change))
    }
}
