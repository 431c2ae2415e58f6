//! What is undone, removed or found to differ, on facts written out by hand.

use provision_protocol::fact::{Fact, FileFact, FileType, Query, UnitFact, fact_kind, query};
use provision_protocol::generation::{Alteration, Generation, KeptFact, Standing};
use provision_protocol::operation::{Debt, ManifestEntry, ManifestKind, Owed, UnitVerb, operation};

use super::{HostDesired, PlayDesired, ResourceChange, drift, removal, undo};
use crate::document::Diagnostics;
use crate::resource::{Action, Detail, fixtures};
use crate::secret::Redactor;

fn sha(digit: &str) -> String {
    digit.repeat(64)
}

fn standing(digit: &str) -> Option<Standing> {
    Some(Standing {
        sha256: sha(digit),
        attributes: "root:root:644".into(),
        value: String::new(),
    })
}

fn value(value: &str) -> Option<Standing> {
    Some(Standing {
        value: value.into(),
        ..Standing::default()
    })
}

fn restart() -> Vec<Debt> {
    vec![Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    }]
}

fn alteration(kind: ManifestKind, name: &str) -> Alteration {
    Alteration {
        play: "app".into(),
        resource: format!("{kind:?} {name}"),
        kind: kind as i32,
        name: name.into(),
        ..Alteration::default()
    }
}

fn file(before: Option<Standing>, after: Option<Standing>) -> Alteration {
    Alteration {
        managed: before.is_some(),
        kept: before.is_some(),
        before,
        after,
        debts: restart(),
        wrote: true,
        ..alteration(ManifestKind::File, "/etc/app")
    }
}

fn unit(managed: bool) -> Alteration {
    Alteration {
        managed,
        before: value("enabled,active"),
        after: value("enabled,active"),
        ..alteration(ManifestKind::Unit, "app.service")
    }
}

fn entry(kind: ManifestKind, name: &str, applied: Option<Standing>) -> ManifestEntry {
    ManifestEntry {
        environment: "test".into(),
        play: "app".into(),
        resource: format!("{kind:?} {name}"),
        kind: kind as i32,
        name: name.into(),
        applied,
        ..ManifestEntry::default()
    }
}

fn steps(changes: &[ResourceChange]) -> Vec<String> {
    changes
        .iter()
        .flat_map(|entry| &entry.change.steps)
        .map(|step| match &step.operation {
            operation::Kind::WriteFile(write) => {
                format!("write {} {}", write.path, &write.sha256[..1])
            }
            operation::Kind::UnitAction(act) => match act.verb() {
                UnitVerb::DaemonReload => "daemon-reload".to_owned(),
                verb => format!("{verb:?} {}", act.unit),
            },
            operation::Kind::Remove(remove) => {
                format!("remove {}", remove.entry.as_ref().unwrap().name)
            }
            operation::Kind::SetAttributes(set) => format!("attributes {}", set.path),
            operation::Kind::SetSysctl(set) => format!("sysctl {} {}", set.key, set.value),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_a_run_changed_goes_back_and_runs_with_the_old_content() {
    let unit_file = Alteration {
        name: "/etc/systemd/system/app.service".into(),
        ..file(standing("c"), standing("d"))
    };
    let sysctl = Alteration {
        managed: true,
        before: value("1"),
        after: value("2"),
        ..alteration(ManifestKind::Sysctl, "vm.swappiness")
    };
    let net = [
        sysctl,
        file(standing("a"), standing("b")),
        unit_file,
        unit(true),
    ];
    let undone = undo::undo(&net, &[], None);
    assert_eq!(
        steps(&undone.changes),
        [
            "write /etc/systemd/system/app.service c",
            "daemon-reload",
            "write /etc/app a",
            "sysctl vm.swappiness 1",
            "Enable app.service",
            "Restart app.service",
        ]
    );
    assert!(undone.stays.is_empty());
}

#[test]
fn a_first_run_is_taken_away_in_reverse() {
    // By then the manifest has the unit, which is not started again all the same.
    let entries = [entry(ManifestKind::Unit, "app.service", None)];
    let mut fresh = unit(false);
    fresh.before = value(",inactive");
    let net = [file(None, standing("a")), fresh];
    let undone = undo::undo(&net, &entries, None);
    assert_eq!(
        steps(&undone.changes),
        ["remove app.service", "remove /etc/app"]
    );
}

#[test]
fn a_unit_that_ran_before_this_tool_came_runs_with_what_it_had() {
    let entries = [entry(ManifestKind::Unit, "app.service", None)];
    let mut theirs = file(standing("a"), standing("b"));
    theirs.managed = false;
    let undone = undo::undo(&[theirs, unit(false)], &entries, None);
    assert_eq!(
        steps(&undone.changes),
        [
            "remove app.service",
            "remove /etc/app",
            "Restart app.service",
            "remove app.service"
        ]
    );
}

#[test]
fn a_unit_that_was_not_touched_is_restarted_with_what_is_put_back() {
    let entries = [entry(ManifestKind::Unit, "app.service", None)];
    let net = [file(standing("a"), standing("b"))];
    let undone = undo::undo(&net, &entries, None);
    assert_eq!(
        steps(&undone.changes),
        ["write /etc/app a", "Restart app.service"]
    );
    let unmanaged = undo::undo(&net, &[], None);
    assert_eq!(steps(&unmanaged.changes), ["write /etc/app a"]);
}

#[test]
fn what_cannot_be_rolled_back_is_said() {
    let secret = Alteration {
        secret: true,
        kept: false,
        ..file(standing("a"), standing("b"))
    };
    let net = [
        alteration(ManifestKind::Package, "chrony"),
        alteration(ManifestKind::Command, "make-topic"),
        alteration(ManifestKind::User, "otel"),
        alteration(ManifestKind::Volume, "uuid"),
        secret,
    ];
    let undone = undo::undo(&net, &[], None);
    assert!(undone.changes.is_empty());
    assert_eq!(
        undone.stays,
        [
            "File /etc/app: what held a secret is not kept, and not rolled back",
            "Volume uuid: volumes are not rolled back",
            "User otel: accounts are not rolled back",
            "Command make-topic: what a command did cannot be rolled back",
            "Package chrony: packages are not rolled back",
        ]
    );
}

#[test]
fn several_generations_go_back_to_the_first_of_them() {
    let generation = |changes: Vec<Alteration>| Generation {
        changes,
        ..Generation::default()
    };
    let net = undo::net(&[
        generation(vec![file(standing("a"), standing("b"))]),
        generation(vec![file(standing("b"), standing("c")), unit(true)]),
    ]);
    assert_eq!(net.len(), 2);
    assert_eq!(net[0].before, standing("a"));
    assert_eq!(net[0].after, standing("c"));
}

fn there(digit: &str, text: &str) -> Fact {
    fixtures::fact(fact_kind::Kind::File(FileFact {
        file_type: FileType::Regular as i32,
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        sha256: sha(digit),
        text: Some(text.into()),
        ..FileFact::default()
    }))
}

fn kept(text: &str) -> Fact {
    fixtures::fact(fact_kind::Kind::Kept(KeptFact {
        exists: true,
        size_bytes: text.len() as u64,
        text: Some(text.into()),
    }))
}

#[test]
fn a_rollback_is_shown_with_the_lines_that_differ_and_guards_what_was_seen() {
    let net = [file(standing("a"), standing("b"))];
    assert_eq!(undo::queries(&net).len(), 2);
    let seen = undo::Seen::new(&net, &[there("b", "new\n"), kept("old\n")]);
    let undone = undo::undo(&net, &[], Some(&seen));
    let [entry] = undone.changes.as_slice() else {
        panic!("{undone:?}")
    };
    let [Detail::Text(diff)] = entry.change.details.as_slice() else {
        panic!("{entry:?}")
    };
    assert!(diff.contains("-new") && diff.contains("+old"), "{diff}");
    assert_eq!(entry.change.steps[0].guards[0].sha256, sha("b"));
    // What stands as it did before is left alone.
    let seen = undo::Seen::new(&net, &[there("a", "old\n"), kept("old\n")]);
    assert!(undo::undo(&net, &[], Some(&seen)).changes.is_empty());
}

fn desired(resources: &[&str]) -> HostDesired {
    let resource = |text: &&str| fixtures::resource(text, &Redactor::default()).unwrap();
    HostDesired {
        plays: vec![PlayDesired {
            play: "app".parse().unwrap(),
            resources: resources.iter().map(resource).collect(),
            health: Vec::new(),
        }],
        ..HostDesired::without_plays(fixtures::fleet(&Diagnostics::default()).hosts.remove(0))
    }
}

#[test]
fn what_no_play_speaks_of_is_removed_and_what_must_stay_is_said() {
    let desired = desired(&[
        "file = { path = \"/etc/kept\", content = \"x\" }",
        "service = { name = \"app\" }",
    ]);
    let mut gone = entry(ManifestKind::File, "/etc/gone", standing("a"));
    gone.debts = restart();
    let mut theirs = entry(ManifestKind::File, "/etc/theirs", standing("a"));
    theirs.existed = true;
    theirs.play = "another".into();
    let entries = [
        entry(ManifestKind::Package, "chrony", None),
        entry(ManifestKind::User, "otel", None),
        entry(ManifestKind::Volume, "uuid", None),
        entry(ManifestKind::Directory, "/etc/folder", None),
        // Its resource has another name by now, and the path is still spoken of.
        entry(ManifestKind::File, "/etc/kept", standing("a")),
        theirs,
        gone,
        entry(ManifestKind::File, "/etc/edited", standing("a")),
        entry(ManifestKind::Unit, "app.service", None),
        entry(ManifestKind::Unit, "old.service", None),
    ];
    let left = removal::left(&entries, &desired);
    let names: Vec<&str> = left.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "old.service",
            "/etc/edited",
            "/etc/gone",
            "/etc/theirs",
            "/etc/folder",
            "uuid",
            "otel",
            "chrony"
        ]
    );
    let answer = |query: &Query| match &query.kind {
        Some(query::Kind::File(file)) if file.path == "/etc/edited" => there("f", "mine\n"),
        // A helper refuses to look at the root itself.
        Some(query::Kind::File(file)) if file.path == "/" => Fact::default(),
        _ => there("a", "text\n"),
    };
    let facts: Vec<Fact> = removal::queries(&left).iter().map(answer).collect();
    let (changes, stays) = removal::removals(&left, &facts, &desired);
    assert_eq!(
        steps(&changes),
        [
            "remove old.service",
            "remove /etc/gone",
            "Restart app.service",
            "remove /etc/theirs",
            "remove /etc/folder",
        ]
    );
    let actions: Vec<_> = changes
        .iter()
        .map(|one| (one.play.as_str(), one.change.action))
        .collect();
    assert_eq!(actions[1], ("app", Action::Remove));
    assert_eq!(actions[2], (removal::REMOVAL, Action::Update));
    assert_eq!(
        stays,
        [
            "File /etc/edited was changed by somebody else since provision wrote it",
            "Volume uuid stays mounted",
            "User otel stays",
            "Package chrony stays installed",
        ]
    );
}

#[test]
fn nothing_is_removed_that_the_playbook_still_has() {
    let desired = desired(&["file = { path = \"/etc/kept\", content = \"x\" }"]);
    let entries = [entry(ManifestKind::File, "/etc/kept", standing("a"))];
    assert!(removal::left(&entries, &desired).is_empty());
}

#[test]
fn drift_is_what_differs_from_what_was_applied() {
    let mut secret = entry(ManifestKind::File, "/etc/secret", standing("a"));
    secret.secret = true;
    let entries = [
        entry(ManifestKind::File, "/etc/same", standing("a")),
        entry(ManifestKind::File, "/etc/edited", standing("a")),
        entry(ManifestKind::File, "/etc/gone", standing("a")),
        secret,
        entry(ManifestKind::Unit, "app.service", value("enabled,active")),
        entry(ManifestKind::Unit, "well.service", value(",active")),
    ];
    let unit = |enabled: &str, active: &str| {
        fixtures::fact(fact_kind::Kind::Unit(UnitFact {
            unit_file_state: enabled.into(),
            active_state: active.into(),
            ..UnitFact::default()
        }))
    };
    let absent = fixtures::fact(fact_kind::Kind::File(FileFact::default()));
    let answers = [
        there("a", "old\n"),
        there("b", "new\n"),
        absent,
        there("b", "hidden"),
        unit("disabled", "failed"),
        unit("disabled", "active"),
    ];
    let facts: Vec<Fact> = answers
        .into_iter()
        .flat_map(|now| [now, kept("old\n")])
        .collect();
    assert_eq!(drift::queries(&entries).len(), facts.len());
    let found = drift::drift(&entries, &facts);
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        ["/etc/edited", "/etc/gone", "/etc/secret", "app.service"]
    );
    let [Detail::Text(diff)] = found[0].details.as_slice() else {
        panic!("{found:?}")
    };
    assert!(diff.contains("-old") && diff.contains("+new"), "{diff}");
    assert_eq!(found[1].details, [Detail::Note("it is gone".into())]);
    assert!(!format!("{:?}", found[2]).contains("hidden"));
    assert_eq!(
        found[3].details,
        [
            Detail::changed("at boot", "enabled", "disabled"),
            Detail::changed("state", "active", "failed"),
        ]
    );
}
