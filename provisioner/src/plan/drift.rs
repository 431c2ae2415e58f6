//! How a host differs from what was last applied to it.
//!
//! Goes in: its manifest, and what is there now. Comes out: a [`Drift`] for each thing that
//! differs. Invariant: pure, and independent of what the playbook says by now.

use provision_protocol::fact::{Fact, FileFact, FileQuery, FileType, Query, fact_kind, query};
use provision_protocol::generation::{KeptQuery, Standing};
use provision_protocol::operation::{ManifestEntry, ManifestKind};
use serde::Serialize;

use super::undo::{TEXT_LIMIT_BYTES, describe};
use crate::resource::{Detail, text_diff};

/// One thing that is not as it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The resource that put it there.
    pub resource: String,
    /// Its path or name.
    pub name: String,
    /// How it differs.
    pub details: Vec<Detail>,
}

/// What must be known of the host: two queries for each entry.
#[must_use]
pub fn queries(entries: &[ManifestEntry]) -> Vec<Query> {
    let kinds = entries.iter().flat_map(|entry| [look(entry), kept(entry)]);
    kinds.map(|kind| Query { kind: Some(kind) }).collect()
}

fn look(entry: &ManifestEntry) -> query::Kind {
    let name = entry.name.clone();
    match entry.kind() {
        ManifestKind::User => query::Kind::User(name),
        ManifestKind::Group => query::Kind::Group(name),
        ManifestKind::Package => query::Kind::Package(name),
        ManifestKind::Unit => query::Kind::Unit(name),
        ManifestKind::Sysctl => query::Kind::Sysctl(name),
        ManifestKind::Archive => query::Kind::File(FileQuery {
            path: format!("{name}/.provision-archive"),
            text_limit_bytes: 128,
            known_sha256: Vec::new(),
        }),
        // Without the inventory a volume is not identified; its mount point must be there.
        ManifestKind::Volume => query::Kind::File(FileQuery {
            path: match applied(entry) {
                Some(applied) if !applied.value.is_empty() => applied.value.clone(),
                _ => "/etc".to_owned(),
            },
            text_limit_bytes: 0,
            known_sha256: Vec::new(),
        }),
        _ => query::Kind::File(FileQuery {
            path: name,
            text_limit_bytes: if entry.secret { 0 } else { TEXT_LIMIT_BYTES },
            known_sha256: applied(entry)
                .map(|one| one.sha256.clone())
                .into_iter()
                .collect(),
        }),
    }
}

fn kept(entry: &ManifestEntry) -> query::Kind {
    let sha256 = applied(entry)
        .map(|one| one.sha256.clone())
        .unwrap_or_default();
    let is_text = entry.kind() == ManifestKind::File && !entry.secret && !sha256.is_empty();
    query::Kind::Kept(KeptQuery {
        sha256: if is_text { sha256 } else { "0".repeat(64) },
        text_limit_bytes: TEXT_LIMIT_BYTES,
    })
}

fn applied(entry: &ManifestEntry) -> Option<&Standing> {
    entry.applied.as_ref()
}

/// Everything that differs, in the order in which it was put there.
#[must_use]
pub fn drift(entries: &[ManifestEntry], facts: &[Fact]) -> Vec<Drift> {
    let mut found = Vec::new();
    for (entry, answers) in entries.iter().zip(facts.chunks(2)) {
        let details = match answers {
            [now, kept] => differs(entry, now, kept),
            _ => Vec::new(),
        };
        if !details.is_empty() {
            found.push(Drift {
                resource: entry.resource.clone(),
                name: entry.name.clone(),
                details,
            });
        }
    }
    found
}

fn differs(entry: &ManifestEntry, now: &Fact, kept: &Fact) -> Vec<Detail> {
    let applied = entry.applied.clone().unwrap_or_default();
    let gone = |is_there: bool, what: &str| {
        let note = Detail::Note(format!("{what} is gone"));
        if is_there { Vec::new() } else { vec![note] }
    };
    match (&now.error, &now.kind) {
        (Some(error), _) => vec![Detail::Note(format!("it cannot be looked at: {error}"))],
        (None, Some(fact_kind::Kind::User(user))) => gone(user.exists, "the user"),
        (None, Some(fact_kind::Kind::Group(group))) => gone(group.exists, "the group"),
        (None, Some(fact_kind::Kind::Package(package))) => {
            gone(!package.installed_version.is_empty(), "the package")
        }
        (None, Some(fact_kind::Kind::Sysctl(sysctl))) if !applied.value.is_empty() => {
            field("value", &applied.value, &sysctl.value)
        }
        (None, Some(fact_kind::Kind::Unit(unit))) => {
            let (enabled, active) = applied.value.split_once(',').unwrap_or_default();
            let mut details = Vec::new();
            if !enabled.is_empty() && unit.unit_file_state.trim_end_matches("-runtime") != enabled {
                details.extend(field("at boot", enabled, &unit.unit_file_state));
            }
            let runs = matches!(
                unit.active_state.as_str(),
                "active" | "reloading" | "activating"
            );
            if !active.is_empty() && runs != (active == "active") {
                details.extend(field("state", active, &unit.active_state));
            }
            details
        }
        (None, Some(fact_kind::Kind::File(file))) => {
            let text = match &kept.kind {
                Some(fact_kind::Kind::Kept(kept)) => kept.text.as_deref(),
                _ => None,
            };
            match entry.kind() {
                ManifestKind::Archive => {
                    let now = file.text.as_deref().map_or("nothing", str::trim);
                    field("unpacked from", &applied.sha256, now)
                }
                _ => file_differs(entry, &applied, file, text),
            }
        }
        _ => Vec::new(),
    }
}

fn file_differs(
    entry: &ManifestEntry,
    applied: &Standing,
    file: &FileFact,
    text: Option<&str>,
) -> Vec<Detail> {
    if file.file_type() == FileType::Absent {
        return vec![Detail::Note("it is gone".to_owned())];
    }
    let mut details = Vec::new();
    let now = describe(file);
    if !applied.attributes.is_empty() && now != applied.attributes {
        let plain = |words: &str| words.replace(':', " ");
        details.push(Detail::changed(
            "owner, group, mode",
            plain(&applied.attributes),
            plain(&now),
        ));
    }
    if applied.sha256.is_empty() || file.sha256 == applied.sha256 {
        return details;
    }
    details.push(match (entry.secret, text, &file.text) {
        (true, _, _) => {
            Detail::Note("its text differs; it holds a secret and is not shown".to_owned())
        }
        (false, Some(old), Some(new)) => Detail::Text(text_diff(old, new)),
        _ => Detail::changed("sha256", &applied.sha256, &file.sha256),
    });
    details
}

fn field(name: &str, from: &str, to: &str) -> Vec<Detail> {
    if from == to {
        return Vec::new();
    }
    let to = if to.is_empty() { "absent" } else { to };
    vec![Detail::changed(name, from, to)]
}
