//! systemd units.
//!
//! Goes in: names. Comes out: what `systemctl show` says of them. Invariant: one call answers for
//! many units, and an answer is never given to the wrong one.

use std::collections::BTreeMap;

use provision_protocol::fact::UnitFact;

use crate::debt;
use crate::failure::Failure;
use crate::process::Program;
use crate::root::{Root, check_component};

const PROPERTIES: &str = "--property=Id,Names,LoadState,ActiveState,SubState,UnitFileState,\
                          NeedDaemonReload,InvocationID,NRestarts";
/// How many units one call asks for.
const UNITS_PER_CALL: usize = 200;
/// How much of what systemctl complains about is passed on.
const MAX_WORDS_BYTES: usize = 1000;

/// Looks at units; every name has an answer.
pub(crate) fn look(root: &Root, names: &[&str]) -> BTreeMap<String, Result<UnitFact, String>> {
    let mut answers = BTreeMap::new();
    let (good, bad): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| is_unit_name(name));
    for name in bad {
        let words = format!("`{name}` is not the full name of a unit");
        answers.insert(name.to_owned(), Err(words));
    }
    for names in good.chunks(UNITS_PER_CALL) {
        match show(root, names) {
            Ok(facts) => {
                let facts = names.iter().zip(facts);
                answers
                    .extend(facts.map(|(&name, fact)| (name.into(), with_debt(root, name, fact))));
            }
            // One name that systemd refuses must not hide what it knows of the others.
            Err(_) if names.len() > 1 => {
                answers.extend(
                    names
                        .iter()
                        .map(|&name| (name.to_owned(), show_one(root, name))),
                );
            }
            Err(failure) => {
                answers.extend(
                    names
                        .iter()
                        .map(|&name| (name.into(), Err(failure.to_string()))),
                );
            }
        }
    }
    answers
}

/// Looks at one unit.
pub(crate) fn look_at_one(root: &Root, name: &str) -> Result<UnitFact, Failure> {
    let found = look(root, &[name]).remove(name);
    let found = found.unwrap_or_else(|| Err(format!("{name} was not looked at")));
    found.map_err(Failure::Refused)
}

/// A name with one of systemd's suffixes and only characters that it allows.
pub(crate) fn is_unit_name(name: &str) -> bool {
    const SUFFIXES: [&str; 11] = [
        ".service",
        ".socket",
        ".target",
        ".timer",
        ".path",
        ".mount",
        ".automount",
        ".swap",
        ".slice",
        ".scope",
        ".device",
    ];
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    check_component(name).is_ok()
        && name.bytes().all(allowed)
        && SUFFIXES
            .iter()
            .any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

fn show_one(root: &Root, name: &str) -> Result<UnitFact, String> {
    let facts = show(root, &[name]).map_err(|failure| failure.to_string())?;
    let fact = facts
        .into_iter()
        .next()
        .ok_or_else(|| format!("systemctl says nothing of {name}"))?;
    with_debt(root, name, fact)
}

/// Adds what the unit is owed; a debt that cannot be read is the error of that unit alone.
fn with_debt(root: &Root, name: &str, fact: UnitFact) -> Result<UnitFact, String> {
    let owed = debt::owed(root, name).map_err(|failure| failure.to_string())?;
    Ok(UnitFact {
        owed: owed as i32,
        ..fact
    })
}

fn show(root: &Root, names: &[&str]) -> Result<Vec<UnitFact>, Failure> {
    let outcome = Program::named(root, "systemctl")?
        .arguments(["show", PROPERTIES, "--"])
        .arguments(names.iter().copied())
        .run()?;
    if !outcome.succeeded() {
        return Err(Failure::refused(outcome.said(MAX_WORDS_BYTES)));
    }
    let facts = parse(&outcome.stdout);
    if facts.len() != names.len() {
        return Err(Failure::refused(format!(
            "systemctl answered for {} of {} units",
            facts.len(),
            names.len()
        )));
    }
    Ok(facts)
}

/// Blocks of `Key=value` lines, separated by empty lines, in the order of the arguments.
fn parse(text: &str) -> Vec<UnitFact> {
    let blocks = text
        .split("\n\n")
        .map(str::trim)
        .filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let value = |key: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(key));
                line.and_then(|rest| rest.strip_prefix('='))
                    .unwrap_or_default()
                    .to_owned()
            };
            UnitFact {
                load_state: value("LoadState"),
                active_state: value("ActiveState"),
                sub_state: value("SubState"),
                unit_file_state: value("UnitFileState"),
                needs_daemon_reload: value("NeedDaemonReload") == "yes",
                invocation_id: value("InvocationID"),
                owed: 0,
                restarts: value("NRestarts").parse().unwrap_or(0),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::install_script;

    const TEXT: &str = "\
NRestarts=2\nId=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
UnitFileState=enabled\nNeedDaemonReload=yes\nInvocationID=abc\n\n\
Id=b.target\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n\
NeedDaemonReload=no\nInvocationID=\n";

    #[test]
    fn reads_a_block_per_unit() {
        let facts = parse(TEXT);
        assert_eq!(facts.len(), 2);
        assert_eq!(facts[0].active_state, "active");
        assert_eq!((facts[0].restarts, facts[0].needs_daemon_reload), (2, true));
        assert_eq!(facts[1].load_state, "not-found");
    }

    #[test]
    fn asks_once_for_all_and_answers_each() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let script = format!("echo call >> \"$(dirname \"$0\")/calls\"\nprintf '{TEXT}'");
        install_script(&root, "/usr/bin/systemctl", &script);
        let answers = look(&root, &["a.service", "b.target", "no unit"]);
        assert_eq!(answers["a.service"].as_ref().unwrap().sub_state, "running");
        assert_eq!(
            answers["b.target"].as_ref().unwrap().load_state,
            "not-found"
        );
        assert!(answers["no unit"].is_err());
        std::fs::create_dir_all(root.state("debts").join("a.service")).unwrap();
        let answers = look(&root, &["a.service", "b.target"]);
        assert!(answers["a.service"].is_err() && answers["b.target"].is_ok());
        let calls = std::fs::read_to_string(root.at("/usr/bin/calls")).unwrap();
        assert_eq!(calls, "call\ncall\n");
    }

    #[test]
    fn knows_the_names_of_units() {
        for name in [
            "a.service",
            "getty@tty1.service",
            "mnt-data.mount",
            "a-b_c:d.timer",
        ] {
            assert!(is_unit_name(name), "{name}");
        }
        for name in [
            "a",
            ".service",
            "a/b.service",
            "a b.service",
            "-a.service",
            "",
        ] {
            assert!(!is_unit_name(name), "{name}");
        }
    }
}
