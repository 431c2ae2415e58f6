//! The hosts of the matrix: a balancer and two gateways, in a lab of their own; some of them may be
//! whole machines in its network.
//!
//! Goes in: the number of a version. Comes out: a project that asks for it, and what each host has
//! of it. Invariant: hosts are looked at through their namespaces or by the agent of a machine, so
//! that neither a cut network nor a stopped sshd hides them, and never through what is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleet_tests::{Lab, Machine, Output, Project};
use serde_json::Value;

pub(super) const BALANCER: &str = "lb-1";
/// The gateway in whose turn faults are fired; the play takes it first.
pub(super) const FIRST: &str = "gateway-1";
pub(super) const GATEWAYS: [&str; 2] = [FIRST, "gateway-2"];
const HOSTS: [(&str, &str); 3] = [
    (BALANCER, "10.77.0.11"),
    (FIRST, "10.77.0.21"),
    ("gateway-2", "10.77.0.22"),
];

const ENVIRONMENT: &str = "faults";
const PAYLOAD_BYTES: usize = 4 << 20;
const DATA_BYTES: u64 = 64 << 20;
/// The serial of the data volume of a gateway that is a whole machine.
const DATA_SERIAL: &str = "vol0123456789abcdef0";
/// How long a host may take for anything that is waited for.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a gateway has, as `key → value`.
pub(super) type Seen = BTreeMap<String, String>;

pub(super) struct Site {
    /// The hosts that are whole machines; they end before the lab whose network they use.
    machines: BTreeMap<&'static str, Machine>,
    pub(super) lab: Lab,
    /// Where each host's file tree and first process are.
    state: Value,
    version: u32,
    /// The hash of the payload of each version.
    payloads: BTreeMap<u32, String>,
}

impl Site {
    /// Brings the lab up, with these hosts as whole machines, and all to the first version.
    pub(super) fn bring_up(whole: &BTreeSet<&'static str>) -> Self {
        let lab = Lab::new(project(whole));
        let _ = lab.project().provision(&["lab", "down"]);
        let _ = lab.project().provision(&["lab", "up"]).success();
        let state = lab.state();
        let mut machines = BTreeMap::new();
        for host in whole {
            let mut machine = Machine::new(&lab, host, Self::address(host));
            if GATEWAYS.contains(host) {
                machine.attach(DATA_SERIAL, DATA_BYTES);
            }
            machine.start();
            machines.insert(*host, machine);
        }
        let mut site = Self {
            machines,
            lab,
            state,
            version: 0,
            payloads: BTreeMap::new(),
        };
        for machine in site.machines.values() {
            machine.await_boot("");
        }
        for (host, _) in HOSTS {
            site.prepare(host);
        }
        site.describe();
        site.next_version();
        let _ = site.apply(&[]).success();
        for host in GATEWAYS {
            let _ = site.on(host, "head -c 1M /dev/urandom > /mnt/data/theirs; sync");
        }
        site
    }

    fn prepare(&self, host: &str) {
        let folders = match host {
            BALANCER => "/var/lib/provision /var/lib/haproxy",
            _ => "/var/lib/provision /opt/faults",
        };
        // What is filled and made read-only elsewhere is a folder of the root disk here.
        let setup = if self.machines.contains_key(host) {
            format!("set -eu; mkdir -p {folders} /run/faults; chmod 0700 /var/lib/provision")
        } else {
            include_str!("setup.sh")
                .replace("DEVICE", "/dev/sdg")
                .replace("FOLDERS", folders)
        };
        let hold = include_str!("hold.sh");
        let script = format!(
            "{setup}\ncat >/usr/local/sbin/hold <<'HOLD'\n{hold}HOLD\n\
             chmod 755 /usr/local/sbin/hold; sync"
        );
        let _ = self.on(host, &script);
    }

    /// Describes the hosts as machines that are there already, each behind a link that can stall.
    fn describe(&self) {
        let project = self.lab.project();
        let text = |name: &str| self.state[name].as_str().expect("a text").to_owned();
        let through = project.path("through");
        std::fs::write(&through, include_str!("through.sh")).expect("a script");
        let mut inventory = format!(
            "provider = \"on-prem\"\n[ssh]\nuser = \"root\"\nidentity = \"{}\"\n\
             connect_timeout = \"{}\"\nreconnect_within = \"5s\"\n\
             proxy_command = \"sh {} {} {} %h %p\"\n\
             [groups.gateways.volumes.data]\nsize = \"64MiB\"\nmount = \"/mnt/data\"\n",
            text("identity"),
            self.patience("3s", "20s"),
            through.display(),
            project.path("").display(),
            text("namespace"),
        );
        for (name, address) in HOSTS {
            let group = if name == BALANCER {
                "balancers"
            } else {
                "gateways"
            };
            inventory += &format!(
                "[groups.{group}.hosts.{name}]\naddress = \"{address}\"\nhost_key = \"{}\"\n",
                self.host_key(name)
            );
            if group == "gateways" {
                inventory += &format!("volumes.data.{}\n", self.identity(name));
            }
        }
        let environment = "inventories = [\"faults\"]\ntier = \"small\"\nplaybook = \"faults\"\n\
             [artifacts.payload]\npath = \"payload\"\n";
        let write = |path: &str, text: &str| {
            let path = project.path(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file of the project");
        };
        write("inventories/faults.toml", &inventory);
        write("environments/faults.toml", environment);
        write(
            "templates/faults/answer.service.hbs",
            include_str!("answer.service.hbs"),
        );
        write("templates/faults/answer.tera", include_str!("answer.pl"));
        write(
            "templates/faults/haproxy.cfg.tera",
            include_str!("haproxy.cfg"),
        );
    }

    /// How long something may take, as machines whose every instruction is emulated are slower.
    fn patience<'a>(&self, hosts: &'a str, machines: &'a str) -> &'a str {
        if self.machines.is_empty() {
            hosts
        } else {
            machines
        }
    }

    fn host_key(&self, host: &str) -> String {
        let listed = || self.listed(host)["host_key"].as_str().map(str::to_owned);
        let machine = self.machines.get(host).map(Machine::host_key);
        machine.or_else(listed).expect("a key")
    }

    /// What the data volume of a gateway is known by.
    fn identity(&self, host: &str) -> String {
        if self.machines.contains_key(host) {
            return format!("serial = \"{DATA_SERIAL}\"");
        }
        let volumes = self.listed(host)["volumes"].as_array().expect("volumes");
        let data = volumes.iter().find(|volume| volume["name"] == "data");
        let file = data.expect("a volume")["backing_file"].as_str();
        format!("backing_file = \"{}\"", file.expect("a file"))
    }

    /// The version that the project asks for.
    pub(super) const fn version(&self) -> u32 {
        self.version
    }

    /// Has the project ask for another version of everything.
    pub(super) fn next_version(&mut self) {
        self.version += 1;
        let project = self.lab.project();
        let playbook = include_str!("playbook.toml")
            .replace("VERSION", &self.version.to_string())
            .replace("HEALTHY", self.patience("5s", "30s"));
        std::fs::write(project.path("playbooks/faults.toml"), playbook).expect("a playbook");
        let payload = project.path("payload");
        let made = Command::new("sh")
            .args(["-c", "head -c \"$1\" /dev/urandom > \"$2\"", "sh"])
            .arg(PAYLOAD_BYTES.to_string())
            .arg(&payload)
            .status();
        assert!(made.expect("sh").success());
        let hash = Output::of(Command::new("sha256sum").arg(&payload)).success();
        let hash = hash.stdout.split_whitespace().next().expect("a hash");
        self.payloads.insert(self.version, hash.to_owned());
    }

    fn command(&self, more: &[&str]) -> Command {
        let arguments = ["apply", "--env", ENVIRONMENT, "--yes", "--output", "json"];
        self.lab.project().command(&[&arguments[..], more].concat())
    }

    /// A whole run.
    pub(super) fn apply(&self, more: &[&str]) -> Output {
        Output::of(&mut self.command(more))
    }

    /// A run in the background.
    pub(super) fn begin(&self) -> Child {
        let mut command = self.command(&[]);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("provision")
    }

    /// Takes the power of a whole machine away.
    pub(super) fn cut_power(&mut self, host: &str) {
        let machine = self.machines.get_mut(host);
        machine.expect("a whole machine").cut_power();
    }

    /// Gives it back, and waits until the machine has booted.
    pub(super) fn restore_power(&mut self, host: &str) {
        let machine = self.machines.get_mut(host);
        machine.expect("a whole machine").power_on();
    }

    /// A command of `provision lab`.
    pub(super) fn power(&mut self, verb: &str, host: &str) {
        let output = self.lab.project().provision(&["lab", verb, host]);
        let _ = output.success();
        self.state = self.lab.state();
    }

    /// Runs a script on a host that is on, without its network and its sshd.
    #[track_caller]
    pub(super) fn on(&self, host: &str, script: &str) -> String {
        self.try_on(host, script).success().stdout
    }

    /// The same, where it may fail.
    pub(super) fn try_on(&self, host: &str, script: &str) -> Output {
        if let Some(machine) = self.machines.get(host) {
            return machine.run(script);
        }
        let leader = &self.listed(host)["power"]["on"]["leader"];
        let leader = leader.as_i64().expect("a host that is on").to_string();
        let mut command = Command::new("nsenter");
        command.args([
            "-t", &leader, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--",
        ]);
        Output::of(command.args(["/bin/sh", "-c", script]))
    }

    /// Whether a host has power.
    pub(super) fn is_on(&self, host: &str) -> bool {
        let listed = || self.listed(host)["power"]["on"].is_object();
        self.machines.get(host).map_or_else(listed, Machine::is_on)
    }

    /// Whether somebody gets in over SSH.
    pub(super) fn lets_in(&self, host: &str) -> bool {
        let active = "systemctl is-active --quiet ssh";
        match self.machines.get(host) {
            Some(machine) => machine.run(active).code == 0,
            None => self.lab.try_ssh(host, "true").code == 0,
        }
    }

    fn listed(&self, host: &str) -> &Value {
        let hosts = self.state["hosts"].as_array().expect("hosts");
        let found = hosts.iter().find(|one| one["name"] == host);
        found.expect("a host of the lab")
    }

    /// The address of a host.
    pub(super) fn address(host: &str) -> &'static str {
        let found = HOSTS.iter().find(|(name, _)| *name == host);
        found.expect("a host").1
    }

    /// The file that makes the link to a host stall.
    pub(super) fn stall(&self, host: &str) -> PathBuf {
        let name = format!("stall-{}", Self::address(host));
        self.lab.project().path(&name)
    }

    /// The hash of the payload that the project asks for.
    pub(super) fn payload(&self) -> &str {
        &self.payloads[&self.version]
    }

    /// What a gateway has. A host that is off has what its file tree has.
    pub(super) fn look(&self, host: &str) -> Seen {
        let look = "say() { printf '%s|%s\\n' \"$1\" \"$(cat)\"; }; cd /opt/faults; \
            cat first | say first; cat second | say second; \
            sha256sum < payload | cut -d' ' -f1 | say payload; \
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 \
            && tail -1 <&3' 2>/dev/null | say served; \
            systemctl show -p InvocationID --value answer | say invocation; \
            stat -c '%i %Z' first second payload /usr/local/bin/answer \
            /etc/systemd/system/answer.service | tr '\\n' ' ' | say inodes; \
            blkid -o value -s UUID \"$(findmnt -no SOURCE /mnt/data)\" | say volume-uuid; \
            sha256sum < /mnt/data/theirs | say volume-content; \
            stat -c '%i %Z %Y' /mnt/data/theirs /mnt/data/lost+found | tr '\\n' ' ' | say volume-inodes; \
            ls -A /opt/faults | grep '^[.]' | tr '\\n' ' ' | say half-files; \
            ls -A /var/lib/provision/debts /var/lib/provision/stage 2>/dev/null | \
            grep -v : | tr -d '\\n' | say left-behind";
        let output = self.try_on(host, look);
        let lines = output
            .stdout
            .lines()
            .filter_map(|line| line.split_once('|'));
        lines
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// What a gateway that has a version shows.
    pub(super) fn wanted(&self, version: u32) -> Seen {
        let pairs = [
            ("first", format!("first {version}")),
            ("second", format!("second {version}")),
            ("payload", self.payloads[&version].clone()),
            ("served", format!("first {version} second {version}")),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// How HAProxy sees a gateway.
    pub(super) fn balanced(&self, gateway: &str) -> String {
        let look = crate::telemetry::fetch("127.0.0.1", 8404, "/stats;csv");
        let table = self.try_on(BALANCER, &look).stdout;
        let begins = format!("gateways,{gateway},");
        let row = table.lines().find(|line| line.starts_with(&begins));
        let state = row.and_then(|row| row.split(',').nth(17));
        state.unwrap_or_default().to_owned()
    }
}

fn project(whole: &BTreeSet<&'static str>) -> Project {
    let name = format!("{}-f", crate::lab_name());
    let project = Project::new(&name);
    let path = project.path("inventories/lab.toml");
    let text = std::fs::read_to_string(&path).expect("an inventory");
    // The packages are those of the other lab, so that they are fetched once.
    let (head, _) = text.split_once("[groups").expect("groups");
    let mut inventory = head.to_owned();
    for (host, address) in HOSTS {
        if whole.contains(host) {
            continue;
        }
        inventory += &format!("[groups.{host}.hosts]\n{host} = {{ address = \"{address}\" }}\n");
        let mut disk = |name: &str, size: &str, device: &str| {
            inventory += &format!(
                "[groups.{host}.volumes.{name}]\nsize = \"{size}\"\nmount = \"/mnt/{name}\"\n\
                 device = \"{device}\"\n"
            );
        };
        if GATEWAYS.contains(&host) {
            disk("data", &DATA_BYTES.to_string(), "/dev/sdf");
        }
        disk("system", "2GiB", "/dev/sdg");
    }
    std::fs::write(path, inventory).expect("an inventory");
    project
}

/// Waits until something is so.
#[track_caller]
pub(super) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
