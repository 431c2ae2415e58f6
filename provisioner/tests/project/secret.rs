//! `provision secret` from the first value to a change of its readers.
//!
//! Goes in: values on the standard input. Comes out: files, and values on the standard output.
//! Invariant: no file and no complaint holds a value in clear.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{Folder, feed};

const VALUE: &str = "t0ken/of+the gateways?&ü";
const FILE: &str = "environments/production.secrets.toml";

#[test]
fn a_first_secret_needs_nothing_but_its_value() {
    let folder = Folder::with_project();
    folder.run(
        &["secret", "set", "token", "--env", "production"],
        &format!("{VALUE}\n"),
    );
    let identity = folder.home().join(".config/provision/identity");
    let mode = fs::metadata(&identity).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        folder
            .read("environments/production.toml")
            .contains(&format!("file = \"{FILE}\""))
    );
    assert!(!folder.read(FILE).contains(VALUE));
    let get = ["secret", "get", "token", "--env", "production"];
    assert_eq!(folder.run(&get, ""), format!("{VALUE}\n"));
    folder.run(&["inventory", "check"], "");
    let list = folder.run(
        &["secret", "list", "--env", "production", "--output", "json"],
        "",
    );
    assert!(
        list.contains("\"token\"") && !list.contains(VALUE),
        "{list}"
    );
    // The file beside the environments is none of them.
    let unknown = folder.refuse(&["inventory", "show", "--env", "production.secrets"], "");
    assert!(unknown.contains("there is no environment"), "{unknown}");
    // Without the identity nobody reads it, and the complaint says what to do.
    let stranger = folder.refuse(
        &["plan", "--env", "production", "--identity", "/nowhere"],
        "",
    );
    assert!(stranger.contains("/nowhere cannot be read"), "{stranger}");
    fs::remove_file(identity).unwrap();
    let lost = folder.refuse(&get, "");
    assert!(
        lost.contains("PROVISION_AGE_IDENTITY") && lost.contains(FILE),
        "{lost}"
    );
}

#[test]
fn readers_come_and_go() {
    let folder = Folder::with_project();
    let set = ["secret", "set", "token", "-e", "production"];
    folder.run(&set, VALUE);
    folder.run(
        &[
            "secret",
            "set",
            "password",
            "-e",
            "production",
            "--generate",
        ],
        "",
    );
    let key = folder.home().join("other");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "bob@laptop", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    folder.run(
        &[
            "secret",
            "rotate",
            "-e",
            "production",
            "--add",
            public.trim(),
        ],
        "",
    );
    let text = fs::read_to_string(&key).unwrap();
    let get = ["secret", "get", "token", "-e", "production"];
    let mut bob = folder.command(&get);
    bob.env("HOME", "/nowhere")
        .env("PROVISION_AGE_IDENTITY", &text);
    let output = feed(&mut bob, "");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{VALUE}\n")
    );
    folder.run(
        &[
            "secret",
            "rotate",
            "-e",
            "production",
            "--remove",
            "bob@laptop",
        ],
        "",
    );
    let mut bob = folder.command(&get);
    bob.env("HOME", "/nowhere")
        .env("PROVISION_AGE_IDENTITY_FILE", &key);
    assert!(!feed(&mut bob, "").status.success());
    // A list that was changed by hand is seen, and mended.
    let file = folder.read(FILE);
    folder.write(
        FILE,
        &file.replace(
            "recipients = [\n",
            &format!("recipients = [\n  \"{}\",\n", public.trim()),
        ),
    );
    let list = folder.run(&["secret", "list", "-e", "production"], "");
    assert_eq!(list.matches("rotate").count(), 2, "{list}");
    folder.run(&["secret", "rotate", "-e", "production"], "");
    let list = folder.run(&["secret", "list", "-e", "production"], "");
    assert_eq!(list.matches("rotate").count(), 0, "{list}");
}

#[test]
fn an_editor_leaves_nothing_behind() {
    let folder = Folder::with_project();
    folder.run(&["secret", "set", "token", "-e", "production"], VALUE);
    let edit = |script: &str, arguments: &[&str]| {
        let editor = folder.home().join("editor");
        let script = format!(
            "#!/bin/sh\necho \"$1 $(stat -c %a \"$1\") $(stat -fc %T \"$1\")\" > \"$HOME/seen\"\n{script}\n"
        );
        fs::write(&editor, script).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        let all = [&["secret", "edit", "-e", "production"], arguments].concat();
        let mut command = folder.command(&all);
        let output = feed(command.env("EDITOR", &editor), "");
        let seen = fs::read_to_string(folder.home().join("seen")).unwrap();
        let words: Vec<&str> = seen.split_whitespace().collect();
        assert_eq!(words[1..], ["600", "tmpfs"]);
        assert!(
            !std::path::Path::new(words[0]).exists(),
            "{} is left",
            words[0]
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("another-value"), "{said}");
        (output.status.success(), said)
    };
    let before = folder.read(FILE);
    assert!(edit("true", &["token"]).0);
    assert!(!edit("echo another-value > \"$1\"; exit 3", &["token"]).0);
    assert!(!edit("echo 'token = another-value' > \"$1\"", &[]).0);
    assert!(!edit("kill -INT $PPID; exit 1", &["token"]).0);
    assert_eq!(folder.read(FILE), before);
    assert!(edit("echo another-value > \"$1\"", &["token"]).0);
    let get = ["secret", "get", "token", "-e", "production"];
    assert_eq!(folder.run(&get, ""), "another-value\n");
    let (done, said) = edit("echo 'key = \"another-value-2\"' > \"$1\"", &[]);
    assert!(done && said.contains("key added, token removed"), "{said}");
    assert!(
        folder.refuse(&get, "").contains("did you mean")
            || folder.refuse(&get, "").contains("there is key")
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = Folder::with_project();
    let said = |arguments: &[&str], input: &str| {
        let all = [&["secret"], arguments, &["-e", "production"]].concat();
        folder.refuse(&all, input)
    };
    let mut all = String::new();
    for (arguments, input) in [
        (&["get", "token"][..], ""),
        (&["rotate"], ""),
        (&["set", "token"], "12345"),
        (&["set", "a b"], VALUE),
        (&["set", "token", "--recipient", "age1nonsense"], VALUE),
    ] {
        all.push_str(&format!(
            "$ secret {}\n{}\n",
            arguments.join(" "),
            said(arguments, input)
        ));
    }
    insta::assert_snapshot!(all);
}
