//! The hosts of the tests.
//!
//! Goes in: a [`Project`]. Comes out: hosts that answer. Invariant: hosts are looked at through
//! plain ssh and systemd, never through what is tested.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::output::Output;
use crate::project::Project;

/// What the tests compare of a host before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeState {
    /// Inode, mtime, ctime, mode and owner of every path that is managed, and of all that systemd
    /// reads below `/etc`, by path.
    pub paths: BTreeMap<String, String>,
    /// The same of the helpers, which are copied once per version.
    pub helpers: BTreeMap<String, String>,
    /// Hash of dpkg's status.
    pub packages: String,
    /// InvocationID of every active unit, by unit.
    pub units: BTreeMap<String, String>,
    /// The youngest process of every unit that is managed and runs, by unit: a reload keeps the
    /// InvocationID.
    pub processes: BTreeMap<String, String>,
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
    pub fn state(&self) -> Value {
        let output = self
            .project
            .provision(&["lab", "list", "--output", "json"])
            .success();
        serde_json::from_str(&output.stdout).expect("JSON")
    }

    /// What is compared of a host before and after, as its manifest names it.
    ///
    /// # Panics
    /// A path that the manifest names is not there.
    #[must_use]
    #[track_caller]
    pub fn tree(&self, host: &str) -> TreeState {
        let manifest = "/var/lib/provision/manifest.json";
        let read =
            format!("if test -e {manifest}; then cat {manifest}; else echo '{NO_MANIFEST}'; fi");
        let managed = Managed::of(&self.ssh(host, &read));
        let mut state = TreeState::default();
        let looked = self.ssh(host, &managed.look());
        let (looked, units) = looked.split_once("\nunits\n").expect("units");
        for unit in units.split("\n\n") {
            let properties: BTreeMap<&str, &str> = unit
                .lines()
                .filter_map(|line| line.split_once('='))
                .collect();
            // What somebody mounts by hand has no file, and comes and goes.
            let is_managed = |place: &&str| managed.paths.iter().any(|path| path == place);
            let has_file = !properties["FragmentPath"].is_empty();
            if has_file || properties.get("Where").is_some_and(is_managed) {
                let (unit, id) = (properties["Id"], properties["InvocationID"]);
                state.units.insert(unit.to_owned(), id.to_owned());
            }
        }
        for line in looked.lines() {
            match line.split_once('|') {
                Some(("dpkg", hash)) => hash.clone_into(&mut state.packages),
                Some(("process", rest)) => {
                    let (unit, id) = rest.split_once(' ').unwrap_or((rest, ""));
                    state
                        .processes
                        .insert(unit.to_owned(), id.trim().to_owned());
                }
                Some((path, rest)) if path.starts_with("/var/lib/provision/helper/") => {
                    state.helpers.insert(path.to_owned(), rest.to_owned());
                }
                Some((path, rest)) => {
                    state.paths.insert(path.to_owned(), rest.to_owned());
                }
                None => panic!("{host} says {line}"),
            }
        }
        for path in &managed.paths {
            assert!(state.paths.contains_key(path), "{path} is not on {host}");
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
        let mut after = self.trees();
        // To look at a host for the first time takes a helper.
        for (host, state) in before.iter().filter(|(_, state)| state.helpers.is_empty()) {
            after
                .get_mut(host)
                .expect("a host")
                .helpers
                .clone_from(&state.helpers);
        }
        assert_eq!(before, after, "something changed");
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

/// The manifest of a host on which nothing is managed.
const NO_MANIFEST: &str = r#"{"entries": []}"#;

/// What a host's manifest names.
struct Managed {
    /// Files, directories and unpacked archives.
    paths: Vec<String>,
    units: Vec<String>,
}

impl Managed {
    fn of(manifest: &str) -> Self {
        let manifest: Value = serde_json::from_str(manifest).expect("a manifest");
        let entries = manifest["entries"].as_array().expect("entries");
        let named = |kinds: &[&str]| {
            let of_kind = entries.iter().filter(|entry| {
                entry["kind"]
                    .as_str()
                    .is_some_and(|kind| kinds.contains(&kind))
            });
            let names = of_kind.map(|entry| entry["name"].as_str().expect("a name").to_owned());
            names.collect::<Vec<_>>()
        };
        Self {
            paths: named(&["file", "directory", "archive"]),
            units: named(&["unit"]),
        }
    }

    /// The command that looks at all of it. Units that come and go with a login are left out, and
    /// processes of before a reload that still end.
    fn look(&self) -> String {
        let quoted = |names: &[String]| {
            let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
            names.join(" ")
        };
        let (paths, units) = (quoted(&self.paths), quoted(&self.units));
        format!(
            r#"set -eu
below=$(find /etc/systemd/system -mindepth 1)
helpers=$(find /var/lib/provision/helper -type f 2>/dev/null || true)
stat -c '%n|%i %.9Y %.9Z %a %U:%G' {paths} $below $helpers \
    /etc/fstab /etc/passwd /etc/group /etc/shadow /etc/gshadow | sort -u
echo "dpkg|$(sha256sum < /var/lib/dpkg/status)"
active=$(systemctl list-units --state=active --plain --no-legend \
    --type=service,socket,timer,path,mount,target | cut -d' ' -f1 |
    grep -v -e '^ssh@' -e '^user' -e '^session')
for unit in {units}; do
    group=$(systemctl show --property=ControlGroup --value -- "$unit")
    test -n "$group" || continue
    ids=$(grep -l ":$group\$" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | paste -sd,)
    test -z "$ids" || echo "process|$unit $(ps --sort=start_time -o pid= -p "$ids" | tail -n 1)"
done
echo units
systemctl show --property=Id,InvocationID,FragmentPath,Where -- $active"#
        )
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
