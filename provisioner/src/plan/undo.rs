//! Back to what stood on a host before.
//!
//! Goes in: the generations that are to be undone, and what is on the host now. Comes out: changes
//! like those of a plan, and what cannot be taken back. Invariant: pure; what this tool did not
//! put there is only ever put back, never removed.

use std::collections::{BTreeMap, BTreeSet};

use provision_protocol::REBOOT_UNIT;
use provision_protocol::fact::{Fact, FileFact, FileQuery, FileType, Query, fact_kind, query};
use provision_protocol::generation::{Alteration, Generation, KeptQuery, Standing};
use provision_protocol::operation::{
    Debt, ExtractArchive, Guard, ManifestEntry, ManifestKind, Owed, Remove, SetAttributes,
    SetSysctl, UnitAction, UnitVerb, WriteFile, operation,
};

use super::ResourceChange;
use crate::resource::{Action, Change, Detail, Step, text_diff};

/// Where the operator's units live.
const UNIT_FOLDER: &str = "/etc/systemd/system/";

/// The largest text that is fetched from a host to be compared line by line, in bytes.
pub(super) const TEXT_LIMIT_BYTES: u64 = 256 * 1024;

/// What would be done, and what would stay.
#[derive(Debug, Default)]
pub struct Undo {
    /// In the order in which it is done.
    pub changes: Vec<ResourceChange>,
    /// What cannot be taken back, each with the reason.
    pub stays: Vec<String>,
}

/// What all generations together changed: how each thing was before the first of them.
#[must_use]
pub fn net(generations: &[Generation]) -> Vec<Alteration> {
    let mut net: Vec<Alteration> = Vec::new();
    for alteration in generations.iter().flat_map(|one| &one.changes) {
        let same = |known: &&mut Alteration| {
            (known.kind, &known.name) == (alteration.kind, &alteration.name)
        };
        let Some(known) = net.iter_mut().find(same) else {
            net.push(alteration.clone());
            continue;
        };
        if !known.wrote
            && alteration.wrote
            && let (Some(first), Some(now)) = (&mut known.before, &alteration.before)
        {
            first.sha256.clone_from(&now.sha256);
            known.kept = alteration.kept;
        }
        known.after.clone_from(&alteration.after);
        known.wrote |= alteration.wrote;
        known.secret |= alteration.secret;
        for debt in &alteration.debts {
            if !known.debts.contains(debt) {
                known.debts.push(debt.clone());
            }
        }
    }
    net
}

/// What must be known of the host to show what would be undone.
#[must_use]
pub fn queries(net: &[Alteration]) -> Vec<Query> {
    let files = net.iter().filter(|one| one.kind() == ManifestKind::File);
    let mut queries = Vec::new();
    for file in files {
        queries.push(Query {
            kind: Some(query::Kind::File(FileQuery {
                path: file.name.clone(),
                text_limit_bytes: if file.secret { 0 } else { TEXT_LIMIT_BYTES },
                known_sha256: Vec::new(),
            })),
        });
        queries.push(Query {
            kind: Some(query::Kind::Kept(KeptQuery {
                sha256: file
                    .before
                    .as_ref()
                    .map_or_else(nothing, |one| one.sha256.clone()),
                text_limit_bytes: TEXT_LIMIT_BYTES,
            })),
        });
    }
    queries
}

/// A hash that no content has.
fn nothing() -> String {
    "0".repeat(64)
}

/// What the host said to [`queries`].
#[derive(Debug, Default)]
pub struct Seen {
    now: BTreeMap<String, FileFact>,
    kept: BTreeMap<String, String>,
}

impl Seen {
    /// The answers, by path and by hash.
    #[must_use]
    pub fn new(net: &[Alteration], facts: &[Fact]) -> Self {
        let mut seen = Self::default();
        let files = net.iter().filter(|one| one.kind() == ManifestKind::File);
        for (file, answers) in files.zip(facts.chunks(2)) {
            if let Some(Some(fact_kind::Kind::File(now))) = answers.first().map(|one| &one.kind) {
                seen.now.insert(file.name.clone(), now.clone());
            }
            if let Some(Some(fact_kind::Kind::Kept(kept))) = answers.get(1).map(|one| &one.kind)
                && let Some(text) = &kept.text
            {
                seen.kept.insert(file.name.clone(), text.clone());
            }
        }
        seen
    }
}

/// What is done so that everything stands as it did before. With [`Seen`], what already does is
/// left out, and what is guarded is what was seen.
#[must_use]
pub fn undo(net: &[Alteration], entries: &[ManifestEntry], seen: Option<&Seen>) -> Undo {
    let mut undo = Undo::default();
    let mut owed: Vec<(Debt, String)> = Vec::new();
    let mut taken_away: Vec<&Alteration> = Vec::new();
    let is_kept_unit =
        |one: &Alteration| one.kind() == ManifestKind::Unit && one.managed && one.before.is_some();
    for alteration in net.iter().rev().filter(|one| !is_kept_unit(one)) {
        match undo_one(alteration, seen) {
            Undone::Nothing => {}
            Undone::Stays(why) => {
                let line = format!("{}: {why}", alteration.resource);
                if !undo.stays.contains(&line) {
                    undo.stays.push(line);
                }
            }
            Undone::Change(mut change) => {
                if alteration.name.starts_with(UNIT_FOLDER) {
                    change.step(unit_action("", UnitVerb::DaemonReload));
                }
                for debt in &alteration.debts {
                    owed.push((debt.clone(), alteration.play.clone()));
                }
                if alteration.kind() == ManifestKind::Unit {
                    taken_away.push(alteration);
                }
                undo.changes.push(entry(alteration, change));
            }
        }
    }
    if owed.iter().any(|(debt, _)| debt.unit == REBOOT_UNIT) {
        let words = "reboot: what was put back takes effect with the next one";
        undo.stays.push(words.to_owned());
    }
    let units = net.iter().filter(|one| is_kept_unit(one));
    let mut restored = restore_units(units, entries, &owed);
    for unit in taken_away {
        // It stays only where it ran before this tool came, and then runs with what it had.
        let ran = unit
            .before
            .as_ref()
            .is_some_and(|before| is_active(&before.value));
        for entry in restored
            .iter_mut()
            .filter(|entry| restarts(entry, &unit.name))
        {
            if ran {
                entry.change.step(take_back(unit));
            } else {
                entry.change.steps.clear();
            }
        }
    }
    restored.retain(|entry| !entry.change.steps.is_empty());
    undo.changes.extend(restored);
    undo
}

enum Undone {
    Nothing,
    Stays(&'static str),
    Change(Change),
}

fn undo_one(one: &Alteration, seen: Option<&Seen>) -> Undone {
    match (one.kind(), one.managed, &one.before) {
        (ManifestKind::Command, ..) if one.resource == "reboot" => {
            Undone::Stays("it was rebooted, and a reboot cannot be rolled back")
        }
        (ManifestKind::Command, ..) => Undone::Stays("what a command did cannot be rolled back"),
        (ManifestKind::Package, ..) => Undone::Stays("packages are not rolled back"),
        (ManifestKind::User | ManifestKind::Group, ..) => {
            Undone::Stays("accounts are not rolled back")
        }
        (ManifestKind::Volume, ..) => Undone::Stays("volumes are not rolled back"),
        (ManifestKind::Unspecified, ..) => Undone::Nothing,
        (_, false, _) | (_, true, None) => remove(one, seen),
        (ManifestKind::File, true, Some(before)) => restore_file(one, before, seen),
        (ManifestKind::Directory, true, Some(before)) => attributes(&one.name, before),
        (ManifestKind::Sysctl, true, Some(before)) => {
            let mut change = Change::new(Action::Update);
            let now = one.after.as_ref().map(|after| after.value.clone());
            change.details.push(Detail::Field {
                name: "value".to_owned(),
                from: now,
                to: before.value.clone(),
            });
            change.step(operation::Kind::SetSysctl(SetSysctl {
                key: one.name.clone(),
                value: before.value.clone(),
            }));
            Undone::Change(change)
        }
        (ManifestKind::Archive, true, Some(before)) => restore_archive(one, before),
        (ManifestKind::Unit, true, Some(_)) => Undone::Nothing,
    }
}

/// Takes away what was not there, and puts back what stood there before this tool came.
fn remove(one: &Alteration, seen: Option<&Seen>) -> Undone {
    if one.after.is_none() && !one.managed {
        return Undone::Nothing;
    }
    let mut change = Change::new(Action::Remove);
    if one
        .before
        .as_ref()
        .is_some_and(|before| !before.sha256.is_empty())
    {
        change.action = Action::Update;
        let words = "what stood there before the first run is put back";
        change.details.push(Detail::Note(words.to_owned()));
    }
    if let Some(now) = seen.and_then(|seen| seen.now.get(&one.name))
        && now.file_type() == FileType::Absent
        && one.before.is_none()
    {
        return Undone::Nothing;
    }
    change.changed_paths.push(one.name.clone());
    change.step(take_back(one));
    Undone::Change(change)
}

fn take_back(one: &Alteration) -> operation::Kind {
    operation::Kind::Remove(Remove {
        entry: Some(ManifestEntry {
            kind: one.kind,
            name: one.name.clone(),
            ..ManifestEntry::default()
        }),
    })
}

/// Whether a unit with this value, `enabled,active`, ran.
fn is_active(value: &str) -> bool {
    let (_, active) = value.split_once(',').unwrap_or_default();
    matches!(active, "active" | "activating" | "reloading")
}

fn restarts(entry: &ResourceChange, unit: &str) -> bool {
    entry
        .change
        .steps
        .iter()
        .any(|step| matches!(&step.operation, operation::Kind::UnitAction(act) if act.unit == unit))
}

fn restore_file(one: &Alteration, before: &Standing, seen: Option<&Seen>) -> Undone {
    if !one.wrote {
        return attributes(&one.name, before);
    }
    if !one.kept {
        return Undone::Stays(if one.secret {
            "what held a secret is not kept, and not rolled back"
        } else {
            "its content before is not kept any more"
        });
    }
    let Some((owner, group, mode)) = parse_attributes(&before.attributes) else {
        return Undone::Stays("who owned it before is not known");
    };
    let now = seen.and_then(|seen| seen.now.get(&one.name));
    if let Some(now) = now
        && now.sha256 == before.sha256
        && describe(now) == before.attributes
    {
        return Undone::Nothing;
    }
    let mut change = Change::new(Action::Update);
    if now.is_some_and(|now| now.file_type() == FileType::Absent) || one.after.is_none() {
        change.action = Action::Create;
    }
    let old = now.and_then(|now| now.text.as_deref()).unwrap_or_default();
    match seen.and_then(|seen| seen.kept.get(&one.name)) {
        Some(text) if !one.secret => change.details.push(Detail::Text(text_diff(old, text))),
        _ => change.details.push(Detail::set("sha256", &before.sha256)),
    }
    change.changed_paths.push(one.name.clone());
    change
        .validations
        .extend(one.validation.clone().filter(|_| seen.is_some()));
    let guards = now.map(|now| Guard {
        path: one.name.clone(),
        sha256: now.sha256.clone(),
    });
    change.steps.push(Step {
        operation: operation::Kind::WriteFile(WriteFile {
            path: one.name.clone(),
            sha256: before.sha256.clone(),
            owner,
            group,
            mode,
            secret: false,
            debts: one.debts.clone(),
            // What stood there was accepted when it was put there.
            validation: one.validation.clone().filter(|_| seen.is_some()),
        }),
        guards: guards.into_iter().collect(),
    });
    Undone::Change(change)
}

fn restore_archive(one: &Alteration, before: &Standing) -> Undone {
    if !one.kept {
        return Undone::Stays("the archive before is not kept any more");
    }
    let words: Vec<&str> = before.attributes.split(':').collect();
    let [owner, group, ..] = words[..] else {
        return Undone::Stays("who owned it before is not known");
    };
    let mut change = Change::new(Action::Update);
    change.details.push(Detail::set("unpack", &before.sha256));
    change.changed_paths.push(one.name.clone());
    change.step(operation::Kind::ExtractArchive(ExtractArchive {
        sha256: before.sha256.clone(),
        path: one.name.clone(),
        strip_components: before.value.parse().unwrap_or(0),
        owner: owner.to_owned(),
        group: group.to_owned(),
        debts: one.debts.clone(),
    }));
    Undone::Change(change)
}

fn attributes(path: &str, before: &Standing) -> Undone {
    let Some((owner, group, mode)) = parse_attributes(&before.attributes) else {
        return Undone::Nothing;
    };
    let mut change = Change::new(Action::Update);
    change.details.push(Detail::set(
        "owner, group, mode",
        before.attributes.replace(':', " "),
    ));
    change.step(operation::Kind::SetAttributes(SetAttributes {
        path: path.to_owned(),
        owner,
        group,
        mode,
    }));
    Undone::Change(change)
}

/// Units that are still there: enabled and running as they were, and restarted where what they
/// run with changes.
fn restore_units<'a>(
    units: impl Iterator<Item = &'a Alteration>,
    entries: &[ManifestEntry],
    owed: &[(Debt, String)],
) -> Vec<ResourceChange> {
    let mut changes = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for unit in units {
        seen.insert(&unit.name);
        let before = unit
            .before
            .as_ref()
            .map_or("", |before| before.value.as_str());
        let (enabled, _) = before.split_once(',').unwrap_or_default();
        let mut change = Change::new(Action::Restart);
        match enabled {
            "enabled" => change.step(unit_action(&unit.name, UnitVerb::Enable)),
            "disabled" => change.step(unit_action(&unit.name, UnitVerb::Disable)),
            _ => {}
        }
        if is_active(before) {
            change.step(unit_action(&unit.name, UnitVerb::Restart));
        } else {
            change.action = Action::Stop;
            change.step(unit_action(&unit.name, UnitVerb::Stop));
        }
        changes.push(entry(unit, change));
    }
    // A unit that was not touched itself runs with what was put back.
    for (debt, play) in owed {
        let managed = entries
            .iter()
            .find(|known| known.kind() == ManifestKind::Unit && known.name == debt.unit);
        let Some(managed) = managed.filter(|_| seen.insert(&debt.unit)) else {
            continue;
        };
        let restart = owed
            .iter()
            .any(|(one, _)| one.unit == debt.unit && one.owed() == Owed::Restart);
        let (action, verb) = if restart {
            (Action::Restart, UnitVerb::Restart)
        } else {
            (Action::Reload, UnitVerb::Reload)
        };
        let mut change = Change::new(action);
        change.step(unit_action(&debt.unit, verb));
        changes.push(ResourceChange {
            resource: managed.resource.clone(),
            play: play.clone(),
            unknown_after: None,
            left_playbook: false,
            change,
        });
    }
    changes
}

pub(super) fn unit_action(unit: &str, verb: UnitVerb) -> operation::Kind {
    operation::Kind::UnitAction(UnitAction {
        unit: unit.to_owned(),
        verb: verb as i32,
    })
}

fn entry(alteration: &Alteration, change: Change) -> ResourceChange {
    ResourceChange {
        resource: alteration.resource.clone(),
        play: alteration.play.clone(),
        unknown_after: None,
        left_playbook: false,
        change,
    }
}

/// Owner, group and mode as a manifest writes them.
#[must_use]
pub fn describe(fact: &FileFact) -> String {
    format!("{}:{}:{:o}", fact.owner, fact.group, fact.mode)
}

fn parse_attributes(words: &str) -> Option<(String, String, u32)> {
    let mut parts = words.split(':');
    let (owner, group, mode) = (parts.next()?, parts.next()?, parts.next()?);
    let mode = u32::from_str_radix(mode, 8).ok()?;
    Some((owner.to_owned(), group.to_owned(), mode))
}
