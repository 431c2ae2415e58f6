//! A dead man's switch: what may lock everybody out is put back unless somebody shows that they
//! can still get in.
//!
//! Goes in: the paths that are about to change, and the units that read them. Comes out: a unit on
//! the host's disk that puts them back when its time is over, and at the next boot. Invariant: it
//! is armed and durable before anything is changed, it needs neither a connection nor a clock, and
//! putting back twice ends in the same state as once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use provision_protocol::DEADMAN_NOTES;
use provision_protocol::message::{Arm, Armed, Disarmed};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Attributes, Draft};
use crate::fact::file::metadata;
use crate::fact::unit::{is_unit_name, look};
use crate::failure::{Doing, Failure};
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
    units: Vec<SavedUnit>,
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
    /// A directory, a device: nothing that an operation on a file replaces.
    Left,
    Link(String),
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
}

/// Arms the switch, or an armed one for these paths as well; its time begins anew.
pub(crate) fn arm(root: &Root, request: &Arm) -> Result<Armed, Failure> {
    let within = Duration::from_millis(request.within_millis);
    if request.paths.len() > MAX_PATHS || within > MAX_WITHIN {
        return Err(Failure::refused("the switch is asked for too much"));
    }
    durable::make_private_directory(&root.state(FOLDER))?;
    let mut notes = read(root)?.unwrap_or_default();
    for path in &request.paths {
        if !notes.paths.iter().any(|known| known.path == *path) {
            let was = save(root, check_absolute(path)?, notes.paths.len())?;
            notes.paths.push(SavedPath {
                path: path.clone(),
                was,
            });
        }
    }
    let new: Vec<&str> = request
        .units
        .iter()
        .map(String::as_str)
        .filter(|unit| is_unit_name(unit) && !notes.units.iter().any(|known| known.name == *unit))
        .collect();
    for (name, found) in look(root, &new) {
        // A unit that does not exist on this host reads nothing.
        if let Ok(found) = found
            && found.load_state == "loaded"
        {
            notes.units.push(SavedUnit {
                name,
                active: found.active_state == "active",
                enabled: found.unit_file_state == "enabled",
            });
        }
    }
    let text = serde_json::to_vec(&notes).map_err(|error| Failure::refused(error.to_string()))?;
    durable::write(&root.at(DEADMAN_NOTES), &text)?;
    install(root, within)?;
    Ok(Armed {})
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

/// Puts everything back, and takes the switch away.
pub(crate) fn revert(root: &Root) -> Result<(), Failure> {
    let Some(notes) = read(root)? else {
        return remove(root);
    };
    for saved in &notes.paths {
        put_back(root, saved)?;
    }
    let words = |words: String| Failure::program("cannot put units back: ", words);
    systemctl(root, &["daemon-reload"]).map_err(words)?;
    for unit in &notes.units {
        let enabling = if unit.enabled { "enable" } else { "disable" };
        let _ = systemctl(root, &[enabling, "--", &unit.name]);
        let _ = systemctl(root, &["reset-failed", "--", &unit.name]);
        // At boot this one comes before them, so it must not wait for them.
        let verb = if unit.active { "restart" } else { "stop" };
        let _ = systemctl(root, &[verb, "--no-block", "--", &unit.name]);
    }
    remove(root)
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

fn put_back(root: &Root, entry: &SavedPath) -> Result<(), Failure> {
    let target = root.at(&entry.path);
    let doing = || format!("put {} back", entry.path);
    match &entry.was {
        Was::Left => Ok(()),
        Was::Nothing => durable::remove_if_there(&target),
        Was::Link(to) => {
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
         sshd.service ssh.socket nftables.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program} {REVERT}\n\
         TimeoutStartSec=120\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    );
    let timer = format!(
        "[Timer]\nOnActiveSec={}ms\nAccuracySec=100ms\nUnit={SERVICE}\n",
        within.as_millis()
    );
    write_unit(root, SERVICE_PATH, &service)?;
    write_unit(root, TIMER_PATH, &timer)?;
    let words = |words: String| Failure::program("cannot arm the dead man's switch: ", words);
    systemctl(root, &["daemon-reload"]).map_err(words)?;
    systemctl(root, &["enable", "--quiet", SERVICE]).map_err(words)?;
    systemctl(root, &["restart", TIMER]).map_err(words)
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
mod tests {
    use super::*;
    use crate::process::install_script;

    fn armed(root: &Root, paths: &[&str]) {
        let request = Arm {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            units: vec!["ssh.service".to_owned()],
            within_millis: 1000,
        };
        arm(root, &request).unwrap();
    }

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        install_script(&root, "/usr/bin/systemctl", "exit 0");
        fs::create_dir_all(root.at("/etc/ssh")).unwrap();
        fs::write(root.at("/etc/ssh/sshd_config"), "Port 22\n").unwrap();
        (directory, root)
    }

    #[test]
    fn everything_is_put_back_also_twice() {
        let (_directory, root) = root();
        armed(&root, &["/etc/ssh/sshd_config", "/etc/ssh/new.conf"]);
        // The switch is armed for more: what it saved first is what stays saved.
        fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
        fs::write(root.at("/etc/ssh/new.conf"), "x").unwrap();
        armed(&root, &["/etc/ssh/sshd_config"]);
        let notes = fs::read(root.at(DEADMAN_NOTES)).unwrap();
        revert(&root).unwrap();
        let now = || fs::read_to_string(root.at("/etc/ssh/sshd_config")).unwrap();
        assert_eq!(now(), "Port 22\n");
        assert!(!root.at("/etc/ssh/new.conf").exists());
        assert!(!root.state(FOLDER).exists() && !root.at(SERVICE_PATH).exists());
        assert!(!notes.is_empty());
        revert(&root).unwrap();
        assert_eq!(now(), "Port 22\n");
    }

    #[test]
    fn a_switch_that_is_disarmed_puts_nothing_back() {
        let (_directory, root) = root();
        armed(&root, &["/etc/ssh/sshd_config"]);
        fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
        assert!(disarm(&root).unwrap().armed);
        assert!(!disarm(&root).unwrap().armed, "there is none any more");
        revert(&root).unwrap();
        let now = fs::read_to_string(root.at("/etc/ssh/sshd_config")).unwrap();
        assert_eq!(now, "Port 23\n");
    }
}
