//! A connection that breaks in the middle of a change: the run goes on over another one.

use std::process::Stdio;
use std::time::Duration;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;
use crate::failure::wait_for;
use crate::pace::{ByAddress, HOSTS};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "lost::a_run_goes_on_over_another_connection_and_does_nothing_twice",
    needs: &[Requirement::Root],
    run: a_run_goes_on_over_another_connection_and_does_nothing_twice,
}];

/// A command between two files, which takes as long as it is held, and writes down that it began.
const PLAYBOOK: &str = r#"
[[play]]
hosts = "machines"
serial = 1
[[play.resource]]
file = { path = "/etc/lost-before", content = "x" }
[[play.resource]]
command = { run = ["sh", "-c", "echo >> /run/lost-begun; i=0; while [ -e /run/lost-hold ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done; : > /run/lost-ended"], creates = "/run/lost-ended" }
[[play.resource]]
file = { path = "/etc/lost-after", content = "x" }
"#;

fn a_run_goes_on_over_another_connection_and_does_nothing_twice(lab: &Lab) {
    let fleet = ByAddress::new(lab);
    let _play = fleet.playbook(PLAYBOOK);
    let _ = lab.ssh("collector-1", "touch /run/lost-hold");
    let run = fleet
        .command(&["apply", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    wait_for("the command to begin", || {
        lab.try_ssh("collector-1", "ls /run/lost-begun").code == 0
    });
    // By systemd, as the one that asks for it ends with the others.
    let sessions = "systemctl stop ssh; pkill -KILL -x sshd; systemctl start ssh";
    let _ = lab.try_ssh(
        "collector-1",
        &format!("systemd-run --quiet sh -c '{sessions}'"),
    );
    // The helper that was left holds the lock for as long as the step in hand takes.
    std::thread::sleep(Duration::from_secs(3));
    wait_for("sshd to be back", || {
        lab.try_ssh("collector-1", "rm -f /run/lost-hold").code == 0
    });
    let output = Output::ended(run).success().says(&[
        "collector-1: its connection was lost: connecting again",
        "collector-1: connected again after",
    ]);
    for host in HOSTS {
        let line = format!("{host}: 3 changes");
        assert!(output.stdout.contains(&line), "{}", output.describe());
        let begun = lab.ssh(host, "wc -l < /run/lost-begun");
        assert_eq!(begun.trim(), "1", "{host} was told twice");
    }
    let again = fleet.run(&["apply", "--yes"]).success();
    let _ = again.says(
        &HOSTS
            .map(|host| format!("{host}: unchanged"))
            .each_ref()
            .map(String::as_str),
    );
    fleet.clear();
    for host in HOSTS {
        let _ = lab.ssh(host, "rm /run/lost-* && ! ls /etc/lost-*");
    }
}
