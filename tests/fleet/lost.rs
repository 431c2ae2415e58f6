//! A connection that breaks in the middle of a rollout: the run goes on over another one.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;
use crate::failure::{server_state, wait_for};
use crate::pace::{ByAddress, HOSTS};
use crate::rollout::{GATEWAYS, STREAMS, TEMPLATE};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "lost::a_run_goes_on_over_another_connection_and_does_nothing_twice",
        needs: &[Requirement::Root],
        run: a_run_goes_on_over_another_connection_and_does_nothing_twice,
    },
    Test {
        name: "lost::a_balancer_that_is_lost_while_it_drains_is_told_again",
        needs: &[Requirement::Root],
        run: a_balancer_that_is_lost_while_it_drains_is_told_again,
    },
];

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

/// Where the balancer is, and what is said to it.
const BALANCER: &str = "10.77.0.11";
const HEAD: &[u8] = b"POST /v1/traces HTTP/1.1\r\nHost: lb\r\nContent-Length: 9\r\n\r\n";

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
    end_connections(lab, "collector-1");
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

fn a_balancer_that_is_lost_while_it_drains_is_told_again(lab: &Lab) {
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 264");
    // A request whose body does not come keeps one of the gateways busy.
    let mut client = lab.exec(&["nc", "-N", BALANCER, "4318"]);
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a client");
    let mut input = client.stdin.take().expect("its input");
    input.write_all(HEAD).expect("a client that listens");
    let run = lab
        .project()
        .command(&["apply", "--env", "development", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    wait_for("a gateway that ends its sessions", || {
        GATEWAYS
            .iter()
            .any(|gateway| server_state(lab, gateway).starts_with("DRAIN"))
    });
    end_connections(lab, "lb-1");
    wait_for("sshd to be back", || lab.try_ssh("lb-1", "true").code == 0);
    drop(input);
    let _ = client.wait();
    let output = Output::ended(run).success().says(&[
        "lb-1: its connection was lost: connecting again",
        "lb-1: connected again after",
    ]);
    for gateway in GATEWAYS {
        for what in [
            "left out by lb-1",
            "used again by lb-1",
            "play gateways done",
        ] {
            let line = format!("{gateway}: {what}");
            assert!(output.stderr.contains(&line), "{}", output.describe());
        }
        assert_eq!(server_state(lab, gateway), "UP");
    }
    let left = "ls /var/lib/haproxy/server-state 2>/dev/null || true";
    assert_eq!(lab.ssh("lb-1", left), "", "a gateway is still left out");
    drop(edit);
    let _ = lab.project().apply();
}

/// Ends all connections to a host, by systemd, as the one that asks for it ends with the others.
fn end_connections(lab: &Lab, host: &str) {
    let sessions = "systemctl stop ssh; pkill -KILL -x sshd; systemctl start ssh";
    let _ = lab.try_ssh(host, &format!("systemd-run --quiet sh -c '{sessions}'"));
}
