//! The examples of `docs/from-ansible.md`, as a project.
//!
//! Goes in: every block of the page that begins with the name of a file. Comes out: a project
//! without mistakes. Invariant: the page has no example that is not read here.

use std::fs;
use std::path::Path;

use super::Folder;

#[test]
fn its_examples_are_a_project_without_mistakes() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/from-ansible.md");
    let page = fs::read_to_string(page).unwrap();
    let folder = Folder::with_project();
    for name in ["development", "staging", "production"] {
        fs::remove_file(folder.project().join(format!("environments/{name}.toml"))).unwrap();
    }
    let mut files = Vec::new();
    let blocks = page.split("\n```").skip(1).step_by(2);
    for block in blocks {
        let (language, text) = block.split_once('\n').unwrap();
        let first = text.lines().next().unwrap();
        let path = first.strip_prefix("# ").filter(|path| path.contains('/'));
        assert!(
            language != "toml" || path.is_some(),
            "no file is named: {first}"
        );
        let Some(path) = path else { continue };
        let file = folder.project().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{text}\n")).unwrap();
        files.push(path.to_owned());
    }
    assert_eq!(files.len(), 6, "{files:?}");
    let said = folder.run(&["inventory", "check"], "");
    assert!(said.contains("environments/web.toml: 2 hosts"), "{said}");
    assert!(
        said.contains("environments/web-vault.toml: 2 hosts"),
        "{said}"
    );
    let shown = folder.run(&["inventory", "show", "-e", "web", "--output", "json"], "");
    let hosts: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(hosts[0]["settings"]["workers"], 8);
    assert_eq!(hosts[1]["settings"]["workers"], 4);
    assert_eq!(hosts[1]["settings"]["motd"], "Welcome.");
    fs::write(
        folder.project().join("environments/cluster.toml"),
        "inventories = [\"web\"]\ntier = \"small\"\nplaybook = \"cluster\"\n",
    )
    .unwrap();
    let _ = folder.run(&["inventory", "check"], "");
}
