//! A dead man's switch: what may lock everybody out is put back unless somebody shows that they
//! can still get in.
//!
//! Goes in: the paths that are about to change, and the units that read them. Comes out: a unit on
//! the host's disk that puts them back when its time is over, and at the next boot. Invariant: it
//! is armed and durable before anything is changed, it needs neither a connection nor a clock, and
//! putting back twice ends in the same state as once. One boot may be announced to it: the host
//! then has its time again after that boot, as nobody can confirm before it what takes effect with
//! it.

use std::fs::{self, File, Metadata};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use provision_protocol::DEADMAN_NOTES;
use provision_protocol::message::{Arm, Armed, Disarmed};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::content;
use crate::durable::{self, Attributes, Draft};
use crate::fact::file::metadata;
use crate::fact::unit::{is_unit_name, look};
use crate::failure::{Doing, Failure};
use crate::generation::Change;
use crate::greeting::boot_id;
use crate::manifest::Manifest;
use crate::operation::described_attributes;
use crate::operation::unit::systemctl;
use crate::root::{Root, check_absolute};

/// The argument with which the helper puts back instead of holding a conversation.
pub(crate) const REVERT: &str = "--revert";

/// The folder below the state directory.
const FOLDER: &str = "deadman";
/// A helper of its own: the one in use may be replaced or removed meanwhile.
const PROGRAM: &str = "deadman/provision-host";

/// What puts back. It is enabled, and so runs at every boot while it is there.
const SERVICE: &str = "provision-revert.service";
const SERVICE_PATH: &str = "/etc/systemd/system/provision-revert.service";
/// What starts it when the time is over. A boot forgets it, as the service then runs by itself.
const TIMER: &str = "provision-revert.timer";
const TIMER_PATH: &str = "/run/systemd/system/provision-revert.timer";

/// The most paths of one switch.
const MAX_PATHS: usize = 256;
/// The largest file that is put back, in bytes; configurations are much smaller.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The longest time until everything is put back.
const MAX_WITHIN: Duration = Duration::from_secs(3600);

/// What is to be put back.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Notes {
    paths: Vec<SavedPath>,
    /// The directories above the paths.
    #[serde(default)]
    parents: Vec<SavedPath>,
    units: Vec<SavedUnit>,
    /// A boot after this one is announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<Announced>,
}

/// A boot at which nothing is put back yet.
#[derive(Debug, Deserialize, Serialize)]
struct Announced {
    /// The boot before it.
    after: String,
    /// The time that the host has from then on.
    within_millis: u64,
}

/// What stood at a path.
#[derive(Debug, Deserialize, Serialize)]
struct SavedPath {
    path: String,
    was: Was,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Was {
    Nothing,
    /// A device, a socket: nothing that an operation replaces.
    Left,
    Link(String),
    Directory {
        uid: u32,
        gid: u32,
        mode: u32,
    },
    /// A file, whose content stands in the folder under this name.
    File {
        saved: String,
        uid: u32,
        gid: u32,
        mode: u32,
    },
}

/// What a unit did.
#[derive(Debug, Deserialize, Serialize)]
struct SavedUnit {
    name: String,
    active: bool,
    enabled: bool,
    /// It did not exist.
    #[serde(default)]
    new: bool,
}

/// Arms the switch, or an armed one for these paths as well; its time begins anew.
pub(crate) fn arm(root: &Root, request: &Arm) -> Result<Armed, Failure> {
    let within = Duration::from_millis(request.within_millis);
    if request.paths.len() > MAX_PATHS || within > MAX_WITHIN {
        return Err(Failure::refused("the switch is asked for too much"));
    }
    durable::make_private_directory(&root.state(FOLDER))?;
    let mut notes = read(root)?.unwrap_or_default();
    let manifest = if request.reboots {
        Some(Manifest::read(root)?)
    } else {
        None
    };
    notes.announced = request.reboots.then(|| Announced {
        after: boot_id(),
        within_millis: request.within_millis,
    });
    for path in &request.paths {
        if !notes.paths.iter().any(|known| known.path == *path) {
            let (path, number) = (check_absolute(path)?, free_number(&notes));
            let changed = manifest
                .as_ref()
                .and_then(|manifest| manifest.changed_file(path));
            let was = match changed {
                Some(change) => save_before(root, path, change, number)?,
                None => save(root, path, number)?,
            };
            notes.paths.push(SavedPath {
                path: path.to_owned(),
                was,
            });
            save_parents(root, path, &mut notes.parents)?;
        }
    }
    let new: Vec<&str> = request
        .units
        .iter()
        .map(String::as_str)
        .filter(|unit| is_unit_name(unit) && !notes.units.iter().any(|known| known.name == *unit))
        .collect();
    for (name, found) in look(root, &new) {
        if let Ok(found) = found
            && ["loaded", "not-found"].contains(&found.load_state.as_str())
        {
            notes.units.push(SavedUnit {
                name,
                active: found.active_state == "active",
                enabled: found.unit_file_state == "enabled",
                new: found.load_state == "not-found",
            });
        }
    }
    write(root, &notes)?;
    install(root, within)?;
    Ok(Armed {})
}

fn write(root: &Root, notes: &Notes) -> Result<(), Failure> {
    let text = serde_json::to_vec(notes).map_err(|error| Failure::refused(error.to_string()))?;
    durable::write(&root.at(DEADMAN_NOTES), &text)
}

/// Takes the switch away: somebody got in anew.
pub(crate) fn disarm(root: &Root) -> Result<Disarmed, Failure> {
    let armed = root.at(DEADMAN_NOTES).exists();
    let _ = systemctl(root, &["stop", TIMER]);
    // The time may have been over in that very moment.
    let armed = armed && root.at(DEADMAN_NOTES).exists();
    remove(root)?;
    Ok(Disarmed { armed })
}

/// Puts everything back, and takes the switch away. At the boot that was announced, the time begins
/// anew instead. What cannot be put back keeps nothing else from it, and is tried again at the next
/// boot unless somebody gets in before.
pub(crate) fn revert(root: &Root) -> Result<(), Failure> {
    let Some(mut notes) = read(root)? else {
        return remove(root);
    };
    if let Some(announced) = notes.announced.take_if(|one| one.after != boot_id()) {
        let within = Duration::from_millis(announced.within_millis);
        // Where no time can be waited for, everything is put back at once.
        if begin_anew(root, within)
            .and_then(|()| write(root, &notes))
            .is_ok()
        {
            return Ok(());
        }
    }
    // How a unit that did not exist is stopped is known only while its file is there.
    for unit in notes.units.iter().filter(|unit| unit.new) {
        let _ = systemctl(root, &["stop", "--", &unit.name]);
        let _ = systemctl(root, &["disable", "--", &unit.name]);
    }
    let mut failures = Vec::new();
    let mut left = Vec::new();
    // What is inside a directory goes before it.
    while let Some(saved) = notes.paths.pop() {
        if let Err(failure) = put_back(root, &saved, &notes.parents) {
            failures.push(failure.to_string());
            left.push(saved);
        }
    }
    left.reverse();
    notes.paths = left;
    if let Err(words) = systemctl(root, &["daemon-reload"]) {
        failures.push(format!("cannot put units back: {words}"));
    }
    for unit in notes.units.iter().filter(|unit| !unit.new) {
        let enabling = if unit.enabled { "enable" } else { "disable" };
        let _ = systemctl(root, &[enabling, "--", &unit.name]);
        let _ = systemctl(root, &["reset-failed", "--", &unit.name]);
        // At boot this one comes before them, so it must not wait for them.
        let verb = if unit.active { "restart" } else { "stop" };
        let _ = systemctl(root, &[verb, "--no-block", "--", &unit.name]);
    }
    if failures.is_empty() {
        return remove(root);
    }
    // Where not even this can be written, all is put back once more, which changes nothing.
    let _ = write(root, &notes);
    Err(Failure::refused(failures.join("\n")))
}

/// The boot has forgotten the timer. It is early: nothing may be waited for.
fn begin_anew(root: &Root, within: Duration) -> Result<(), Failure> {
    write_timer(root, within)?;
    let words = |words: String| Failure::program("cannot arm the dead man's switch: ", words);
    systemctl(root, &["daemon-reload"]).map_err(words)?;
    systemctl(root, &["start", "--no-block", TIMER]).map_err(words)
}

fn read(root: &Root) -> Result<Option<Notes>, Failure> {
    let path = root.at(DEADMAN_NOTES);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Failure::refused(format!("{} cannot be read: {error}", path.display())))
}

/// The name of a copy that is none yet: what could not be put back keeps its own.
fn free_number(notes: &Notes) -> usize {
    let taken = notes.paths.iter().filter_map(|one| match &one.was {
        Was::File { saved, .. } => saved.parse::<usize>().ok(),
        _ => None,
    });
    taken.max().map_or(0, |highest| highest + 1)
}

fn save(root: &Root, path: &str, number: usize) -> Result<Was, Failure> {
    let from = root.at(path);
    let doing = || format!("keep a copy of {path}");
    let Some(found) = metadata(&from).doing(doing)? else {
        return Ok(Was::Nothing);
    };
    if found.is_symlink() {
        let target = fs::read_link(&from).doing(doing)?;
        return Ok(Was::Link(target.display().to_string()));
    }
    if found.is_dir() {
        return Ok(directory(&found));
    }
    if !found.is_file() {
        return Ok(Was::Left);
    }
    if found.len() > MAX_FILE_BYTES {
        return Err(Failure::refused(format!(
            "{path} has more than {MAX_FILE_BYTES} bytes, and could not be put back by itself"
        )));
    }
    let saved = format!("{number}");
    let bytes = fs::read(&from).doing(doing)?;
    durable::write(&root.state(FOLDER).join(&saved), &bytes)?;
    Ok(Was::File {
        saved,
        uid: found.uid(),
        gid: found.gid(),
        mode: found.mode() & 0o7777,
    })
}

fn directory(found: &Metadata) -> Was {
    Was::Directory {
        uid: found.uid(),
        gid: found.gid(),
        mode: found.mode() & 0o7777,
    }
}

/// The directories above a path, the outermost first.
fn parents(path: &str) -> Vec<&str> {
    let above = Path::new(path).ancestors().skip(1);
    let mut above: Vec<&str> = above.filter_map(Path::to_str).collect();
    above.reverse();
    above
}

fn save_parents(root: &Root, path: &str, saved: &mut Vec<SavedPath>) -> Result<(), Failure> {
    for parent in parents(path) {
        let found = metadata(&root.at(parent)).doing(|| format!("look at {parent}"))?;
        if let Some(found) = found.filter(Metadata::is_dir)
            && !saved.iter().any(|known| known.path == parent)
        {
            saved.push(SavedPath {
                path: parent.to_owned(),
                was: directory(&found),
            });
        }
    }
    Ok(())
}

/// What stood there before the generation that is open. A content that held a secret is not kept:
/// the one that stands there now is, with who may use it.
fn save_before(root: &Root, path: &str, change: &Change, number: usize) -> Result<Was, Failure> {
    let Some(before) = &change.before else {
        return Ok(Was::Nothing);
    };
    let now = save(root, path, number)?;
    let given = described_attributes(root, &before.attributes)?;
    let saved = format!("{number}");
    let kept = change.wrote && !before.sha256.is_empty();
    let was = match (now, given) {
        (Was::File { .. } | Was::Nothing, Some(Attributes { uid, gid, mode })) if kept => {
            let mut draft = Draft::beside(&root.state(FOLDER).join(&saved))?;
            content::copy_to(root, &before.sha256, &mut draft.file)?;
            draft.commit(None)?;
            Was::File {
                saved,
                uid,
                gid,
                mode,
            }
        }
        (Was::File { saved, .. }, Some(Attributes { uid, gid, mode })) => Was::File {
            saved,
            uid,
            gid,
            mode,
        },
        (now, _) => now,
    };
    Ok(was)
}

fn put_back(root: &Root, entry: &SavedPath, above: &[SavedPath]) -> Result<(), Failure> {
    let target = root.at(&entry.path);
    let doing = || format!("put {} back", entry.path);
    match &entry.was {
        Was::Left => Ok(()),
        Was::Nothing => match metadata(&target).doing(doing)? {
            None => Ok(()),
            Some(now) if now.is_dir() => {
                // What somebody else has put into it stays.
                let _ = fs::remove_dir(&target);
                Ok(())
            }
            Some(_) => durable::remove_if_there(&target),
        },
        Was::Directory { uid, gid, mode } => {
            remake_parents(root, &entry.path, above)?;
            let attributes = Attributes {
                uid: *uid,
                gid: *gid,
                mode: *mode,
            };
            put_directory_back(&target, attributes)
        }
        Was::Link(to) => {
            remake_parents(root, &entry.path, above)?;
            durable::remove_if_there(&target)?;
            symlink(to, &target).doing(doing)?;
            durable::sync_parent(&target)
        }
        Was::File {
            saved,
            uid,
            gid,
            mode,
        } => {
            remake_parents(root, &entry.path, above)?;
            let bytes = fs::read(root.state(FOLDER).join(saved)).doing(doing)?;
            let mut draft = Draft::beside(&target)?;
            draft.file.write_all(&bytes).doing(doing)?;
            draft.commit(Some(Attributes {
                uid: *uid,
                gid: *gid,
                mode: *mode,
            }))
        }
    }
}

/// Makes the directories above a path that are gone; those that are there stay as they are.
fn remake_parents(root: &Root, path: &str, saved: &[SavedPath]) -> Result<(), Failure> {
    for parent in parents(path) {
        let target = root.at(parent);
        // One that is a link counts as what it leads to.
        if target.exists() {
            continue;
        }
        let known = saved.iter().find(|known| known.path == parent);
        let attributes = match known.map(|known| &known.was) {
            Some(&Was::Directory { uid, gid, mode }) => Attributes { uid, gid, mode },
            _ => Attributes {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                mode: 0o755,
            },
        };
        put_directory_back(&target, attributes)?;
    }
    Ok(())
}

/// Makes a directory unless it is there, and gives it its owner and mode.
fn put_directory_back(target: &Path, attributes: Attributes) -> Result<(), Failure> {
    let doing = || format!("put {} back", target.display());
    if metadata(target).doing(doing)?.is_none() {
        fs::create_dir(target).doing(doing)?;
        durable::sync_parent(target)?;
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(target)
        .doing(doing)?;
    durable::apply(&directory, attributes).doing(doing)?;
    directory.sync_all().doing(doing)
}

fn install(root: &Root, within: Duration) -> Result<(), Failure> {
    let program = root.state(PROGRAM);
    let own = std::env::current_exe().doing(|| "find the helper".to_owned())?;
    let bytes = fs::read(&own).doing(|| format!("read {}", own.display()))?;
    durable::write(&program, &bytes)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))
        .doing(|| format!("set the mode of {}", program.display()))?;
    let program = root.shown(&program);
    let service = format!(
        "# Made by provision for the time of one change; gone when the change is confirmed.\n\
         [Unit]\n\
         Description=Put back what may have locked everybody out\n\
         DefaultDependencies=no\n\
         RequiresMountsFor=/etc {program}\n\
         After=local-fs.target\n\
         Before=network-pre.target systemd-networkd.service networking.service ssh.service \
         sshd.service ssh.socket nftables.service netfilter-persistent.service \
         provision-firewall.service ufw.service firewalld.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program} {REVERT}\n\
         TimeoutStartSec=120\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    write_unit(root, SERVICE_PATH, &service)?;
    write_timer(root, within)?;
    let words = |words: String| Failure::program("cannot arm the dead man's switch: ", words);
    systemctl(root, &["daemon-reload"]).map_err(words)?;
    systemctl(root, &["enable", "--quiet", SERVICE]).map_err(words)?;
    systemctl(root, &["restart", TIMER]).map_err(words)
}

fn write_timer(root: &Root, within: Duration) -> Result<(), Failure> {
    let timer = format!(
        "[Timer]\nOnActiveSec={}ms\nAccuracySec=100ms\nUnit={SERVICE}\n",
        within.as_millis()
    );
    write_unit(root, TIMER_PATH, &timer)
}

fn write_unit(root: &Root, path: &str, text: &str) -> Result<(), Failure> {
    let path = root.at(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
    }
    durable::write(&path, text.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .doing(|| format!("set the mode of {}", path.display()))
}

/// Takes away all that belongs to the switch. The notes go first: without them nothing is put
/// back any more.
fn remove(root: &Root) -> Result<(), Failure> {
    durable::remove_if_there(&root.at(DEADMAN_NOTES))?;
    let installed = [SERVICE_PATH, TIMER_PATH].map(|path| root.at(path));
    if installed.iter().any(|path| path.exists()) {
        let _ = systemctl(root, &["disable", "--quiet", SERVICE]);
        for path in &installed {
            durable::remove_if_there(path)?;
        }
        let _ = systemctl(root, &["daemon-reload"]);
    }
    durable::remove_tree(&root.state(FOLDER))
}

#[cfg(test)]
mod tests;
