//! Encrypted files, from their text to their values and back.
//!
//! Goes in: texts and keys made for the test. Comes out: values and messages. Invariant: no
//! message holds a value or a private key.

use std::sync::Arc;

use super::*;
use crate::document::{Diagnostics, Source};

struct Keys {
    folder: tempfile::TempDir,
    public: String,
}

impl Keys {
    fn age() -> Self {
        use age::secrecy::ExposeSecret as _;
        let key = age::x25519::Identity::generate();
        let folder = tempfile::tempdir().unwrap();
        let text = format!("# mine\n{}\n", key.to_string().expose_secret());
        std::fs::write(folder.path().join("key"), text).unwrap();
        let public = key.to_public().to_string();
        Self { folder, public }
    }

    fn ssh(kind: &str, passphrase: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let status = std::process::Command::new("ssh-keygen")
            .args([
                "-q",
                "-t",
                kind,
                "-C",
                "anna@laptop",
                "-N",
                passphrase,
                "-f",
            ])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let public = public.trim().to_owned();
        Self { folder, public }
    }

    fn identities(&self) -> Identities {
        Identities::new(vec![self.folder.path().join("key")])
    }
}

fn source(text: &str) -> Arc<Source> {
    let name = "environments/production.secrets.toml";
    Arc::new(Source::new(name.to_owned(), text.to_owned()))
}

fn file(text: &str) -> SecretFile {
    let diagnostics = Diagnostics::default();
    let file = SecretFile::parse(&source(text), &diagnostics);
    diagnostics.into_result().unwrap();
    file
}

fn mistakes(text: &str) -> String {
    let diagnostics = Diagnostics::default();
    let _ = SecretFile::parse(&source(text), &diagnostics);
    let list = diagnostics.into_list();
    list.iter().map(|one| format!("{one}\n\n")).collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn open(text: &str, secret: &str, keys: &Keys) -> Result<Secret> {
    let file = file(text);
    Secret::open(
        &file.values[&name(secret)],
        &name(secret),
        &keys.identities(),
    )
}

fn text_of(editor: &SecretEditor) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    editor.save(&path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_recipient_reads_what_was_set_and_nobody_else() {
    let all = [Keys::age(), Keys::ssh("ed25519", ""), Keys::ssh("rsa", "")];
    let stranger = Keys::age();
    let publics: Vec<String> = all.iter().map(|keys| keys.public.clone()).collect();
    let value = "two\nlines, \"quotes\" and ü\n";
    let mut editor = SecretEditor::open(&source(&SecretEditor::new_text(&publics))).unwrap();
    editor.set(&name("token"), value).unwrap();
    editor.set(&name("a.b"), "other-value").unwrap();
    let text = text_of(&editor);
    assert!(
        !text.contains("lines, ") && !text.contains("other-value"),
        "{text}"
    );
    for keys in &all {
        assert_eq!(open(&text, "token", keys).unwrap().expose(), value);
        assert_eq!(open(&text, "a.b", keys).unwrap().expose(), "other-value");
    }
    let error = open(&text, "token", &stranger).unwrap_err().to_string();
    assert!(
        error.contains("encrypted for others") && error.contains(&stranger.public),
        "{error}"
    );
}

#[test]
fn comments_and_other_values_survive_a_change() {
    let keys = Keys::age();
    let mut editor = SecretEditor::open(&source(&SecretEditor::new_text(std::slice::from_ref(
        &keys.public,
    ))))
    .unwrap();
    editor.set(&name("one"), "value-one").unwrap();
    let before = text_of(&editor).replace("[secrets.one]", "# Of the mail server.\n[secrets.one]");
    let mut editor = SecretEditor::open(&source(&before)).unwrap();
    editor.set(&name("two"), "value-two").unwrap();
    let after = text_of(&editor);
    assert!(after.starts_with(&before), "{after}");
    editor.remove(&name("two"));
    assert_eq!(text_of(&editor), before);
}

#[test]
fn recipients_come_and_go_and_every_value_follows() {
    let (anna, bob) = (Keys::age(), Keys::ssh("ed25519", ""));
    let mut editor = SecretEditor::open(&source(&SecretEditor::new_text(std::slice::from_ref(
        &anna.public,
    ))))
    .unwrap();
    editor.set(&name("token"), "some-value").unwrap();
    let old = text_of(&editor);
    editor
        .change_recipients(std::slice::from_ref(&bob.public), &[])
        .unwrap();
    let listed = file(&text_of(&editor));
    assert_eq!(listed.recipients.len(), 2);
    assert!(!listed.is_current(&listed.values[&name("token")]));
    editor.seal(&name("token"), "some-value").unwrap();
    editor
        .change_recipients(&[], std::slice::from_ref(&anna.public))
        .unwrap();
    editor.seal(&name("token"), "some-value").unwrap();
    let new = text_of(&editor);
    let listed = file(&new);
    assert!(listed.is_current(&listed.values[&name("token")]));
    assert!(open(&old, "token", &anna).is_ok());
    assert!(open(&new, "token", &anna).is_err());
    assert_eq!(open(&new, "token", &bob).unwrap().expose(), "some-value");
    // By the comment behind the key; and the last one stays.
    let error = editor
        .change_recipients(&[], &["anna@laptop".to_owned()])
        .unwrap_err();
    assert!(
        error.to_string().contains("nobody would be left"),
        "{error}"
    );
    let error = editor
        .change_recipients(&[], &["carol".to_owned()])
        .unwrap_err();
    assert!(
        error.to_string().contains("not among the recipients"),
        "{error}"
    );
}

#[test]
fn mistakes_of_a_file_have_their_places_and_show_no_value() {
    let shown = mistakes(
        "recipients = [\"age1nonsense\", \"ssh-ed25519 AAAA\"]\nrecipient = 1\n[secrets.token]\nvalue = \"in-clear-text\"\n[secrets.other]\nvalu = \"x\"\n[secrets.\"a b\"]\nvalue = \"\"\n",
    );
    assert!(!shown.contains("in-clear-text"), "{shown}");
    insta::assert_snapshot!(shown);
    insta::assert_snapshot!(mistakes("[secrets]\n"));
}

#[test]
fn a_damaged_value_is_named_by_its_place() {
    let keys = Keys::age();
    let mut editor = SecretEditor::open(&source(&SecretEditor::new_text(std::slice::from_ref(
        &keys.public,
    ))))
    .unwrap();
    editor.set(&name("token"), "some-value").unwrap();
    let text = text_of(&editor);
    let line = text
        .lines()
        .rev()
        .find(|line| line.len() > 20 && !line.contains(['-', '"']))
        .unwrap();
    let turned: String = line.chars().rev().collect();
    let error = open(&text.replace(line, &turned), "token", &keys)
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged"), "{error}");
    assert!(
        error.contains("environments/production.secrets.toml:"),
        "{error}"
    );
}

#[test]
fn an_identity_that_is_none_is_refused_without_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "# a\n\nAGE-SECRET-KEY-1HUNTER2\n").unwrap();
    let error = Identities::new(vec![path.clone()])
        .public_keys()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("key:3:1") && !error.contains("HUNTER2"),
        "{error}"
    );
    std::fs::write(&path, "\n# nothing\n").unwrap();
    let error = Identities::new(vec![path])
        .public_keys()
        .unwrap_err()
        .to_string();
    assert!(error.contains("no identity in it"), "{error}");
    let locked = Keys::ssh("ed25519", "passphrase");
    let error = locked.identities().public_keys().unwrap_err().to_string();
    assert!(error.contains("passphrase"), "{error}");
}

#[test]
fn a_secret_that_cannot_be_redacted_is_refused() {
    let keys = Keys::age();
    let mut editor = SecretEditor::open(&source(&SecretEditor::new_text(std::slice::from_ref(
        &keys.public,
    ))))
    .unwrap();
    assert!(editor.set(&name("token"), "12345").is_err());
    assert!(editor.set(&name("token"), &"x".repeat(65 << 10)).is_err());
}

#[test]
fn a_program_that_does_not_end_is_not_waited_for() {
    let begun = std::time::Instant::now();
    let words = ["sleep", "600"].map(ToOwned::to_owned);
    let within = Duration::from_millis(50);
    let error = run(&words, Path::new("/"), within).unwrap_err();
    assert_eq!(error, "sleep did not end within 50ms");
    assert!(begun.elapsed() < Duration::from_secs(60));
}
