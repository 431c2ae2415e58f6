//! What may hold a secret, and where nothing of it may stay.

use std::fs;
use std::io::Write;
use std::process::Command;

use provision_protocol::fact::CommandQuery;
use provision_protocol::message::to_host::Body as Request;
use provision_protocol::message::{Stage, Staged, StagedFile, Unstage};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{Debt, ManifestKind, Owed, RunCommand};

use crate::talk::{Place, operation, write};

#[test]
fn no_copy_of_a_secret_stays() {
    let place = Place::new();
    fs::write(place.at("/etc/key"), "theirs").unwrap();
    let mut talk = place.locked();
    // The last one holds no secret any more, but replaces one that does.
    for (text, secret) in [("secret 1", true), ("secret 2", true), ("plain", false)] {
        let sha256 = talk.upload(text.as_bytes());
        let mut wanted = write("/etc/key", &sha256);
        wanted.secret = secret;
        talk.done(Act::WriteFile(wanted));
        talk.ask(Request::Unstage(Unstage {}));
        for path in ["/etc/key", "/etc//key"] {
            let shown = talk.file(path);
            assert_eq!(shown.text.as_deref(), (!secret).then_some("plain"));
            assert_eq!(shown.secret, secret);
        }
        assert_eq!(files_with(&place, "secret [12]"), "");
    }
    talk.remove(ManifestKind::File, "/etc/key");
    assert_eq!(fs::read(place.at("/etc/key")).unwrap(), b"theirs");
}

#[test]
fn words_of_a_program_do_not_stay() {
    let place = Place::new();
    place.script("/usr/bin/loud", "echo the secret; exit 3");
    let mut talk = place.locked();
    let message = talk.refused(Act::RunCommand(RunCommand {
        arguments: vec!["loud".into()],
        ..RunCommand::default()
    }));
    assert_eq!(
        message,
        "loud failed, it ended with exit code 3: the secret"
    );
    let journal = fs::read_to_string(place.at("/var/lib/provision/journal.jsonl")).unwrap();
    assert!(journal.contains("loud failed, it ended with exit code 3\""));
    assert!(!journal.contains("secret"), "{journal}");
}

#[test]
fn what_a_command_is_given_does_not_stay() {
    let place = Place::new();
    place.script("/usr/bin/login", "true");
    let mut talk = place.locked();
    let words = ["login", "--token", "the-secret"].map(str::to_owned);
    let mut wanted = operation(Act::RunCommand(RunCommand {
        arguments: words.to_vec(),
        done: Some(CommandQuery {
            unless: words.to_vec(),
            creates: "/etc/none".into(),
        }),
        ..RunCommand::default()
    }));
    wanted.resource = format!("command {}", words.join(" "));
    let performed = talk.perform(vec![wanted]);
    assert!(performed.failure.is_some());
    let journal = fs::read_to_string(place.at("/var/lib/provision/journal.jsonl")).unwrap();
    assert_eq!(journal.matches("\"command login\"").count(), 2, "{journal}");
    assert!(journal.contains("\"message\":\"refused\""), "{journal}");
    assert_eq!(files_with(&place, "the-secret"), "");
}

#[test]
fn a_secret_is_known_as_one_until_another_content_stands_there() {
    let place = Place::new();
    let mut talk = place.locked();
    let sha256 = talk.upload(b"the secret");
    let mut wanted = write("/etc/key", &sha256);
    wanted.secret = true;
    talk.done(Act::WriteFile(wanted));
    talk.ask(Request::Unstage(Unstage {}));
    // The next write ends after it was written down, as in a power cut: its debt cannot be.
    let manifest = place.at("/var/lib/provision/manifest.json");
    let debts = place.at("/var/lib/provision/debts");
    fs::write(&debts, "in the way").unwrap();
    let sha256 = talk.upload(b"plain");
    let mut wanted = write("/etc/key", &sha256);
    wanted.debts = vec![Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    }];
    talk.refused(Act::WriteFile(wanted.clone()));
    assert!(fs::read_to_string(&manifest).unwrap().contains(&sha256));
    let shown = talk.file("/etc/key");
    assert!(shown.secret && shown.text.is_none());
    fs::remove_file(debts).unwrap();
    talk.done(Act::WriteFile(wanted));
    assert_eq!(talk.file("/etc/key").text.as_deref(), Some("plain"));
    assert_eq!(files_with(&place, "the secret"), "");
}

#[test]
fn what_was_sent_does_not_outlive_the_conversation() {
    for last_words in [&[][..], &[0xff; 8], &[0, 0, 0, 9, 1]] {
        let place = Place::new();
        let mut talk = place.locked();
        let sha256 = talk.upload(b"the secret");
        let large = talk.upload(&vec![1u8; 1024 * 1024]);
        let stage = talk.stage(Stage {
            files: vec![StagedFile {
                path: "/etc/key".into(),
                sha256,
                mode: 0o600,
            }],
            validations: vec![],
        });
        assert_eq!(stage, Staged::default());
        assert_ne!(files_with(&place, "the secret"), "");
        // The connection ends between two frames, with nonsense, or inside a frame.
        talk.input.as_mut().unwrap().write_all(last_words).unwrap();
        drop(talk.input.take());
        talk.child.wait().unwrap();
        assert_eq!(files_with(&place, "the secret"), "");
        assert!(!place.at("/var/lib/provision/stage").exists());

        let mut talk = place.locked();
        assert!(talk.is_complete(&large), "it need not be sent again");
        talk.done(Act::WriteFile(write("/etc/large", &large)));
        talk.ask(Request::Unstage(Unstage {}));
        assert!(!talk.is_complete(&large), "it stands in its place");
    }
}

/// The files below the state directory that hold the words.
fn files_with(place: &Place, words: &str) -> String {
    let output = Command::new("grep")
        .args(["-r", "-l", words])
        .arg(place.at("/var/lib/provision"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
