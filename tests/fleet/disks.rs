//! Disks are sacred: only a blank one is formatted, and every other one stays byte for byte.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use fleet_tests::{Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "disks::a_device_that_is_not_blank_is_refused_and_stays_byte_for_byte",
        needs: &[Requirement::Root],
        run: a_device_that_is_not_blank_is_refused_and_stays_byte_for_byte,
    },
    Test {
        name: "disks::a_blank_device_becomes_a_volume_once",
        needs: &[Requirement::Root],
        run: a_blank_device_becomes_a_volume_once,
    },
    Test {
        name: "disks::a_volume_is_not_made_again_with_another_file_system",
        needs: &[Requirement::Root],
        run: a_volume_is_not_made_again_with_another_file_system,
    },
];

/// How large a disk is: small enough to be read whole.
const DISK_BYTES: u64 = 16 << 20;

/// The same where xfs is made, which takes no smaller one.
const XFS_DISK_BYTES: u64 = 320 << 20;

/// What stands on a disk, how it comes there, and what is said of it.
struct Occupied {
    disk: &'static str,
    write: Write,
    reason: &'static str,
}

/// How something comes to a disk.
enum Write {
    /// A command on the host, which gets the device at its end.
    Command(&'static str),
    /// Bytes at offsets.
    Bytes(fn() -> Vec<(u64, Vec<u8>)>),
    /// Nothing: the inventory says another size.
    Nothing,
}

const OCCUPIED: &[Occupied] = &[
    Occupied {
        disk: "ext4",
        write: Write::Command("mkfs.ext4 -q"),
        reason: "is not blank: an ext4 file system (UUID ",
    },
    Occupied {
        disk: "xfs",
        write: Write::Command("mkfs.xfs -q"),
        reason: "is not blank: an xfs file system (UUID ",
    },
    Occupied {
        disk: "swap",
        write: Write::Command("mkswap"),
        reason: "is not blank: swap space (UUID ",
    },
    Occupied {
        disk: "lvm",
        write: Write::Bytes(lvm_label),
        reason: "is not blank: an LVM2 physical volume (UUID ",
    },
    Occupied {
        disk: "luks",
        write: Write::Bytes(luks_header),
        reason: "is not blank: a LUKS container (UUID ",
    },
    Occupied {
        disk: "table",
        write: Write::Bytes(partition_table),
        reason: "is not blank: a partition table (dos)",
    },
    Occupied {
        disk: "first",
        write: Write::Bytes(|| vec![((1 << 20) - 1, vec![1])]),
        reason: "is not blank: bytes that are not zero in its first MiB",
    },
    Occupied {
        disk: "middle",
        write: Write::Bytes(|| vec![(DISK_BYTES / 2, vec![1])]),
        reason: "is not blank: bytes that are not zero in its middle MiB",
    },
    Occupied {
        disk: "last",
        write: Write::Bytes(|| vec![(DISK_BYTES - 1, vec![1])]),
        reason: "is not blank: bytes that are not zero in its last MiB",
    },
    Occupied {
        disk: "larger",
        write: Write::Nothing,
        reason: "has 16777216 bytes, the inventory says 500GiB (536870912000 bytes)",
    },
];

fn a_device_that_is_not_blank_is_refused_and_stays_byte_for_byte(_: &Lab) {
    let lab = bring_up();
    let _ = lab.ssh("disk-1", "apt-get install -qq -y xfsprogs");
    let state = lab.state();
    for (number, occupied) in OCCUPIED.iter().enumerate() {
        match occupied.write {
            Write::Command(command) => {
                let _ = lab.ssh("disk-1", &format!("{command} {}", device(number)));
            }
            Write::Bytes(bytes) => write(&disk(&state, occupied.disk, "loop_device"), &bytes()),
            Write::Nothing => {}
        }
    }
    let _ = lab.ssh("disk-1", "sync");
    describe_by_hand(lab.project(), &state);
    let files: Vec<String> = state["hosts"][0]["volumes"]
        .as_array()
        .expect("volumes")
        .iter()
        .map(|volume| volume["backing_file"].as_str().expect("a file").to_owned())
        .collect();
    let before = hashes(&files);
    // A disk is refused also behind a change whose result is not known before it is made.
    let first = "[[play.resource]]\npackage = { name = \"haproxy\" }\n";
    let _playbook = lab
        .project()
        .write("playbooks/disks.toml", &playbook(first));
    lab.expect_unchanged(|| {
        for command in ["apply", "plan"] {
            check_refusals(&lab, &run(&lab, command, 1));
        }
    });
    assert_eq!(before, hashes(&files), "a disk has changed");
    let _ = lab.ssh("disk-1", "! grep -q UUID /etc/fstab && ! ls -d /mnt/*");
}

/// Every disk is refused with its reason and place, but for the blank one.
#[track_caller]
fn check_refusals(lab: &Lab, output: &Output) {
    let text = std::fs::read_to_string(lab.project().path("inventories/disks.toml"));
    let text = text.expect("an inventory");
    for occupied in OCCUPIED {
        let disk = occupied.disk;
        let begins = format!("cause: disk-1: volume {disk}: ");
        let line = output.stderr.lines().find(|line| line.contains(&begins));
        let line = line.unwrap_or_else(|| panic!("`{begins}` in\n{}", output.describe()));
        let place = text
            .lines()
            .position(|line| line.contains(&format!(".{disk}]")));
        let place = format!("inventories/disks.toml:{}:", place.expect("a line") + 1);
        for part in [occupied.reason, " (described at ", &place] {
            assert!(line.contains(part), "`{part}` in\n{line}");
        }
    }
    let blank = output.stderr.contains("volume blank");
    assert!(!blank, "{}", output.describe());
    let _ = output.clone().says(&[
        "refused; nothing was changed on any host",
        "it was not touched",
        "correct `size`, or the serial: this may be another disk",
    ]);
}

fn a_blank_device_becomes_a_volume_once(_: &Lab) {
    let lab = bring_up();
    let state = lab.state();
    describe_by_hand(lab.project(), &state);
    let tools = "[[play.resource]]\npackage = { name = \"xfsprogs\" }\n";
    let blank = format!(
        "[[play]]\nhosts = \"disks\"\n{tools}\
         [[play.resource]]\nvolume = {{ name = \"blank\" }}\n"
    );
    let _playbook = lab.project().write("playbooks/disks.toml", &blank);
    let _ = run(&lab, "plan", 2).says(&[
        "format volume blank",
        "cannot be rolled back",
        "filesystem: xfs, 320MiB",
        "mount: /mnt/blank",
    ]);
    let _ = run(&lab, "apply", 0).says(&["disk-1: 2 changes"]);
    let uuid = lab.ssh(
        "disk-1",
        "findmnt -no UUID /mnt/blank || blkid -o value -s UUID $(findmnt -no SOURCE /mnt/blank)",
    );
    let mounted = lab.ssh("disk-1", "findmnt -no FSTYPE,OPTIONS /mnt/blank");
    assert!(
        mounted.starts_with("xfs ") && mounted.contains("noatime"),
        "{mounted}"
    );
    let line = lab.ssh("disk-1", "grep ' /mnt/blank ' /etc/fstab");
    let expected = format!(
        "UUID={} /mnt/blank xfs defaults,nofail,noatime 0 2",
        uuid.trim()
    );
    assert_eq!(line.trim(), expected);
    let _ = lab.ssh("disk-1", "echo kept > /mnt/blank/file && sync");

    lab.expect_unchanged(|| {
        let _ = run(&lab, "plan", 0);
        let _ = run(&lab, "apply", 0).says(&["disk-1: unchanged"]);
    });

    // A host that starts again finds its volume by the line in its table, or by another run.
    let _ = lab.ssh("disk-1", "umount /mnt/blank");
    let _ = run(&lab, "plan", 2).says(&["mount volume blank"]);
    let _ = run(&lab, "apply", 0);
    let kept = lab.ssh("disk-1", "cat /mnt/blank/file");
    assert_eq!(kept, "kept\n");
}

fn a_volume_is_not_made_again_with_another_file_system(lab: &Lab) {
    let project = lab.project();
    let _edit = project.edit(
        "inventories/lab.toml",
        "filesystem = \"ext4\"",
        "filesystem = \"xfs\"",
    );
    lab.expect_unchanged(|| {
        let arguments = ["apply", "--env", "development", "--yes"];
        let _ = project.provision(&arguments).expect_code(1).says(&[
            "storage-1: volume data: ",
            "holds ext4, the inventory says xfs (described at inventories/lab.toml:",
            "correct `filesystem`: what holds data is never formatted",
        ]);
    });
}

/// A lab of its own, with a host that has a disk for each case.
fn bring_up() -> Lab {
    let lab = std::env::var("FLEET_LAB").unwrap_or_else(|_| "test".to_owned());
    let project = Project::new(&format!("{lab}-d"));
    let path = project.path("inventories/lab.toml");
    let text = std::fs::read_to_string(&path).expect("an inventory");
    // The packages are those of the other lab, so that they are fetched once.
    let (head, _) = text.split_once("[groups").expect("groups");
    let mut inventory =
        format!("{head}[groups.disks.hosts]\ndisk-1 = {{ address = \"10.77.0.41\" }}\n");
    for (number, name) in names().enumerate() {
        inventory += &format!(
            "[groups.disks.volumes.{name}]\nsize = \"{}\"\nmount = \"/mnt/{name}\"\n\
             device = \"{}\"\n",
            size_bytes(name),
            device(number)
        );
    }
    std::fs::write(path, inventory).expect("an inventory");
    let lab = Lab::new(project);
    let _ = lab.project().provision(&["lab", "down"]);
    let _ = lab.project().provision(&["lab", "up"]).success();
    lab
}

/// All disks, the blank one last.
fn names() -> impl Iterator<Item = &'static str> {
    OCCUPIED
        .iter()
        .map(|occupied| occupied.disk)
        .chain(["blank"])
}

fn size_bytes(name: &str) -> u64 {
    match name {
        "xfs" | "blank" => XFS_DISK_BYTES,
        _ => DISK_BYTES,
    }
}

/// Where the host has a disk.
fn device(number: usize) -> String {
    let letter = char::from(b'b' + u8::try_from(number).expect("few disks"));
    format!("/dev/sd{letter}")
}

/// Describes the host as a machine that is there already, so that what the inventory says of a
/// disk is free.
fn describe_by_hand(project: &Project, state: &serde_json::Value) {
    let host = &state["hosts"][0];
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let mut inventory = format!(
        "provider = \"on-prem\"\n[ssh]\nuser = \"root\"\nidentity = \"{}\"\nproxy_command = \"{}\"\n",
        text(&state["identity"]),
        text(&state["proxy_command"]),
    );
    for name in names() {
        let size = match name {
            "larger" => "500GiB".to_owned(),
            name => size_bytes(name).to_string(),
        };
        let filesystem = if name == "blank" { "xfs" } else { "ext4" };
        inventory += &format!(
            "[groups.disks.volumes.{name}]\nsize = \"{size}\"\nfilesystem = \"{filesystem}\"\n\
             mount = \"/mnt/{name}\"\noptions = [\"noatime\"]\n"
        );
    }
    inventory += &format!(
        "[groups.disks.hosts.disk-1]\naddress = \"{}\"\nhost_key = \"{}\"\n",
        text(&host["address"]),
        text(&host["host_key"])
    );
    for name in names() {
        let file = disk(state, name, "backing_file");
        inventory += &format!("volumes.{name}.backing_file = \"{file}\"\n");
    }
    let environment = "inventories = [\"disks\"]\ntier = \"small\"\nplaybook = \"disks\"\n";
    std::fs::write(project.path("inventories/disks.toml"), inventory).expect("an inventory");
    std::fs::write(project.path("environments/disks.toml"), environment).expect("an environment");
}

/// What the lab says of a disk.
fn disk(state: &serde_json::Value, name: &str, key: &str) -> String {
    let volumes = state["hosts"][0]["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|volume| volume["name"] == name);
    let value = volume.expect("a volume")[key].as_str();
    value.expect("a path").to_owned()
}

/// A play for all disks, with something before them.
fn playbook(first: &str) -> String {
    let volumes: String = names()
        .map(|name| format!("[[play.resource]]\nvolume = {{ name = \"{name}\" }}\n"))
        .collect();
    format!("[[play]]\nhosts = \"disks\"\n{first}{volumes}")
}

#[track_caller]
fn run(lab: &Lab, command: &str, code: i32) -> Output {
    let mut arguments = vec![command, "--env", "disks"];
    if command == "apply" {
        arguments.push("--yes");
    }
    lab.project().provision(&arguments).expect_code(code)
}

/// The hash of each file.
fn hashes(files: &[String]) -> BTreeMap<String, String> {
    let output = Output::of(Command::new("sha256sum").args(files)).success();
    let lines = output.stdout.lines();
    lines
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, file)| (file.to_owned(), hash.to_owned()))
        .collect()
}

/// Writes bytes to a device.
fn write(device: &str, bytes: &[(u64, Vec<u8>)]) {
    let file = OpenOptions::new().write(true).open(device);
    let file = file.unwrap_or_else(|error| panic!("{device}: {error}"));
    for (offset, bytes) in bytes {
        file.write_all_at(bytes, *offset).expect("a write");
    }
    file.sync_all().expect("a write");
}

/// The label of an LVM2 physical volume: a sector that names its kind, with a checksum, and the
/// volume's id. `pvcreate` writes it to the second sector.
fn lvm_label() -> Vec<(u64, Vec<u8>)> {
    const SECTOR: u64 = 512;
    let mut label = vec![0; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1_u64.to_le_bytes());
    label[20..24].copy_from_slice(&32_u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z");
    label[64..72].copy_from_slice(&DISK_BYTES.to_le_bytes());
    // LVM's CRC begins with a number of its own, and covers what follows it.
    let checksum = label[20..].iter().fold(0xf597_a6cf_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    label[16..20].copy_from_slice(&checksum.to_le_bytes());
    vec![(SECTOR, label)]
}

/// The binary header of LUKS2, as `cryptsetup luksFormat` begins it.
fn luks_header() -> Vec<(u64, Vec<u8>)> {
    let mut header = vec![0; 4096];
    header[..6].copy_from_slice(b"LUKS\xba\xbe");
    header[6..8].copy_from_slice(&2_u16.to_be_bytes());
    header[8..16].copy_from_slice(&16_384_u64.to_be_bytes());
    header[16..24].copy_from_slice(&1_u64.to_be_bytes());
    header[72..78].copy_from_slice(b"sha256");
    header[168..204].copy_from_slice(b"5f0c1a3e-7a51-4c0f-9b62-0d6f3c2b1a90");
    vec![(0, header)]
}

/// A partition table of the oldest kind, with one partition of Linux.
fn partition_table() -> Vec<(u64, Vec<u8>)> {
    let mut sector = vec![0; 512];
    sector[440..444].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&2048_u32.to_le_bytes());
    sector[458..462].copy_from_slice(&10_000_u32.to_le_bytes());
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    vec![(0, sector)]
}
