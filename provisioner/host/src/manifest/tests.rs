//! What the manifest keeps of the time before, and of what is being made.

use super::*;

fn operation(play: &str) -> Operation {
    Operation {
        environment: "production".into(),
        play: play.into(),
        resource: "file /x".into(),
        ..Operation::default()
    }
}

fn file<'a>(name: &'a str, sha256: &'a str) -> Wanted<'a> {
    Wanted {
        kind: Kind::File,
        name,
        sha256: Some(sha256),
        ..Wanted::default()
    }
}

fn place() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::below(directory.path().to_owned());
    durable::make_private_directory(&root.state("")).unwrap();
    (directory, root)
}

#[test]
fn what_stood_there_first_is_never_overwritten() {
    let (_directory, root) = place();
    let mut manifest = Manifest::read(&root).unwrap();
    let theirs = Before {
        existed: true,
        sha256: "aa".into(),
        ..Before::default()
    };
    let mut wanted = file("/x", "bb");
    wanted.before = theirs;
    manifest.record(&root, &operation("one"), wanted).unwrap();
    let mut manifest = Manifest::read(&root).unwrap();
    for sha in ["cc", "dd"] {
        manifest
            .record(&root, &operation("two"), file("/x", sha))
            .unwrap();
    }
    let manifest = Manifest::read(&root).unwrap();
    let entry = manifest.get(Kind::File, "/x").unwrap();
    assert!(entry.existed);
    assert_eq!(entry.previous_sha256, "aa");
    assert_eq!(entry.written_sha256, ["dd", "cc"]);
    assert_eq!(manifest.of("production")[0].play, "two");
    assert_eq!(manifest.of("staging"), []);
}

#[test]
fn tells_a_newer_manifest_from_a_damaged_one() {
    let (_directory, root) = place();
    fs::write(root.state(FILE), r#"{"version":3,"things":[]}"#).unwrap();
    assert!(
        Manifest::read(&root)
            .unwrap_err()
            .to_string()
            .contains("has version 3")
    );
    fs::write(root.state(FILE), "{").unwrap();
    assert!(
        Manifest::read(&root)
            .unwrap_err()
            .to_string()
            .contains("cannot be understood")
    );
}

#[test]
fn forgetting_leaves_the_others() {
    let (_directory, root) = place();
    let mut manifest = Manifest::read(&root).unwrap();
    for name in ["/a", "/b"] {
        let wanted = file(name, "aa");
        manifest.record(&root, &operation("p"), wanted).unwrap();
    }
    manifest.forget(&root, Kind::File, "/a").unwrap();
    let manifest = Manifest::read(&root).unwrap();
    assert_eq!(manifest.of("production").len(), 1);
    assert_eq!(manifest.get(Kind::File, "/a"), None);
}

#[test]
fn an_interrupted_generation_is_continued_and_then_closed_once() {
    let (_directory, root) = place();
    let origin = |who: &str| Origin {
        who: who.into(),
        commit: String::new(),
    };
    let mut first = Manifest::read_for(&root, "run 1", origin("ada")).unwrap();
    let mut wanted = file("/x", "bb");
    wanted.before = Before {
        existed: true,
        sha256: "aa".into(),
        ..Before::default()
    };
    first.record(&root, &operation("p"), wanted).unwrap();
    let mut second = Manifest::read_for(&root, "run 2", origin("bob")).unwrap();
    second
        .record(&root, &operation("p"), file("/x", "cc"))
        .unwrap();
    let closing = || Closing {
        ending: Ending::Applied,
        plays: vec!["p".into()],
        note: String::new(),
    };
    assert_eq!(second.commit(&root, "staging", closing()).unwrap(), 0);
    assert_eq!(second.commit(&root, "production", closing()).unwrap(), 1);
    assert_eq!(second.commit(&root, "production", closing()).unwrap(), 0);
    let closed = crate::generation::closed(&root, "production", 10).unwrap();
    let [only] = closed.as_slice() else {
        panic!("{closed:?}")
    };
    let told = only.to_message(&root);
    assert_eq!(told.origin, Some(origin("bob")));
    let change = &told.changes[0];
    assert_eq!(change.before.as_ref().unwrap().sha256, "aa");
    assert_eq!(change.after.as_ref().unwrap().sha256, "cc");
}

#[test]
fn reads_the_manifest_of_the_version_before() {
    let (_directory, root) = place();
    let old = r#"{"version":1,"entries":[{"environment":"production","play":"p",
        "resource":"file /x","kind":"file","name":"/x","existed":false,
        "written_sha256":["bb","aa"]}]}"#;
    fs::write(root.state(FILE), old).unwrap();
    let entries = Manifest::read(&root).unwrap().of("production");
    assert_eq!(entries[0].applied.as_ref().unwrap().sha256, "bb");
}
