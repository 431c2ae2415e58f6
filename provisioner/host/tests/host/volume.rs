//! Disks, as loop devices over sparse files. Only root can have them, so anybody else sees these
//! tests pass without having tried anything.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use provision_protocol::fact::{VolumeFact, VolumeQuery, fact_kind, query};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{ManifestKind, PrepareVolume};

use crate::talk::Talk;

const SIZE_BYTES: u64 = 64 * 1024 * 1024;
pub(crate) const MIB: u64 = 1024 * 1024;
/// mkfs.xfs wants 300 MiB at least.
const XFS_SIZE_BYTES: u64 = 400 * MIB;
const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";

/// A disk, and a system of its own that has it: the helper sees private copies of `/etc`,
/// `/var/lib` and `/mnt`, and what it mounts goes with it, as in a reboot.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
    file: PathBuf,
    pub(crate) device: String,
    size_bytes: u64,
}

impl Disk {
    /// `None` where this process may not have one.
    fn new(size_bytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk.img");
        File::create(&file).unwrap().set_len(size_bytes).unwrap();
        Self::attach(directory, file, size_bytes)
    }

    /// The same over a file or a device that is there already.
    pub(crate) fn over(file: &Path, size_bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        Self::attach(directory, file.canonicalize().unwrap(), size_bytes)
    }

    fn attach(directory: tempfile::TempDir, file: PathBuf, size_bytes: u64) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&file)
            .output()
            .ok()?;
        if !output.status.success() {
            return None;
        }
        let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        for name in ["etc", "lib", "mnt"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("etc/fstab"), "# theirs\n").unwrap();
        for name in ["passwd", "group"] {
            fs::copy(
                Path::new("/etc").join(name),
                directory.path().join("etc").join(name),
            )
            .unwrap();
        }
        Some(Self {
            directory,
            file,
            device,
            size_bytes,
        })
    }

    pub(crate) fn talk(&self) -> Talk {
        let script = "set -e\nmount --bind \"$1/etc\" /etc\nmount --bind \"$1/lib\" /var/lib\n\
                      mount --bind \"$1/mnt\" /mnt\nexec \"$2\"";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        let mut talk = Talk::with(
            command
                .arg(self.directory.path())
                .arg(env!("CARGO_BIN_EXE_provision-host")),
        );
        talk.lock();
        talk
    }

    fn identity(&self) -> String {
        format!("file:{}", self.file.display())
    }

    pub(crate) fn look(&self, talk: &mut Talk) -> VolumeFact {
        let wanted = VolumeQuery {
            backing_file: self.file.display().to_string(),
            mount_point: "/mnt/data".into(),
            uuid: UUID.into(),
            ..VolumeQuery::default()
        };
        match talk.observe(vec![query::Kind::Volume(wanted)]).remove(0) {
            provision_protocol::fact::Fact {
                kind: Some(fact_kind::Kind::Volume(fact)),
                ..
            } => fact,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wanted(&self, filesystem: &str) -> PrepareVolume {
        PrepareVolume {
            device: self.device.clone(),
            identity: self.identity(),
            size_bytes: self.size_bytes,
            filesystem: filesystem.into(),
            uuid: UUID.into(),
            mount_point: "/mnt/data".into(),
            options: vec!["noatime".into()],
            format: true,
            size_tolerance_bytes: 0,
        }
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) {
        let output = Command::new(name)
            .args(arguments)
            .arg(&self.device)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn hash(&self) -> String {
        assert!(
            Command::new("sync")
                .arg(&self.device)
                .status()
                .unwrap()
                .success()
        );
        let output = Command::new("sha256sum").arg(&self.file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn fstab(&self) -> String {
        fs::read_to_string(self.directory.path().join("etc/fstab")).unwrap()
    }

    /// Whatever is on it, it must be refused and stay as it is.
    pub(crate) fn is_sacred(&self, reason: &str) {
        let before = self.hash();
        let mut talk = self.talk();
        let fact = self.look(&mut talk);
        assert!(fact.exists && !fact.blank);
        assert!(fact.occupied_by.contains(reason), "{}", fact.occupied_by);
        for filesystem in ["ext4", "xfs"] {
            let message = talk.refused(Act::PrepareVolume(self.wanted(filesystem)));
            assert!(message.contains("is left as it is"), "{message}");
            assert!(message.contains(reason), "{message}");
        }
        let mut entries = talk.manifest().into_iter();
        assert!(entries.all(|entry| entry.kind() != ManifestKind::Volume));
        talk.end();
        assert_eq!(self.hash(), before, "not one byte changed");
        assert_eq!(self.fstab(), "# theirs\n");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

/// Loop devices are shared by the whole machine, so one test has them after the other.
static ONE_BY_ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

pub(crate) fn with_disk(size_bytes: u64, test: impl FnOnce(&Disk)) {
    let _turn = ONE_BY_ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(disk) = Disk::new(size_bytes) {
        test(&disk);
    }
}

pub(crate) fn is_installed(name: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin"]
        .iter()
        .any(|place| Path::new(place).join(name).exists())
}

#[test]
fn another_disk_than_the_planned_one_is_sacred() {
    with_disk(SIZE_BYTES, |disk| {
        let before = disk.hash();
        let mut talk = disk.talk();
        let mut wanted = disk.wanted("ext4");
        wanted.identity = "file:/another.img".into();
        let message = talk.refused(Act::PrepareVolume(wanted));
        assert!(message.contains("is another device now"), "{message}");
        let mut wanted = disk.wanted("ext4");
        wanted.size_bytes += 4096;
        wanted.size_tolerance_bytes = 4095;
        let message = talk.refused(Act::PrepareVolume(wanted));
        assert!(message.contains("bytes and not"), "{message}");
        let mut wanted = disk.wanted("ext4");
        wanted.format = false;
        let message = talk.refused(Act::PrepareVolume(wanted));
        assert!(
            message.contains("did not say that it would be formatted"),
            "{message}"
        );
        talk.end();
        assert_eq!(disk.hash(), before);
    });
}

#[test]
fn a_mounted_disk_is_sacred_even_where_the_mount_cannot_be_seen() {
    with_disk(SIZE_BYTES, |disk| {
        disk.run("mkfs.ext4", &["-q", "-F"]);
        let script = "mount \"$0\" /mnt && echo ready && cat";
        let mut other = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                &disk.device,
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0u8; 6];
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let mut talk = disk.talk();
        let fact = disk.look(&mut talk);
        assert!(
            fact.occupied_by.contains("mounted in another container"),
            "{}",
            fact.occupied_by
        );
        talk.end();
        drop(other.stdin.take());
        other.wait().unwrap();
    });
}

#[test]
fn a_blank_disk_is_formatted_once_and_mounted_ever_after() {
    for (filesystem, size_bytes) in [("ext4", SIZE_BYTES), ("xfs", XFS_SIZE_BYTES)] {
        with_disk(size_bytes, |disk| {
            if !is_installed(&format!("mkfs.{filesystem}")) {
                return;
            }
            let mut talk = disk.talk();
            let fact = disk.look(&mut talk);
            assert!(fact.blank, "{}", fact.occupied_by);
            assert_eq!(
                (fact.device.as_str(), fact.identity, fact.size_bytes),
                (disk.device.as_str(), disk.identity(), size_bytes)
            );
            talk.done(Act::PrepareVolume(disk.wanted(filesystem)));
            let fact = disk.look(&mut talk);
            assert_eq!(
                (fact.filesystem.as_str(), fact.uuid.as_str()),
                (filesystem, UUID)
            );
            assert_eq!(fact.mounted_at, ["/mnt/data"]);
            assert!(!fact.unfinished_intent);
            assert!(!fact.mount_point_not_empty);
            assert_eq!(fact.foreign_fstab_line, "");
            let line = format!("UUID={UUID} /mnt/data {filesystem} defaults,nofail,noatime 0 2");
            assert_eq!(fact.fstab_line, line);
            assert_eq!(disk.fstab(), format!("# theirs\n{line}\n"));
            talk.done(Act::PrepareVolume(disk.wanted(filesystem)));
            talk.end();

            // The mount is gone with the helper's namespace, as after a boot without fstab.
            let mut talk = disk.talk();
            assert_eq!(disk.look(&mut talk).mounted_at, [""; 0]);
            let mut wanted = disk.wanted(filesystem);
            wanted.format = false;
            talk.done(Act::PrepareVolume(wanted));
            assert_eq!(disk.look(&mut talk).mounted_at, ["/mnt/data"]);
            talk.remove(ManifestKind::Volume, UUID);
            let fact = disk.look(&mut talk);
            assert_eq!(
                (fact.mounted_at, fact.uuid.as_str()),
                (vec![], UUID),
                "data stays"
            );
            talk.end();
            assert_eq!(disk.fstab(), "# theirs\n");
        });
    }
}

#[test]
fn an_unfinished_file_system_is_made_again() {
    with_disk(SIZE_BYTES, |disk| {
        let mut talk = disk.talk();
        talk.done(Act::PrepareVolume(disk.wanted("ext4")));
        talk.end();
        // As if the power had gone during mkfs: the intent stands, and the superblock is missing.
        let intents = disk
            .directory
            .path()
            .join("lib/provision/intents")
            .join(UUID);
        let text = fs::read_to_string(&intents)
            .unwrap()
            .replace("\"done\"", "\"begun\"");
        fs::write(&intents, text).unwrap();
        let device = File::options().write(true).open(&disk.device).unwrap();
        device.write_all_at(&[0u8; 4096], 0).unwrap();
        device.sync_all().unwrap();
        drop(device);
        let mut talk = disk.talk();
        let fact = disk.look(&mut talk);
        assert!(fact.unfinished_intent && !fact.blank);
        talk.done(Act::PrepareVolume(disk.wanted("ext4")));
        assert_eq!(disk.look(&mut talk).mounted_at, ["/mnt/data"]);
        talk.end();
    });
}

#[test]
fn an_unfinished_intent_gives_no_right_to_what_others_made_since() {
    with_disk(SIZE_BYTES, |disk| {
        let mut talk = disk.talk();
        talk.done(Act::PrepareVolume(disk.wanted("ext4")));
        talk.remove(ManifestKind::Volume, UUID);
        talk.end();
        let text = format!(
            r#"{{"version":1,"identity":"{}","size_bytes":{SIZE_BYTES},"uuid":"{UUID}","state":"begun"}}"#,
            disk.identity()
        );
        fs::write(
            disk.directory
                .path()
                .join("lib/provision/intents")
                .join(UUID),
            text,
        )
        .unwrap();
        disk.run("mkfs.ext4", &["-q", "-F"]);
        disk.is_sacred("an ext4 file system (UUID ");
    });
}

#[test]
fn a_mount_point_with_something_in_it_is_left_alone() {
    with_disk(SIZE_BYTES, |disk| {
        let before = disk.hash();
        fs::create_dir(disk.directory.path().join("mnt/data")).unwrap();
        fs::write(disk.directory.path().join("mnt/data/file"), "x").unwrap();
        let mut talk = disk.talk();
        assert!(disk.look(&mut talk).mount_point_not_empty);
        let message = talk.refused(Act::PrepareVolume(disk.wanted("ext4")));
        assert!(message.contains("is not empty"), "{message}");
        talk.end();
        assert_eq!(disk.hash(), before);
    });
}

#[test]
fn a_foreign_line_for_the_mount_point_stops_before_formatting() {
    with_disk(SIZE_BYTES, |disk| {
        let before = disk.hash();
        let line = "/dev/sdz /mnt/data ext4 defaults 0 2\n";
        fs::write(disk.directory.path().join("etc/fstab"), line).unwrap();
        let mut talk = disk.talk();
        assert_eq!(disk.look(&mut talk).foreign_fstab_line, line.trim());
        let message = talk.refused(Act::PrepareVolume(disk.wanted("ext4")));
        assert!(
            message.contains("already mounts something else"),
            "{message}"
        );
        talk.end();
        assert_eq!(disk.hash(), before);
        assert_eq!(disk.fstab(), line);
    });
}
