//! A directory, its owner and its mode.
//!
//! Goes in: `directory = { path, owner, group, mode }`. Comes out: the directory. Invariant: what
//! is inside is never touched.

use provision_protocol::fact::{Fact, FileQuery, FileType, Query, query};
use provision_protocol::operation::{Adopt, MakeDirectory, ManifestKind, operation};

use super::attributes::parse_path;
use super::change::{Action, Change, Refusal};
use super::{Attributes, HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::Location;

pub(super) const KIND: Kind = Kind {
    name: "directory",
    summary: "a directory with its owner, group and mode",
    parse: |section| {
        let path = parse_path(section, "path");
        let attributes = Attributes::parse(section, 0o755);
        Some(Box::new(DirectorySpec {
            path: path?,
            attributes,
        }))
    },
};

#[derive(Debug)]
struct DirectorySpec {
    path: String,
    attributes: Attributes,
}

impl Spec for DirectorySpec {
    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(Directory {
            id: format!("directory {}", self.path),
            path: self.path.clone(),
            attributes: self.attributes.clone(),
        }))
    }
}

#[derive(Debug)]
struct Directory {
    id: String,
    path: String,
    attributes: Attributes,
}

impl Resource for Directory {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        vec![thing(ManifestKind::Directory, &self.path)]
    }

    fn queries(&self) -> Vec<Query> {
        let query = FileQuery {
            path: self.path.clone(),
            ..FileQuery::default()
        };
        vec![Query {
            kind: Some(query::Kind::File(query)),
        }]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let fact = fact::file(facts, 0)?;
        match fact.file_type() {
            FileType::Absent => {
                let mut change = Change::new(Action::Create);
                change.details = self.attributes.describe();
                change.step(operation::Kind::MakeDirectory(MakeDirectory {
                    path: self.path.clone(),
                    owner: self.attributes.owner.clone(),
                    group: self.attributes.group.clone(),
                    mode: self.attributes.mode,
                }));
                Ok(Some(change))
            }
            FileType::Directory => {
                let details = self.attributes.diff(fact);
                if details.is_empty() {
                    return Ok(None);
                }
                let mut change = Change::new(Action::Update);
                change.details = details;
                change.step(self.attributes.operation(&self.path));
                Ok(Some(change))
            }
            FileType::Regular | FileType::Symlink | FileType::Other => Err(Refusal::new(format!(
                "{} is there and is no directory",
                self.path
            ))
            .hint("move it away by hand; this tool does not remove what it did not put there")),
        }
    }
}
