//! Everything that a disk may hold or be used for, with the tools that make it: each is refused,
//! and not one byte changes. Only root can have such disks, so anybody else sees this test pass
//! without having tried anything.

use std::process::Command;

use provision_protocol::operation::operation::Kind as Act;

use crate::volume::{Disk, MIB, is_installed, with_disk};

/// One kind: its name, how large its disk is, the tool that makes it, the shell script with the
/// device as `$0`, and a part of what is said of it.
struct Kind(
    #[expect(dead_code, reason = "a name for the reader of the table")] &'static str,
    u64,
    &'static str,
    &'static str,
    &'static str,
);

const SMALL: u64 = 64 * MIB;
/// mkfs.xfs wants 300 MiB at least.
const LARGE: u64 = 320 * MIB;
/// Others want a hundred.
const MEDIUM: u64 = 160 * MIB;

const CONTENTS: &[Kind] = &[
    Kind(
        "ext2",
        SMALL,
        "mkfs.ext2",
        "mkfs.ext2 -q -F $0",
        "an ext2 file system",
    ),
    Kind(
        "ext3",
        SMALL,
        "mkfs.ext3",
        "mkfs.ext3 -q -F $0",
        "an ext3 file system",
    ),
    Kind(
        "ext4",
        SMALL,
        "mkfs.ext4",
        "mkfs.ext4 -q -F $0",
        "an ext4 file system",
    ),
    Kind(
        "xfs",
        LARGE,
        "mkfs.xfs",
        "mkfs.xfs -q -f $0",
        "an xfs file system",
    ),
    Kind(
        "btrfs",
        MEDIUM,
        "mkfs.btrfs",
        "mkfs.btrfs -q -f $0",
        "a btrfs file system",
    ),
    Kind(
        "vfat",
        SMALL,
        "mkfs.vfat",
        "mkfs.vfat $0",
        "a vfat file system",
    ),
    Kind(
        "exfat",
        SMALL,
        "mkfs.exfat",
        "mkfs.exfat $0",
        "an exfat file system",
    ),
    Kind(
        "ntfs",
        SMALL,
        "mkfs.ntfs",
        "mkfs.ntfs -q -Q -F $0",
        "a ntfs file system",
    ),
    Kind(
        "f2fs",
        MEDIUM,
        "mkfs.f2fs",
        "mkfs.f2fs -q -f $0",
        "a f2fs file system",
    ),
    Kind(
        "nilfs2",
        MEDIUM,
        "mkfs.nilfs2",
        "mkfs.nilfs2 -q -f $0",
        "a nilfs2 file system",
    ),
    Kind(
        "jfs",
        SMALL,
        "mkfs.jfs",
        "mkfs.jfs -q $0",
        "a jfs file system",
    ),
    Kind(
        "reiserfs",
        SMALL,
        "mkfs.reiserfs",
        "mkfs.reiserfs -q -ff $0",
        "a reiserfs file system",
    ),
    Kind(
        "udf",
        SMALL,
        "mkfs.udf",
        "mkfs.udf $0",
        "an udf file system",
    ),
    Kind(
        "iso9660",
        SMALL,
        "genisoimage",
        "genisoimage -quiet /etc/hostname | dd of=$0 conv=notrunc",
        "an iso9660 file system",
    ),
    Kind(
        "squashfs",
        SMALL,
        "mksquashfs",
        "f=$(mktemp -u) && mksquashfs /etc/hostname $f -quiet -no-progress && \
         dd if=$f of=$0 conv=notrunc; rm $f",
        "a squashfs file system",
    ),
    Kind(
        "erofs",
        SMALL,
        "mkfs.erofs",
        "d=$(mktemp -d) && mkfs.erofs $d.img $d && dd if=$d.img of=$0 conv=notrunc; rm -r $d $d.img",
        "an erofs file system",
    ),
    Kind(
        "minix",
        SMALL,
        "mkfs.minix",
        "mkfs.minix $0",
        "a minix file system",
    ),
    Kind(
        "cramfs",
        SMALL,
        "mkfs.cramfs",
        "d=$(mktemp -d) && echo 1 >$d/a && mkfs.cramfs $d $d.img && \
         dd if=$d.img of=$0 conv=notrunc; rm -r $d $d.img",
        "a cramfs file system",
    ),
    Kind("bfs", SMALL, "mkfs.bfs", "mkfs.bfs $0", "a bfs file system"),
    Kind("swap", SMALL, "mkswap", "mkswap $0", "swap space"),
    Kind(
        "physical volume of LVM",
        SMALL,
        "pvcreate",
        "pvcreate --quiet --yes --config 'devices{use_devicesfile=0}' $0",
        "an LVM2 physical volume",
    ),
    Kind(
        "LUKS 1",
        SMALL,
        "cryptsetup",
        "echo secret | cryptsetup luksFormat --type luks1 --batch-mode \
         --pbkdf-force-iterations 1000 $0 -",
        "a LUKS container",
    ),
    Kind(
        "LUKS 2",
        SMALL,
        "cryptsetup",
        "echo secret | cryptsetup luksFormat --type luks2 --batch-mode --pbkdf pbkdf2 \
         --pbkdf-force-iterations 1000 $0 -",
        "a LUKS container",
    ),
    Kind(
        "bcache",
        SMALL,
        "make-bcache",
        "make-bcache -B $0",
        "a bcache",
    ),
    Kind(
        "GPT",
        SMALL,
        "sfdisk",
        "echo label: gpt | sfdisk -q --no-reread $0",
        "a partition table (gpt)",
    ),
    Kind(
        "DOS",
        SMALL,
        "sfdisk",
        "echo label: dos | sfdisk -q --no-reread $0",
        "a partition table (dos)",
    ),
    Kind(
        "Sun",
        SMALL,
        "sfdisk",
        "echo label: sun | sfdisk -q --no-reread $0",
        "a partition table (sun)",
    ),
    Kind(
        "SGI",
        SMALL,
        "sfdisk",
        "echo label: sgi | sfdisk -q --no-reread $0",
        "a partition table (sgi)",
    ),
    // The kernel of this machine need not know Linux RAID for its superblock to be there.
    Kind(
        "member of a RAID",
        SMALL,
        "printf",
        RAID,
        "a member of a Linux RAID",
    ),
    Kind(
        "byte in the first MiB",
        SMALL,
        "dd",
        "printf x | dd of=$0 bs=1 seek=1048575 conv=notrunc",
        "bytes that are not zero in its first MiB",
    ),
    Kind(
        "byte in the middle MiB",
        SMALL,
        "dd",
        "printf x | dd of=$0 bs=1 seek=33554432 conv=notrunc",
        "bytes that are not zero in its middle MiB",
    ),
    Kind(
        "byte in the last MiB",
        SMALL,
        "dd",
        "printf x | dd of=$0 bs=1 seek=67108863 conv=notrunc",
        "bytes that are not zero in its last MiB",
    ),
];

/// A superblock of version 0.90, which stands 64 KiB before the end of the disk.
const RAID: &str = "printf '\\374\\116\\053\\251\\0\\0\\0\\0\\132\\0\\0\\0\\0\\0\\0\\0' | \
     dd of=$0 bs=65536 seek=1023 conv=notrunc";

#[test]
fn whatever_a_disk_holds_is_sacred() {
    let mut missing: Vec<&str> = Vec::new();
    for Kind(_, size_bytes, tool, script, reason) in CONTENTS {
        if *tool != "printf" && !is_installed(tool) {
            missing.push(tool);
            continue;
        }
        with_disk(*size_bytes, |disk| {
            disk.run("sh", &["-ec", script]);
            disk.is_sacred(reason);
        });
    }
    demand(&missing);
}

/// Tools that are missing have kinds left out, but not where everything must be tried.
#[expect(
    clippy::print_stderr,
    reason = "who runs the test learns what was left out"
)]
fn demand(missing: &[&str]) {
    if missing.is_empty() || !rustix::process::geteuid().is_root() {
        return;
    }
    assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}");
    eprintln!("left out, as these are missing: {missing:?}");
}

/// Runs a shell command when it goes out of scope.
struct Afterwards(String);

impl Drop for Afterwards {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &self.0]).status();
    }
}

/// It is refused, and what a shell command reads of it, with the device as `$0`, stays the same.
fn is_kept(disk: &Disk, [reason, refusal]: [&str; 2], read: &str) {
    let before = output(read, &disk.device);
    let mut talk = disk.talk();
    let fact = disk.look(&mut talk);
    assert!(fact.exists && !fact.blank);
    assert!(fact.occupied_by.contains(reason), "{}", fact.occupied_by);
    let message = talk.refused(Act::PrepareVolume(disk.wanted("ext4")));
    assert!(message.contains(refusal), "{message}");
    talk.end();
    assert_eq!(output(read, &disk.device), before, "not one byte changed");
}

fn output(script: &str, argument: &str) -> String {
    let output = Command::new("sh").args(["-ec", script, argument]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_disk_that_is_used_is_sacred() {
    with_disk(SMALL, |disk| {
        disk.run("mkfs.ext4", &["-q", "-F"]);
        let place = tempfile::tempdir().unwrap();
        let place = place.path().display();
        disk.run("sh", &["-ec", &format!("mount -o ro $0 {place}")]);
        let _unmount = Afterwards(format!("umount {place}"));
        is_kept(disk, ["mounted at ", "unmount it first"], "sha256sum <$0");
    });
    with_disk(SMALL, |disk| {
        disk.run("mkswap", &[]);
        disk.run("swapon", &["--priority", "0"]);
        let _off = Afterwards(format!("swapoff {}", disk.device));
        // The kernel itself may write behind the header.
        is_kept(
            disk,
            ["swapped to", "is left as it is"],
            "head -c 4096 $0 | sha256sum",
        );
    });
    with_disk(SMALL, |disk| {
        let table = "printf 'label: dos\n2048,2048\n' | sfdisk -q --no-reread $0 && partx --add $0";
        disk.run("sh", &["-ec", table]);
        let _drop = Afterwards(format!("partx --delete {}", disk.device));
        is_kept(
            disk,
            ["divided into partitions", "is left as it is"],
            "sha256sum <$0",
        );
    });
}

/// A disk of which the middle cannot be read: a file of a btrfs that no longer has the sum that it
/// was written with.
#[test]
fn a_disk_that_cannot_be_read_is_sacred() {
    if !is_installed("mkfs.btrfs") {
        return demand(&["mkfs.btrfs"]);
    }
    with_disk(MEDIUM, |below| {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let _unmount = Afterwards(format!("umount {place}"));
        let script = format!(
            "mkfs.btrfs -q -f --data single $0
             mount $0 {place}
             dd if=/dev/zero of={place}/disk bs=1M count=64
             printf unreadable-by-now | dd of={place}/disk bs=1M seek=32 conv=notrunc
             umount {place}
             at=$(grep --only-matching --byte-offset --text unreadable-by-now $0 | cut -d: -f1)
             printf x | dd of=$0 bs=1 seek=$at conv=notrunc
             mount $0 {place}"
        );
        below.run("sh", &["-ec", &script]);
        let disk = Disk::over(&folder.path().join("disk"), SMALL).unwrap();
        let read = "dd if=$0 bs=4096 conv=noerror,sync 2>/dev/null | sha256sum";
        is_kept(&disk, ["cannot be read", "is left as it is"], read);
    });
}
