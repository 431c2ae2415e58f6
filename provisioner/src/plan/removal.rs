//! What left the playbook and is still on a host.
//!
//! Goes in: the manifest and what the host shall be. Comes out: changes that take it away, and
//! what stays. Invariant: pure; what existed before this tool came is put back and never removed;
//! users, groups, packages and volumes stay, as does what somebody else has changed.

use std::collections::BTreeSet;

use provision_protocol::fact::{Fact, FileQuery, FileType, Query, fact_kind, query};
use provision_protocol::operation::{
    Guard, ManifestEntry, ManifestKind, Owed, Remove, UnitVerb, operation,
};

use super::undo::{TEXT_LIMIT_BYTES, unit_action};
use super::{HostDesired, ResourceChange};
use crate::resource::{Action, Change, Detail, Step, text_diff};

/// The play of what no play of the host asks for any more.
pub const REMOVAL: &str = "removal";

/// What the plays of a host speak of.
struct Claims {
    resources: BTreeSet<String>,
    names: BTreeSet<(&'static str, String)>,
}

impl Claims {
    fn of(desired: &HostDesired) -> Self {
        let resources = desired.plays.iter().flat_map(|play| &play.resources);
        Self {
            resources: resources.map(|one| one.id().to_owned()).collect(),
            names: desired.queries().into_iter().filter_map(named).collect(),
        }
    }

    fn has(&self, entry: &ManifestEntry) -> bool {
        let sort = match entry.kind() {
            ManifestKind::File | ManifestKind::Directory | ManifestKind::Archive => "path",
            ManifestKind::User => "user",
            ManifestKind::Group => "group",
            ManifestKind::Package => "package",
            ManifestKind::Unit => "unit",
            ManifestKind::Sysctl => "sysctl",
            _ => "",
        };
        self.resources.contains(&entry.resource) || self.names.contains(&(sort, entry.name.clone()))
    }

    /// Whether a play runs it; a unit that makes way for another one is only claimed.
    fn runs_unit(&self, unit: &str) -> bool {
        let name = unit.trim_end_matches(".service");
        self.resources.contains(&format!("service {name}"))
    }
}

fn named(query: Query) -> Option<(&'static str, String)> {
    Some(match query.kind? {
        query::Kind::File(file) => ("path", file.path),
        query::Kind::User(name) => ("user", name),
        query::Kind::Group(name) => ("group", name),
        query::Kind::Package(name) => ("package", name),
        query::Kind::Unit(name) => ("unit", name),
        query::Kind::Sysctl(name) => ("sysctl", name),
        _ => return None,
    })
}

/// The entries that no play of the host speaks of any more, in the order of their removal.
#[must_use]
pub fn left(entries: &[ManifestEntry], desired: &HostDesired) -> Vec<ManifestEntry> {
    let claims = Claims::of(desired);
    let entries = entries.iter().rev().filter(|entry| !claims.has(entry));
    entries.cloned().collect()
}

/// What must be known to take these entries away: one query for each.
#[must_use]
pub fn queries(left: &[ManifestEntry]) -> Vec<Query> {
    let query = |entry: &ManifestEntry| Query {
        kind: Some(query::Kind::File(FileQuery {
            path: match entry.kind() {
                ManifestKind::File | ManifestKind::Directory | ManifestKind::Archive => {
                    entry.name.clone()
                }
                // Nothing has to be known of these.
                _ => "/etc".to_owned(),
            },
            text_limit_bytes: if entry.secret { 0 } else { TEXT_LIMIT_BYTES },
            known_sha256: Vec::new(),
        })),
    };
    left.iter().map(query).collect()
}

/// What takes them away, and what stays, each with the reason.
#[must_use]
pub fn removals(
    left: &[ManifestEntry],
    facts: &[Fact],
    desired: &HostDesired,
) -> (Vec<ResourceChange>, Vec<String>) {
    let claims = Claims::of(desired);
    let mut changes: Vec<ResourceChange> = Vec::new();
    let mut stays: Vec<String> = Vec::new();
    for (entry, fact) in left.iter().zip(facts) {
        match removal(entry, fact) {
            Ok(change) => changes.push(ResourceChange {
                resource: entry.resource.clone(),
                play: if desired
                    .plays
                    .iter()
                    .any(|one| one.play.as_str() == entry.play)
                {
                    entry.play.clone()
                } else {
                    REMOVAL.to_owned()
                },
                unknown_after: None,
                left_playbook: true,
                change,
            }),
            Err(why) => {
                let line = format!("{} {why}", entry.resource);
                if !stays.contains(&line) {
                    stays.push(line);
                }
            }
        }
    }
    settle(left, &mut changes, &claims);
    (changes, stays)
}

/// Why a thing of this kind is never taken away by itself.
const fn stays(kind: ManifestKind) -> Option<&'static str> {
    match kind {
        ManifestKind::Package => Some("stays installed"),
        ManifestKind::User | ManifestKind::Group => Some("stays"),
        ManifestKind::Volume => Some("stays mounted"),
        ManifestKind::Unspecified | ManifestKind::Command => Some("is not known"),
        ManifestKind::File
        | ManifestKind::Directory
        | ManifestKind::Unit
        | ManifestKind::Sysctl
        | ManifestKind::Archive => None,
    }
}

fn removal(entry: &ManifestEntry, fact: &Fact) -> Result<Change, &'static str> {
    if let Some(why) = stays(entry.kind()) {
        return Err(why);
    }
    let found = match &fact.kind {
        Some(fact_kind::Kind::File(found)) => found.clone(),
        _ => return Err("cannot be looked at"),
    };
    let mut change = Change::new(Action::Remove);
    let mut guards = Vec::new();
    match entry.kind() {
        ManifestKind::File => {
            let applied = entry.applied.clone().unwrap_or_default();
            let absent = found.file_type() == FileType::Absent;
            let wrote = !applied.sha256.is_empty();
            if wrote && !absent && found.sha256 != applied.sha256 {
                return Err("was changed by somebody else since provision wrote it");
            }
            if entry.existed && wrote {
                change.action = Action::Update;
                let words = match entry.previous_sha256.is_empty() {
                    true => "it left the playbook: it stays, since what held a secret is not kept",
                    false => {
                        "it left the playbook: what stood there before the first run is put back"
                    }
                };
                change.details.push(Detail::Note(words.to_owned()));
            } else if let Some(text) = &found.text {
                change.details.push(Detail::Text(text_diff(text, "")));
            }
            if !absent && wrote {
                guards.push(Guard {
                    path: entry.name.clone(),
                    sha256: found.sha256,
                });
            }
            change.changed_paths.push(entry.name.clone());
        }
        ManifestKind::Directory if entry.existed => change.action = Action::Update,
        ManifestKind::Directory => {
            change
                .details
                .push(Detail::Note("only if it is empty".to_owned()));
        }
        ManifestKind::Unit => {
            let (enabled, active) = entry.previous_value.split_once(',').unwrap_or_default();
            let words = match (enabled, active) {
                ("" | "disabled", "" | "inactive" | "failed") => "stopped and disabled, as it was",
                _ => "as it was",
            };
            let words = format!("{} is {words} before", entry.name);
            change.details.push(Detail::Note(words));
        }
        ManifestKind::Sysctl => {
            change.action = Action::Update;
            let now = entry.applied.clone().unwrap_or_default().value;
            let before = entry.previous_value.clone();
            change.details.push(Detail::changed("value", now, before));
        }
        _ => {}
    }
    change.steps.push(Step {
        operation: operation::Kind::Remove(Remove {
            entry: Some(entry.clone()),
        }),
        guards,
    });
    Ok(change)
}

/// Units that stay and ran with what goes are restarted, once, after the last of it.
fn settle(left: &[ManifestEntry], changes: &mut [ResourceChange], claims: &Claims) {
    let debts = left.iter().flat_map(|entry| &entry.debts);
    let units: BTreeSet<&str> = debts
        .map(|debt| debt.unit.as_str())
        .filter(|unit| claims.runs_unit(unit))
        .collect();
    for unit in units {
        let owes = |entry: &ManifestEntry| {
            let of_unit = entry.debts.iter().find(|debt| debt.unit == unit);
            of_unit.map(provision_protocol::operation::Debt::owed)
        };
        let worst = left.iter().filter_map(owes).max();
        let last = changes.iter_mut().rev().find(|change| {
            let names = left.iter().filter(|entry| owes(entry).is_some());
            names
                .into_iter()
                .any(|entry| change.change.changed_paths.contains(&entry.name))
        });
        let (Some(last), Some(worst)) = (last, worst) else {
            continue;
        };
        let verb = if worst == Owed::Restart {
            UnitVerb::Restart
        } else {
            UnitVerb::Reload
        };
        let what = if verb == UnitVerb::Restart {
            "restarted"
        } else {
            "reloaded"
        };
        last.change
            .details
            .push(Detail::Note(format!("{unit} is {what} after it")));
        last.change.step(unit_action(unit, verb));
    }
}
