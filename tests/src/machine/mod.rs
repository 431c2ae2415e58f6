//! A whole machine under QEMU, with a kernel, a clock and NVMe disks of its own.
//!
//! Goes in: a lab, whose network and packages the machine has as well. Comes out: a host that
//! answers SSH at its address there. Invariant: when its power is cut, what its kernel had in memory
//! and nobody made last is lost. Nothing of a machine survives its [`Machine`].
//!
//! Its disks have no cache of their own that a cut would lose as well: QEMU 7.2 drops the bit
//! (FUA) by which a journal makes its last block outlive such a cache, and would lose what
//! `fsync` had promised.

mod image;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::Lab;
use crate::output::Output;
use wire::{Agent, Monitor};

const ADAPT: &str = include_str!("adapt.sh");

/// The id of the root disk, in QEMU and as the machine's serial.
const ROOT: &str = "root";

/// The lab's bridge.
const BRIDGE: &str = "br0";

/// How long a machine may take to boot, every instruction of which is emulated.
const BOOTS_WITHIN: Duration = Duration::from_secs(300);

/// The program that is a machine's hardware.
const QEMU: &str = "qemu-system-x86_64";

/// A disk beside the root disk.
#[derive(Debug)]
struct Disk {
    serial: String,
    file: PathBuf,
}

/// What is there while a machine has power.
#[derive(Debug)]
struct Running {
    qemu: Child,
    monitor: Monitor,
    agent: Mutex<Agent>,
}

/// A whole machine.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: String,
    namespace: PathBuf,
    identity: PathBuf,
    /// The file tree of a host of the lab.
    like: PathBuf,
    kernel: PathBuf,
    folder: TempDir,
    disks: Vec<Disk>,
    running: Option<Running>,
}

impl Machine {
    /// A machine with an address in a lab's network, with a fresh system and without power.
    ///
    /// # Panics
    /// It cannot be made, or no host of the lab runs.
    #[must_use]
    pub fn new(lab: &Lab, name: &str, address: &str) -> Self {
        let state = lab.state();
        let path = |key: &str| PathBuf::from(state[key].as_str().expect("a path"));
        let hosts = state["hosts"].as_array().expect("hosts");
        let mut leaders = hosts
            .iter()
            .filter_map(|host| host["power"]["on"]["leader"].as_i64());
        let leader = leaders.next().expect("a host that runs");
        let mut machine = Self {
            name: name.to_owned(),
            address: address.to_owned(),
            namespace: path("namespace"),
            identity: path("identity"),
            like: PathBuf::from(format!("/proc/{leader}/root")),
            kernel: PathBuf::new(),
            folder: tempfile::tempdir().expect("a folder"),
            disks: Vec::new(),
            running: None,
        };
        machine.rebuild();
        let link = machine.link();
        let make =
            format!("ip tuntap add dev {link} mode tap && ip link set {link} master {BRIDGE} up");
        let _ = Output::of(machine.inside().args(["sh", "-c", &make])).success();
        machine
    }

    /// Gives it a fresh system, as after the loss of its root disk; its other disks stay.
    ///
    /// # Panics
    /// It has power.
    pub fn rebuild(&mut self) {
        assert!(!self.is_on(), "{} has power", self.name);
        let image = image::ensure();
        self.kernel = image.join("kernel");
        let copy = ["--sparse=always", "--reflink=auto"];
        let mut command = Command::new("cp");
        command.args(copy).arg(image.join("disk")).arg(self.root());
        let _ = Output::of(&mut command).success();
        let mut adapt = image::own_mounts(ADAPT, &[]);
        adapt.arg(self.root()).arg(self.folder.path());
        adapt.args([&self.name, &self.address]);
        let _ = Output::of(adapt.arg(&self.identity).arg(&self.like)).success();
    }

    fn root(&self) -> PathBuf {
        self.path(ROOT)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its port of the bridge.
    fn link(&self) -> String {
        format!("vm-{}", self.octet())
    }

    fn octet(&self) -> u8 {
        let octet = self
            .address
            .rsplit('.')
            .next()
            .and_then(|octet| octet.parse().ok());
        octet.expect("an IPv4 address")
    }

    /// A program inside the lab's network, which ends with this one.
    fn inside(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", self.namespace.display()));
        command
    }

    /// The public key of its SSH server, as an inventory pins it.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn host_key(&self) -> String {
        let key = fs::read_to_string(self.path("host_key.pub")).expect("a key");
        key.trim().to_owned()
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it has power.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Gives it power, and waits until it has booted.
    pub fn power_on(&mut self) {
        self.start();
        self.await_boot("");
    }

    /// Gives it power.
    ///
    /// # Panics
    /// QEMU does not start.
    pub fn start(&mut self) {
        assert!(!self.is_on(), "{} has power already", self.name);
        let mut command = self.inside();
        command.args([QEMU, "-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "768"]);
        command.arg("-kernel").arg(&self.kernel);
        let parameters = "root=PARTUUID=4d414348-01 rw rootflags=commit=600 console=ttyS0 quiet";
        command.args(["-append", parameters]);
        let console = format!("file:{}", self.path("console").display());
        command.args(["-serial", &console, "-device", "virtio-rng-pci"]);
        let device = format!(
            "virtio-net-pci,netdev=net,mac=52:54:00:4d:00:{:02x}",
            self.octet()
        );
        let net = format!("tap,id=net,ifname={},script=no,downscript=no", self.link());
        command.args(["-netdev", &net, "-device", &device]);
        let agent = socket_option(&self.path("agent"));
        let port = "virtserialport,chardev=agent,name=org.qemu.guest_agent.0";
        command.args(["-chardev", &format!("socket,id=agent,{agent}")]);
        command.args(["-device", "virtio-serial", "-device", port]);
        let monitor = socket_option(&self.path("monitor"));
        command.args(["-chardev", &format!("socket,id=monitor,{monitor}")]);
        command.args(["-mon", "chardev=monitor,mode=control"]);
        let disks = self.disks.iter();
        let disks = disks.map(|disk| (disk.serial.as_str(), disk.file.clone()));
        let root = [(ROOT, self.root())];
        for (number, (serial, file)) in root.into_iter().chain(disks).enumerate() {
            let node = node(number);
            command.args(["-blockdev", &blockdev(&node, &file).to_string()]);
            command.args(["-device", &nvme(&node, serial).to_string()]);
        }
        for socket in ["agent", "monitor"] {
            let _ = fs::remove_file(self.path(socket));
        }
        command.stdin(Stdio::null());
        let qemu = command.spawn().expect("QEMU");
        self.running = Some(self.connect(qemu));
    }

    fn connect(&self, mut qemu: Child) -> Running {
        let begun = Instant::now();
        let monitor = loop {
            if let Ok(monitor) = Monitor::connect(&self.path("monitor")) {
                break monitor;
            }
            let ended = qemu.try_wait().expect("QEMU's state");
            assert!(ended.is_none(), "QEMU ended: {ended:?}");
            assert!(begun.elapsed() < BOOTS_WITHIN, "QEMU has no monitor");
            std::thread::sleep(Duration::from_millis(50));
        };
        Running {
            qemu,
            monitor,
            agent: Mutex::new(Agent::connect(&self.path("agent"))),
        }
    }

    /// Waits until it has booted, into another boot than this one.
    ///
    /// # Panics
    /// It does not boot; the message has the end of what its console showed.
    #[track_caller]
    pub fn await_boot(&self, other_than: &str) {
        let begun = Instant::now();
        let settled = "systemctl is-system-running --wait >/dev/null; \
            systemctl is-active --quiet ssh && cat /proc/sys/kernel/random/boot_id";
        loop {
            let boot = self.with_agent(|agent| {
                let answers = agent.answers(Duration::from_secs(1));
                answers.then(|| agent.run(settled).ok()).flatten()
            });
            if boot.is_some_and(|boot| boot.code == 0 && boot.stdout.trim() != other_than) {
                return;
            }
            if begun.elapsed() > BOOTS_WITHIN {
                let console = fs::read(self.path("console")).unwrap_or_default();
                let console = String::from_utf8_lossy(&console);
                let shown: Vec<&str> = console.lines().rev().take(20).collect();
                panic!("{} does not boot: {shown:#?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Reboots it from inside, and waits until it has booted again.
    #[track_caller]
    pub fn reboot(&self) {
        let boot = self.run("cat /proc/sys/kernel/random/boot_id").success();
        // By systemd and a moment later, as whoever is asked ends with the boot.
        let _ = self
            .run("systemd-run --quiet --on-active=1s systemctl reboot")
            .success();
        self.await_boot(boot.stdout.trim());
    }

    /// Takes its power away, from one instruction to the next.
    ///
    /// # Panics
    /// It has none.
    pub fn cut_power(&mut self) {
        let running = self.running.take();
        let mut qemu = running.expect("a machine with power").qemu;
        qemu.kill().expect("QEMU to be killed");
        let _ = qemu.wait();
    }

    /// Puts a blank NVMe disk into it, also while it runs.
    ///
    /// # Panics
    /// QEMU refuses.
    pub fn attach(&mut self, serial: &str, bytes: u64) {
        let file = self.path(&format!("disk-{serial}"));
        let made = fs::File::create(&file).and_then(|file| file.set_len(bytes));
        made.expect("a disk");
        let node = node(self.disks.len() + 1);
        if let Some(running) = &mut self.running {
            let _ = running.monitor.ask("blockdev-add", &blockdev(&node, &file));
            let _ = running.monitor.ask("device_add", &nvme(&node, serial));
        }
        let serial = serial.to_owned();
        self.disks.push(Disk { serial, file });
    }

    /// Runs a script of `sh` as root, without its network and its sshd.
    ///
    /// # Panics
    /// It has no power, or does not answer.
    #[must_use]
    #[track_caller]
    pub fn run(&self, script: &str) -> Output {
        let output = self.with_agent(|agent| agent.run(script));
        output.unwrap_or_else(|error| panic!("{}: {script}: {error}", self.name))
    }

    fn with_agent<T>(&self, ask: impl FnOnce(&mut Agent) -> T) -> T {
        let running = self.running.as_ref().expect("a machine with power");
        let mut agent = running.agent.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut agent)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.is_on() {
            self.cut_power();
        }
        let link = self.link();
        let _ = Output::of(self.inside().args(["ip", "link", "delete", &link]));
    }
}

fn socket_option(path: &Path) -> String {
    format!("path={},server=on,wait=off", path.display())
}

/// The name of a block device in QEMU.
fn node(number: usize) -> String {
    format!("disk{number}")
}

/// A file as a block device.
fn blockdev(node: &str, file: &Path) -> Value {
    json!({ "driver": "file", "node-name": node, "filename": file })
}

/// The device that shows a block device to the machine.
fn nvme(node: &str, serial: &str) -> Value {
    json!({ "driver": "nvme", "id": format!("nvme-{node}"), "drive": node, "serial": serial })
}
