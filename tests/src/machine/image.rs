//! The disk and the kernel that every whole machine begins with.
//!
//! Goes in: Debian's packages. Comes out: a folder beside cargo's target with both. Invariant: the
//! folder under its final name is whole, and is made anew only when its recipe has changed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::output::Output;
use crate::project::Project;

const RECIPE: &str = include_str!("image.sh");

/// What has the processes of a script end with it as well.
const OWN_PROCESSES: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// The folder with `disk` and `kernel`, after making them if there are none.
///
/// # Panics
/// They cannot be made.
pub(super) fn ensure() -> PathBuf {
    let programs = Project::programs();
    let target = programs.ancestors().nth(2).expect("cargo's folder");
    let folder = target.join("machine");
    let made_by = fs::read_to_string(folder.join("recipe")).unwrap_or_default();
    if made_by == RECIPE {
        return folder;
    }
    // One at a time, and what an earlier attempt left goes.
    let building = target.join("machine.new");
    let lock = fs::File::create(target.join("machine.lock")).expect("a lock");
    lock.lock().expect("the lock");
    let _ = fs::remove_dir_all(&building);
    fs::create_dir_all(&building).expect("a folder");
    let _ = Output::of(own_mounts(RECIPE, &OWN_PROCESSES).arg(&building)).success();
    fs::write(building.join("recipe"), RECIPE).expect("the recipe");
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&building, &folder).expect("the image under its name");
    folder
}

/// A script whose mounts end with it, and it with this program.
pub(super) fn own_mounts(script: &str, more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount"]);
    command.args(more).args(["sh", "-c", script, "sh"]);
    command
}
