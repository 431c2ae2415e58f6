//! Acts on the host: a file per kind of operation.
//!
//! Goes in: an operation. Comes out: the host changed by exactly that. Invariant: the guards hold
//! and the journal has its first line before anything changes, and the manifest has its entry
//! before the thing itself is made.

mod account;
mod adopt;
mod archive;
mod command;
mod directory;
mod file;
mod package;
mod reboot;
mod remove;
mod sysctl;
pub(crate) mod unit;
mod volume;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{Guard, Operation, UnitVerb};

use crate::accounts::Accounts;
use crate::content;
use crate::durable::Attributes;
use crate::fact;
use crate::failure::{Doing, Failure};
use crate::journal::{self, Step};
use crate::manifest::{Manifest, Wanted};
use crate::root::{Root, check_absolute};
use crate::stage::Accepted;

/// What an operation works with.
pub(crate) struct Task<'a> {
    /// Where the host's file tree begins.
    pub(crate) root: &'a Root,
    /// The operation as it was sent.
    pub(crate) operation: &'a Operation,
    /// What was put on the host.
    pub(crate) manifest: &'a mut Manifest,
    /// What validators have accepted in this conversation.
    pub(crate) accepted: &'a Accepted,
    /// Who is told what goes on.
    pub(crate) progress: &'a mut dyn FnMut(&str),
}

impl Task<'_> {
    /// Writes down that something is put on the host, before it is.
    pub(crate) fn record(&mut self, wanted: Wanted<'_>) -> Result<(), Failure> {
        self.manifest.record(self.root, self.operation, wanted)
    }
}

/// Does one operation, between two lines of the journal.
pub(crate) fn perform(
    root: &Root,
    run: &str,
    operation: &Operation,
    (manifest, accepted): (&mut Manifest, &Accepted),
    progress: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let Some(act) = &operation.kind else {
        return Err(Failure::refused(
            "this helper does not know such an operation",
        ));
    };
    let name = describe(act);
    progress(&name);
    journal::note(root, run, operation, (&name, Step::Begin, ""))?;
    let mut task = Task {
        root,
        operation,
        manifest,
        accepted,
        progress,
    };
    let result = check_guards(root, &operation.guards).and_then(|()| dispatch(&mut task, act));
    match &result {
        Ok(()) => journal::note(root, run, operation, (&name, Step::Done, ""))?,
        Err(failure) => {
            // What failed is told to the controller first of all, and in full.
            let message = failure.kind();
            let _ = journal::note(root, run, operation, (&name, Step::Failed, &message));
        }
    }
    result
}

fn dispatch(task: &mut Task<'_>, act: &Act) -> Result<(), Failure> {
    match act {
        Act::WriteFile(wanted) => file::write(task, wanted),
        Act::MakeDirectory(wanted) => directory::make(task, wanted),
        Act::SetAttributes(wanted) => directory::set_attributes(task, wanted),
        Act::MakeGroup(wanted) => account::make_group(task, wanted),
        Act::MakeUser(wanted) => account::make_user(task, wanted),
        Act::InstallPackages(wanted) => package::install(task, wanted),
        Act::UnitAction(wanted) => unit::act(task, wanted),
        Act::SetSysctl(wanted) => sysctl::set(task, wanted),
        Act::PrepareVolume(wanted) => volume::prepare(task, wanted),
        Act::ExtractArchive(wanted) => archive::extract(task, wanted),
        Act::RunCommand(wanted) => command::run(task, wanted),
        Act::Remove(wanted) => remove::remove(task, wanted),
        Act::Reboot(wanted) => reboot::reboot(task, wanted),
        Act::Adopt(wanted) => adopt::adopt(task, wanted),
    }
}

/// A few words for the journal and for whoever watches. Arguments of commands may hold secrets
/// and stay out.
fn describe(act: &Act) -> String {
    match act {
        Act::WriteFile(wanted) => format!("write {}", wanted.path),
        Act::MakeDirectory(wanted) => format!("make directory {}", wanted.path),
        Act::SetAttributes(wanted) => format!("set owner and mode of {}", wanted.path),
        Act::MakeGroup(wanted) => format!("make group {}", wanted.name),
        Act::MakeUser(wanted) => format!("make user {}", wanted.name),
        Act::InstallPackages(wanted) => format!("install {}", wanted.packages.join(" ")),
        Act::UnitAction(wanted) => match wanted.verb() {
            UnitVerb::DaemonReload => "have systemd read its units again".to_owned(),
            verb => format!("{} {}", unit::word(verb), wanted.unit),
        },
        Act::SetSysctl(wanted) => format!("set {} to {}", wanted.key, wanted.value),
        Act::PrepareVolume(wanted) => format!("prepare volume {}", wanted.mount_point),
        Act::ExtractArchive(wanted) => format!("unpack {}", wanted.path),
        Act::Reboot(_) => "reboot".to_owned(),
        Act::Adopt(wanted) => format!("take over {}", wanted.name),
        Act::RunCommand(wanted) => {
            format!(
                "run {}",
                wanted.arguments.first().map_or("nothing", String::as_str)
            )
        }
        Act::Remove(wanted) => {
            format!(
                "remove {}",
                wanted.entry.as_ref().map_or("nothing", |entry| &entry.name)
            )
        }
    }
}

fn check_guards(root: &Root, guards: &[Guard]) -> Result<(), Failure> {
    for guard in guards {
        let path = root.at(check_absolute(&guard.path)?);
        let changed = |how: &str| {
            Err(Failure::Guard(format!(
                "{} changed since the plan was made: {how}",
                guard.path
            )))
        };
        let doing = || format!("look at {}", guard.path);
        match fact::file::metadata(&path).doing(doing)? {
            None if guard.sha256.is_empty() => {}
            None => return changed("it is gone"),
            Some(_) if guard.sha256.is_empty() => return changed("now something is there"),
            Some(found) if !found.is_file() => return changed("it is no regular file any more"),
            Some(_) => {
                let found = fact::file::open(&path).and_then(|mut file| content::hash(&mut file));
                if found.doing(doing)? != guard.sha256 {
                    return changed("its content is another one");
                }
            }
        }
    }
    Ok(())
}

/// Owner, group and mode as the manifest keeps them.
fn describe_attributes(accounts: &Accounts, found: &Metadata) -> String {
    format!(
        "{}:{}:{:o}",
        accounts.user_name(found.uid()),
        accounts.group_name(found.gid()),
        found.mode() & 0o7777
    )
}

/// What [`describe_attributes`] says, read back; nothing where nothing was said.
pub(crate) fn described_attributes(
    root: &Root,
    words: &str,
) -> Result<Option<Attributes>, Failure> {
    let words: Vec<&str> = words.split(':').collect();
    let [owner, group, mode] = words[..] else {
        return Ok(None);
    };
    let Ok(mode) = u32::from_str_radix(mode, 8) else {
        return Ok(None);
    };
    Accounts::read(root)
        .attributes(owner, group, mode)
        .map(Some)
}

/// The same of what is asked for.
fn asked_attributes(owner: &str, group: &str, mode: u32) -> String {
    format!("{owner}:{group}:{:o}", mode & 0o7777)
}
