//! A file: its text, its owner and its mode.
//!
//! Goes in: `file = { path, template | content, owner, group, mode, validate, since, optional }`.
//! Comes out: the file, replaced as a whole, or none where it is `optional` and its text is empty.
//! Invariant: a file that holds a secret is never shown.
//!
//! With `since = { package, version }` the template is rendered twice, before any host is reached:
//! it sees `since` as true where the installed package is that version or newer.

use std::sync::Arc;

use provision_protocol::fact::{Fact, FileFact, FileQuery, FileType, Query, query};
use provision_protocol::operation::{
    Adopt, Debt, Guard, ManifestKind, Validation, WriteFile, operation,
};
use serde_json::Value;

use super::attributes::{parse_arguments, parse_path};
use super::change::{Action, Change, Detail, Refusal, Step, text_diff};
use super::content::Content;
use super::since::Since;
use super::{Attributes, HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{Entry, Location, Section};

/// The largest text that is fetched from a host to be compared line by line, in bytes.
const TEXT_LIMIT_BYTES: u64 = 256 * 1024;

pub(super) const KIND: Kind = Kind {
    name: "file",
    summary: "a file with its text, owner, group and mode",
    parse: |section| Some(Box::new(FileSpec::parse(section)?)),
};

#[derive(Debug)]
struct FileSpec {
    path: String,
    text: TextSource,
    attributes: Attributes,
    validate: Vec<String>,
    since: Option<Since>,
    optional: bool,
}

#[derive(Debug)]
enum TextSource {
    Template(Entry<String>),
    Content(String),
}

impl FileSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let path = parse_path(section, "path");
        let template = section.string("template").map(TextSource::Template);
        let content = section
            .string("content")
            .map(|entry| TextSource::Content(entry.value));
        let attributes = Attributes::parse(section, 0o644);
        let validate = parse_arguments(section, "validate");
        if !validate.is_empty() && !validate.iter().any(|argument| argument.contains("{}")) {
            section.error(
                "`validate` does not say where the file stands",
                Some("`{}` stands for it: validate = \"haproxy -c -f {}\"".to_owned()),
            );
        }
        let optional = section.boolean("optional").unwrap_or(false);
        let since = section.section("since").and_then(Since::parse);
        if since.is_some() && template.is_none() {
            section.error("`since` goes with a `template`, which sees it", None);
        }
        let text = match (template, content) {
            (Some(text), None) | (None, Some(text)) => Some(text),
            _ => {
                section.error("a file has exactly one of `template` and `content`", None);
                None
            }
        };
        Some(Self {
            path: path?,
            text: text?,
            attributes,
            validate,
            since,
            optional,
        })
    }

    /// The file with its text, which may depend on whether a package is new enough.
    fn render(&self, context: &HostContext<'_>, since: Option<bool>) -> Option<ManagedFile> {
        let text = match &self.text {
            TextSource::Content(text) => text.clone(),
            TextSource::Template(name) => {
                let with_since =
                    since.map(|since| context.variables.with("since", Value::Bool(since)));
                context.templates.render(
                    &name.value,
                    with_since.as_ref().unwrap_or(context.variables),
                    &name.location,
                    context.diagnostics,
                )?
            }
        };
        let mut file = ManagedFile::new(&self.path, text, self.attributes.clone(), context);
        if let TextSource::Template(name) = &self.text {
            file.rendered_from(name);
        }
        if !self.validate.is_empty() {
            file.validation = Some(Validation {
                path: self.path.clone(),
                arguments: self.validate.clone(),
            });
        }
        Some(file)
    }
}

impl Spec for FileSpec {
    fn path(&self) -> Option<&str> {
        Some(&self.path)
    }

    fn resolve(&self, _: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        let file = self.render(context, self.since.as_ref().map(|_| false))?;
        if self.optional
            && file
                .content
                .text()
                .is_some_and(|text| text.trim().is_empty())
        {
            return None;
        }
        let newer = match &self.since {
            Some(since) => Some((since.clone(), self.render(context, Some(true))?)),
            None => None,
        };
        Some(Box::new(FileResource {
            id: format!("file {}", self.path),
            file,
            newer,
        }))
    }
}

#[derive(Debug)]
struct FileResource {
    id: String,
    file: ManagedFile,
    /// What it shall be where a package is new enough.
    newer: Option<(Since, ManagedFile)>,
}

impl Resource for FileResource {
    fn id(&self) -> &str {
        &self.id
    }

    fn text(&self) -> Option<&str> {
        self.file.content.text()
    }

    fn things(&self) -> Vec<Adopt> {
        vec![self.file.thing()]
    }

    fn queries(&self) -> Vec<Query> {
        let mut queries = vec![self.file.query()];
        if let Some((since, newer)) = &self.newer {
            if let Some(query::Kind::File(query)) = &mut queries[0].kind {
                query.known_sha256.push(newer.content.sha256.clone());
            }
            queries.push(since.query());
        }
        queries
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let file = match &self.newer {
            Some((since, newer)) if since.holds(fact::package(facts, 1)?) => newer,
            _ => &self.file,
        };
        file.diff(fact::file(facts, 0)?)
    }
}

/// A file with a text that is known; also the unit file of a service and the like.
#[derive(Debug)]
pub(super) struct ManagedFile {
    pub(super) path: String,
    content: Arc<Content>,
    attributes: Attributes,
    secret: bool,
    debts: Vec<Debt>,
    pub(super) validation: Option<Validation>,
    origin: Option<String>,
}

impl ManagedFile {
    pub(super) fn new(
        path: &str,
        text: String,
        attributes: Attributes,
        context: &HostContext<'_>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            secret: context.redactor.finds(&text),
            content: Arc::new(Content::from_bytes(text.into_bytes())),
            attributes,
            debts: context.debts.get(path).cloned().unwrap_or_default(),
            validation: None,
            origin: None,
        }
    }

    /// Remembers the template, for when its text is rejected.
    pub(super) fn rendered_from(&mut self, template: &Entry<String>) {
        let Entry { value, location } = template;
        self.origin = Some(format!("templates/{value} (named at {location})"));
    }

    /// The file as what others may have put there.
    pub(super) fn thing(&self) -> Adopt {
        Adopt {
            secret: self.secret,
            debts: self.debts.clone(),
            ..thing(ManifestKind::File, &self.path)
        }
    }

    pub(super) fn query(&self) -> Query {
        Query {
            kind: Some(query::Kind::File(FileQuery {
                path: self.path.clone(),
                text_limit_bytes: if self.secret { 0 } else { TEXT_LIMIT_BYTES },
                known_sha256: vec![self.content.sha256.clone()],
            })),
        }
    }

    pub(super) fn diff(&self, fact: &FileFact) -> Result<Option<Change>, Refusal> {
        match fact.file_type() {
            FileType::Absent => Ok(Some(self.create())),
            FileType::Regular if fact.sha256 == self.content.sha256 => {
                let details = self.attributes.diff(fact);
                if details.is_empty() {
                    return Ok(None);
                }
                let mut change = Change::new(Action::Update);
                change.details = details;
                change.step(self.attributes.operation(&self.path));
                Ok(Some(change))
            }
            FileType::Regular => Ok(Some(self.update(fact))),
            FileType::Directory => Err(self.in_the_way("a directory")),
            FileType::Symlink => {
                Err(self.in_the_way(&format!("a symbolic link to {}", fact.link_target)))
            }
            FileType::Other => Err(self.in_the_way("a device, socket or pipe")),
        }
    }

    fn create(&self) -> Change {
        let mut change = Change::new(Action::Create);
        change.details = self.attributes.describe();
        change
            .details
            .push(match (self.secret, self.content.text()) {
                (false, Some(text)) => Detail::Text(text_diff("", text)),
                _ => Detail::Note("its text holds a secret and is not shown".to_owned()),
            });
        self.write(&mut change, String::new());
        change
    }

    fn update(&self, fact: &FileFact) -> Change {
        let mut change = Change::new(Action::Update);
        change.details = self.attributes.diff(fact);
        change
            .details
            .push(match (self.secret, &fact.text, self.content.text()) {
                (true, _, _) => {
                    Detail::Note("its text differs; it holds a secret and is not shown".to_owned())
                }
                (false, Some(old), Some(new)) => Detail::Text(text_diff(old, new)),
                _ => Detail::changed("sha256", &fact.sha256, &self.content.sha256),
            });
        self.write(&mut change, fact.sha256.clone());
        change
    }

    fn write(&self, change: &mut Change, guarded_sha256: String) {
        change.contents.push(Arc::clone(&self.content));
        change.validations.extend(self.validation.clone());
        change.changed_paths.push(self.path.clone());
        change.origin.clone_from(&self.origin);
        change.steps.push(Step {
            operation: operation::Kind::WriteFile(WriteFile {
                path: self.path.clone(),
                sha256: self.content.sha256.clone(),
                owner: self.attributes.owner.clone(),
                group: self.attributes.group.clone(),
                mode: self.attributes.mode,
                secret: self.secret,
                debts: self.debts.clone(),
                validation: self.validation.clone(),
            }),
            guards: vec![Guard {
                path: self.path.clone(),
                sha256: guarded_sha256,
            }],
        });
    }

    fn in_the_way(&self, what: &str) -> Refusal {
        Refusal::new(format!("{} is {what}, not a file", self.path))
            .hint("move it away by hand; this tool does not remove what it did not put there")
    }
}
