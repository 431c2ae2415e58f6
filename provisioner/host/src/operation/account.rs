//! Makes groups and accounts.
//!
//! Goes in: what an account shall have. Comes out: an account that has it. Invariant: what an
//! existing account has beyond that stays.

use std::ffi::OsString;
use std::time::Duration;

use provision_protocol::operation::{MakeGroup, MakeUser};

use crate::accounts::{Accounts, User};
use crate::failure::Failure;
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::Task;
use crate::process::Program;
use crate::root::Root;

/// How long the tools may wait for each other's locks.
const DEADLINE: Duration = Duration::from_secs(60);
/// How much of a tool's complaint is passed on.
const MAX_WORDS_BYTES: usize = 2000;
/// What useradd and groupadd accept at most.
const MAX_NAME_BYTES: usize = 32;

/// Makes a group, unless it is there.
pub(crate) fn make_group(task: &mut Task<'_>, wanted: &MakeGroup) -> Result<(), Failure> {
    let name = check_name(&wanted.name)?;
    let existed = Accounts::read(task.root).group(name).is_some();
    task.record(account(Kind::Group, name, existed))?;
    if existed {
        return Ok(());
    }
    let system = wanted.system.then_some("--system");
    run(task.root, "groupadd", system.into_iter().chain([name]))
}

/// Makes an account, or gives an existing one what it lacks.
pub(crate) fn make_user(task: &mut Task<'_>, wanted: &MakeUser) -> Result<(), Failure> {
    let name = check_name(&wanted.name)?;
    let accounts = Accounts::read(task.root);
    for group in wanted.groups.iter().chain([&wanted.primary_group]) {
        if !group.is_empty() && accounts.group(group).is_none() {
            return Err(Failure::refused(format!(
                "there is no group `{group}` for user {name}"
            )));
        }
    }
    let user = accounts.user(name);
    let existed = user.is_some();
    task.record(account(Kind::User, name, existed))?;
    let Some(user) = user else {
        return run(task.root, "useradd", new_account(&accounts, wanted));
    };
    let lacking = lacking(&accounts, user, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    run(
        task.root,
        "usermod",
        lacking.iter().map(String::as_str).chain([name]),
    )
}

/// Runs one of the tools that change accounts.
pub(crate) fn run<A: Into<OsString>>(
    root: &Root,
    tool: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(), Failure> {
    let outcome = Program::named(root, tool)?
        .arguments(arguments)
        .deadline(DEADLINE)
        .run()?;
    if outcome.succeeded() {
        return Ok(());
    }
    Err(Failure::program(
        format!("{tool} refused: "),
        outcome.said(MAX_WORDS_BYTES),
    ))
}

fn account(kind: Kind, name: &str, existed: bool) -> Wanted<'_> {
    Wanted {
        kind,
        name,
        before: Before {
            existed,
            ..Before::default()
        },
        ..Wanted::default()
    }
}

fn check_name(name: &str) -> Result<&str, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins_well && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(Failure::refused(format!(
            "`{name}` is not a name for an account or a group"
        )))
    }
}

fn new_account(accounts: &Accounts, wanted: &MakeUser) -> Vec<String> {
    let mut arguments = Arguments::default();
    if wanted.system {
        arguments.add(&["--system", "--no-create-home"]);
    } else {
        arguments.add(&["--create-home"]);
    }
    if !wanted.primary_group.is_empty() {
        arguments.add(&["--gid", &wanted.primary_group]);
    } else if accounts.group(&wanted.name).is_some() {
        arguments.add(&["--gid", &wanted.name]);
    } else {
        arguments.add(&["--user-group"]);
    }
    if !wanted.groups.is_empty() {
        arguments.add(&["--groups", &wanted.groups.join(",")]);
    }
    if !wanted.home.is_empty() {
        arguments.add(&["--home-dir", &wanted.home]);
    }
    if !wanted.shell.is_empty() {
        arguments.add(&["--shell", &wanted.shell]);
    }
    arguments.add(&[&wanted.name]);
    arguments.0
}

fn lacking(accounts: &Accounts, user: &User, wanted: &MakeUser) -> Vec<String> {
    let mut arguments = Arguments::default();
    let primary = accounts.group_name(user.gid);
    if !wanted.primary_group.is_empty() && wanted.primary_group != primary {
        arguments.add(&["--gid", &wanted.primary_group]);
    }
    let has = accounts.supplementary(&user.name);
    let lacks = |group: &&str| *group != primary && !has.iter().any(|known| known == group);
    let missing: Vec<&str> = wanted
        .groups
        .iter()
        .map(String::as_str)
        .filter(lacks)
        .collect();
    if !missing.is_empty() {
        arguments.add(&["--append", "--groups", &missing.join(",")]);
    }
    if !wanted.home.is_empty() && wanted.home != user.home {
        arguments.add(&["--home", &wanted.home]);
    }
    if !wanted.shell.is_empty() && wanted.shell != user.shell {
        arguments.add(&["--shell", &wanted.shell]);
    }
    arguments.0
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|&word| word.to_owned()));
    }
}
