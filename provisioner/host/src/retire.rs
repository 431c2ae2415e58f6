//! Leaves a host on which nothing is managed any more.
//!
//! Goes in: a manifest without entries. Comes out: a host without the state directory, without what
//! was written for its balancer and without the helper. Invariant: while any environment has an
//! entry, everything stays.

use std::fs;
use std::path::Path;

use provision_protocol::STATE_DIRECTORY;
use provision_protocol::message::Retired;

use crate::balancer;
use crate::durable;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::root::Root;

/// How the file of a helper is called; its hash follows.
const HELPER_PREFIX: &str = "provision-host-";

/// Removes what the helper keeps, and itself.
pub(crate) fn retire(root: &Root) -> Result<Retired, Failure> {
    let entries_left = Manifest::read(root)?.len() as u64;
    if entries_left > 0 {
        return Ok(Retired { entries_left });
    }
    balancer::forget(root)?;
    // The lock's file goes as well. Whoever makes a new one finds this run at its end, which does
    // nothing more.
    let state = root.at(STATE_DIRECTORY);
    durable::remove_tree(&state)?;
    durable::sync_parent(&state)?;
    if root.is_system()
        && let Ok(program) = std::env::current_exe()
    {
        remove_helpers(&program);
    }
    Ok(Retired { entries_left })
}

/// Helpers of an account that is not root stand in its cache, which nobody misses: a failure is
/// none.
fn remove_helpers(program: &Path) {
    let is_helper = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(HELPER_PREFIX))
    };
    let Some(directory) = program.parent().filter(|_| is_helper(program)) else {
        return;
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_helper(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    // Its directory, and the cache around it if nothing else ever came into it.
    for directory in directory.ancestors().take(2) {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}
