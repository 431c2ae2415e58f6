//! A connection that breaks in the middle of a rollout: the run goes on over another one.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;
use crate::failure::{server_state, wait_for};
use crate::pace::{ByAddress, HOSTS};
use crate::rollout::GATEWAYS;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "lost::a_run_goes_on_over_another_connection_and_does_nothing_twice",
        needs: &[Requirement::Root],
        run: a_run_goes_on_over_another_connection_and_does_nothing_twice,
    },
    Test {
        name: "lost::a_balancer_that_is_lost_while_a_gateway_changes_uses_it_again",
        needs: &[Requirement::Root],
        run: a_balancer_that_is_lost_while_a_gateway_changes_uses_it_again,
    },
];

/// A command which takes as long as it is held, and writes down that it began.
const HELD: &str = r#"command = { run = ["sh", "-c", "echo >> /run/lost-begun; i=0; while [ -e /run/lost-hold ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done; : > /run/lost-ended"], creates = "/run/lost-ended" }"#;

/// Starts a run, which is in its command on this host then, and stays there.
fn begun(lab: &Lab, host: &str, mut run: Command) -> Child {
    let _ = lab.ssh(host, "touch /run/lost-hold");
    let run = run
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    wait_for("the command to begin", || {
        lab.try_ssh(host, "ls /run/lost-begun").code == 0
    });
    run
}

fn a_run_goes_on_over_another_connection_and_does_nothing_twice(lab: &Lab) {
    let fleet = ByAddress::new(lab);
    let file = |name| format!("file = {{ path = \"/etc/lost-{name}\", content = \"x\" }}");
    let resources = [&file("before"), HELD, &file("after")];
    let resources = resources.map(|text| format!("[[play.resource]]\n{text}\n"));
    let play = "[[play]]\nhosts = \"machines\"\nserial = 1\n".to_owned() + &resources.concat();
    let _play = fleet.playbook(&play);
    let run = begun(lab, "collector-1", fleet.command(&["apply", "--yes"]));
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

fn a_balancer_that_is_lost_while_a_gateway_changes_uses_it_again(lab: &Lab) {
    let first = "[[play.resource]]\ngroup = {";
    let held = format!("[[play.resource]]\n{HELD}\n\n{first}");
    let edit = lab
        .project()
        .edit("playbooks/collectors.toml", first, &held);
    let [one, _] = GATEWAYS;
    let apply = ["apply", "--env", "development", "--yes"];
    let run = begun(lab, one, lab.project().command(&apply));
    assert!(server_state(lab, one).starts_with("MAINT"), "it is in use");
    end_connections(lab, "lb-1");
    wait_for("sshd to be back", || lab.try_ssh("lb-1", "true").code == 0);
    let _ = lab.ssh(one, "rm /run/lost-hold");
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
    for gateway in GATEWAYS {
        let _ = lab.ssh(gateway, "rm /run/lost-*");
    }
    let _ = lab.project().apply();
}

/// Ends all connections to a host, by systemd, as the one that asks for it ends with the others.
fn end_connections(lab: &Lab, host: &str) {
    let sessions = "systemctl stop ssh; pkill -KILL -x sshd; systemctl start ssh";
    let _ = lab.try_ssh(host, &format!("systemd-run --quiet sh -c '{sessions}'"));
}
