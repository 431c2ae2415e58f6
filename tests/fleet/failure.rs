//! Gateways that die, and the platform that goes on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use fleet_tests::Lab;

use crate::Test;
use crate::telemetry::{self, Amount};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "failure::systemd_brings_a_killed_gateway_back",
        needs: &[fleet_tests::Requirement::Root],
        run: systemd_brings_a_killed_gateway_back,
    },
    Test {
        name: "failure::sends_go_on_while_a_gateway_is_stopped",
        needs: telemetry::NEEDS,
        run: sends_go_on_while_a_gateway_is_stopped,
    },
];

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn systemd_brings_a_killed_gateway_back(lab: &Lab) {
    let main = || {
        lab.ssh(
            "collector-1",
            "systemctl show otel-collector -p MainPID --value",
        )
    };
    let before = main();
    let _ = lab.ssh("collector-1", &format!("kill -KILL {}", before.trim()));
    wait_for("another process", || {
        let now = main();
        now.trim() != "0" && now != before
    });
    wait_for("an active unit", || {
        lab.try_ssh("collector-1", "systemctl is-active otel-collector")
            .code
            == 0
    });
    wait_for("HAProxy to see it up", || {
        server_state(lab, "collector-1") == "UP"
    });
    let _ = lab
        .project()
        .provision(&["status", "--env", "development"])
        .success();
}

fn sends_go_on_while_a_gateway_is_stopped(lab: &Lab) {
    let amount = Amount {
        spans: 10_000,
        logs: 10_000,
        points: 1_000,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("expected.json");
    let mut command = telemetry::client(lab, "grpc", "one-stopped", amount, &file);
    // About eight seconds of sending, with the stop in its first half.
    command.env("FLEET_RATE", "2500");
    let client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    std::thread::sleep(Duration::from_secs(3));
    let _ = lab.ssh("collector-2", "systemctl stop otel-collector");
    wait_for("HAProxy to take it out", || {
        server_state(lab, "collector-2").starts_with("DOWN")
    });
    let still_sending = !file.exists();
    let output = client.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", said.trim());
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        still_sending,
        "the gateway was not stopped while the client sent"
    );
    let expected = std::fs::read_to_string(file).expect("a file");
    telemetry::verify(
        lab,
        "one-stopped",
        amount,
        &serde_json::from_str(&expected).expect("JSON"),
    );
    // With one gateway out, everything still arrives.
    let amount = Amount {
        spans: 1_000,
        logs: 1_000,
        points: 100,
    };
    let expected = telemetry::send(lab, "http", "still-stopped", amount);
    telemetry::verify(lab, "still-stopped", amount, &expected);
    let _ = lab.ssh("collector-2", "systemctl start otel-collector");
    wait_for("HAProxy to take it back", || {
        server_state(lab, "collector-2") == "UP"
    });
}

/// What HAProxy thinks of a gateway.
pub(crate) fn server_state(lab: &Lab, gateway: &str) -> String {
    let table = lab.ssh("lb-1", &telemetry::fetch("127.0.0.1", 8404, "/stats;csv"));
    let begins = format!("gateways_grpc,{gateway},");
    let row = table
        .lines()
        .find(|line| line.starts_with(&begins))
        .unwrap_or_default();
    row.split(',').nth(17).unwrap_or_default().to_owned()
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
