//! `provision init`: what it writes is a project without mistakes.
//!
//! Goes in: addresses. Comes out: a folder. Invariant: the collector need not be built for it.

use super::Folder;

#[test]
fn what_is_written_passes_the_check() {
    for addresses in [
        &["192.0.2.1", "192.0.2.2"][..],
        &["a.example.com", "b.example.com", "2001:db8::1"],
        &[
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "192.0.2.4",
            "192.0.2.5",
        ],
        &[
            "192.0.2.1",
            "192.0.2.2",
            "--data-disk",
            "S4EVNX",
            "--data-size",
            "500GiB",
        ],
    ] {
        let folder = Folder::empty();
        let said = folder.run(&[&["init", "--user", "deploy"], addresses].concat(), "");
        assert!(said.contains("provision trust --env production"), "{said}");
        folder.use_a_stub("environments/production.toml");
        let checked = folder.run(&["inventory", "check"], "");
        let hosts = addresses
            .iter()
            .filter(|word| word.contains(['.', ':']))
            .count();
        assert!(
            checked.contains(&format!("environments/production.toml: {hosts} hosts")),
            "{checked}"
        );
    }
}

#[test]
fn nothing_is_overwritten() {
    let folder = Folder::empty();
    std::fs::write(folder.project().join(".gitignore"), "mine\n").unwrap();
    let said = folder.refuse(&["init", "192.0.2.1", "192.0.2.2"], "");
    assert!(said.contains("1 of them: .gitignore"), "{said}");
    assert_eq!(folder.read(".gitignore"), "mine\n");
    assert_eq!(std::fs::read_dir(folder.project()).unwrap().count(), 1);
    let mut all = String::new();
    for words in [
        &[][..],
        &["192.0.2.1"],
        &["a", "a"],
        &["deploy@a", "b"],
        &["a", "b", "--data-disk", "S"],
    ] {
        let all_words = [&["init", "--project", "new"], words].concat();
        all.push_str(&format!(
            "$ init {}\n{}\n",
            words.join(" "),
            folder.refuse(&all_words, "")
        ));
    }
    insta::assert_snapshot!(all);
}
