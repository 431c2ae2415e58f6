//! Secrets are seen in the files that ask for them, and nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fleet_tests::{ArgumentWatch, Edit, Lab, Output, Requirement, forms};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "secrets::are_seen_nowhere_but_in_the_file_that_asks_for_them",
    needs: &[Requirement::Root],
    run: are_seen_nowhere_but_in_the_file_that_asks_for_them,
}];

/// From an environment variable, in the configuration of the gateways.
const TOKEN: &str = "t0ken/of+the gateways?&ü-one";
/// What it is changed to.
const NEXT_TOKEN: &str = "t0ken/of+the gateways?&ü-two";
/// From a file, in the configuration of the storage.
const KEY: &str = "key:of/the+storage%20#1";
/// From a command; nothing asks for it.
const UNUSED: &str = "never/asked+for by anything";

const SECRETS: [&str; 4] = [TOKEN, NEXT_TOKEN, KEY, UNUSED];

/// No secret; a search that does not find it has not looked.
const CANARY: &str = "canary-of-the-search";

/// The files of the project that secrets come from.
const SOURCES: [&str; 2] = ["key.txt", "unused.txt"];

const GATEWAY: &str = "templates/collector/gateway.yaml.tera";
const STORAGE: &str = "templates/collector/storage.yaml.tera";
const ENVIRONMENT: &str = "environments/development.toml";
const CONFIG: &str = "/etc/otel-collector/config.yaml";
const GATEWAYS: [&str; 2] = ["collector-1", "collector-2"];

fn are_seen_nowhere_but_in_the_file_that_asks_for_them(lab: &Lab) {
    let mut searcher = Searcher {
        lab,
        token: TOKEN,
        outputs: 0,
        places: tempfile::tempdir().expect("a folder"),
    };
    let edits = describe_secrets(lab);
    let watch = ArgumentWatch::start(&SECRETS);
    searcher.run(&["plan"], 2);
    searcher.run(&["plan", "--verbose"], 2);
    searcher.run(&["plan", "--output", "json"], 2);
    searcher.rejected_configuration();
    searcher.run(&["apply", "--yes", "--verbose"], 0);
    searcher.failing_command();
    searcher.failing_source();
    searcher.run(&["status"], 0);
    searcher.run(&["status", "--output", "json"], 0);
    searcher.run(&["inventory", "show", "--output", "json"], 0);
    searcher.plan_of_destruction();
    searcher.run(&["apply", "--yes", "--output", "json"], 0);
    let outputs = searcher.outputs;
    let watched = watch.end();
    assert_eq!(watched.leaks, [""; 0]);
    println!(
        "no secret in {outputs} outputs, nor in the arguments of {} processes in {} looks",
        watched.seen.len(),
        watched.looks
    );
    for host in lab.hosts() {
        let expected = match host.as_str() {
            "storage-1" => Some(KEY),
            gateway if GATEWAYS.contains(&gateway) => Some(TOKEN),
            _ => None,
        };
        searcher.expect_on(&host, expected);
    }
    searcher.expect_on_controller(&SOURCES);
    rotate(&mut searcher);
    searcher.expect_on_controller(&SOURCES);
    forget(&mut searcher, edits);
    searcher.expect_on_controller(&[]);
}

/// A changed secret changes the file that holds it, and restarts what reads that.
fn rotate(searcher: &mut Searcher<'_>) {
    let lab = searcher.lab;
    let before = lab.trees();
    searcher.token = NEXT_TOKEN;
    searcher.run(&["plan", "--verbose"], 2);
    let watch = ArgumentWatch::start(&[TOKEN, NEXT_TOKEN]);
    searcher.run(&["apply", "--yes", "--verbose"], 0);
    assert_eq!(watch.end().leaks, [""; 0]);
    let after = lab.trees();
    for (host, before) in &before {
        let after = &after[host];
        let paths: Vec<&str> = before
            .paths
            .iter()
            .filter(|(path, state)| after.paths.get(*path) != Some(state))
            .map(|(path, _)| path.as_str())
            .collect();
        let units: Vec<&str> = before
            .units
            .iter()
            .filter(|(unit, id)| after.units.get(*unit) != Some(id))
            .map(|(unit, _)| unit.as_str())
            .collect();
        if GATEWAYS.contains(&host.as_str()) {
            // The directory has another entry than before.
            assert_eq!(paths, ["/etc/otel-collector", CONFIG], "{host}");
            assert_eq!(units, ["otel-collector.service"], "{host}");
            searcher.expect_on(host, Some(NEXT_TOKEN));
        } else {
            assert_eq!((paths, units), (Vec::new(), Vec::new()), "{host}");
        }
        assert_eq!(before.packages, after.packages, "{host}");
    }
    println!(
        "rotated: the old value is nowhere on {}",
        GATEWAYS.join(", ")
    );
}

/// A secret that leaves the environment is unknown to the controller when it leaves the file.
fn forget(searcher: &mut Searcher<'_>, edits: Vec<Edit>) {
    drop(edits);
    searcher.run(&["plan", "--verbose"], 2);
    searcher.run(&["plan", "--output", "json"], 2);
    searcher.run(&["apply", "--yes", "--verbose"], 0);
    for host in ["collector-1", "collector-2", "storage-1"] {
        searcher.expect_on(host, None);
    }
    searcher.run(&["plan"], 0);
    println!("forgotten: no value of a secret is left on any host");
}

fn describe_secrets(lab: &Lab) -> Vec<Edit> {
    let project = lab.project();
    let file = project.write("key.txt", &format!("{KEY}\n"));
    let unused = project.write("unused.txt", &format!("{UNUSED}\n"));
    let text = fs::read_to_string(project.path(ENVIRONMENT)).expect("an environment");
    let secrets = "\n[secrets.token]\nenv = \"FLEET_TOKEN\"\n[secrets.key]\nfile = \"key.txt\"\n\
        [secrets.unused]\ncommand = [\"cat\", \"unused.txt\"]\n";
    let environment = project.write(ENVIRONMENT, &format!("{text}{secrets}"));
    let gateway = project.edit(
        GATEWAY,
        "    sending_queue:\n",
        "    headers:\n      authorization: 'Bearer {{ secrets.token }}'\n    sending_queue:\n",
    );
    let storage = project.edit(STORAGE, "receivers:\n", "# {{ secrets.key }}\nreceivers:\n");
    vec![file, unused, environment, gateway, storage]
}

/// Runs the program with the secrets, and searches all that it prints.
struct Searcher<'a> {
    lab: &'a Lab,
    token: &'static str,
    outputs: usize,
    /// Where the program keeps what it keeps on the machine that it runs on.
    places: tempfile::TempDir,
}

impl Searcher<'_> {
    fn run(&mut self, arguments: &[&str], code: i32) -> Output {
        let all = [arguments, &["--env", "development"]].concat();
        let mut command = self.lab.project().command(&all);
        self.set_environment(&mut command);
        self.search(Output::of(&mut command).expect_code(code))
    }

    /// The secret, and places that only this test has.
    fn set_environment(&self, command: &mut Command) {
        command.env("FLEET_TOKEN", self.token);
        for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            let place = self.places.path().join(variable);
            let mut folder = fs::DirBuilder::new();
            folder.recursive(true).mode(0o700);
            folder.create(&place).expect("a folder");
            command.env(variable, place);
        }
    }

    fn search(&mut self, output: Output) -> Output {
        for secret in SECRETS {
            for form in forms(secret) {
                let found = output.stdout.contains(&form) || output.stderr.contains(&form);
                assert!(
                    !found,
                    "{form} of {secret} is shown:\n{}",
                    output.describe()
                );
            }
        }
        self.outputs += 1;
        output
    }

    /// A validator that quotes what it rejects.
    fn rejected_configuration(&mut self) {
        let edit = self.lab.project().edit(
            GATEWAY,
            "receivers:\n",
            "'{{ secrets.token }}': 1\nreceivers:\n",
        );
        let output = self.run(&["apply", "--yes", "--verbose"], 1);
        let _ = output.says(&["refused", "«secret token»"]);
        let _ = self.run(&["apply", "--yes", "--output", "json"], 1);
        drop(edit);
    }

    /// A command that prints a file with a secret and fails.
    fn failing_command(&mut self) {
        let path = "playbooks/collectors.toml";
        let text = fs::read_to_string(self.lab.project().path(path)).expect("a playbook");
        let resource = format!(
            "\n[[play.resource]]\ncommand = {{ run = [\"sh\", \"-c\", \"cat {CONFIG}; \
             base64 -w0 {CONFIG} >&2; exit 3\"], creates = \"/nowhere\" }}\n"
        );
        let edit = self.lab.project().write(path, &format!("{text}{resource}"));
        let output = self.run(&["apply", "--yes", "--verbose"], 1);
        let _ = output.says(&["sh failed, it ended with exit code 3", "«secret token»"]);
        let _ = self.run(&["apply", "--yes", "--output", "json"], 1);
        drop(edit);
    }

    /// A source that prints secrets, its own and another one, before it fails.
    fn failing_source(&mut self) {
        let edit = self.lab.project().edit(
            ENVIRONMENT,
            "[\"cat\", \"unused.txt\"]",
            "[\"sh\", \"-c\", \"cat unused.txt; cat unused.txt key.txt >&2; exit 4\"]",
        );
        let output = self.run(&["plan"], 1);
        let _ = output.says(&["secret `unused` cannot be had", "«secret key»"]);
        let _ = self.run(&["plan", "--output", "json"], 1);
        drop(edit);
    }

    /// What `destroy` shows before it asks.
    fn plan_of_destruction(&mut self) {
        let arguments = ["destroy", "--env", "development", "--verbose"];
        let command = self.lab.project().command(&arguments);
        let mut words = vec![command.get_program()];
        words.extend(command.get_args());
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let mut script = Command::new("sh");
        script
            .args(["-c", "echo n | script -qec \"$0\" /dev/null"])
            .arg(words.join(" "));
        self.set_environment(&mut script);
        let output = self.search(Output::of(&mut script));
        let _ = output
            .expect_code(1)
            .says(&["Remove all of this?", "nothing was changed"]);
    }

    /// Of all secrets, in all their forms, only the expected one is on a host, and only in the
    /// configuration of its collector.
    #[track_caller]
    fn expect_on(&self, host: &str, expected: Option<&str>) {
        // What is searched for travels over the standard input, so that it is in no argument. Only
        // the kernel's own places are left out. The journal compresses long texts, so it is asked,
        // not only searched as a file.
        let search = "cd /; LC_ALL=C; export LC_ALL; forms=$(cat); \
            mkdir -p /srv/dev/proc/sys; head -n 1 <<< \"$forms\" > /srv/dev/proc/sys/canary; \
            grep -rlaF -D skip -f /dev/fd/3 /dev/shm $(find / -mindepth 1 -maxdepth 1 \
                ! -type l ! -path /proc ! -path /sys ! -path /dev) 3<<< \"$forms\" 2>/dev/null; \
            rm -r /srv/dev; \
            journalctl --no-pager -a -o export > /tmp/journal; \
            grep -q ^__CURSOR= /tmp/journal || echo an empty journal; \
            grep -qaF -f /dev/fd/3 /tmp/journal 3<<< \"$forms\" && echo the journal; \
            rm /tmp/journal";
        let bash = format!("exec bash -c '{search}'");
        let found = self.ask(host, &bash, &all_forms());
        let found: BTreeSet<&str> = found.lines().collect();
        let mut files = BTreeSet::from(["/srv/dev/proc/sys/canary"]);
        files.extend(expected.map(|_| CONFIG));
        assert_eq!(found, files, "secrets on {host}");
        for secret in SECRETS {
            let count = format!("grep -scaF -f - {CONFIG} || true");
            let count = self.ask(host, &count, &forms(secret).join("\n"));
            let is_there = !matches!(count.trim(), "0" | "");
            assert_eq!(is_there, expected == Some(secret), "`{secret}` on {host}");
        }
    }

    /// Where the program runs, secrets are in the files that they come from, and nowhere else.
    #[track_caller]
    fn expect_on_controller(&self, sources: &[&str]) {
        let canary = self.places.path().join("canary");
        fs::write(&canary, CANARY).expect("a file");
        let project = self.lab.project().path("");
        let mut grep = Command::new("grep");
        grep.args(["-rlaF", "-D", "skip", "-f", "-"])
            .args([self.places.path(), &project])
            .env("LC_ALL", "C");
        let found = answer(&mut grep, &all_forms());
        let found: BTreeSet<PathBuf> = found.lines().map(PathBuf::from).collect();
        let mut files: BTreeSet<PathBuf> = sources.iter().map(|name| project.join(name)).collect();
        files.insert(canary);
        assert_eq!(found, files, "secrets where the program runs");
    }

    fn ask(&self, host: &str, command: &str, input: &str) -> String {
        let mut ssh = self.lab.project().command(&["lab", "ssh"]);
        answer(ssh.args([host, "--", command]), input)
    }
}

/// All that is searched for, a line each; the first line is what must be found.
fn all_forms() -> String {
    let secrets = SECRETS.iter().flat_map(|secret| forms(secret));
    let lines: Vec<String> = [CANARY.to_owned()].into_iter().chain(secrets).collect();
    lines.join("\n")
}

/// What a program answers to an input.
#[track_caller]
fn answer(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a program");
    let mut stdin = child.stdin.take().expect("an input");
    stdin.write_all(input.as_bytes()).expect("an input");
    drop(stdin);
    let output = child.wait_with_output().expect("an answer");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
