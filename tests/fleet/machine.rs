//! A whole machine: an NVMe disk that is known by its serial, through reboots and power cuts.
//!
//! Goes in: a machine under QEMU beside the lab's hosts. Comes out: a verdict. Invariant: disks are
//! looked at from inside the machine, never through what is tested.

use std::process::{Command, Stdio};

use fleet_tests::{Edit, Lab, Machine, Output, Requirement};

use crate::Test;
use crate::failure::wait_for;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "machine::an_nvme_disk_is_known_by_its_serial_also_after_a_reboot_and_a_rebuild",
    needs: &[Requirement::Root, Requirement::Machine],
    run: an_nvme_disk_is_known_by_its_serial,
}];

const NAME: &str = "whole-1";
/// As EC2 writes a volume's id in its console.
const WANTED: &str = "vol-0abc123def456789a";
/// As the disk shows it.
const SERIAL: &str = "vol0abc123def456789a";
/// A disk that differs in nothing else.
const OTHER: &str = "vol0abc123def456789b";
const DISK_BYTES: u64 = 32 << 20;

const VOLUME: &str = "[groups.storage.volumes.data]\nsize = \"32MiB\"\nmount = \"/mnt/data\"\n";

const PLAYBOOK: &str = "[[play]]\nhosts = \"storage\"\n\
    [[play.resource]]\nvolume = { name = \"data\" }\n";

fn an_nvme_disk_is_known_by_its_serial(lab: &Lab) {
    let mut machine = Machine::new(lab, NAME, "10.77.0.41");
    let _project = describe(lab, &machine);
    machine.power_on();
    let absent = format!("no block device is serial:{WANTED}");
    let _ = run(lab, "apply", 1).says(&[&absent, "nothing was changed on any host"]);

    attach(&mut machine, OTHER);
    let hash = format!("sha256sum < {}", node(OTHER));
    let before = on(&machine, &hash);
    let _ = run(lab, "apply", 1).says(&[&absent, "nothing was changed on any host"]);

    attach(&mut machine, SERIAL);
    let _ = run(lab, "plan", 2).says(&["format volume data", "filesystem: ext4, 32MiB"]);
    lose_power_while_formatting(lab, &mut machine);
    let _ = run(lab, "apply", 0);
    let volume = mounted(&machine);
    let _ = on(&machine, "echo kept > /mnt/data/file && sync");
    let _ = run(lab, "apply", 0).says(&["whole-1: unchanged"]);

    machine.reboot();
    assert_eq!(mounted(&machine), volume, "after the reboot");
    assert_eq!(on(&machine, "cat /mnt/data/file"), "kept\n");
    let _ = run(lab, "apply", 0).says(&["whole-1: unchanged"]);
    assert_eq!(on(&machine, &hash), before, "the other disk has changed");

    let _ = on(&machine, "echo lost > /mnt/data/lost");
    machine.cut_power();
    machine.rebuild();
    machine.power_on();
    let _ = on(&machine, "! mountpoint -q /mnt/data");
    let _ = run(lab, "plan", 2).says(&["mount volume data"]);
    let _ = run(lab, "apply", 0);
    assert_eq!(mounted(&machine), volume, "after the rebuild");
    assert_eq!(on(&machine, "cat /mnt/data/file"), "kept\n");
    // A cut is one: what was not synced is not there.
    let _ = on(&machine, "! grep lost /mnt/data/lost");
    let _ = run(lab, "apply", 0).says(&["whole-1: unchanged"]);
}

/// Begins to format the volume, and has machine and controller lose power as soon as the intent to
/// do so is written down.
fn lose_power_while_formatting(lab: &Lab, machine: &mut Machine) {
    let _ = on(machine, "! ls -A /var/lib/provision/intents | grep .");
    let mut run = command(lab, "apply");
    run.stdin(Stdio::null()).stdout(Stdio::null());
    let mut run = run.stderr(Stdio::null()).spawn().expect("provision");
    // Inside, as it does not stand long.
    let begun = "timeout 120 sh -c 'until ls -A /var/lib/provision/intents | grep .; do :; done'";
    let _ = on(machine, begun);
    machine.cut_power();
    run.kill().expect("a run to be killed");
    run.wait().expect("a run to end");
    machine.power_on();
}

/// Describes the machine as one that is there already.
fn describe(lab: &Lab, machine: &Machine) -> [Edit; 3] {
    let state = lab.state();
    let text = |key: &str| state[key].as_str().expect("a text").to_owned();
    let inventory = format!(
        "provider = \"on-prem\"\n[ssh]\nuser = \"root\"\nidentity = \"{}\"\n\
         proxy_command = \"{}\"\nconnect_timeout = \"60s\"\n{VOLUME}\
         [groups.storage.hosts.{NAME}]\naddress = \"{}\"\nhost_key = \"{}\"\n\
         volumes.data.serial = \"{WANTED}\"\n",
        text("identity"),
        text("proxy_command"),
        machine.address(),
        machine.host_key(),
    );
    let environment = "inventories = [\"machine\"]\ntier = \"small\"\nplaybook = \"machine\"\n";
    let project = lab.project();
    [
        project.write("inventories/machine.toml", &inventory),
        project.write("environments/machine.toml", environment),
        project.write("playbooks/machine.toml", PLAYBOOK),
    ]
}

fn command(lab: &Lab, command: &str) -> Command {
    let mut arguments = vec![command, "--env", "machine"];
    if command == "apply" {
        arguments.push("--yes");
    }
    lab.project().command(&arguments)
}

#[track_caller]
fn run(lab: &Lab, verb: &str, code: i32) -> Output {
    Output::of(&mut command(lab, verb)).expect_code(code)
}

#[track_caller]
fn on(machine: &Machine, script: &str) -> String {
    machine.run(script).success().stdout
}

/// The name that udev gives a disk of this serial.
fn node(serial: &str) -> String {
    format!("/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{serial}")
}

/// Puts a disk into the machine that runs, and waits until it is seen.
#[track_caller]
fn attach(machine: &mut Machine, serial: &str) {
    machine.attach(serial, DISK_BYTES);
    let node = node(serial);
    wait_for("the disk to be seen", || {
        machine.run(&format!("test -b {node}")).code == 0
    });
}

/// The UUID of what is mounted, which must be the disk with the serial.
#[track_caller]
fn mounted(machine: &Machine) -> String {
    let source = on(machine, "findmnt -no SOURCE /mnt/data");
    let disk = on(machine, &format!("readlink -f {}", node(SERIAL)));
    assert_eq!(source.trim(), disk.trim());
    on(machine, &format!("blkid -o value -s UUID {}", node(SERIAL)))
}
