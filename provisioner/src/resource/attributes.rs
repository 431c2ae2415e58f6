//! Owner, group and mode.
//!
//! Goes in: `owner`, `group` and `mode` of a table. Comes out: [`Attributes`], and how they
//! differ from a fact. Invariant: a mode is written in octal, as a text.

use provision_protocol::fact::FileFact;
use provision_protocol::operation::{SetAttributes, operation};

use super::change::Detail;
use crate::document::Section;

/// Owner, group and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The owner's name.
    pub owner: String,
    /// The group's name.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
}

impl Attributes {
    /// Reads them; the owner is root and the group is that of the owner where not given.
    pub(super) fn parse(section: &Section<'_>, default_mode: u32) -> Self {
        let owner = section
            .string("owner")
            .map_or_else(|| "root".to_owned(), |entry| entry.value);
        let group = section
            .string("group")
            .map_or_else(|| owner.clone(), |entry| entry.value);
        Self {
            owner,
            group,
            mode: parse_mode(section).unwrap_or(default_mode),
        }
    }

    /// What differs from what is there.
    pub(super) fn diff(&self, fact: &FileFact) -> Vec<Detail> {
        let mut details = Vec::new();
        if fact.owner != self.owner {
            details.push(Detail::changed("owner", &fact.owner, &self.owner));
        }
        if fact.group != self.group {
            details.push(Detail::changed("group", &fact.group, &self.group));
        }
        if fact.mode != self.mode {
            details.push(Detail::changed("mode", octal(fact.mode), octal(self.mode)));
        }
        details
    }

    /// What is set on something new.
    pub(super) fn describe(&self) -> Vec<Detail> {
        vec![
            Detail::set("owner", format!("{}:{}", self.owner, self.group)),
            Detail::set("mode", octal(self.mode)),
        ]
    }

    /// The operation that sets them on what is there.
    pub(super) fn operation(&self, path: &str) -> operation::Kind {
        operation::Kind::SetAttributes(SetAttributes {
            path: path.to_owned(),
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: self.mode,
        })
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn parse_mode(section: &Section<'_>) -> Option<u32> {
    let entry = section.string("mode")?;
    let mode = u32::from_str_radix(&entry.value, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        section.error_at(
            &entry.location,
            format!("`{}` is no mode", entry.value),
            Some("write it in octal, as \"0640\"".to_owned()),
        );
    }
    mode
}

/// An absolute path without `.`, `..` and doubled slashes.
pub(super) fn parse_path(section: &Section<'_>, key: &str) -> Option<String> {
    let entry = section.require_string(key)?;
    let sound = entry.value.starts_with('/')
        && entry.value.len() > 1
        && entry.value[1..]
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
        && !entry.value.contains(['\0', '\n']);
    if sound {
        return Some(entry.value);
    }
    section.error_at(
        &entry.location,
        format!("`{}` is no absolute path", entry.value),
        Some("it begins with / and has no empty part, no . and no ..".to_owned()),
    );
    None
}

/// A program and its arguments, as a list, or as one text that is split at blanks.
pub(super) fn parse_arguments(section: &Section<'_>, key: &str) -> Vec<String> {
    if section.is_list(key) {
        return section
            .strings(key)
            .into_iter()
            .map(|entry| entry.value)
            .collect();
    }
    let Some(entry) = section.string(key) else {
        return Vec::new();
    };
    if entry.value.contains(['"', '\'']) {
        section.error_at(
            &entry.location,
            format!("`{key}` has quotes, which mean nothing in one text"),
            Some(format!(
                "write a list: {key} = [\"program\", \"an argument\"]"
            )),
        );
    }
    entry
        .value
        .split_whitespace()
        .map(ToOwned::to_owned)
        .collect()
}
