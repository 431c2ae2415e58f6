//! Rollouts: gateways that are left out by their balancer while they change, and canaries.

use std::process::Stdio;

use fleet_tests::{Lab, Requirement};

use crate::Test;
use crate::failure::{server_state, wait_for};
use crate::telemetry::{self, Amount};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "rollout::a_rolling_change_with_drain_loses_and_refuses_nothing",
        needs: telemetry::NEEDS,
        run: a_rolling_change_with_drain_loses_and_refuses_nothing,
    },
    Test {
        name: "rollout::a_failing_canary_leaves_the_other_hosts_untouched",
        needs: &[Requirement::Root],
        run: a_failing_canary_leaves_the_other_hosts_untouched,
    },
    Test {
        name: "rollout::a_gateway_that_is_left_out_stays_so_through_reloads_until_a_run_ends_well",
        needs: &[Requirement::Root],
        run: a_gateway_that_is_left_out_stays_so_through_reloads,
    },
    Test {
        name: "rollout::too_few_ready_hosts_are_refused_before_anything_is_touched",
        needs: &[Requirement::Root],
        run: too_few_ready_hosts_are_refused,
    },
];

const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";
const PLAYBOOK: &str = "playbooks/collectors.toml";
const STREAMS: &str = "max_concurrent_streams: 100";
pub(crate) const GATEWAYS: [&str; 2] = ["collector-1", "collector-2"];

fn a_rolling_change_with_drain_loses_and_refuses_nothing(lab: &Lab) {
    let mut amount = Amount {
        spans: 1_000,
        logs: 1_000,
        points: 100,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("expected.json");
    let enough = folder.path().join("enough");
    let mut command = telemetry::client(lab, "grpc", "rolling", amount, &file);
    command
        .env("FLEET_RATE", "2500")
        .env("FLEET_UNTIL", &enough);
    let refused_before = refused(lab);
    let accepted = || telemetry::accepted_spans(lab).iter().sum::<u64>();
    let accepted_before = accepted();
    let client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    wait_for("spans of the client", || accepted() > accepted_before);
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 260");
    let begun = lab.ssh("lb-1", "date +%s");
    let output = lab.project().apply();
    std::fs::write(enough, "").expect("a file");
    let ended = client.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    println!("{}", said.trim());
    assert!(
        ended.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let servers = said_of_servers(lab, begun.trim());
    for gateway in GATEWAYS {
        for what in ["left out", "used again"] {
            let line = format!("{gateway}: {what} by lb-1");
            assert!(output.stderr.contains(&line), "{}", output.describe());
        }
        let server = format!("Server gateways_grpc/{gateway}");
        let says = |what: &str| servers.contains(&format!("{server} {what}"));
        assert!(says("is going DOWN for maintenance"), "{servers}");
        assert!(says("is UP/READY"), "{servers}");
        assert_eq!(server_state(lab, gateway), "UP");
        let sick = says("is DOWN") || says("was DOWN");
        assert!(!sick, "stopped while HAProxy still sent to it: {servers}");
    }
    assert_eq!(
        refused(lab),
        refused_before,
        "responses that HAProxy made an error"
    );
    let expected = std::fs::read_to_string(file).expect("a file");
    let expected: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
    amount.spans = expected["spans"].as_object().expect("an object").len();
    telemetry::verify(lab, "rolling", amount, &expected);
    drop(edit);
    let _ = lab.project().apply();
}

fn a_failing_canary_leaves_the_other_hosts_untouched(lab: &Lab) {
    let before = lab.tree("collector-1");
    let canary = lab.project().edit(
        PLAYBOOK,
        "max_fail = 0",
        "max_fail = 1\ncanary = { hosts = [\"collector-2\"], watch = \"2s\" }",
    );
    let health = lab.project().edit(
        PLAYBOOK,
        "13133/health\", within = \"30s\"",
        "13133/wrong\", within = \"2s\"",
    );
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 261");
    let output = lab
        .project()
        .provision(&["apply", "--env", "development", "--yes"]);
    let _ = output.expect_code(1).says(&[
        "collector-2: http://127.0.0.1:13133/wrong is not healthy within 2s",
        "collector-2: failed, and has what it had before",
        "play gateways stops: its canary collector-2 failed",
        "collector-1: not reached",
    ]);
    assert_eq!(before, lab.tree("collector-1"), "it was touched");
    wait_for("HAProxy to use both", || {
        GATEWAYS
            .iter()
            .all(|gateway| server_state(lab, gateway) == "UP")
    });
    drop(health);
    // With its health as it should be the canary is watched, and the other one follows.
    let output = lab.project().apply();
    let order: Vec<usize> = [
        "collector-2: play gateways done",
        "collector-1: play gateways done",
    ]
    .iter()
    .map(|line| output.stderr.find(line).expect("both are done"))
    .collect();
    assert!(order[0] < order[1], "{}", output.describe());
    drop((canary, edit));
    let _ = lab.project().apply();
}

fn a_gateway_that_is_left_out_stays_so_through_reloads(lab: &Lab) {
    // A run that ends without bringing a host back leaves it out.
    let health = lab.project().edit(
        PLAYBOOK,
        "13133/health\", within = \"30s\"",
        "13133/wrong\", within = \"1s\"",
    );
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 262");
    let output =
        lab.project()
            .provision(&["apply", "--env", "development", "--yes", "--no-rollback"]);
    let _ = output
        .expect_code(1)
        .says(&["collector-1: stays left out by its balancer"]);
    let out = |lab: &Lab| server_state(lab, "collector-1").starts_with("MAINT");
    assert!(out(lab), "{}", server_state(lab, "collector-1"));
    for how in ["reload", "restart"] {
        let _ = lab.ssh("lb-1", &format!("systemctl {how} haproxy"));
        wait_for("HAProxy to see the other one up", || {
            server_state(lab, "collector-2") == "UP"
        });
        assert!(out(lab), "{how}: {}", server_state(lab, "collector-1"));
    }
    drop(health);
    let _ = lab.project().apply();
    wait_for("HAProxy to use it again", || {
        server_state(lab, "collector-1") == "UP"
    });
    let left = lab.ssh(
        "lb-1",
        "ls /var/lib/haproxy/server-state 2>/dev/null || true",
    );
    assert_eq!(left, "", "nothing is remembered of a host that is in use");
    drop(edit);
    let _ = lab.project().apply();
}

fn too_few_ready_hosts_are_refused(lab: &Lab) {
    let pace = lab
        .project()
        .edit(PLAYBOOK, "max_fail = 0", "max_fail = 0\nmin_ready = 2");
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 263");
    lab.expect_unchanged(|| {
        for command in [&["apply", "--yes"][..], &["plan"]] {
            let arguments = [command, &["--env", "development"]].concat();
            let output = lab.project().provision(&arguments).expect_code(1);
            let _ = output.says(&[
                "play gateways: 2 hosts must stay ready, and changing one leaves 1 of 2",
                "lower `min_ready` at playbooks/collectors.toml",
            ]);
        }
    });
    drop((pace, edit));
}

/// What HAProxy has said of its servers since it was so many seconds after 1970.
fn said_of_servers(lab: &Lab, since: &str) -> String {
    let script = format!(
        "journalctl --sync && journalctl --quiet --unit haproxy --since @{since} --output cat"
    );
    lab.ssh("lb-1", &script)
}

/// How many responses HAProxy has made an error, over both ports.
pub(crate) fn refused(lab: &Lab) -> Vec<String> {
    let table = lab.ssh("lb-1", &telemetry::fetch("127.0.0.1", 8404, "/stats;csv"));
    let mut lines = table
        .lines()
        .skip_while(|line| !line.starts_with("# pxname"));
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let column = header.iter().position(|name| *name == "hrsp_5xx");
    let column = column.expect("hrsp_5xx");
    lines
        .filter(|line| line.starts_with("otlp_") && line.contains(",FRONTEND,"))
        .map(|line| line.split(',').nth(column).unwrap_or_default().to_owned())
        .collect()
}
