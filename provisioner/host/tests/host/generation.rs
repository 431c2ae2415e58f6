//! What a host remembers of the runs that changed it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use provision_protocol::fact::{fact_kind, query};
use provision_protocol::generation::{Ending, KeptFact, KeptQuery};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{Adopt, Debt, ManifestKind, Owed, RunCommand};

use crate::talk::{Place, Talk, write};

fn put(talk: &mut Talk, path: &str, text: &str) -> String {
    let sha256 = talk.upload(text.as_bytes());
    let mut wanted = write(path, &sha256);
    wanted.debts = vec![Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    }];
    talk.done(Act::WriteFile(wanted));
    sha256
}

fn kept(talk: &mut Talk, sha256: &str) -> KeptFact {
    let query = query::Kind::Kept(KeptQuery {
        sha256: sha256.to_owned(),
        text_limit_bytes: 100,
    });
    match talk.observe(vec![query]).remove(0).kind {
        Some(fact_kind::Kind::Kept(fact)) => fact,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_run_that_changes_something_is_a_generation() {
    let place = Place::new();
    fs::write(place.at("/etc/config"), "theirs").unwrap();
    let mut talk = place.locked();
    assert_eq!(talk.commit(Ending::Applied), 0, "nothing was changed");
    let first = put(&mut talk, "/etc/config", "one");
    let open = talk.generations().remove(0);
    assert_eq!((open.number, open.ending()), (1, Ending::Unfinished));
    assert_eq!(talk.commit(Ending::Applied), 1);
    let second = put(&mut talk, "/etc/config", "two");
    assert_eq!(talk.commit(Ending::Applied), 2);
    let generations = talk.generations();
    let told: Vec<_> = generations
        .iter()
        .map(|one| {
            let change = &one.changes[0];
            let sha256 = |standing: &Option<_>| {
                let standing: &provision_protocol::generation::Standing =
                    standing.as_ref().unwrap();
                standing.sha256.clone()
            };
            (
                one.ending(),
                change.managed,
                sha256(&change.before),
                sha256(&change.after),
            )
        })
        .collect();
    let theirs = crate::talk::sha256_of(b"theirs");
    assert_eq!(
        told,
        [
            (Ending::Applied, false, theirs.clone(), first.clone()),
            (Ending::Applied, true, first.clone(), second.clone()),
        ]
    );
    let origin = generations[1].origin.clone().unwrap();
    assert_eq!(
        (origin.who.as_str(), origin.commit.as_str()),
        ("ada@controller", "abc")
    );
    assert_eq!(generations[1].changes[0].debts[0].unit, "app.service");
    assert_eq!(generations[1].plays, ["app"]);
    for (sha256, text) in [(theirs, "theirs"), (first, "one"), (second, "two")] {
        assert_eq!(kept(&mut talk, &sha256).text.as_deref(), Some(text));
    }
}

#[test]
fn what_is_taken_away_can_be_put_back() {
    let place = Place::new();
    let mut talk = place.locked();
    let sha256 = put(&mut talk, "/etc/config", "one");
    talk.commit(Ending::Applied);
    talk.remove(ManifestKind::File, "/etc/config");
    assert_eq!(talk.commit(Ending::Applied), 2);
    let removal = talk.generations().remove(1).changes.remove(0);
    assert_eq!(removal.after, None);
    assert!(removal.kept && removal.wrote);
    // No upload is needed for what the host still has.
    talk.done(Act::WriteFile(write("/etc/config", &sha256)));
    assert_eq!(fs::read(place.at("/etc/config")).unwrap(), b"one");
}

#[test]
fn a_content_that_turns_out_to_be_secret_is_kept_no_longer() {
    let place = Place::new();
    let mut talk = place.locked();
    let shas: Vec<String> = ["one", "two"]
        .iter()
        .map(|text| {
            let sha256 = put(&mut talk, "/etc/config", text);
            talk.commit(Ending::Applied);
            sha256
        })
        .collect();
    let sha256 = talk.upload(b"three");
    let mut wanted = write("/etc/config", &sha256);
    wanted.secret = true;
    talk.done(Act::WriteFile(wanted));
    talk.commit(Ending::Applied);
    talk.end();
    let mut talk = place.talk();
    for sha256 in shas.iter().chain([&sha256]) {
        assert!(!kept(&mut talk, sha256).exists);
    }
    let last = talk.generations().remove(2).changes.remove(0);
    assert!(last.secret && !last.kept);
}

#[test]
fn a_command_is_remembered_without_its_arguments() {
    let place = Place::new();
    place.script("/usr/bin/login", "true");
    let mut talk = place.locked();
    talk.done(Act::RunCommand(RunCommand {
        arguments: vec!["login".into(), "the-secret".into()],
        ..RunCommand::default()
    }));
    talk.commit(Ending::Applied);
    let change = talk.generations().remove(0).changes.remove(0);
    assert_eq!(change.kind(), ManifestKind::Command);
    assert_eq!(
        (change.name.as_str(), change.resource.as_str()),
        ("login", "command login")
    );
}

fn adopt(talk: &mut Talk, kind: ManifestKind, name: &str, secret: bool) {
    talk.done(Act::Adopt(Adopt {
        kind: kind as i32,
        name: name.to_owned(),
        secret,
        debts: Vec::new(),
    }));
}

#[test]
fn a_secret_where_one_was_taken_over_stays_with_the_mode_that_protects_it() {
    let place = Place::new();
    fs::write(place.at("/etc/token"), "their token").unwrap();
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(place.at("/etc/token"), readable).unwrap();
    let mut talk = place.locked();
    adopt(&mut talk, ManifestKind::File, "/etc/token", true);
    let sha256 = talk.upload(b"our token");
    let mut wanted = write("/etc/token", &sha256);
    (wanted.secret, wanted.mode) = (true, 0o600);
    talk.done(Act::WriteFile(wanted));
    talk.remove(ManifestKind::File, "/etc/token");
    assert_eq!(fs::read(place.at("/etc/token")).unwrap(), b"our token");
    let mode = fs::metadata(place.at("/etc/token")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn what_is_taken_over_stays_as_it_is_and_is_put_back_later() {
    let place = Place::new();
    fs::write(place.at("/etc/config"), "theirs").unwrap();
    fs::write(place.at("/etc/token"), "their token").unwrap();
    let mut talk = place.locked();
    adopt(&mut talk, ManifestKind::File, "/etc/config", false);
    adopt(&mut talk, ManifestKind::File, "/etc/token", true);
    adopt(&mut talk, ManifestKind::Directory, "/etc", false);
    adopt(&mut talk, ManifestKind::File, "/etc/absent", false);
    adopt(&mut talk, ManifestKind::Directory, "/etc/config", false);
    adopt(&mut talk, ManifestKind::User, "me", false);
    adopt(&mut talk, ManifestKind::User, "nobody-here", false);
    assert_eq!(talk.commit(Ending::Applied), 1);
    let names = |talk: &mut Talk| -> Vec<String> {
        let entries = talk.manifest().into_iter();
        entries
            .inspect(|entry| assert!(entry.existed && entry.adopted))
            .map(|entry| entry.name)
            .collect()
    };
    assert_eq!(
        names(&mut talk),
        ["/etc/config", "/etc/token", "/etc", "me"]
    );
    // A second time there is nothing left to write down.
    adopt(&mut talk, ManifestKind::File, "/etc/config", false);
    assert_eq!(talk.commit(Ending::Applied), 0);
    let theirs = crate::talk::sha256_of(b"theirs");
    assert_eq!(kept(&mut talk, &theirs).text.as_deref(), Some("theirs"));
    let token = crate::talk::sha256_of(b"their token");
    assert!(!kept(&mut talk, &token).exists, "a secret is not kept");
    put(&mut talk, "/etc/config", "ours");
    talk.commit(Ending::Applied);
    for (kind, name) in [
        (ManifestKind::User, "me"),
        (ManifestKind::File, "/etc/token"),
        (ManifestKind::File, "/etc/config"),
        (ManifestKind::Directory, "/etc"),
    ] {
        talk.remove(kind, name);
    }
    assert_eq!(fs::read(place.at("/etc/config")).unwrap(), b"theirs");
    assert_eq!(fs::read(place.at("/etc/token")).unwrap(), b"their token");
    assert_eq!(names(&mut talk), [""; 0]);
}
