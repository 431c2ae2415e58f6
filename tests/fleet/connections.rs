//! Connections are kept for the next run and shared behind a bastion, as the sshd of the hosts
//! counts them, and one that is dead holds up nothing.

use std::time::{Duration, Instant};

use fleet_tests::{Edit, Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "connections::the_next_run_uses_what_was_kept_unless_it_is_dead",
        needs: &[Requirement::Root],
        run: the_next_run_uses_what_was_kept_unless_it_is_dead,
    },
    Test {
        name: "connections::hosts_behind_a_bastion_share_one_connection_to_it",
        needs: &[Requirement::Root],
        run: hosts_behind_a_bastion_share_one_connection_to_it,
    },
];

/// How much longer than a first run one may take that finds dead connections: it waits for each
/// host's `connect_timeout` of 3 s at once, and nowhere near for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// The name of the environment and the inventory.
const BY_ADDRESS: &str = "by-address";

fn the_next_run_uses_what_was_kept_unless_it_is_dead(lab: &Lab) {
    let fleet = ByAddress::new(lab, "keep_connection = \"10m\"", "");
    let begun = Instant::now();
    assert_eq!(fleet.plan(lab), [1; 4], "a first run connects to each host");
    let first = begun.elapsed();
    assert_eq!(fleet.plan(lab), [0; 4], "the next one does not");

    for pid in fleet.masters() {
        signal("KILL", &pid);
    }
    assert_eq!(fleet.plan(lab), [1; 4], "killed ones are replaced");

    let stopped = fleet.masters();
    assert_eq!(stopped.len(), 4, "one connection per host: {stopped:?}");
    for pid in &stopped {
        signal("STOP", pid);
    }
    let begun = Instant::now();
    let connections = fleet.plan(lab);
    let took = begun.elapsed();
    for pid in &stopped {
        signal("KILL", pid);
    }
    assert_eq!(connections, [1; 4], "stopped ones are replaced");
    assert!(
        took < first + DEADLINE,
        "stopped ones were waited for: {took:?}"
    );

    // Another way to the same hosts is another connection, and none of these is kept.
    fleet.end();
    drop(fleet);
    let fleet = ByAddress::new(lab, "keep_connection = \"0s\"", "");
    for _ in 0..2 {
        assert_eq!(fleet.plan(lab), [1; 4], "nothing is kept");
    }
}

fn hosts_behind_a_bastion_share_one_connection_to_it(lab: &Lab) {
    let fleet = ByAddress::new(lab, "keep_connection = \"10m\"", "jump = \"lb-1\"");
    assert_eq!(fleet.plan(lab), [1; 4], "lb-1 is reached once for all");
    assert_eq!(fleet.plan(lab), [0; 4], "and is known to the next run");

    // A bastion that is not asked for itself is one all the same.
    fleet.end();
    let limited = ["plan", "--limit", "gateways", "--limit", "storage"];
    let connections = fleet.count(lab, || {
        let _ = fleet.run(lab, &limited).expect_code(2);
    });
    assert_eq!(connections, [1; 4]);

    // The connection to the bastion dies, and with it those through it.
    for pid in fleet.masters() {
        signal("KILL", &pid);
    }
    assert_eq!(fleet.plan(lab), [1; 4], "all are replaced");
    fleet.end();
}

/// The hosts of the lab as machines that are known by address and key, seen from their network.
struct ByAddress {
    hosts: Vec<String>,
    folder: tempfile::TempDir,
    _files: [Edit; 3],
}

impl ByAddress {
    fn new(lab: &Lab, ssh: &str, behind: &str) -> Self {
        let (state, project) = (lab.state(), lab.project());
        let hosts = ["lb-1", "collector-1", "collector-2", "storage-1"];
        let described = |name: &&str| {
            let listed = state["hosts"].as_array().expect("hosts");
            let host = listed.iter().find(|host| host["name"] == *name);
            let host = host.expect("a host of the lab");
            let text = |key: &str| host[key].as_str().expect("a text").to_owned();
            let (address, key) = (text("address"), text("host_key"));
            format!("{name} = {{ address = \"{address}\", host_key = \"{key}\" }}\n")
        };
        let identity = state["identity"].as_str().expect("an identity");
        let mut inventory = format!(
            "provider = \"on-prem\"\n[ssh]\nuser = \"root\"\nidentity = \"{identity}\"\n\
             connect_timeout = \"3s\"\n{ssh}\n"
        );
        let mut playbook = String::new();
        let groups = [
            ("balancers", &hosts[..1], ""),
            ("gateways", &hosts[1..3], behind),
            ("storage", &hosts[3..], behind),
        ];
        for (group, members, ssh) in groups {
            let members: String = members.iter().map(described).collect();
            inventory.push_str(&format!(
                "[groups.{group}.ssh]\n{ssh}\n[groups.{group}.hosts]\n{members}"
            ));
            playbook.push_str(&format!(
                "[[play]]\nhosts = \"{group}\"\n[[play.resource]]\n\
                 file = {{ path = \"/etc/by-address\", content = \"x\" }}\n"
            ));
        }
        let environment = format!(
            "inventories = [\"{BY_ADDRESS}\"]\ntier = \"small\"\nplaybook = \"{BY_ADDRESS}\"\n"
        );
        let file = |folder: &str| format!("{folder}/{BY_ADDRESS}.toml");
        Self {
            hosts: hosts.map(ToOwned::to_owned).to_vec(),
            folder: tempfile::tempdir_in("/tmp").expect("a folder"),
            _files: [
                project.write(&file("inventories"), &inventory),
                project.write(&file("environments"), &environment),
                project.write(&file("playbooks"), &playbook),
            ],
        }
    }

    /// How many connections the sshd of each host accepts while a plan is made.
    #[track_caller]
    fn plan(&self, lab: &Lab) -> [usize; 4] {
        self.count(lab, || {
            let _ = self.run(lab, &["plan"]).expect_code(2);
        })
    }

    fn count(&self, lab: &Lab, run: impl FnOnce()) -> [usize; 4] {
        let accepted = || -> Vec<usize> {
            let count =
                "journalctl --sync; journalctl --output cat | grep --count '^Accepted publickey '";
            let hosts = self.hosts.iter();
            hosts
                .map(|host| lab.ssh(host, count).trim().parse().expect("a count"))
                .collect()
        };
        let before = accepted();
        run();
        let after = accepted();
        // The one that asks is among them.
        std::array::from_fn(|at| after[at] - before[at] - 1)
    }

    /// Runs a command of `provision` inside the lab's network.
    fn run(&self, lab: &Lab, arguments: &[&str]) -> Output {
        let program = Project::programs().join("provision");
        let project = lab.project().path("");
        let mut words = vec![program.to_str().expect("a path")];
        words.extend(arguments);
        words.extend(["--env", BY_ADDRESS, "--project"]);
        words.push(project.to_str().expect("a path"));
        let mut command = lab.exec(&words);
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        Output::of(&mut command)
    }

    /// The processes of the connections that are kept.
    fn masters(&self) -> Vec<String> {
        let name = format!("^ssh .*-S {}/", self.folder.path().display());
        let found = Output::of(std::process::Command::new("pgrep").args(["--full", &name]));
        found.stdout.lines().map(ToOwned::to_owned).collect()
    }

    /// Ends the connections that are kept.
    fn end(&self) {
        for pid in self.masters() {
            signal("TERM", &pid);
        }
        let until = Instant::now() + DEADLINE;
        while !self.masters().is_empty() {
            assert!(Instant::now() < until, "connections do not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn signal(name: &str, pid: &str) {
    let _ = Output::of(std::process::Command::new("kill").args(["-s", name, pid])).success();
}
