//! Reboots the host.
//!
//! Goes in: the boot that is to end. Comes out: a host that shuts down. Invariant: a boot is ended
//! once; asked for again after it, nothing happens.

use provision_protocol::operation::Reboot;

use crate::failure::Failure;
use crate::greeting::boot_id;
use crate::operation::Task;
use crate::operation::unit::systemctl;

/// Begins to shut down, and does not wait for it.
pub(crate) fn reboot(task: &mut Task<'_>, wanted: &Reboot) -> Result<(), Failure> {
    if wanted.boot_id != boot_id() {
        return Ok(());
    }
    task.manifest
        .record_command(task.root, task.operation, ("reboot", "reboot"))?;
    systemctl(task.root, &["--no-block", "reboot"])
        .map_err(|words| Failure::program("the host does not reboot: ", words))
}
