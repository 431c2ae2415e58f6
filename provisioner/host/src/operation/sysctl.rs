//! Sets kernel parameters.
//!
//! Goes in: a key and a value. Comes out: the kernel using it. Invariant: the value before is in
//! the manifest before the new one is set.

use std::fs::OpenOptions;
use std::io::Write;

use provision_protocol::operation::SetSysctl;

use crate::fact::sysctl;
use crate::failure::{Doing, Failure};
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::Task;
use crate::root::Root;

/// Sets a parameter.
pub(crate) fn set(task: &mut Task<'_>, wanted: &SetSysctl) -> Result<(), Failure> {
    let found = sysctl::look(task.root, &wanted.key)?;
    if !found.exists {
        return Err(Failure::refused(format!(
            "this kernel has no parameter {}: is its module loaded?",
            wanted.key
        )));
    }
    task.record(Wanted {
        kind: Kind::Sysctl,
        name: &wanted.key,
        before: Before {
            existed: true,
            value: found.value,
            ..Before::default()
        },
        value: Some(sysctl::normalize(&wanted.value)),
        ..Wanted::default()
    })?;
    write(task.root, &wanted.key, &wanted.value)?;
    let now = sysctl::look(task.root, &wanted.key)?.value;
    if now == sysctl::normalize(&wanted.value) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the kernel took `{}` for {} and made it `{now}`",
        wanted.value, wanted.key
    )))
}

/// Writes a value.
pub(crate) fn write(root: &Root, key: &str, value: &str) -> Result<(), Failure> {
    let doing = || format!("set the kernel parameter {key} to `{value}`");
    let path = sysctl::path(root, key)?;
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .doing(doing)?;
    file.write_all(format!("{value}\n").as_bytes()).doing(doing)
}
