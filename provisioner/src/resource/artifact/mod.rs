//! A program or an archive, placed on hosts of each architecture.
//!
//! Goes in: `artifact = { name, path | unpack, strip, owner, group, mode }`. Comes out: the file,
//! or the unpacked directory. Invariant: bytes whose hash is not the configured one go nowhere.

mod source;

pub(crate) use source::shipped_programs;
pub use source::{Artifacts, architecture_of};

use std::sync::Arc;

use provision_protocol::fact::{Fact, FileFact, FileQuery, FileType, Query, query};
use provision_protocol::operation::{
    Adopt, Debt, ExtractArchive, Guard, ManifestKind, WriteFile, operation,
};

use super::attributes::parse_path;
use super::change::{Action, Change, Detail, Refusal, Step};
use super::content::Content;
use super::{Attributes, HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{ByteSize, Entry, Location, Section};

/// The file inside an unpacked archive that holds the archive's hash.
const ARCHIVE_MARKER: &str = ".provision-archive";

pub(super) const KIND: Kind = Kind {
    name: "artifact",
    summary: "a program or an unpacked archive, from the environment's artifacts",
    parse: |section| Some(Box::new(ArtifactSpec::parse(section)?)),
};

#[derive(Debug)]
struct ArtifactSpec {
    name: Entry<String>,
    target: Target,
    attributes: Attributes,
}

#[derive(Clone, Debug)]
enum Target {
    File(String),
    Directory { path: String, strip: u32 },
}

impl ArtifactSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let name = section.require_string("name");
        let attributes = Attributes::parse(section, 0o755);
        let strip = section
            .integer("strip", 0..=16)
            .map_or(0, |entry| entry.value);
        let path = section.has("path").then(|| parse_path(section, "path"));
        let unpack = section.has("unpack").then(|| parse_path(section, "unpack"));
        let target = match (path, unpack) {
            (Some(path), None) => path.map(Target::File),
            (None, Some(path)) => path.map(|path| Target::Directory {
                path,
                strip: u32::try_from(strip).unwrap_or(0),
            }),
            _ => {
                section.error(
                    "an artifact goes to exactly one of `path` and `unpack`",
                    None,
                );
                None
            }
        };
        Some(Self {
            name: name?,
            target: target?,
            attributes,
        })
    }
}

impl Spec for ArtifactSpec {
    fn path(&self) -> Option<&str> {
        match &self.target {
            Target::File(path) | Target::Directory { path, .. } => Some(path),
        }
    }

    fn artifact(&self) -> Option<(&str, &Location)> {
        Some((&self.name.value, &self.name.location))
    }

    fn resolve(&self, _: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        let path = self.path()?;
        Some(Box::new(Artifact {
            id: format!("artifact {path}"),
            name: self.name.value.clone(),
            target: self.target.clone(),
            attributes: self.attributes.clone(),
            contents: context.artifacts.clone(),
            debts: context.debts.get(path).cloned().unwrap_or_default(),
        }))
    }
}

#[derive(Debug)]
struct Artifact {
    id: String,
    name: String,
    target: Target,
    attributes: Attributes,
    contents: Artifacts,
    debts: Vec<Debt>,
}

impl Artifact {
    fn content(&self, architecture: &str) -> Result<Arc<Content>, Refusal> {
        self.contents.get(&self.name, architecture).ok_or_else(|| {
            let known = self.contents.architectures(&self.name).join(", ");
            Refusal::new(format!(
                "artifact {} has no build for {architecture}",
                self.name
            ))
            .hint(format!(
                "it has one for {known}; write `{{arch}}` into its path, or build it"
            ))
        })
    }

    fn diff_file(
        &self,
        path: &str,
        fact: &FileFact,
        content: &Arc<Content>,
    ) -> Result<Option<Change>, Refusal> {
        let mut change = match fact.file_type() {
            FileType::Absent => {
                let mut change = Change::new(Action::Create);
                change.details = self.attributes.describe();
                change
            }
            FileType::Regular if fact.sha256 == content.sha256 => {
                let details = self.attributes.diff(fact);
                if details.is_empty() {
                    return Ok(None);
                }
                let mut change = Change::new(Action::Update);
                change.details = details;
                change.step(self.attributes.operation(path));
                return Ok(Some(change));
            }
            FileType::Regular => {
                let mut change = Change::new(Action::Update);
                change.details = self.attributes.diff(fact);
                let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
                let (from, to) = (short(&fact.sha256), short(&content.sha256));
                change.details.push(Detail::changed("sha256", from, to));
                change
            }
            FileType::Directory | FileType::Symlink | FileType::Other => {
                return Err(Refusal::new(format!("{path} is there and is no file"))
                    .hint("move it away by hand"));
            }
        };
        change
            .details
            .push(Detail::set("size", ByteSize(content.size).to_string()));
        change.contents.push(Arc::clone(content));
        change.changed_paths.push(path.to_owned());
        change.steps.push(Step {
            operation: operation::Kind::WriteFile(WriteFile {
                path: path.to_owned(),
                sha256: content.sha256.clone(),
                owner: self.attributes.owner.clone(),
                group: self.attributes.group.clone(),
                mode: self.attributes.mode,
                secret: false,
                debts: self.debts.clone(),
                validation: None,
            }),
            guards: vec![Guard {
                path: path.to_owned(),
                sha256: fact.sha256.clone(),
            }],
        });
        Ok(Some(change))
    }

    fn diff_archive(
        &self,
        path: &str,
        strip: u32,
        facts: &[Fact],
        content: &Arc<Content>,
    ) -> Result<Option<Change>, Refusal> {
        let marker = fact::file(facts, 0)?;
        if marker.text.as_deref().map(str::trim) == Some(content.sha256.as_str()) {
            return Ok(None);
        }
        let directory = fact::file(facts, 1)?;
        let fresh = directory.file_type() == FileType::Absent;
        if !fresh && marker.file_type() == FileType::Absent {
            return Err(
                Refusal::new(format!("{path} is there and was not unpacked by this tool"))
                    .hint("move it away by hand, or unpack into another directory"),
            );
        }
        let mut change = Change::new(if fresh {
            Action::Create
        } else {
            Action::Update
        });
        change.opaque = true;
        change.details.push(Detail::set(
            "unpack",
            format!("{} ({})", self.name, ByteSize(content.size)),
        ));
        change.contents.push(Arc::clone(content));
        change.changed_paths.push(path.to_owned());
        change.step(operation::Kind::ExtractArchive(ExtractArchive {
            sha256: content.sha256.clone(),
            path: path.to_owned(),
            strip_components: strip,
            owner: self.attributes.owner.clone(),
            group: self.attributes.group.clone(),
            debts: self.debts.clone(),
        }));
        Ok(Some(change))
    }
}

impl Resource for Artifact {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        match &self.target {
            Target::File(path) => vec![Adopt {
                debts: self.debts.clone(),
                ..thing(ManifestKind::File, path)
            }],
            Target::Directory { .. } => Vec::new(),
        }
    }

    fn queries(&self) -> Vec<Query> {
        let file = |path: String, text_limit_bytes: u64| Query {
            kind: Some(query::Kind::File(FileQuery {
                path,
                text_limit_bytes,
                known_sha256: Vec::new(),
            })),
        };
        match &self.target {
            Target::File(path) => vec![file(path.clone(), 0)],
            Target::Directory { path, .. } => {
                vec![
                    file(format!("{path}/{ARCHIVE_MARKER}"), 128),
                    file(path.clone(), 0),
                ]
            }
        }
    }

    fn diff(&self, facts: &[Fact], observed: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let content = self.content(&observed.hello.architecture)?;
        match &self.target {
            Target::File(path) => self.diff_file(path, fact::file(facts, 0)?, &content),
            Target::Directory { path, strip } => self.diff_archive(path, *strip, facts, &content),
        }
    }
}
