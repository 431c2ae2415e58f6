//! Conversations below a directory, as whoever runs the tests.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use provision_protocol::PROTOCOL_VERSION;
use provision_protocol::fact::{FileQuery, FileType, fact_kind, query};
use provision_protocol::message::from_host::Body as Answer;
use provision_protocol::message::to_host::Body as Request;
use provision_protocol::message::{
    Chunk, Lock, Perform, Retire, Stage, Staged, StagedFile, Unstage,
};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{
    Debt, ExtractArchive, Guard, MakeDirectory, ManifestKind, Owed, Remove, RunCommand, UnitAction,
    UnitVerb, Validation,
};

use crate::talk::{Place, mode_of, operation, write};

#[test]
fn greets_and_observes_without_writing_anything() {
    let place = Place::new();
    let mut talk = place.talk();
    assert_eq!(talk.hello.protocol_version, PROTOCOL_VERSION);
    assert!(!talk.hello.boot_id.is_empty() && talk.hello.memory_bytes > 0);
    let file = talk.file("/etc/group");
    assert_eq!(file.file_type(), FileType::Regular);
    assert_eq!((file.owner.as_str(), file.group.as_str()), ("me", "us"));
    let facts = talk.observe(vec![
        query::Kind::User("me".into()),
        query::Kind::Group("none".into()),
        query::Kind::Package("x".into()),
        query::Kind::Unit("x.service".into()),
        query::Kind::Manifest("test".into()),
        query::Kind::File(FileQuery::default()),
    ]);
    assert!(matches!(&facts[0].kind, Some(fact_kind::Kind::User(user)) if user.exists));
    assert!(matches!(&facts[1].kind, Some(fact_kind::Kind::Group(group)) if !group.exists));
    assert!(facts[2].error.as_ref().unwrap().contains("no dpkg"));
    assert!(
        facts[3]
            .error
            .as_ref()
            .unwrap()
            .contains("systemctl is not installed")
    );
    assert!(facts[4].error.is_none());
    assert!(facts[5].error.is_some());
    talk.end();
    assert!(!place.at("/var").exists());
}

#[test]
fn changes_nothing_without_the_lock() {
    let place = Place::new();
    let mut talk = place.talk();
    for request in [
        Request::Perform(Perform::default()),
        Request::Stage(Stage::default()),
        Request::Unstage(Unstage {}),
        Request::Chunk(Chunk {
            last: true,
            ..Chunk::default()
        }),
    ] {
        let Answer::Refused(refused) = talk.ask(request) else {
            panic!("not refused")
        };
        assert_eq!(refused.message, "the host's lock must be taken first");
    }
    talk.end();
    assert!(!place.at("/var").exists());
}

#[test]
fn a_second_run_waits_for_the_first_to_end() {
    let place = Place::new();
    let first = place.locked();
    let mut second = place.talk();
    let lock = || {
        Request::Lock(Lock {
            holder: "second".into(),
        })
    };
    let Answer::Refused(refused) = second.ask(lock()) else {
        panic!("not refused")
    };
    assert!(
        refused
            .message
            .starts_with("another run works on this host: a test; wait for it to end"),
        "{}",
        refused.message
    );
    first.end();
    assert!(matches!(second.ask(lock()), Answer::Locked(_)));
}

#[test]
fn a_file_goes_from_upload_through_stage_to_its_place_and_away_again() {
    let place = Place::new();
    place.script("/usr/bin/check", "grep -q good \"$1\"");
    let mut talk = place.locked();
    let sha256 = talk.upload(b"good");
    let validation = Validation {
        path: "/etc/app/config".into(),
        arguments: vec!["check".into(), "{}".into()],
    };
    let staged = talk.stage(Stage {
        files: vec![StagedFile {
            path: "/etc/app/config".into(),
            sha256: sha256.clone(),
            mode: 0o640,
        }],
        validations: vec![validation.clone()],
    });
    assert_eq!(staged, Staged::default());
    assert!(!place.at("/etc/app").exists(), "staging changes nothing");
    let message = talk.refused(Act::WriteFile(write("/etc/app/config", &sha256)));
    assert!(
        message.contains("there is no directory /etc/app for"),
        "{message}"
    );
    talk.done(Act::MakeDirectory(MakeDirectory {
        path: "/etc/app".into(),
        owner: "me".into(),
        group: "us".into(),
        mode: 0o750,
    }));
    let mut wanted = write("/etc/app/config", &sha256);
    wanted.validation = Some(validation);
    wanted.debts = vec![Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    }];
    talk.done(Act::WriteFile(wanted));
    let file = talk.file("/etc/app/config");
    assert_eq!((file.text.as_deref(), file.mode), (Some("good"), 0o640));
    assert_eq!(mode_of(&place.at("/etc/app")), 0o750);
    assert_eq!(
        fs::read(place.at("/var/lib/provision/debts/app.service")).unwrap(),
        b"restart\n"
    );
    let names: Vec<_> = talk
        .manifest()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["/etc/app", "/etc/app/config"]);
    assert!(matches!(
        talk.ask(Request::Unstage(Unstage {})),
        Answer::Unstaged(_)
    ));
    talk.remove(ManifestKind::File, "/etc/app/config");
    talk.remove(ManifestKind::Directory, "/etc/app");
    assert!(!place.at("/etc/app").exists());
    assert_eq!(talk.manifest(), []);
    talk.end();
    let left = place.state_files();
    assert_eq!(
        left,
        [
            "debts",
            "journal.jsonl",
            "lock",
            "lock.holder",
            "manifest.json",
            "previous"
        ]
    );
}

#[test]
fn what_was_accepted_when_it_was_staged_is_not_validated_again() {
    let place = Place::new();
    place.script("/usr/bin/check", "echo call >> \"$(dirname \"$0\")/calls\"");
    let calls = || {
        fs::read_to_string(place.at("/usr/bin/calls"))
            .unwrap()
            .len()
            / "call\n".len()
    };
    let mut talk = place.locked();
    let contents = [talk.upload(b"staged"), talk.upload(b"another")];
    let validation = |path: &str| Validation {
        path: path.into(),
        arguments: vec!["check".into(), "{}".into()],
    };
    talk.stage(Stage {
        files: vec![StagedFile {
            path: "/etc/app".into(),
            sha256: contents[0].clone(),
            mode: 0o640,
        }],
        validations: vec![validation("/etc/app")],
    });
    assert_eq!(calls(), 1);
    // Anything else than that content under that path is another matter.
    for (path, sha256, expected) in [
        ("/etc/app", &contents[0], 1),
        ("/etc/other", &contents[0], 2),
        ("/etc/app", &contents[1], 3),
    ] {
        let mut wanted = write(path, sha256);
        wanted.validation = Some(validation(path));
        talk.done(Act::WriteFile(wanted));
        assert_eq!(calls(), expected, "{path}");
    }
}

#[test]
fn what_stood_there_first_comes_back() {
    let place = Place::new();
    fs::write(place.at("/etc/motd"), "theirs").unwrap();
    fs::set_permissions(place.at("/etc/motd"), fs::Permissions::from_mode(0o604)).unwrap();
    let mut talk = place.locked();
    for text in ["first", "second"] {
        let sha256 = talk.upload(text.as_bytes());
        talk.done(Act::WriteFile(write("/etc/motd", &sha256)));
    }
    assert_eq!(mode_of(&place.at("/etc/motd")), 0o640);
    talk.remove(ManifestKind::File, "/etc/motd");
    assert_eq!(fs::read(place.at("/etc/motd")).unwrap(), b"theirs");
    assert_eq!(mode_of(&place.at("/etc/motd")), 0o604);
}

#[test]
fn what_somebody_else_changed_is_not_removed() {
    let place = Place::new();
    let mut talk = place.locked();
    let sha256 = talk.upload(b"ours");
    talk.done(Act::WriteFile(write("/etc/app", &sha256)));
    fs::write(place.at("/etc/app"), "theirs").unwrap();
    let entry = talk.manifest().remove(0);
    let message = talk.refused(Act::Remove(Remove { entry: Some(entry) }));
    assert!(
        message.contains("was changed by somebody else"),
        "{message}"
    );
    assert_eq!(fs::read(place.at("/etc/app")).unwrap(), b"theirs");
}

#[test]
fn leaves_a_host_only_when_nothing_on_it_is_managed_any_more() {
    let place = Place::new();
    let mut talk = place.locked();
    let sha256 = talk.upload(b"x");
    talk.done(Act::WriteFile(write("/etc/app", &sha256)));
    let retire = || Request::Retire(Retire {});
    let Answer::Retired(retired) = talk.ask(retire()) else {
        panic!("not answered")
    };
    assert_eq!(retired.entries_left, 1);
    assert!(!place.state_files().is_empty());
    talk.remove(ManifestKind::File, "/etc/app");
    let Answer::Retired(retired) = talk.ask(retire()) else {
        panic!("not answered")
    };
    assert_eq!(retired.entries_left, 0);
    talk.end();
    assert!(!place.at("/var/lib/provision").exists());
}

#[test]
fn a_guard_that_does_not_hold_stops_the_rest() {
    let place = Place::new();
    let mut talk = place.locked();
    let sha256 = talk.upload(b"x");
    let mut guarded = operation(Act::WriteFile(write("/etc/app", &sha256)));
    guarded.guards = vec![Guard {
        path: "/etc/passwd".into(),
        sha256: String::new(),
    }];
    let later = operation(Act::WriteFile(write("/etc/later", &sha256)));
    let performed = talk.perform(vec![guarded, later]);
    let failure = performed.failure.unwrap();
    assert!(
        failure.guard && failure.message.contains("now something is there"),
        "{failure:?}"
    );
    assert_eq!(performed.done, 0);
    assert!(!place.at("/etc/app").exists() && !place.at("/etc/later").exists());
}

#[test]
fn links_and_directories_are_not_replaced_by_files() {
    let place = Place::new();
    std::os::unix::fs::symlink("passwd", place.at("/etc/link")).unwrap();
    let mut talk = place.locked();
    let sha256 = talk.upload(b"x");
    let message = talk.refused(Act::WriteFile(write("/etc/link", &sha256)));
    assert!(message.contains("is a symbolic link"), "{message}");
    let message = talk.refused(Act::WriteFile(write("/etc", &sha256)));
    assert!(message.contains("is a directory"), "{message}");
}

#[test]
fn a_restart_settles_what_is_owed_and_a_failure_says_why() {
    let place = Place::new();
    place.script(
        "/usr/bin/systemctl",
        "case $1 in\nshow) printf 'LoadState=loaded\\nActiveState=inactive\\nUnitFileState=disabled\\nResult=exit-code\\n';;\n\
         restart) test -e \"$(dirname \"$0\")/works\" || { echo 'Job failed.' >&2; exit 1; };;\nesac",
    );
    place.script("/usr/bin/journalctl", "echo 'config: line 3 is bad'");
    let mut talk = place.locked();
    let sha256 = talk.upload(b"x");
    let mut wanted = write("/etc/app", &sha256);
    wanted.debts = vec![Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    }];
    talk.done(Act::WriteFile(wanted));
    let restart = || {
        let verb = UnitVerb::Restart as i32;
        Act::UnitAction(UnitAction {
            unit: "app.service".into(),
            verb,
        })
    };
    let message = talk.refused(restart());
    assert!(
        message.contains("Job failed.") && message.contains("Result=exit-code"),
        "{message}"
    );
    assert!(message.contains("config: line 3 is bad"), "{message}");
    assert!(place.at("/var/lib/provision/debts/app.service").exists());
    fs::write(place.at("/usr/bin/works"), "").unwrap();
    talk.done(restart());
    assert!(!place.at("/var/lib/provision/debts/app.service").exists());
    let entry = talk.manifest().pop().unwrap();
    assert_eq!(entry.previous_value, "disabled,inactive");
}

#[test]
fn an_operation_in_hand_is_ended_when_the_connection_goes() {
    let place = Place::new();
    place.script("/usr/bin/slow", "sleep 1; touch \"$(dirname \"$0\")/done\"");
    let mut talk = place.locked();
    let run = |name: &str| {
        operation(Act::RunCommand(RunCommand {
            arguments: vec![name.into()],
            ..RunCommand::default()
        }))
    };
    place.script("/usr/bin/next", "touch \"$(dirname \"$0\")/next-done\"");
    let operations = vec![run("slow"), run("next")];
    talk.say(Request::Perform(Perform {
        run: "run-1".into(),
        operations,
        origin: None,
    }));
    std::thread::sleep(Duration::from_millis(300));
    talk.end();
    assert!(place.at("/usr/bin/done").exists());
    assert!(!place.at("/usr/bin/next-done").exists());
}

#[test]
fn a_lock_ends_when_nobody_hears_its_holder_any_more() {
    let place = Place::new();
    let mut talk = place.locked();
    talk.turn_deaf();
    let until = Instant::now() + Duration::from_secs(60);
    while talk.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = place.locked();
}

#[test]
fn refuses_what_is_no_frame() {
    let place = Place::new();
    let mut talk = place.talk();
    talk.input.as_mut().unwrap().write_all(&[0xff; 8]).unwrap();
    drop(talk.input.take());
    assert_eq!(talk.child.wait().unwrap().code(), Some(3));
}

#[test]
fn an_archive_is_exchanged_as_a_whole_and_a_strangers_directory_is_not() {
    let place = Place::new();
    fs::create_dir_all(place.at("/opt/theirs")).unwrap();
    fs::write(place.at("/opt/theirs/data"), "x").unwrap();
    let archive = |text: &str| {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(encoder);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, format!("app/{text}"), text.as_bytes())
            .unwrap();
        builder.into_inner().unwrap().finish().unwrap()
    };
    let mut talk = place.locked();
    let extract = |path: &str, sha256: String| {
        Act::ExtractArchive(ExtractArchive {
            sha256,
            path: path.into(),
            strip_components: 1,
            owner: "me".into(),
            group: "us".into(),
            debts: vec![],
        })
    };
    for text in ["one", "two"] {
        let sha256 = talk.upload(&archive(text));
        talk.done(extract("/opt/app", sha256.clone()));
        assert_eq!(
            fs::read(place.at("/opt/app").join(text)).unwrap(),
            text.as_bytes()
        );
        assert_eq!(
            talk.file("/opt/app/.provision-archive").text,
            Some(format!("{sha256}\n"))
        );
    }
    assert!(!place.at("/opt/app/one").exists());
    assert_eq!(
        fs::read_dir(place.at("/opt")).unwrap().count(),
        2,
        "nothing is left beside it"
    );
    let sha256 = talk.upload(&archive("three"));
    let message = talk.refused(extract("/opt/theirs", sha256));
    assert!(message.contains("has not put there"), "{message}");
    talk.remove(ManifestKind::Archive, "/opt/app");
    assert!(!place.at("/opt/app").exists());
}

#[test]
fn a_unit_goes_back_to_what_it_was() {
    let place = Place::new();
    place.script(
        "/usr/bin/systemctl",
        "here=\"$(dirname \"$0\")\"\n\
         test -e $here/active && active=active || active=inactive\n\
         test -e $here/enabled && enabled=enabled || enabled=disabled\n\
         case $1 in\n\
         show) printf \"LoadState=loaded\\nActiveState=$active\\nUnitFileState=$enabled\\n\";;\n\
         start) touch $here/active;;\n stop) rm $here/active;;\n\
         enable) touch $here/enabled;;\n disable) rm $here/enabled;;\n\
         esac",
    );
    fs::write(place.at("/usr/bin/active"), "").unwrap();
    let mut talk = place.locked();
    for verb in [UnitVerb::Enable, UnitVerb::Stop, UnitVerb::Start] {
        let unit = "app.service".into();
        talk.done(Act::UnitAction(UnitAction {
            unit,
            verb: verb as i32,
        }));
    }
    assert!(place.at("/usr/bin/enabled").exists());
    talk.remove(ManifestKind::Unit, "app.service");
    assert!(
        !place.at("/usr/bin/enabled").exists(),
        "it was not enabled before"
    );
    assert!(place.at("/usr/bin/active").exists(), "it ran before");
}
