//! Pictures, schemas and manual pages, as files.
//!
//! Goes in: the repository's project. Comes out: files. Invariant: none of it needs a host.

use std::fs;

use super::Folder;

#[test]
fn a_graph_shows_where_telemetry_goes() {
    let folder = Folder::with_project();
    let graph = ["graph", "--env", "production", "--format"];
    let mermaid = folder.run(&[&graph[..], &["mermaid"]].concat(), "");
    insta::assert_snapshot!(mermaid);
    let json = folder.run(&[&graph[..], &["json"]].concat(), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["groups"][0]["name"], "balancers");
    folder.run(&[&graph[..], &["svg", "--out", "fleet.svg"]].concat(), "");
    let svg = folder.read("fleet.svg");
    assert!(
        svg.starts_with("<svg ") && svg.contains(">storage-1<"),
        "{svg}"
    );
}

#[test]
fn every_command_has_a_page() {
    let folder = Folder::empty();
    folder.run(&["man", "--out", "man"], "");
    let pages: Vec<String> = fs::read_dir(folder.project().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "provision.1",
        "provision-apply.1",
        "provision-secret-set.1",
        "provision-lab-up.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    let text = folder.read("man/provision-secret-set.1");
    assert!(text.contains("\\-\\-generate"), "{text}");
}

#[test]
fn schemas_are_printed_and_written() {
    let folder = Folder::empty();
    let kinds = folder.run(&["schema"], "");
    folder.run(&["schema", "--out", "schemas"], "");
    assert_eq!(kinds.lines().count(), 5);
    for kind in kinds.lines() {
        let printed = folder.run(&["schema", kind], "");
        assert_eq!(printed, folder.read(&format!("schemas/{kind}.json")));
    }
}
