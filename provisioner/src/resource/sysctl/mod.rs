//! A kernel parameter, now and after the next boot.
//!
//! Goes in: `sysctl = { key, value }`. Comes out: the value in the kernel, and a file below
//! `/etc/sysctl.d`. Invariant: a key that the kernel does not know is refused.

use provision_protocol::fact::{Fact, Query, query};
use provision_protocol::operation::{Adopt, ManifestKind, SetSysctl, operation};

use super::change::{Action, Change, Detail, Refusal, Step};
use super::file::ManagedFile;
use super::{Attributes, HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{Location, Section};

pub(super) const KIND: Kind = Kind {
    name: "sysctl",
    summary: "a kernel parameter, now and after the next boot",
    parse: |section| Some(Box::new(SysctlSpec::parse(section)?)),
};

#[derive(Debug)]
struct SysctlSpec {
    key: String,
    value: String,
    path: String,
}

impl SysctlSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let key = section.require_string("key");
        let values = section.scalars("value");
        if values.is_empty() {
            section.error("`value` is missing", None);
        }
        let value: Vec<String> = values.into_iter().map(|entry| entry.value).collect();
        if let Some(wrong) = key.as_ref().filter(|key| {
            let part = |part: &str| {
                !part.is_empty()
                    && part
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            };
            !key.value.contains('.') || !key.value.split('.').all(part)
        }) {
            let message = format!("`{}` is no key of a kernel parameter", wrong.value);
            section.error_at(
                &wrong.location,
                message,
                Some("for instance net.core.somaxconn".to_owned()),
            );
            return None;
        }
        let value = value
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let key = key?.value;
        Some(Self {
            path: format!("/etc/sysctl.d/60-{key}.conf"),
            key,
            value,
        })
    }
}

impl Spec for SysctlSpec {
    fn path(&self) -> Option<&str> {
        Some(&self.path)
    }

    fn resolve(&self, _: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        let text = format!("{} = {}\n", self.key, self.value);
        let attributes = Attributes {
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: 0o644,
        };
        Some(Box::new(Sysctl {
            id: format!("sysctl {}", self.key),
            key: self.key.clone(),
            value: self.value.clone(),
            file: ManagedFile::new(&self.path, text, attributes, context),
        }))
    }
}

#[derive(Debug)]
struct Sysctl {
    id: String,
    key: String,
    value: String,
    file: ManagedFile,
}

impl Resource for Sysctl {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        vec![thing(ManifestKind::Sysctl, &self.key), self.file.thing()]
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query {
                kind: Some(query::Kind::Sysctl(self.key.clone())),
            },
            self.file.query(),
        ]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let fact = fact::sysctl(facts, 0)?;
        if !fact.exists {
            return Err(Refusal::new(format!(
                "the kernel knows no parameter {}",
                self.key
            )));
        }
        let file = self.file.diff(fact::file(facts, 1)?)?;
        if file.is_none() && fact.value == self.value {
            return Ok(None);
        }
        let mut change = file.unwrap_or_else(|| Change::new(Action::Update));
        change.action = Action::Update;
        if fact.value != self.value {
            change
                .details
                .insert(0, Detail::changed("value", &fact.value, &self.value));
            let operation = operation::Kind::SetSysctl(SetSysctl {
                key: self.key.clone(),
                value: self.value.clone(),
            });
            // The kernel's word comes first: a value that it refuses must not wait in a file.
            change.steps.insert(
                0,
                Step {
                    operation,
                    guards: Vec::new(),
                },
            );
        }
        Ok(Some(change))
    }
}
