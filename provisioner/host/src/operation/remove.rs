//! Takes back what was put on the host.
//!
//! Goes in: an entry of the manifest. Comes out: the host without it, and the manifest too.
//! Invariant: what was there before the first run stays, and data is never removed.

use std::fs;
use std::io::Write;
use std::path::Path;

use provision_protocol::operation::{ManifestKind, Owed, Remove, UnitVerb};

use crate::accounts::Accounts;
use crate::content;
use crate::debt;
use crate::durable::{self, Attributes, Draft};
use crate::fact::file::{self, metadata};
use crate::fact::sysctl;
use crate::fact::unit::look_at_one;
use crate::failure::{Doing, Failure};
use crate::generation;
use crate::manifest::{Before, Entry, Kind};
use crate::operation::unit::systemctl;
use crate::operation::{
    Task, account, archive, describe_attributes, described_attributes, directory, package, unit,
    volume,
};
use crate::root::{Root, check_absolute};

/// Where the operator's units live.
const UNIT_DIRECTORY: &str = "/etc/systemd/system/";

/// Takes back one entry. One that the manifest does not have was taken back before.
pub(crate) fn remove(task: &mut Task<'_>, wanted: &Remove) -> Result<(), Failure> {
    let Some(asked) = &wanted.entry else {
        return Err(Failure::refused(
            "the removal names no entry of the manifest",
        ));
    };
    let kind = Kind::from(ManifestKind::try_from(asked.kind).unwrap_or(ManifestKind::Unspecified));
    let name = asked.name.as_str();
    // What the helper itself wrote down counts, not what it is told.
    let Some(entry) = task.manifest.get(kind, name).cloned() else {
        return Ok(());
    };
    let before = now(task, (kind, name), &entry)?;
    let stays = kind == Kind::File && entry.existed && before.sha256 == entry.previous_sha256;
    task.manifest.record_removal(task.root, (&entry, before))?;
    // A crash right after the removal must not forget what runs with what is gone.
    let managed = |debt: &&generation::Debt| {
        let unit = task.manifest.get(Kind::Unit, debt.unit());
        unit.is_some_and(|unit| !stays && !unit.applied.value.ends_with(",inactive"))
    };
    let debts: Vec<_> = entry.debts.iter().filter(managed).collect();
    let debts: Vec<_> = debts
        .into_iter()
        .map(generation::Debt::to_message)
        .collect();
    debt::record(task.root, &debts)?;
    match kind {
        Kind::File => remove_file(task, name, &entry)?,
        Kind::Directory => remove_directory(task, name, &entry)?,
        Kind::Group | Kind::User => remove_account(task, (kind, name), &entry)?,
        Kind::Package if entry.existed => {}
        Kind::Package => package::remove(task, name)?,
        Kind::Unit => restore_unit(task, name, &entry)?,
        Kind::Sysctl => restore_sysctl(task, name, &entry)?,
        Kind::Volume => volume::unmount(task, name)?,
        Kind::Archive => archive::remove(task, name)?,
        Kind::Unspecified | Kind::Command => {
            return Err(Failure::refused(format!("the entry of {name} has no kind")));
        }
    }
    task.manifest.forget(task.root, kind, name)
}

/// How it stands before it is taken back; its content is kept, unless it may hold a secret.
fn now(task: &Task<'_>, (kind, name): (Kind, &str), entry: &Entry) -> Result<Before, Failure> {
    let root = task.root;
    let mut before = Before::default();
    match kind {
        Kind::File | Kind::Directory | Kind::Archive => {
            let path = root.at(check_absolute(name)?);
            let Some(found) = metadata(&path).doing(|| format!("look at {name}"))? else {
                return Ok(before);
            };
            before.existed = true;
            before.attributes = describe_attributes(&Accounts::read(root), &found);
            if kind == Kind::Archive {
                before.sha256 = archive::unpacked_sha256(&path).unwrap_or_default();
                before.attributes.clone_from(&entry.applied.attributes);
                before.value.clone_from(&entry.applied.value);
            } else if found.is_file() && !entry.secret {
                before.sha256 = content::keep(root, &path)?;
            }
        }
        Kind::Unit => {
            let found = look_at_one(root, name)?;
            before.existed = found.load_state != "not-found";
            before.value = format!("{},{}", found.unit_file_state, found.active_state);
        }
        Kind::Sysctl => {
            let found = sysctl::look(root, name)?;
            (before.existed, before.value) = (found.exists, found.value);
        }
        _ => before.existed = true,
    }
    Ok(before)
}

fn remove_file(task: &Task<'_>, name: &str, entry: &Entry) -> Result<(), Failure> {
    let path = task.root.at(check_absolute(name)?);
    let Some(found) = metadata(&path).doing(|| format!("look at {name}"))? else {
        return Ok(());
    };
    if !found.is_file() {
        return Err(Failure::refused(format!(
            "{name} is no regular file any more"
        )));
    }
    if entry.written_sha256.is_empty() {
        return restore_attributes(task, &path, (name, entry));
    }
    let now = file::open(&path)
        .and_then(|mut file| content::hash(&mut file))
        .doing(|| format!("read {name}"))?;
    if entry.existed && entry.previous_sha256.is_empty() {
        // What held a secret before is not kept. What is there now may hold one that only its
        // present owner and mode protect.
        return Ok(());
    }
    if entry.existed && now == entry.previous_sha256 {
        return restore_attributes(task, &path, (name, entry));
    }
    if !entry.written_sha256.contains(&now) {
        return Err(Failure::refused(format!(
            "{name} was changed by somebody else since provision wrote it: remove it by hand, or \
             put it back"
        )));
    }
    if entry.existed {
        restore_file(task, &path, entry)?;
    } else {
        durable::remove_if_there(&path)?;
        durable::sync_parent(&path)?;
    }
    if name.starts_with(UNIT_DIRECTORY) && task.root.at("/run/systemd/system").is_dir() {
        return reload_systemd(task.root);
    }
    Ok(())
}

fn restore_file(task: &Task<'_>, path: &Path, entry: &Entry) -> Result<(), Failure> {
    let mut draft = Draft::beside(path)?;
    content::copy_to(task.root, &entry.previous_sha256, &mut draft.file)?;
    draft
        .file
        .flush()
        .doing(|| format!("write {}", path.display()))?;
    draft.commit(previous_attributes(task, entry)?)
}

fn remove_directory(task: &Task<'_>, name: &str, entry: &Entry) -> Result<(), Failure> {
    let path = task.root.at(check_absolute(name)?);
    match metadata(&path).doing(|| format!("look at {name}"))? {
        Some(found) if found.is_dir() => {}
        _ => return Ok(()),
    }
    if entry.existed {
        return restore_attributes(task, &path, (name, entry));
    }
    match fs::remove_dir(&path) {
        Ok(()) => durable::sync_parent(&path),
        // What others have put into it, or mounted on it, keeps it there.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error).doing(|| format!("remove {name}")),
    }
}

fn restore_attributes(
    task: &Task<'_>,
    path: &Path,
    (name, entry): (&str, &Entry),
) -> Result<(), Failure> {
    match previous_attributes(task, entry)? {
        Some(attributes) => directory::give(path, name, attributes),
        None => Ok(()),
    }
}

fn previous_attributes(task: &Task<'_>, entry: &Entry) -> Result<Option<Attributes>, Failure> {
    described_attributes(task.root, &entry.previous_attributes)
}

fn remove_account(
    task: &Task<'_>,
    (kind, name): (Kind, &str),
    entry: &Entry,
) -> Result<(), Failure> {
    let accounts = Accounts::read(task.root);
    let (tool, exists) = match kind {
        Kind::User => ("userdel", accounts.user(name).is_some()),
        _ => ("groupdel", accounts.group(name).is_some()),
    };
    if entry.existed || !exists {
        return Ok(());
    }
    let home = accounts.user(name).filter(|_| kind == Kind::User);
    let home = home.map(|user| task.root.at(&user.home));
    account::run(task.root, tool, [name])?;
    // What its programs or its owner have left at home is data, and stays.
    if let Some(home) = home
        && fs::remove_dir(&home).is_ok()
    {
        durable::sync_parent(&home)?;
    }
    Ok(())
}

/// Puts enablement and activity back to what they were before the first run.
fn restore_unit(task: &mut Task<'_>, name: &str, entry: &Entry) -> Result<(), Failure> {
    let root = task.root;
    let (enablement, activity) = entry.previous_value.split_once(',').unwrap_or_default();
    let was_active = matches!(activity, "active" | "activating" | "reloading");
    let was_enabled = enablement.starts_with("enabled");
    let now = look_at_one(root, name)?;
    let is_active = !matches!(now.active_state.as_str(), "inactive" | "failed" | "");
    let has_file = now.load_state != "not-found";
    let mut act = |verb: UnitVerb| {
        unit::act_on(task, verb, name).map_err(|words| {
            Failure::program(format!("cannot {} {name}: ", unit::word(verb)), words)
        })
    };
    if is_active && !was_active {
        act(UnitVerb::Stop)?;
    }
    if now.unit_file_state.starts_with("enabled") && !was_enabled {
        act(UnitVerb::Disable)?;
    }
    if has_file && entry.existed {
        if was_enabled && !now.unit_file_state.starts_with("enabled") {
            act(UnitVerb::Enable)?;
        }
        if was_active && !is_active {
            act(UnitVerb::Start)?;
        }
        // What it ran with before it was taken over has been put back.
        match debt::owed(root, name)? {
            Owed::Restart if entry.adopted && was_active && is_active => act(UnitVerb::Restart)?,
            Owed::Reload if entry.adopted && was_active && is_active => act(UnitVerb::Reload)?,
            _ => {}
        }
    }
    debt::settle(root, name, Owed::Restart)?;
    if has_file && !now.needs_daemon_reload {
        return Ok(());
    }
    reload_systemd(root)
}

fn reload_systemd(root: &Root) -> Result<(), Failure> {
    systemctl(root, &["daemon-reload"])
        .map_err(|words| Failure::refused(format!("systemd did not read its units again: {words}")))
}

fn restore_sysctl(task: &Task<'_>, name: &str, entry: &Entry) -> Result<(), Failure> {
    if entry.previous_value.is_empty() || !sysctl::look(task.root, name)?.exists {
        return Ok(());
    }
    crate::operation::sysctl::write(task.root, name, &entry.previous_value)
}
