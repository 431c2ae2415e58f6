//! Brings a block device to be mounted.
//!
//! Goes in: the device as it was found, and what shall become of it. Comes out: its file system
//! mounted, now and at every boot. Invariant: a device is formatted only when it was found blank
//! under the same lock, or when this tool began to format this very device and did not end.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use provision_protocol::operation::PrepareVolume;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::failure::{Doing, Failure};
use crate::manifest::{Kind, Wanted};
use crate::operation::unit::systemctl;
use crate::operation::{Task, directory};
use crate::process::Program;
use crate::root::{Root, check_absolute};
use crate::volume::blank::{Findings, examine};
use crate::volume::filesystem::{self, FileSystemKind};
use crate::volume::fstab::{self, Volume};
use crate::volume::intent::{self, Intent};
use crate::volume::mounts::{self, Mount};
use crate::volume::{self, Device};

/// How long mounting may take, which may replay a log.
const MOUNT_DEADLINE: Duration = Duration::from_secs(300);
/// How long others may hold a device's lock; udev does while it looks at a device.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How much of a tool's words is passed on.
const MAX_WORDS_BYTES: usize = 2000;

/// Brings a device to be mounted.
pub(crate) fn prepare(task: &mut Task<'_>, wanted: &PrepareVolume) -> Result<(), Failure> {
    let root = task.root;
    let kind = check(wanted)?;
    let mount_point = wanted.mount_point.trim_end_matches('/');
    let node = root.at(check_absolute(&wanted.device)?);
    let lock = lock(&node, &wanted.device)?;
    let device = find_again(root, wanted)?;
    let mounts = mounts::read(root)?;
    check_mount_point(root, mount_point, &device, &mounts)?;
    let table = fstab::read(root)?;
    let options = mount_options(&wanted.options);
    let line = Volume {
        uuid: &wanted.uuid,
        mount_point,
        filesystem: kind.name,
        options: &options,
    };
    // A line that cannot be written must be known before a device is formatted for it.
    fstab::with(&table, &line, |uuid| {
        task.manifest.get(Kind::Volume, uuid).is_some()
    })?;
    let findings = examine(root, &device, &mounts)?;
    let must_format = must_format(task, wanted, kind, &device, &findings)?;
    if must_format {
        filesystem::tool(root, kind.format, kind)?;
    }
    // The directory's entry precedes the volume's, so that it is removed after the volume.
    let path = root.at(mount_point);
    if !path.exists() {
        directory::make_with_parents(task, &path, None)?;
    }
    task.record(Wanted {
        kind: Kind::Volume,
        name: &wanted.uuid,
        value: Some(wanted.mount_point.clone()),
        ..Wanted::default()
    })?;
    if must_format {
        Intent::to_format(&device, &wanted.uuid).write(root)?;
        (task.progress)(&format!(
            "make an {} file system on {}",
            kind.name, wanted.device
        ));
        filesystem::make(root, kind, (&device.node, &wanted.uuid), task.progress)?;
        lock.sync_all()
            .doing(|| format!("make the file system on {} last", wanted.device))?;
        expect_made(root, wanted, kind, &device)?;
        Intent::to_format(&device, &wanted.uuid).done(root)?;
    }
    drop(lock);
    let is_ours = |uuid: &str| task.manifest.get(Kind::Volume, uuid).is_some();
    let table = fstab::with(&table, &line, is_ours)?;
    let changed = fstab::put(root, &table, &wanted.uuid)?;
    if changed {
        let _ = tell_systemd(root);
    }
    mount(root, &line, &device, changed)
}

/// Unmounts a volume and takes its line out of the table. Nothing on the device changes.
pub(crate) fn unmount(task: &mut Task<'_>, uuid: &str) -> Result<(), Failure> {
    let root = task.root;
    let table = fstab::read(root)?;
    if let Some(mount_point) = fstab::mount_point_of(&table, uuid) {
        let mounts = mounts::read(root)?;
        if let Some(mount) = mounts::on_top(&mounts, &mount_point)
            && bears(root, mount, uuid)?
        {
            run(root, "umount", &["--", &mount_point])?;
        }
        if fstab::put(root, &fstab::without(&table, uuid), "")? {
            let _ = tell_systemd(root);
        }
    }
    intent::forget(root, uuid)
}

fn check(wanted: &PrepareVolume) -> Result<&'static FileSystemKind, Failure> {
    check_absolute(&wanted.mount_point)?;
    check_uuid(&wanted.uuid)?;
    let bad = |option: &String| {
        option.is_empty() || option.contains([',', ' ', '\t', '\n', '\\', '#', '\0'])
    };
    if let Some(option) = wanted.options.iter().find(|option| bad(option)) {
        return Err(Failure::refused(format!(
            "`{option}` is not a mount option"
        )));
    }
    if wanted.identity.is_empty() && wanted.size_bytes == 0 {
        return Err(Failure::refused(format!(
            "{} is not used by its name alone: a serial, a backing file or a size must identify it",
            wanted.device
        )));
    }
    filesystem::kind(&wanted.filesystem)
}

fn check_uuid(uuid: &str) -> Result<(), Failure> {
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    let hex = |byte: u8| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if groups == [8, 4, 4, 4, 12] && uuid.bytes().all(hex) {
        Ok(())
    } else {
        Err(Failure::refused(format!(
            "`{uuid}` is not a UUID in lower-case hex"
        )))
    }
}

/// The lock that udev and other tools respect as well.
fn lock(node: &std::path::Path, shown: &str) -> Result<File, Failure> {
    let file = File::open(node).doing(|| format!("open {shown}"))?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Failure::refused(format!(
                    "{shown} is locked by another program"
                )));
            }
            Err(error) => return Err(error).doing(|| format!("lock {shown}")),
        }
    }
}

/// The device as it is now, which must be the one that the plan saw.
fn find_again(root: &Root, wanted: &PrepareVolume) -> Result<Device, Failure> {
    let device = volume::at_node(root, &wanted.device)?
        .ok_or_else(|| Failure::Guard(format!("{} is gone", wanted.device)))?;
    if !wanted.identity.is_empty() && !device.is(&wanted.identity) {
        return Err(Failure::Guard(format!(
            "{} is another device now: it is {} and not {}",
            wanted.device,
            if device.identity.is_empty() {
                "without identity"
            } else {
                &device.identity
            },
            wanted.identity
        )));
    }
    if device.size_bytes.abs_diff(wanted.size_bytes) > wanted.size_tolerance_bytes {
        return Err(Failure::Guard(format!(
            "{} has {} bytes and not {} (± {})",
            wanted.device, device.size_bytes, wanted.size_bytes, wanted.size_tolerance_bytes
        )));
    }
    Ok(device)
}

fn check_mount_point(
    root: &Root,
    mount_point: &str,
    device: &Device,
    mounts: &[Mount],
) -> Result<(), Failure> {
    let on_top = mounts::on_top(mounts, mount_point);
    if let Some(other) = on_top.filter(|mount| mount.number != device.number) {
        return Err(Failure::refused(format!(
            "{} ({}) is already mounted at {mount_point}",
            other.source, other.filesystem
        )));
    }
    let elsewhere = mounts
        .iter()
        .find(|mount| mount.number == device.number && mount.mount_point != mount_point);
    if let (None, Some(elsewhere)) = (on_top, elsewhere) {
        return Err(Failure::refused(format!(
            "the device is mounted at {} and not at {mount_point}: unmount it first",
            elsewhere.mount_point
        )));
    }
    if on_top.is_none() && mounts::has_entries(root, mount_point)? {
        return Err(Failure::refused(format!(
            "{mount_point} is not empty, and a mount would hide what is in it: move that away first"
        )));
    }
    Ok(())
}

fn mount_options(wanted: &[String]) -> String {
    let mut options = vec!["defaults", "nofail"];
    for option in wanted {
        if !options.contains(&option.as_str()) {
            options.push(option);
        }
    }
    options.join(",")
}

/// Decides between mounting what is there and making it. Everything else is a refusal.
fn must_format(
    task: &mut Task<'_>,
    wanted: &PrepareVolume,
    kind: &FileSystemKind,
    device: &Device,
    findings: &Findings,
) -> Result<bool, Failure> {
    let refuse = |why: &str| {
        let there = if findings.reasons.is_empty() {
            "it is blank".to_owned()
        } else {
            format!("on it: {}", findings.reasons.join(", "))
        };
        Err(Failure::refused(format!(
            "{} is left as it is: {why} ({there})",
            wanted.device
        )))
    };
    let unfinished = intent::is_unfinished(task.root, device, &wanted.uuid);
    if findings.uuid == wanted.uuid {
        if findings.filesystem != kind.name {
            return refuse("it bears the wanted UUID on another type of file system");
        }
        if !unfinished {
            return Ok(false);
        }
        if findings.in_use {
            // Whoever uses it may have written to it, so it is never made again.
            Intent::to_format(device, &wanted.uuid).done(task.root)?;
            return Ok(false);
        }
        (task.progress)("check the file system that was begun before");
        if filesystem::is_sound(task.root, kind, &device.node)? {
            Intent::to_format(device, &wanted.uuid).done(task.root)?;
            return Ok(false);
        }
        return if wanted.format {
            Ok(true)
        } else {
            refuse("the plan did not say `format`")
        };
    }
    if !findings.reasons.is_empty() {
        // Whatever a begun mkfs can leave has neither a foreign signature nor a user.
        let nobodys = findings.uuid.is_empty() && findings.filesystem.is_empty();
        let only_bytes = findings
            .reasons
            .iter()
            .all(|reason| reason.starts_with("bytes that"));
        if !(unfinished && nobodys && only_bytes && !findings.in_use) {
            return refuse("only a blank device is formatted");
        }
    }
    if wanted.format {
        Ok(true)
    } else {
        refuse("the plan did not say that it would be formatted")
    }
}

fn expect_made(
    root: &Root,
    wanted: &PrepareVolume,
    kind: &FileSystemKind,
    device: &Device,
) -> Result<(), Failure> {
    let findings = examine(root, device, &[])?;
    if findings.uuid == wanted.uuid && findings.filesystem == kind.name {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} ended well, but {} does not bear the file system it should: {}",
        kind.format,
        wanted.device,
        findings.reasons.join(", ")
    )))
}

fn mount(root: &Root, line: &Volume<'_>, device: &Device, changed: bool) -> Result<(), Failure> {
    let is_mounted = || {
        let mounts = mounts::read(root)?;
        let on_top = mounts::on_top(&mounts, line.mount_point);
        Ok::<_, Failure>(on_top.is_some_and(|mount| mount.number == device.number))
    };
    if is_mounted()? {
        // Options may have changed with the line.
        return if changed {
            run(root, "mount", &["-o", "remount", line.mount_point])
        } else {
            Ok(())
        };
    }
    let node = device.node.display().to_string();
    // Where no udev keeps names by UUID, as in a container, the node itself is mounted.
    if let Err(first) = run(root, "mount", &["--", line.mount_point])
        && run(
            root,
            "mount",
            &[
                "-t",
                line.filesystem,
                "-o",
                line.options,
                "--",
                &node,
                line.mount_point,
            ],
        )
        .is_err()
    {
        return Err(first);
    }
    if is_mounted()? {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "mount ended well, but {} does not show the device {}",
        line.mount_point, device.number
    )))
}

fn bears(root: &Root, mount: &Mount, uuid: &str) -> Result<bool, Failure> {
    let Some(device) = volume::at_number(root, mount.number)? else {
        return Ok(false);
    };
    Ok(examine(root, &device, &[])?.uuid == uuid)
}

fn run(root: &Root, name: &str, arguments: &[&str]) -> Result<(), Failure> {
    let outcome = Program::named(root, name)?
        .arguments(arguments.iter().copied())
        .deadline(MOUNT_DEADLINE)
        .run()?;
    if outcome.succeeded() {
        return Ok(());
    }
    Err(Failure::program(
        format!("{name} failed: "),
        outcome.said(MAX_WORDS_BYTES),
    ))
}

/// systemd makes mount units of the table, and unmounts what an outdated one forbids.
fn tell_systemd(root: &Root) -> Result<(), String> {
    if root.at("/run/systemd/system").is_dir() {
        systemctl(root, &["daemon-reload"])
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> PrepareVolume {
        PrepareVolume {
            device: "/dev/sdf".into(),
            identity: "serial:x".into(),
            filesystem: "ext4".into(),
            uuid: "01234567-89ab-cdef-0123-456789abcdef".into(),
            mount_point: "/mnt/data".into(),
            ..PrepareVolume::default()
        }
    }

    #[test]
    fn refuses_what_would_not_be_safe_to_write_down() {
        check(&wanted()).unwrap();
        let refused = |change: fn(&mut PrepareVolume)| {
            let mut wanted = wanted();
            change(&mut wanted);
            check(&wanted).is_err()
        };
        assert!(refused(|it| it.filesystem = "btrfs".into()));
        assert!(refused(|it| it.uuid = "../../x".into()));
        assert!(refused(|it| it.uuid = it.uuid.to_uppercase()));
        assert!(refused(|it| it.mount_point = "/".into()));
        assert!(refused(
            |it| it.options = vec!["noatime 0 0\n/dev/sda /".into()]
        ));
        assert!(refused(|it| it.identity.clear()));
    }

    #[test]
    fn nofail_is_always_among_the_options() {
        assert_eq!(mount_options(&[]), "defaults,nofail");
        let options = ["noatime".to_owned(), "nofail".to_owned()];
        assert_eq!(mount_options(&options), "defaults,nofail,noatime");
    }
}
