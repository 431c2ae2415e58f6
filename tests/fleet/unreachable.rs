//! Hosts that may not be used: each is named with its reason, and no host is changed.

use std::time::{Duration, Instant};

use fleet_tests::{Edit, Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "unreachable::a_host_that_is_down_holds_up_all",
        needs: &[Requirement::Root],
        run: a_host_that_is_down_holds_up_all,
    },
    Test {
        name: "unreachable::a_host_without_power_is_named_at_once",
        needs: &[Requirement::Root],
        run: a_host_without_power_is_named_at_once,
    },
    Test {
        name: "unreachable::a_host_key_is_never_taken_on_trust",
        needs: &[Requirement::Root],
        run: a_host_key_is_never_taken_on_trust,
    },
    Test {
        name: "unreachable::an_architecture_without_a_helper_is_named",
        needs: &[Requirement::Root],
        run: an_architecture_without_a_helper_is_named,
    },
    Test {
        name: "unreachable::a_wrong_password_for_sudo_is_refused",
        needs: &[Requirement::Root],
        run: a_wrong_password_for_sudo_is_refused,
    },
    Test {
        name: "unreachable::a_full_disk_stops_an_upload_before_anything_changes",
        needs: &[Requirement::Root],
        run: a_full_disk_stops_an_upload_before_anything_changes,
    },
];

/// How long a host and the platform may take to be well again.
const DEADLINE: Duration = Duration::from_secs(60);

/// The environment of hosts that are described by hand.
const BY_HAND: &str = "by-hand";

/// What an account of the tests is let in with by sudo.
const PASSWORD: &str = "correct-horse";

fn a_host_that_is_down_holds_up_all(lab: &Lab) {
    let hosts = ByHand::new(lab);
    let _files = hosts.write(lab.project(), &hosts.keys());
    lab.expect_unchanged(|| {
        let _network = Undo::after(lab, &["lab", "cut", "lb-1"], &["lab", "restore", "lb-1"]);
        for command in [&["apply", "--yes"][..], &["plan"]] {
            let _ = hosts.run(lab, command, "").expect_code(1).says(&[
                "lb-1 (10.77.0.11) cannot be reached",
                "timed out",
                "is it up, and its sshd? `ssh 10.77.0.11` by hand shows more; --limit leaves \
                 hosts out",
                "described at inventories/by-hand.toml:8:1",
                "nothing was changed on any host",
            ]);
        }
        // The other one goes on without it.
        let limited = hosts.run(lab, &["plan", "--limit", "collector-1"], "");
        let _ = limited.expect_code(2);
    });
}

fn a_host_without_power_is_named_at_once(lab: &Lab) {
    let others = || {
        let mut trees = lab.trees();
        trees.remove("lb-1");
        trees
    };
    let before = others();
    {
        let _power = Undo::after(
            lab,
            &["lab", "power-off", "lb-1"],
            &["lab", "start", "lb-1"],
        );
        let plan = lab
            .project()
            .provision(&["plan", "--env", "development"])
            .expect_code(1);
        let _ = plan.says(&["lab host lb-1 is off", "`provision lab up` starts it"]);
    }
    assert_eq!(before, others());
    wait_until_well(lab);
}

fn a_host_key_is_never_taken_on_trust(lab: &Lab) {
    let hosts = ByHand::new(lab);
    let [_, collector] = hosts.keys();
    lab.expect_unchanged(|| {
        {
            let _files = hosts.write(lab.project(), &[String::new(), collector.clone()]);
            let _ = hosts
                .run(lab, &["apply", "--yes"], "")
                .expect_code(1)
                .says(&[
                    "lb-1 (10.77.0.11) shows a host key that is not known",
                    "`provision trust lb-1 --env …` shows it and pins it at \
                 inventories/by-hand.toml:8:1, once you have compared it on the machine",
                    "nothing was changed on any host",
                ]);
        }
        let _files = hosts.write(lab.project(), &[collector.clone(), collector.clone()]);
        let output = hosts.run(lab, &["apply", "--yes"], "").expect_code(1);
        let output = output.says(&[
            "lb-1 (10.77.0.11) shows another host key than the one that is pinned",
            "SHA256:",
            "someone may stand in between; if the machine was rebuilt, put its new key in at \
             inventories/by-hand.toml:8:1: hosts.lb-1 = { host_key =",
            "nothing was changed on any host",
        ]);
        // OpenSSH's own advice is about a file of that run alone.
        let advice = output.stderr.contains("ssh-keygen -f");
        assert!(!advice, "{}", output.describe());
    });
}

fn an_architecture_without_a_helper_is_named(lab: &Lab) {
    let hosts = ByHand::new(lab);
    let _files = hosts.write(lab.project(), &hosts.keys());
    let fake = "/usr/local/bin/uname";
    let make = format!("printf '#!/bin/sh\\necho riscv64\\n' > {fake} && chmod 755 {fake}");
    let _uname = OnHost::after(lab, "lb-1", &make, &format!("rm -f {fake}"));
    lab.expect_unchanged(|| {
        let _ = hosts
            .run(lab, &["apply", "--yes"], "")
            .expect_code(1)
            .says(&[
                "lb-1: there is no helper for its architecture, riscv64",
                "there is one for",
                "put provision-host-riscv64 beside provision",
                "nothing was changed on any host",
            ]);
    });
}

fn a_wrong_password_for_sudo_is_refused(lab: &Lab) {
    let mut hosts = ByHand::new(lab);
    hosts.ssh = "user = \"deploy\"\nbecome_password = \"sudo\"".to_owned();
    let _files = hosts.write(lab.project(), &hosts.keys());
    let make = format!(
        "useradd --create-home --shell /bin/sh --groups sudo deploy && \
         echo deploy:{PASSWORD} | chpasswd && mkdir -m 700 /home/deploy/.ssh && \
         cp /root/.ssh/authorized_keys /home/deploy/.ssh/ && chown -R deploy: /home/deploy/.ssh"
    );
    // A session of the account may still be about to end.
    let remove = "userdel --force --remove deploy 2>/dev/null; ! id deploy 2>/dev/null";
    let _users = ["lb-1", "collector-1"].map(|host| OnHost::after(lab, host, &make, remove));
    lab.expect_unchanged(|| {
        let wrong = "another-horse";
        let output = hosts.run(lab, &["apply", "--yes"], wrong).expect_code(1);
        let output = output.says(&[
            "2 hosts cannot be used; nothing was changed on any host",
            "lb-1: sudo does not accept the password",
            "collector-1: sudo does not accept the password",
            "correct the secret `sudo` that `become_password` names",
        ]);
        let shown = output.stdout.contains(wrong) || output.stderr.contains(wrong);
        assert!(!shown, "the password is shown");
        // The right one opens the same door.
        let _ = hosts.run(lab, &["plan"], PASSWORD).expect_code(2);
    });
}

fn a_full_disk_stops_an_upload_before_anything_changes(lab: &Lab) {
    let project = lab.project();
    // Another program, of which every host that runs it would need a copy.
    let mut program = std::fs::read(Project::programs().join("collector")).expect("a program");
    let wanted_bytes = program.len() + (4 << 20);
    program.resize(wanted_bytes, b'x');
    std::fs::write(project.path("collector"), program).expect("a program");
    let _edit = project.edit(
        "environments/development.toml",
        "program = \"collector\"",
        "path = \"collector\"",
    );
    let apply = || {
        let arguments = ["apply", "--env", "development", "--yes"];
        project.provision(&arguments).expect_code(1)
    };
    let full = |folder: &str, prepare: &str| {
        let make = format!(
            "mkdir -p -m 700 {folder} && mkdir /run/small && \
             mount -t tmpfs -o size=1M,mode=755 small /run/small && \
             {prepare} && mount --bind /run/small {folder}"
        );
        let remove = format!(
            "umount {folder}; umount /run/small; rmdir /run/small; ! mountpoint -q {folder}"
        );
        OnHost::after(lab, "collector-1", &make, &remove)
    };

    // Where an upload waits.
    let contents = "/var/lib/provision/contents";
    {
        let _small = full(contents, "true");
        lab.expect_unchanged(|| {
            let _ = apply().says(&[
                "refused before anything was changed on any host",
                &format!(
                    "collector-1: there is no room for an upload on {contents}: {wanted_bytes} \
                     bytes needed, 1048576 bytes free; free some space there and run it again"
                ),
            ]);
        });
    }

    // Where the program stands. The old one stays, and runs.
    {
        let _small = full(
            "/usr/local/bin",
            "mount -o remount,size=64M /run/small && cp -a /usr/local/bin/. /run/small/ && \
             { head -c 64M /dev/zero > /run/small/fill || true; }",
        );
        lab.expect_unchanged(|| {
            let needed_bytes = wanted_bytes + (1 << 20);
            let _ = apply().says(&[
                "refused before anything was changed on any host",
                &format!(
                    "/usr/local/bin/collector: there is no room on /usr/local/bin: {needed_bytes} \
                     bytes needed, 0 bytes free; free some space there and run it again"
                ),
            ]);
        });
    }

    // Where the helper goes on a host that has none yet.
    {
        let _small = full("/var/lib/provision/helper", "true");
        lab.expect_unchanged(|| {
            let _ = apply().says(&[
                "collector-1: there is no room for the helper: ",
                " bytes needed, 1048576 bytes free on /var/lib/provision/helper",
                "free some space there and run it again",
                "nothing was changed on any host",
            ]);
        });
        let left = lab.ssh("collector-1", "ls -A /var/lib/provision/helper");
        assert_eq!(left, "", "half a helper is left");
    }
    std::fs::remove_file(project.path("collector")).expect("a program");
    // What did arrive waits for another run, which will not come.
    for host in lab.hosts() {
        let _ = lab.ssh(&host, &format!("rm -rf {contents}"));
    }
}

/// Two hosts of the lab, described as machines that are there already.
struct ByHand {
    state: serde_json::Value,
    /// More lines for `[ssh]`.
    ssh: String,
}

impl ByHand {
    const HOSTS: [&'static str; 2] = ["lb-1", "collector-1"];

    fn new(lab: &Lab) -> Self {
        Self {
            state: lab.state(),
            ssh: "user = \"root\"".to_owned(),
        }
    }

    fn host(&self, name: &str) -> &serde_json::Value {
        let hosts = self.state["hosts"].as_array().expect("hosts");
        let found = hosts.iter().find(|host| host["name"] == name);
        found.expect("a host of the lab")
    }

    /// The keys that the hosts show.
    fn keys(&self) -> [String; 2] {
        Self::HOSTS.map(|name| {
            self.host(name)["host_key"]
                .as_str()
                .expect("a key")
                .to_owned()
        })
    }

    /// Writes inventory, environment and playbook, with these keys pinned.
    fn write(&self, project: &Project, keys: &[String; 2]) -> [Edit; 3] {
        let [balancer, gateway] = [0, 1].map(|at| {
            let name = Self::HOSTS[at];
            let address = self.host(name)["address"].as_str().expect("an address");
            let key = match keys[at].as_str() {
                "" => String::new(),
                key => format!(", host_key = \"{key}\""),
            };
            format!("{name} = {{ address = \"{address}\"{key} }}")
        });
        let text = |name: &str| self.state[name].as_str().expect("a text").to_owned();
        let inventory = format!(
            "provider = \"on-prem\"\n\
             [ssh]\nidentity = \"{}\"\nproxy_command = \"{}\"\nconnect_timeout = \"3s\"\n{}\n\
             [groups.balancers.hosts]\n{balancer}\n\
             [groups.gateways.hosts]\n{gateway}\n",
            text("identity"),
            text("proxy_command"),
            self.ssh,
        );
        let environment = "inventories = [\"by-hand\"]\ntier = \"small\"\nplaybook = \"by-hand\"\n\
             [secrets.sudo]\nenv = \"SUDO_PASSWORD\"\n";
        let playbook: String = ["balancers", "gateways"]
            .map(|group| {
                format!(
                    "[[play]]\nhosts = \"{group}\"\n[[play.resource]]\n\
                     file = {{ path = \"/etc/by-hand\", content = \"x\" }}\n"
                )
            })
            .concat();
        [
            project.write("inventories/by-hand.toml", &inventory),
            project.write("environments/by-hand.toml", environment),
            project.write("playbooks/by-hand.toml", &playbook),
        ]
    }

    /// Runs a command of `provision` for these hosts.
    fn run(&self, lab: &Lab, arguments: &[&str], password: &str) -> Output {
        let mut command = lab.project().command(arguments);
        let password = if password.is_empty() {
            "no-password"
        } else {
            password
        };
        command
            .args(["--env", BY_HAND])
            .env("SUDO_PASSWORD", password);
        Output::of(&mut command)
    }
}

/// Takes back with one command of `provision` what another one did.
struct Undo<'a> {
    lab: &'a Lab,
    arguments: &'a [&'a str],
}

impl<'a> Undo<'a> {
    #[track_caller]
    fn after(lab: &'a Lab, first: &[&str], arguments: &'a [&'a str]) -> Self {
        let undo = Self { lab, arguments };
        let _ = lab.project().provision(first).success();
        undo
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let output = self.lab.project().provision(self.arguments);
        let well = output.code == 0 || std::thread::panicking();
        assert!(well, "{}", output.describe());
    }
}

/// Takes back with one command on a host what another one did.
struct OnHost<'a> {
    lab: &'a Lab,
    host: &'a str,
    remove: String,
}

impl<'a> OnHost<'a> {
    #[track_caller]
    fn after(lab: &'a Lab, host: &'a str, make: &str, remove: &str) -> Self {
        let this = Self {
            lab,
            host,
            remove: remove.to_owned(),
        };
        let _ = lab.ssh(host, make);
        this
    }
}

impl Drop for OnHost<'_> {
    fn drop(&mut self) {
        let output = self.lab.try_ssh(self.host, &self.remove);
        let well = output.code == 0 || std::thread::panicking();
        assert!(well, "{}", output.describe());
    }
}

/// Waits until every host is as the platform needs it.
#[track_caller]
fn wait_until_well(lab: &Lab) {
    let until = Instant::now() + DEADLINE;
    loop {
        let status = lab.project().provision(&["status", "--env", "development"]);
        if status.code == 0 {
            return;
        }
        assert!(Instant::now() < until, "{}", status.describe());
        std::thread::sleep(Duration::from_millis(300));
    }
}
