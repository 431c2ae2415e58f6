//! Nobody is locked out: a host that a playbook makes unreachable goes back by itself, within its
//! time and across a reboot, and the report says so.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fleet_tests::{Edit, Lab, Output, Requirement};

use crate::{Test, lab_name};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "lockout::a_host_puts_back_what_breaks_sshd_sudo_or_its_network",
        needs: &[Requirement::Root],
        run: a_host_puts_back_what_breaks_sshd_sudo_or_its_network,
    },
    Test {
        name: "lockout::a_host_puts_back_a_firewall_that_closes_ssh",
        needs: &[Requirement::Root],
        run: a_host_puts_back_a_firewall_that_closes_ssh,
    },
    Test {
        name: "lockout::a_host_puts_back_what_destroy_must_not_remove",
        needs: &[Requirement::Root],
        run: a_host_puts_back_what_destroy_must_not_remove,
    },
    Test {
        name: "lockout::a_host_puts_back_at_boot_what_nobody_confirmed",
        needs: &[Requirement::Root],
        run: a_host_puts_back_at_boot_what_nobody_confirmed,
    },
];

/// How long a host may take to be as it was, beyond its own time.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) const HOST: &str = "lb-1";
const LOCKOUT: &str = "lockout";
const SSHD: &str = "/etc/ssh/sshd_config.d/lockout.conf";
const SUDOERS: &str = "/etc/sudoers.d/keeper";
const NETWORK: &str = "/etc/systemd/network/10-eth0.network";
const FIREWALL: &str = "/etc/provision-firewall.nft";
const RULE: &str = "/etc/sudoers.d/zz-lockout";

/// Makes an account that may use sudo, for as long as what comes back is there.
fn with_keeper(lab: &Lab) -> OnDrop<impl FnMut()> {
    let make = format!(
        "useradd --create-home --shell /bin/sh keeper && mkdir -m 700 /home/keeper/.ssh && \
         cp /root/.ssh/authorized_keys /home/keeper/.ssh/ && \
         chown -R keeper: /home/keeper/.ssh && \
         echo 'keeper ALL=(ALL) NOPASSWD: ALL' > {SUDOERS} && chmod 440 {SUDOERS}"
    );
    let _ = lab.ssh(HOST, &make);
    OnDrop(move || {
        let _ = lab.try_ssh(
            HOST,
            &format!("userdel --force --remove keeper; rm -f {SUDOERS} {RULE}"),
        );
    })
}

fn a_host_puts_back_what_breaks_sshd_sudo_or_its_network(lab: &Lab) {
    let _account = with_keeper(lab);
    let before = state(lab);

    let port = file(SSHD, "Port 2222\\n");
    let fleet = Fleet::new(lab, "root", "10s", &[&port, &restarting("ssh", SSHD)]);
    fleet.locks_out(lab, &["cannot be reached"]);
    assert_eq!(before, state(lab), "sshd is not as it was");

    let users = file(SSHD, "AllowUsers nobody\\n");
    drop(fleet);
    let fleet = Fleet::new(lab, "root", "10s", &[&users, &restarting("ssh", SSHD)]);
    fleet.locks_out(lab, &["does not let this account in"]);
    assert_eq!(before, state(lab), "sshd is not as it was");

    drop(fleet);
    let sudoers = file(SUDOERS, "keeper ALL=(ALL) /bin/true\\n");
    let fleet = Fleet::new(lab, "keeper", "10s", &[&sudoers]);
    fleet.locks_out(lab, &["sudo"]);
    assert_eq!(before, state(lab), "sudo is not as it was");

    drop(fleet);
    let network = file(
        NETWORK,
        "[Match]\\nName=eth0\\n[Network]\\nAddress=192.0.2.2/24\\n",
    );
    // A restart leaves links that are up as they are.
    let reloading =
        format!("service = {{ name = \"systemd-networkd\", reload_on = [\"{NETWORK}\"] }}");
    let fleet = Fleet::new(lab, "root", "10s", &[&network, &reloading]);
    fleet.locks_out(lab, &[]);
    assert_eq!(before, state(lab), "the network is not as it was");

    // A change that locks nobody out is confirmed, and stays.
    drop(fleet);
    let harmless = file(SSHD, "# Nothing\\n");
    let fleet = Fleet::new(lab, "root", "10s", &[&harmless]);
    let _ = fleet.run(lab, "apply").success();
    assert_ne!(before, state(lab), "the change is gone");
    let switch = lab.try_ssh(HOST, "systemctl cat provision-revert.service");
    assert_ne!(switch.code, 0, "{}", switch.describe());
    let _ = fleet.run(lab, "destroy").success();
    assert_eq!(before, state(lab), "something is left");
}

fn a_host_puts_back_a_firewall_that_closes_ssh(lab: &Lab) {
    let _ = lab.ssh(HOST, "apt-get install -qq -y nftables >/dev/null");
    let before = state(lab);
    // Not even the connection that is there gets through.
    let rules = "table inet provision { chain input { \
         type filter hook input priority filter; policy drop; iif lo accept; }; }\\n";
    let service = format!(
        "service = {{ name = \"provision-firewall\", reload_on = [\"{FIREWALL}\"], \
         unit = \"firewall/provision-firewall.service.hbs\" }}"
    );
    let fleet = Fleet::new(lab, "root", "10s", &[&file(FIREWALL, rules), &service]);
    fleet.locks_out(lab, &[]);
    assert_eq!(before, state(lab), "the firewall is still there");
    let unit = lab.try_ssh(HOST, "systemctl cat provision-firewall.service");
    assert_ne!(unit.code, 0, "{}", unit.describe());
    let _ = fleet.run(lab, "destroy").success();
}

fn a_host_puts_back_what_destroy_must_not_remove(lab: &Lab) {
    let _account = with_keeper(lab);
    let rule = file(RULE, "keeper ALL=(ALL) NOPASSWD: ALL\\n");
    let fleet = Fleet::new(lab, "keeper", "10s", &[&rule]);
    let _ = fleet.run(lab, "apply").success();
    let _ = lab.ssh(HOST, &format!("rm {SUDOERS}"));
    let _ = fleet.run(lab, "destroy").expect_code(1).says(&[
        "nobody could get in any more after this change",
        "it has put back by itself what locked everybody out",
    ]);
    let _ = lab.ssh(HOST, "su keeper -c 'sudo -n true'");
    // Nothing is left for it to do, and the helper goes.
    let _ = fleet.run(lab, "destroy").success();
    let left = lab.ssh(HOST, "ls -d /var/lib/provision/deadman 2>/dev/null || true");
    assert_eq!(left, "");
}

fn a_host_puts_back_at_boot_what_nobody_confirmed(lab: &Lab) {
    let before = state(lab);
    let port = file(SSHD, "Port 2222\\n");
    let fleet = Fleet::new(lab, "root", "30m", &[&port, &restarting("ssh", SSHD)]);
    let mut apply = fleet.start(lab);
    // The change is there and sshd has left its port, while nobody has confirmed anything.
    let changed = root_of(HOST).join(SSHD.trim_start_matches('/'));
    let closed = || lab.try_ssh(HOST, "true").code != 0;
    wait(|| changed.exists() && closed());
    apply.kill().expect("the controller to be killed");
    apply.wait().expect("the controller to end");
    let _ = lab
        .project()
        .provision(&["lab", "power-off", HOST])
        .success();
    assert!(changed.exists(), "it was put back before the boot");
    let _ = lab.project().provision(&["lab", "start", HOST]).success();
    wait(|| !closed());
    wait(|| before == state(lab));
    let _ = fleet.run(lab, "destroy").success();
    drop(fleet);
    wait(|| {
        let status = lab.project().provision(&["status", "--env", "development"]);
        status.code == 0
    });
}

/// What decides who gets into the host, and whether it is about to put something back.
fn state(lab: &Lab) -> String {
    let look = format!(
        "cat /etc/ssh/sshd_config.d/* {SUDOERS} {NETWORK} {FIREWALL} 2>/dev/null; \
         nft list table inet provision 2>/dev/null; ip -4 -oneline address show eth0 | grep -o 'inet [^ ]*'; \
         ls /etc/systemd/system/provision-revert.service /var/lib/provision/deadman 2>/dev/null; \
         true"
    );
    lab.ssh(HOST, &look)
}

fn root_of(host: &str) -> PathBuf {
    let labs = PathBuf::from("/var/lib/provision-lab");
    labs.join(lab_name()).join("hosts").join(host).join("upper")
}

#[track_caller]
fn wait(mut there: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !there() {
        assert!(Instant::now() < until, "it does not come about");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn file(path: &str, content: &str) -> String {
    format!("file = {{ path = \"{path}\", content = \"{content}\", mode = \"0440\" }}")
}

fn restarting(unit: &str, path: &str) -> String {
    format!("service = {{ name = \"{unit}\", restart_on = [\"{path}\"] }}")
}

/// One host of the lab, with a playbook and an environment of its own.
pub(crate) struct Fleet {
    _files: [Edit; 3],
}

impl Fleet {
    pub(crate) fn new(lab: &Lab, user: &str, revert_after: &str, resources: &[&str]) -> Self {
        let (state, project) = (lab.state(), lab.project());
        let listed = state["hosts"].as_array().expect("hosts");
        let host = listed.iter().find(|host| host["name"] == HOST);
        let host = host.expect("a host of the lab");
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let inventory = format!(
            "provider = \"on-prem\"\n[ssh]\nuser = \"{user}\"\nidentity = \"{}\"\n\
             proxy_command = \"{}\"\nconnect_timeout = \"3s\"\nrevert_after = \"{revert_after}\"\n\
             keep_connection = \"0s\"\n\
             [groups.balancers.hosts]\n{HOST} = {{ address = \"{}\", host_key = \"{}\" }}\n",
            text(&state["identity"]),
            text(&state["proxy_command"]),
            text(&host["address"]),
            text(&host["host_key"]),
        );
        let mut playbook = "[[play]]\nhosts = \"balancers\"\n".to_owned();
        for resource in resources {
            playbook.push_str(&format!("[[play.resource]]\n{resource}\n"));
        }
        let environment =
            format!("inventories = [\"{LOCKOUT}\"]\ntier = \"small\"\nplaybook = \"{LOCKOUT}\"\n");
        let file = |folder: &str| format!("{folder}/{LOCKOUT}.toml");
        Self {
            _files: [
                project.write(&file("inventories"), &inventory),
                project.write(&file("environments"), &environment),
                project.write(&file("playbooks"), &playbook),
            ],
        }
    }

    pub(crate) fn run(&self, lab: &Lab, command: &str) -> Output {
        let arguments: &[&str] = match command {
            "plan" | "drift" => &[command, "--env", LOCKOUT],
            other => &[other, "--yes", "--env", LOCKOUT],
        };
        lab.project().provision(arguments)
    }

    fn start(&self, lab: &Lab) -> Child {
        let mut command = lab.project().command(&["apply", "--yes", "--env", LOCKOUT]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command.spawn().expect("provision")
    }

    /// The playbook locks everybody out, the report says so, and the host is reached as before.
    #[track_caller]
    fn locks_out(&self, lab: &Lab, says: &[&str]) {
        let output = self.run(lab, "apply").expect_code(1);
        let told = [
            "nobody could get in any more",
            "put the change back by itself",
        ];
        let said = told.iter().any(|words| output.stdout.contains(words));
        assert!(said, "{}", output.describe());
        if output.stdout.contains(told[0]) {
            let _ = output.says(says);
        }
        // The next run sees the truth: the change is still to be made.
        let _ = self.run(lab, "plan").expect_code(2);
    }
}

/// Does something when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
