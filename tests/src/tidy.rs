//! The repository's own rules, held against its files.
//!
//! Goes in: every Rust file, playbook and template. Comes out: all violations at once, each with
//! its place. Invariant: nothing is built or run for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file that holds no tests.
const FILE_LINES: usize = 600;

/// The most lines of a function outside of tests.
const FUNCTION_LINES: usize = 70;

/// The most lines of ARCHITECTURE.md.
const ARCHITECTURE_LINES: usize = 200;

/// Names of modules that name no concept.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helpers", "misc"];

/// The folders of the workspace's crates.
const CRATES: &[&str] = &["provisioner", "collector", "benchmarks", "tests"];

struct Text {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

impl Text {
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.iter().any(|part| part == "tests")
    }

    fn stem(&self) -> &str {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str());
        stem.unwrap_or_default()
    }
}

fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the repository")
}

/// All files with one of these extensions in a folder of the repository.
fn texts(folder: &str, extensions: &[&str]) -> Vec<Text> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let extension = path.extension().and_then(|end| end.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|end| extensions.contains(&end)) {
                let text = fs::read_to_string(&path).expect("a text");
                let path = path.strip_prefix(repository()).expect("below").to_owned();
                found.push(Text { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {extensions:?} in {folder:?}");
    found
}

/// Every Rust file.
fn sources() -> Vec<Text> {
    CRATES
        .iter()
        .flat_map(|folder| texts(folder, &["rs"]))
        .collect()
}

#[track_caller]
fn expect_none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<String> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn a_file_without_tests_has_at_most_600_lines() {
    let long = |file: &Text| {
        let lines = file.text.lines().count();
        (lines > FILE_LINES && !file.is_test())
            .then(|| format!("{}: {lines} lines", file.path.display()))
    };
    expect_none(sources().iter().filter_map(long));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let bare = |file: &Text| {
        (!file.text.starts_with("//!")).then(|| format!("{}: no //!", file.path.display()))
    };
    expect_none(sources().iter().filter_map(bare));
}

#[test]
fn every_module_names_a_concept() {
    let empty = |file: &Text| {
        let module = match file.stem() {
            "mod" => file.path.iter().rev().nth(1).and_then(|part| part.to_str()),
            stem => Some(stem),
        };
        module
            .is_some_and(|module| EMPTY_NAMES.contains(&module))
            .then(|| format!("{}: it says nothing", file.path.display()))
    };
    expect_none(sources().iter().filter_map(empty));
}

#[test]
fn nothing_is_left_to_be_written() {
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let mut left = Vec::new();
    for file in sources() {
        for (number, line) in file.text.lines().enumerate() {
            if macros.iter().any(|name| line.contains(name.as_str())) {
                left.push(format!(
                    "{}:{}: {}",
                    file.path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    expect_none(left);
}

#[test]
fn a_function_outside_of_tests_has_at_most_70_lines() {
    let mut long = Vec::new();
    for file in sources().iter().filter(|file| !file.is_test()) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(length) = function_length(line, &lines[start..]) else {
                continue;
            };
            if length > FUNCTION_LINES {
                long.push(format!(
                    "{}:{}: {length} lines",
                    file.path.display(),
                    start + 1
                ));
            }
        }
    }
    expect_none(long);
}

/// The lines from the first line of a function to its closing brace, which rustfmt puts at the
/// same depth; `None` where no function with a body begins.
fn function_length(line: &str, rest: &[&str]) -> Option<usize> {
    let code = line.trim_start();
    let mut words = code.split(' ');
    let is_function = words.by_ref().take(5).any(|word| word == "fn")
        && ["fn ", "pub", "const fn", "async fn"]
            .iter()
            .any(|begin| code.starts_with(begin));
    if !is_function {
        return None;
    }
    let indent = &line[..line.len() - code.len()];
    let closing = format!("{indent}}}");
    for (index, line) in rest.iter().enumerate() {
        if *line == closing {
            return Some(index + 1);
        }
        let at_same_depth = line.starts_with(indent) && !line[indent.len()..].starts_with(' ');
        if at_same_depth && (line.ends_with(';') || line.ends_with('}')) {
            return None;
        }
    }
    None
}

#[test]
fn templates_and_playbooks_know_each_other() {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for playbook in texts("playbooks", &["toml"]) {
        named.extend(quoted_after(&playbook.text, &["template = ", "unit = "]));
    }
    let templates = texts("templates", &["tera", "hbs"]);
    for template in &templates {
        let begins = ["{% include ", "{% extends ", "{% import ", "{%- include "];
        named.extend(quoted_after(&template.text, &begins));
    }
    let existing: BTreeSet<String> = templates
        .iter()
        .filter_map(|template| template.path.strip_prefix("templates").ok()?.to_str())
        .map(ToOwned::to_owned)
        .collect();
    let missing = named
        .difference(&existing)
        .map(|name| format!("{name}: does not exist"));
    let unused = existing
        .difference(&named)
        .map(|name| format!("{name}: nothing names it"));
    expect_none(missing.chain(unused));
}

/// Every text in quotes that follows one of these words.
fn quoted_after(text: &str, begins: &[&str]) -> Vec<String> {
    begins
        .iter()
        .flat_map(|begin| text.split(begin).skip(1))
        .filter_map(|rest| rest.strip_prefix('"')?.split('"').next())
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn the_readme_describes_every_kind_of_resource() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let kinds = fs::read_dir(repository().join("provisioner/src/resource")).expect("a folder");
    let undescribed = kinds
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("mod.rs").exists())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|kind| !readme.contains(&format!("\n| `{kind}` |")))
        .map(|kind| format!("README.md: no row for `{kind}`"));
    expect_none(undescribed);
}

#[test]
fn the_architecture_is_read_in_one_go() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES,
        "ARCHITECTURE.md has {lines} lines"
    );
}
