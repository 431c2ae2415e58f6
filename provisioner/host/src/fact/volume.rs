//! Block devices and what is on them.
//!
//! Goes in: what selects a device. Comes out: the device, and why it is not blank. Invariant:
//! nothing is written to a device.

use provision_protocol::fact::{VolumeFact, VolumeQuery};

use crate::failure::Failure;
use crate::manifest::{Kind, Manifest};
use crate::root::Root;
use crate::volume::blank::Findings;
use crate::volume::{self, blank, filesystem, fstab, intent, mounts};

/// Looks at a device.
pub(crate) fn look(root: &Root, wanted: &VolumeQuery) -> Result<VolumeFact, Failure> {
    let Some(device) = volume::find(root, wanted)? else {
        return Ok(VolumeFact::default());
    };
    let mounts = mounts::read(root)?;
    let findings = blank::examine(root, &device, &mounts)?;
    let table = fstab::read(root)?;
    // As an operation reads it.
    let mount_point = wanted.mount_point.trim_end_matches('/');
    let on_top = mounts::on_top(&mounts, mount_point);
    let taken_by = on_top
        .filter(|mount| mount.number != device.number)
        .map(|mount| format!("{} ({}, {})", mount.source, mount.filesystem, mount.number));
    let hides =
        !mount_point.is_empty() && on_top.is_none() && mounts::has_entries(root, mount_point)?;
    let place = (wanted.uuid.as_str(), mount_point);
    let mut foreign = fstab::foreign_line(&table, place, |_| false);
    if foreign.is_some() {
        let manifest = Manifest::read(root)?;
        let is_ours = |uuid: &str| manifest.get(Kind::Volume, uuid).is_some();
        foreign = fstab::foreign_line(&table, place, is_ours);
    }
    let unfinished_intent = intent::is_unfinished(root, &device, &wanted.uuid);
    let mounted_at = mounts.iter().filter(|mount| mount.number == device.number);
    Ok(VolumeFact {
        exists: true,
        device: root.shown(&device.node),
        size_bytes: device.size_bytes,
        missing_program: missing_program(root, wanted, &findings, unfinished_intent)?,
        blank: findings.reasons.is_empty(),
        occupied_by: findings.reasons.join(", "),
        filesystem: findings.filesystem,
        uuid: findings.uuid,
        mounted_at: mounted_at.map(|mount| mount.mount_point.clone()).collect(),
        unfinished_intent,
        fstab_line: fstab::line_for(&table, &wanted.uuid, mount_point)
            .unwrap_or_default()
            .to_owned(),
        mount_point_taken_by: taken_by.unwrap_or_default(),
        mount_point_not_empty: hides,
        foreign_fstab_line: foreign.unwrap_or_default().to_owned(),
        identity: volume::asked_identity(wanted).unwrap_or(device.identity),
    })
}

/// The program that would make the wanted file system, where one has to be made and it is not
/// there.
fn missing_program(
    root: &Root,
    wanted: &VolumeQuery,
    findings: &Findings,
    unfinished: bool,
) -> Result<String, Failure> {
    let is_made = !unfinished && !wanted.uuid.is_empty() && findings.uuid == wanted.uuid;
    if wanted.filesystem.is_empty() || is_made {
        return Ok(String::new());
    }
    let program = filesystem::kind(&wanted.filesystem)?.format;
    Ok(match root.program(program) {
        Some(_) => String::new(),
        None => program.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::install_script;

    #[test]
    fn names_the_program_that_is_missing_where_a_file_system_must_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        install_script(&root, "/usr/sbin/mkfs.ext4", "true");
        let missing = |filesystem: &str, uuid: &str, unfinished: bool| {
            let wanted = VolumeQuery {
                uuid: "wanted".into(),
                filesystem: filesystem.into(),
                ..VolumeQuery::default()
            };
            let findings = Findings {
                uuid: uuid.into(),
                ..Findings::default()
            };
            missing_program(&root, &wanted, &findings, unfinished)
        };
        assert_eq!(missing("xfs", "", false).unwrap(), "mkfs.xfs");
        assert_eq!(missing("xfs", "wanted", true).unwrap(), "mkfs.xfs");
        assert_eq!(missing("xfs", "wanted", false).unwrap(), "");
        assert_eq!(missing("ext4", "", false).unwrap(), "");
        assert_eq!(missing("", "", false).unwrap(), "");
        assert!(missing("btrfs", "", false).is_err());
    }
}
