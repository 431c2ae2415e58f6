//! A group of accounts.
//!
//! Goes in: `group = { name, system }`. Comes out: the group. Invariant: a group that is there
//! keeps its number.

use provision_protocol::fact::{Fact, Query, query};
use provision_protocol::operation::{Adopt, MakeGroup, ManifestKind, operation};

use super::change::{Action, Change, Detail, Refusal};
use super::user::parse_account_name;
use super::{HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::Location;

pub(super) const KIND: Kind = Kind {
    name: "group",
    summary: "a group of accounts",
    parse: |section| {
        let name = parse_account_name(section, "name");
        let system = section.boolean("system").unwrap_or(false);
        Some(Box::new(GroupSpec {
            name: name?,
            system,
        }))
    },
};

#[derive(Debug)]
struct GroupSpec {
    name: String,
    system: bool,
}

impl Spec for GroupSpec {
    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(Group {
            id: format!("group {}", self.name),
            name: self.name.clone(),
            system: self.system,
        }))
    }
}

#[derive(Debug)]
struct Group {
    id: String,
    name: String,
    system: bool,
}

impl Resource for Group {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        vec![thing(ManifestKind::Group, &self.name)]
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query {
            kind: Some(query::Kind::Group(self.name.clone())),
        }]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        if fact::group(facts, 0)?.exists {
            return Ok(None);
        }
        let mut change = Change::new(Action::Create);
        change
            .details
            .push(Detail::set("system", self.system.to_string()));
        change.step(operation::Kind::MakeGroup(MakeGroup {
            name: self.name.clone(),
            system: self.system,
        }));
        Ok(Some(change))
    }
}
