//! What a play says of its pace, seen in what happened on hosts: their order, a person who is asked
//! between batches, and a host that is left out as it does not answer.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use fleet_tests::{Edit, Lab, Output, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "pace::hosts_are_changed_in_the_order_that_the_play_names",
        needs: &[Requirement::Root],
        run: hosts_are_changed_in_the_order_that_the_play_names,
    },
    Test {
        name: "pace::a_play_goes_on_as_long_as_somebody_says_so",
        needs: &[Requirement::Root],
        run: a_play_goes_on_as_long_as_somebody_says_so,
    },
    Test {
        name: "pace::a_host_that_does_not_answer_is_left_out_and_completed_by_the_next_run",
        needs: &[Requirement::Root],
        run: a_host_that_does_not_answer_is_left_out,
    },
];

/// The name of the environment and its files.
const PACE: &str = "pace";

pub(crate) const HOSTS: [&str; 3] = ["collector-1", "collector-2", "storage-1"];

/// What every run changes.
const FILE: &str = "/etc/pace";

fn hosts_are_changed_in_the_order_that_the_play_names(lab: &Lab) {
    let fleet = ByAddress::new(lab);
    let begun = |order: &str, content: &str| {
        let _play = fleet.play(order, content);
        let _ = fleet.run(&["apply", "--yes"]).success();
        // The hosts share the clock of this machine.
        let mut hosts = HOSTS.map(|host| (lab.ssh(host, &format!("stat -c %.Y {FILE}")), host));
        hosts.sort();
        hosts.map(|(_, host)| host)
    };
    let mut reverse = HOSTS;
    reverse.reverse();
    assert_eq!(begun("order = \"reverse\"", "first"), reverse);
    assert_eq!(begun("", "second"), HOSTS);
    let mut random = begun("order = \"random\"", "third");
    println!("in a random order: {random:?}");
    random.sort_unstable();
    assert_eq!(random, HOSTS);
    fleet.clear();
}

fn a_play_goes_on_as_long_as_somebody_says_so(lab: &Lab) {
    let fleet = ByAddress::new(lab);
    let asks = "pause = \"confirm\"";
    let _first = fleet.play(asks, "old");
    let _ = fleet.run(&["apply", "--yes"]).success();
    assert_eq!(fleet.contents(), ["old"; 3], "--yes says it beforehand");

    let _second = fleet.play(asks, "new");
    // A plan that was agreed to elsewhere asks nothing but this, and here is nobody to ask.
    let plan = lab.project().path("pace.plan");
    let plan = plan.to_str().expect("a path");
    let _ = fleet.run(&["plan", "--out", plan]).expect_code(2);
    let nobody = Output::of(&mut lab.project().command(&["apply", plan])).expect_code(1);
    let _ = nobody.says(&[
        "play machines asks between its batches, and here is no terminal",
        "--yes goes on without asking; nothing was changed",
    ]);
    std::fs::remove_file(plan).expect("a plan");
    assert_eq!(fleet.contents(), ["old"; 3]);

    let stopped = fleet.answer(&[
        ("Apply these changes? [y/N] ", "y"),
        (
            "play machines: 1 done, 2 to come (collector-2, storage-1). Go on? [y/N] ",
            "y",
        ),
        (
            "play machines: 2 done, 1 to come (storage-1). Go on? [y/N] ",
            "n",
        ),
    ]);
    let _ = stopped.expect_code(1).says(&[
        "play machines stops: nobody said that it shall go on",
        "storage-1: not reached",
    ]);
    assert_eq!(fleet.contents(), ["new", "new", "old"]);
    // One host is one batch, and there is nothing to ask between.
    let rest = fleet.answer(&[("Apply these changes? [y/N] ", "y")]);
    let _ = rest.success();
    assert_eq!(fleet.contents(), ["new"; 3]);
    fleet.clear();
}

fn a_host_that_does_not_answer_is_left_out(lab: &Lab) {
    let fleet = ByAddress::new(lab);
    let skips = "unreachable = \"skip\"";
    let _first = fleet.play(skips, "old");
    let _ = fleet.run(&["apply", "--yes"]).success();
    let _second = fleet.play(skips, "new");
    let cut = |verb| lab.project().provision(&["lab", verb, "collector-1"]);
    let _ = cut("cut").success();
    let planned = fleet.run(&["plan"]);
    let applied = fleet.run(&["apply", "--yes"]);
    let _ = cut("restore").success();
    let _ = planned.expect_code(2).says(&[
        "2 changes on 2 of 2 hosts",
        "collector-1 is left out: collector-1 (10.77.0.21) cannot be reached",
    ]);
    let _ = applied.expect_code(1).says(&[
        "collector-1: left out, it does not answer: ",
        "collector-2: 1 change",
        "storage-1: 1 change",
        "not done in ",
    ]);
    assert_eq!(fleet.contents(), ["old", "new", "new"]);
    let completed = fleet.run(&["apply", "--yes"]).success();
    let _ = completed.says(&[
        "collector-1: 1 change",
        "collector-2: unchanged",
        "storage-1: unchanged",
    ]);
    assert_eq!(fleet.contents(), ["new"; 3]);
    fleet.clear();
}

/// Three hosts of the lab as machines that are known by address and key, one after the other.
pub(crate) struct ByAddress<'a> {
    lab: &'a Lab,
    _files: [Edit; 2],
}

impl<'a> ByAddress<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let (state, project) = (lab.state(), lab.project());
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let listed = state["hosts"].as_array().expect("hosts");
        let described = HOSTS.map(|name| {
            let host = listed.iter().find(|host| host["name"] == name);
            let host = host.expect("a host of the lab");
            let (address, key) = (text(&host["address"]), text(&host["host_key"]));
            format!("{name} = {{ address = \"{address}\", host_key = \"{key}\" }}\n")
        });
        let inventory = format!(
            "provider = \"on-prem\"\n[ssh]\nuser = \"root\"\nidentity = \"{}\"\n\
             proxy_command = \"{}\"\nconnect_timeout = \"3s\"\nkeep_connection = \"0s\"\n\
             [groups.machines.hosts]\n{}",
            text(&state["identity"]),
            text(&state["proxy_command"]),
            described.concat(),
        );
        let environment =
            format!("inventories = [\"{PACE}\"]\ntier = \"small\"\nplaybook = \"{PACE}\"\n");
        let files = [
            project.write(&format!("inventories/{PACE}.toml"), &inventory),
            project.write(&format!("environments/{PACE}.toml"), &environment),
        ];
        Self { lab, _files: files }
    }

    /// The play, with these words on its pace.
    fn play(&self, pace: &str, content: &str) -> Edit {
        let text = format!(
            "[[play]]\nhosts = \"machines\"\nserial = 1\n{pace}\n[[play.resource]]\n\
             file = {{ path = \"{FILE}\", content = \"{content}\" }}\n"
        );
        self.playbook(&text)
    }

    pub(crate) fn playbook(&self, text: &str) -> Edit {
        let path = format!("playbooks/{PACE}.toml");
        self.lab.project().write(&path, text)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let all = [arguments, &["--env", PACE]].concat();
        self.lab.project().command(&all)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// What stands on each host.
    fn contents(&self) -> [String; 3] {
        HOSTS.map(|host| self.lab.ssh(host, &format!("cat {FILE}")))
    }

    /// Runs `apply` at a terminal, and types an answer after each question.
    fn answer(&self, answers: &[(&str, &str)]) -> Output {
        let command = self.command(&["apply"]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut run = Command::new("script")
            .args(["-qec", &words.join(" "), "/dev/null"])
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script");
        let mut input = run.stdin.take().expect("an input");
        let mut shown = Vec::new();
        for (question, answer) in answers {
            let output = run.stdout.as_mut().expect("an output");
            let mut byte = [0u8];
            while !shown.ends_with(question.as_bytes()) {
                let read = output.read(&mut byte).expect("an output");
                let so_far = String::from_utf8_lossy(&shown);
                assert_eq!(read, 1, "`{question}` is not asked:\n{so_far}");
                shown.push(byte[0]);
            }
            writeln!(input, "{answer}").expect("a terminal");
        }
        let output = Output::ended(run);
        drop(input);
        output
    }

    /// Takes everything off the hosts again.
    pub(crate) fn clear(&self) {
        let _ = self.run(&["destroy", "--yes"]).success();
        for host in HOSTS {
            let _ = self.lab.ssh(host, &format!("! ls {FILE}"));
        }
    }
}
