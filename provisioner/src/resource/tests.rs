//! Fixtures: a resource as it stands in a playbook, and facts; what the plan says and does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use provision_protocol::fact::fact_kind::Kind as FactKind;
use provision_protocol::fact::{
    CommandFact, Fact, FileFact, FileType, GroupFact, PackageFact, RebootFact, SysctlFact,
    UnitFact, UserFact, VolumeFact,
};
use provision_protocol::message::Hello;
use provision_protocol::operation::Owed;

use super::fixtures::{fact, regular, resource};
use super::*;
use crate::plan::{HostPlan, ResourceChange, ResourceRefusal};
use crate::report::render_plans;

/// What the plan says, and the operations that it stands for.
fn decide_with(text: &str, facts: &[Fact], changed: &[&str], secrets: &Redactor) -> String {
    let resource = match resource(text, secrets) {
        Ok(resource) => resource,
        Err(mistakes) => return mistakes,
    };
    assert_eq!(resource.queries().len(), facts.len(), "a fact per query");
    let hello = Hello {
        os_id: "debian".into(),
        architecture: "x86_64".into(),
        ..Hello::default()
    };
    let changed_paths: BTreeSet<String> = changed.iter().map(ToString::to_string).collect();
    let observed = Observed {
        hello: &hello,
        changed_paths: &changed_paths,
        after_opaque: false,
    };
    let mut plan = HostPlan {
        host: "a".into(),
        changes: Vec::new(),
        refusals: Vec::new(),
        undecided: Vec::new(),
        stays: Vec::new(),
    };
    let (id, play) = (resource.id().to_owned(), "test".to_owned());
    let mut operations = String::new();
    match resource.diff(facts, &observed) {
        Ok(None) => {}
        Ok(Some(change)) => {
            for step in &change.steps {
                let _ = writeln!(operations, "{:?}", step.operation);
            }
            plan.changes.push(ResourceChange {
                resource: id,
                play,
                left_playbook: false,
                unknown_after: None,
                change,
            });
        }
        Err(refusal) => plan.refusals.push(ResourceRefusal {
            resource: id,
            play,
            refusal,
        }),
    }
    let shown = anstream::adapter::strip_str(&render_plans(&[plan], true)).to_string();
    format!("{shown}\n{operations}")
}

fn decide(text: &str, facts: &[Fact]) -> String {
    decide_with(text, facts, &[], &Redactor::default())
}

fn file_type(file_type: FileType) -> Fact {
    fact(FactKind::File(FileFact {
        file_type: file_type as i32,
        ..FileFact::default()
    }))
}

#[test]
fn a_reboot_needs_a_reason() {
    let both = "reboot = { on = [\"/etc/motd\"], if_required = true, within = \"5m\" }";
    let asked = |owed, required, packages: &[&str]| {
        let packages = packages.iter().map(ToString::to_string).collect();
        vec![fact(FactKind::Reboot(RebootFact {
            owed,
            required,
            packages,
        }))]
    };
    let none = Redactor::default();
    assert!(decide(both, &asked(false, false, &[])).starts_with("nothing to do"));
    let only_on = "reboot = { on = [\"/etc/motd\"] }";
    assert!(decide(only_on, &asked(false, true, &["dbus"])).starts_with("nothing to do"));
    insta::assert_snapshot!(
        [
            decide_with(both, &asked(false, false, &[]), &["/etc/motd"], &none),
            decide(both, &asked(true, false, &[])),
            decide(both, &asked(false, true, &[])),
            decide(both, &asked(false, true, &["dbus", "linux-image-amd64"])),
            decide("reboot = {}", &[]),
            decide("reboot = { if_required = true, within = \"2h\" }", &[]),
        ]
        .join("\n")
    );
}

const FILE: &str = "file = { path = \"/etc/motd\", content = \"one\\ntwo\\n\" }";

#[test]
fn a_file_that_is_as_described_is_left_alone() {
    assert!(decide(FILE, &[regular("one\ntwo\n", 0o644)]).starts_with("nothing to do"));
}

#[test]
fn a_file_is_created_changed_or_given_its_mode() {
    insta::assert_snapshot!(
        [
            decide(FILE, &[file_type(FileType::Absent)]),
            decide(FILE, &[regular("one\nthree\n", 0o600)]),
            decide(FILE, &[regular("one\ntwo\n", 0o600)]),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let link = fact(FactKind::File(FileFact {
        file_type: FileType::Symlink as i32,
        link_target: "/elsewhere".into(),
        ..FileFact::default()
    }));
    insta::assert_snapshot!(
        [
            decide(FILE, &[file_type(FileType::Directory)]),
            decide(FILE, &[link]),
            decide(
                "directory = { path = \"/etc/motd\" }",
                &[regular("x", 0o644)]
            ),
        ]
        .join("\n")
    );
}

#[test]
fn mistakes_in_a_resource_are_named() {
    insta::assert_snapshot!(
        [
            decide(
                "file = { path = \"etc/motd\", content = \"\", mode = 644 }",
                &[]
            ),
            decide("file = { path = \"/a/../b\", mode = \"0999\" }", &[]),
            decide(
                "file = { path = \"/a\", content = \"\", validate = \"true\" }",
                &[]
            ),
            decide("user = { name = \"Otel\" }", &[]),
            decide("package = { names = [\"a b\"] }", &[]),
            decide("command = { run = \"true\" }", &[]),
            decide("sysctl = { key = \"somaxconn\", value = 1 }", &[]),
            decide("volume = { name = \"dta\" }", &[]),
            decide("service = { name = \"a\", restartOn = [] }", &[]),
            decide(
                "artifact = { name = \"a\", path = \"/a\", unpack = \"/b\" }",
                &[]
            ),
        ]
        .join("\n")
    );
}

#[test]
fn accounts_get_what_they_lack() {
    let user =
        "user = { name = \"otel\", system = true, groups = [\"adm\"], shell = \"/bin/false\" }";
    let there = |groups: &[&str], shell: &str| {
        fact(FactKind::User(UserFact {
            exists: true,
            groups: groups.iter().map(ToString::to_string).collect(),
            shell: shell.to_owned(),
            ..UserFact::default()
        }))
    };
    insta::assert_snapshot!(
        [
            decide(user, &[fact(FactKind::User(UserFact::default()))]),
            decide(user, &[there(&[], "/bin/sh")]),
            decide(user, &[there(&["adm", "other"], "/bin/false")]),
            decide(
                "group = { name = \"otel\" }",
                &[fact(FactKind::Group(GroupFact::default()))]
            ),
        ]
        .join("\n")
    );
}

#[test]
fn held_packages_are_left_to_the_operator() {
    let package = |installed: &str, held: bool, broken: bool| {
        fact(FactKind::Package(PackageFact {
            installed_version: installed.into(),
            held,
            broken,
        }))
    };
    let pinned = "package = { name = \"haproxy\", version = \"2.6\" }";
    let any = "package = { name = \"haproxy\" }";
    insta::assert_snapshot!(
        [
            decide(any, &[package("", false, false)]),
            decide(any, &[package("2.4", true, false)]),
            decide(any, &[package("2.4", false, true)]),
            decide(pinned, &[package("2.4", false, false)]),
            decide(pinned, &[package("2.4", true, false)]),
        ]
        .join("\n")
    );
}

fn unit(active: &str, enabled: &str, owed: Owed) -> Fact {
    fact(FactKind::Unit(UnitFact {
        load_state: "loaded".into(),
        active_state: active.into(),
        unit_file_state: enabled.into(),
        owed: owed as i32,
        ..UnitFact::default()
    }))
}

#[test]
fn a_service_is_restarted_exactly_when_it_is_due() {
    let service = "service = { name = \"a\", restart_on = [\"/etc/a\"], reload_on = [\"/etc/b\"] }";
    let none = Redactor::default();
    let running = || [unit("active", "enabled", Owed::Nothing)];
    insta::assert_snapshot!(
        [
            decide(service, &running()),
            decide_with(service, &running(), &["/etc/a"], &none),
            decide_with(service, &running(), &["/etc/b"], &none),
            decide_with(service, &running(), &["/etc/a", "/etc/b"], &none),
            decide_with(service, &running(), &["/etc/c"], &none),
            decide(service, &[unit("active", "enabled", Owed::Restart)]),
            decide(service, &[unit("active", "enabled", Owed::Reload)]),
            decide(service, &[unit("failed", "enabled", Owed::Restart)]),
            decide(service, &[unit("inactive", "disabled", Owed::Nothing)]),
            decide(
                "service = { name = \"a\", running = false, enabled = false }",
                &running()
            ),
        ]
        .join("\n")
    );
}

fn disk(change: impl FnOnce(&mut VolumeFact)) -> Fact {
    let mut volume = VolumeFact {
        exists: true,
        device: "/dev/nvme1n1".into(),
        identity: "serial:disk1".into(),
        size_bytes: 1 << 30,
        blank: true,
        ..VolumeFact::default()
    };
    change(&mut volume);
    fact(FactKind::Volume(volume))
}

#[test]
fn a_disk_is_formatted_only_when_it_is_blank_and_the_right_one() {
    let volume = "volume = { name = \"data\" }";
    let uuid = "4672e184-182d-878a-ab4a-48483bd3261a";
    let occupied = |by: &'static str| {
        disk(move |volume| {
            volume.blank = false;
            volume.occupied_by = by.to_owned();
        })
    };
    insta::assert_snapshot!(
        [
            decide(volume, &[disk(|_| {})]),
            decide(
                volume,
                &[disk(|volume| volume.missing_program = "mkfs.ext4".into())],
            ),
            decide(volume, &[occupied("an ext4 file system")]),
            decide(volume, &[disk(|volume| volume.exists = false)]),
            decide(
                volume,
                &[disk(|volume| volume.identity = "serial:disk2".into())]
            ),
            decide(volume, &[disk(|volume| volume.size_bytes = 2 << 30)]),
            decide(
                volume,
                &[disk(
                    |volume| volume.mount_point_taken_by = "/dev/sdz".into()
                )]
            ),
            decide(
                volume,
                &[disk(|volume| {
                    volume.blank = false;
                    volume.uuid = uuid.into();
                    volume.filesystem = "ext4".into();
                })]
            ),
        ]
        .join("\n")
    );
}

#[test]
fn commands_and_sysctls_say_what_they_do() {
    let sysctl = "sysctl = { key = \"net.ipv4.tcp_rmem\", value = [4096, 1, 2] }";
    let value = |value: &str| {
        fact(FactKind::Sysctl(SysctlFact {
            exists: true,
            value: value.into(),
        }))
    };
    let command = "command = { run = [\"touch\", \"/x y\"], creates = \"/x y\" }";
    let done = |done: bool| fact(FactKind::Command(CommandFact { done }));
    insta::assert_snapshot!(
        [
            decide(sysctl, &[value("1 2 3"), file_type(FileType::Absent)]),
            decide(
                sysctl,
                &[
                    value("4096 1 2"),
                    regular("net.ipv4.tcp_rmem = 4096 1 2\n", 0o644)
                ]
            ),
            decide(
                sysctl,
                &[
                    fact(FactKind::Sysctl(SysctlFact::default())),
                    file_type(FileType::Absent)
                ]
            ),
            decide(command, &[done(false)]),
            decide(command, &[done(true)]),
        ]
        .join("\n")
    );
}

#[test]
fn what_runs_instead_makes_way_first() {
    let service = "service = { name = \"nginx\", instead_of = [\"haproxy\"] }";
    let stopped = || unit("inactive", "disabled", Owed::Nothing);
    let running = || unit("active", "enabled", Owed::Nothing);
    let shown = decide(service, &[stopped(), running()]);
    let at = |words: &str| {
        shown
            .find(words)
            .unwrap_or_else(|| panic!("{words} in {shown}"))
    };
    assert!(at("haproxy.service is stopped: nginx.service runs instead") > 0);
    let operations = &shown[at("UnitAction")..];
    let first_of = |unit: &str| {
        operations
            .find(&format!("unit: \"{unit}.service\""))
            .unwrap()
    };
    assert!(first_of("haproxy") < first_of("nginx"), "{operations}");
    assert!(decide(service, &[running(), stopped()]).starts_with("nothing to do"));
    let itself = "service = { name = \"a\", instead_of = [\"a\"] }";
    assert!(decide(itself, &[]).contains("a service cannot run instead of itself"));
}

#[test]
fn a_text_may_depend_on_the_version_that_is_installed() {
    let since = "since = { package = \"nginx\", version = \"1.25.1\" }";
    let content = format!("file = {{ path = \"/etc/a\", content = \"a\", {since} }}");
    assert!(decide(&content, &[]).contains("`since` goes with a `template`"));
    let wrong = content.replace("1.25.1", "newest");
    assert!(decide(&wrong, &[]).contains("`newest` is no version"));
}

#[test]
fn what_cannot_be_observed_is_not_decided() {
    let error = Fact {
        error: Some("permission denied".into()),
        kind: None,
    };
    let shown = decide(FILE, &[error]);
    assert!(
        shown.contains("it cannot be observed: permission denied"),
        "{shown}"
    );
}

#[test]
fn every_folder_of_a_kind_has_its_row() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/resource");
    let mut folders: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "snapshots")
        .collect();
    folders.sort();
    let rows: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(folders, rows);
}
