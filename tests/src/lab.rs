//! The hosts of the tests.
//!
//! Goes in: a [`Project`]. Comes out: hosts that answer. Invariant: hosts are looked at through
//! plain ssh and systemd, never through what is tested.

use std::collections::BTreeMap;
use std::process::Command;

use crate::output::Output;
use crate::project::Project;

/// What the tests compare of a host before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeState {
    /// Inode, mtime, ctime, mode and owner of every path that is managed, by path.
    pub paths: BTreeMap<String, String>,
    /// Hash of dpkg's status.
    pub packages: String,
    /// InvocationID of every running unit, by unit.
    pub units: BTreeMap<String, String>,
}

/// The hosts of a project's lab. Everything of them is removed when this is dropped.
#[derive(Debug)]
pub struct Lab {
    project: Project,
}

impl Lab {
    /// A lab of this project, which `provision` itself brings up.
    #[must_use]
    pub const fn new(project: Project) -> Self {
        Self { project }
    }

    /// Its project.
    #[must_use]
    pub const fn project(&self) -> &Project {
        &self.project
    }

    /// Runs a shell command on a host, and expects it to end well.
    #[track_caller]
    pub fn ssh(&self, host: &str, command: &str) -> String {
        self.try_ssh(host, command).success().stdout
    }

    /// Runs a shell command on a host.
    #[must_use]
    pub fn try_ssh(&self, host: &str, command: &str) -> Output {
        let mut ssh = self.project.command(&["lab", "ssh"]);
        Output::of(ssh.args([host, "--", command]))
    }

    /// A program of this machine, to be run inside the lab's network.
    #[must_use]
    pub fn exec(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(&["lab", "exec"]);
        command.arg("--").args(arguments);
        command
    }

    /// How the lab's hosts are now, as JSON.
    ///
    /// # Panics
    /// `provision lab list` prints no JSON.
    #[must_use]
    pub fn state(&self) -> serde_json::Value {
        let output = self
            .project
            .provision(&["lab", "list", "--output", "json"])
            .success();
        serde_json::from_str(&output.stdout).expect("JSON")
    }

    /// What is compared of a host before and after.
    #[must_use]
    pub fn tree(&self, host: &str) -> TreeState {
        let script = "stat -c '%n|%i %Y %Z %a %U:%G' /usr/local/bin/collector \
            /etc/otel-collector /etc/otel-collector/config.yaml /etc/haproxy/haproxy.cfg \
            /etc/systemd/system/*.service /etc/sysctl.d/60-* /mnt/data /mnt/data/otel /etc/fstab \
            /etc/passwd /etc/group 2>/dev/null; \
            echo \"dpkg|$(sha256sum < /var/lib/dpkg/status)\"; \
            for u in $(systemctl list-units --type=service --state=running --plain --no-legend | \
            cut -d' ' -f1 | grep -v -e '^ssh' -e '^user@' -e '^session'); do \
            echo \"unit|$u $(systemctl show -p InvocationID --value $u)\"; done";
        let mut state = TreeState {
            paths: BTreeMap::new(),
            packages: String::new(),
            units: BTreeMap::new(),
        };
        for line in self.ssh(host, script).lines() {
            match line.split_once('|') {
                Some(("dpkg", hash)) => hash.clone_into(&mut state.packages),
                Some(("unit", rest)) => {
                    let (unit, id) = rest.split_once(' ').unwrap_or((rest, ""));
                    state.units.insert(unit.to_owned(), id.to_owned());
                }
                Some((path, rest)) => {
                    state.paths.insert(path.to_owned(), rest.to_owned());
                }
                None => {}
            }
        }
        state
    }

    /// The trees of all hosts.
    #[must_use]
    pub fn trees(&self) -> BTreeMap<String, TreeState> {
        let hosts = self.hosts();
        std::thread::scope(|scope| {
            let looking: Vec<_> = hosts
                .iter()
                .map(|host| (host, scope.spawn(|| self.tree(host))))
                .collect();
            looking
                .into_iter()
                .map(|(host, tree)| (host.clone(), tree.join().expect("a tree")))
                .collect()
        })
    }

    /// Runs something that must change nothing on any host.
    ///
    /// # Panics
    /// It changes something.
    #[track_caller]
    pub fn expect_unchanged(&self, run: impl FnOnce()) {
        let before = self.trees();
        run();
        assert_eq!(before, self.trees(), "something changed");
    }

    /// The names of all hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let state = self.state();
        let hosts = state["hosts"].as_array().cloned().unwrap_or_default();
        hosts
            .iter()
            .filter_map(|host| host["name"].as_str().map(ToOwned::to_owned))
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.project.provision(&["lab", "down"]);
        if output.code != 0 && !std::thread::panicking() {
            panic!("the lab is not removed:\n{}", output.describe());
        }
    }
}
