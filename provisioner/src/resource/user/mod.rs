//! An account.
//!
//! Goes in: `user = { name, system, group, groups, home, shell }`. Comes out: the account.
//! Invariant: memberships are added, never taken away; an account that is there keeps its number.

use provision_protocol::fact::{Fact, Query, query};
use provision_protocol::operation::{Adopt, MakeUser, ManifestKind, operation};

use super::change::{Action, Change, Detail, Refusal};
use super::{HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{Location, Section};

/// The longest name that `useradd` takes.
const ACCOUNT_NAME_LIMIT: usize = 32;

pub(super) const KIND: Kind = Kind {
    name: "user",
    summary: "an account with its groups, home and shell",
    parse: |section| Some(Box::new(UserSpec::parse(section)?)),
};

/// The name of an account or a group, as `useradd` takes it.
pub(super) fn parse_account_name(section: &Section<'_>, key: &str) -> Option<String> {
    let entry = section.require_string(key)?;
    let mut letters = entry.value.chars();
    let begins = letters
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let goes_on = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
    if begins && goes_on && entry.value.len() <= ACCOUNT_NAME_LIMIT {
        return Some(entry.value);
    }
    section.error_at(
        &entry.location,
        format!("`{}` is no name of an account", entry.value),
        Some(format!(
            "lower-case letters, digits, - and _, beginning with a letter, {ACCOUNT_NAME_LIMIT} at most"
        )),
    );
    None
}

#[derive(Clone, Debug)]
struct UserSpec {
    name: String,
    system: bool,
    primary_group: String,
    groups: Vec<String>,
    home: String,
    shell: String,
}

impl UserSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let name = parse_account_name(section, "name");
        let text = |key: &str| {
            section
                .string(key)
                .map(|entry| entry.value)
                .unwrap_or_default()
        };
        Some(Self {
            system: section.boolean("system").unwrap_or(false),
            primary_group: text("group"),
            groups: section
                .strings("groups")
                .into_iter()
                .map(|entry| entry.value)
                .collect(),
            home: text("home"),
            shell: text("shell"),
            name: name?,
        })
    }
}

impl Spec for UserSpec {
    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(User {
            id: format!("user {}", self.name),
            spec: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct User {
    id: String,
    spec: UserSpec,
}

impl User {
    fn operation(&self) -> operation::Kind {
        let spec = self.spec.clone();
        operation::Kind::MakeUser(MakeUser {
            name: spec.name,
            system: spec.system,
            primary_group: spec.primary_group,
            groups: spec.groups,
            home: spec.home,
            shell: spec.shell,
        })
    }
}

impl Resource for User {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        vec![thing(ManifestKind::User, &self.spec.name)]
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query {
            kind: Some(query::Kind::User(self.spec.name.clone())),
        }]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let fact = fact::user(facts, 0)?;
        let spec = &self.spec;
        if !fact.exists {
            let mut change = Change::new(Action::Create);
            change
                .details
                .push(Detail::set("system", spec.system.to_string()));
            if !spec.groups.is_empty() {
                change
                    .details
                    .push(Detail::set("groups", spec.groups.join(", ")));
            }
            change.step(self.operation());
            return Ok(Some(change));
        }
        let mut details = Vec::new();
        let mut compare = |name: &str, now: &str, wanted: &str| {
            if !wanted.is_empty() && now != wanted {
                details.push(Detail::changed(name, now, wanted));
            }
        };
        compare("group", &fact.primary_group, &spec.primary_group);
        compare("home", &fact.home, &spec.home);
        compare("shell", &fact.shell, &spec.shell);
        let missing: Vec<&str> = spec
            .groups
            .iter()
            .filter(|group| !fact.groups.contains(group) && fact.primary_group != **group)
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            details.push(Detail::set("groups", format!("+ {}", missing.join(", "))));
        }
        if details.is_empty() {
            return Ok(None);
        }
        let mut change = Change::new(Action::Update);
        change.details = details;
        change.step(self.operation());
        Ok(Some(change))
    }
}
