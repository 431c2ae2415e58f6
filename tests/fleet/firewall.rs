//! Ports that plays declare are open, all others are closed, and the table goes with its playbook.

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "firewall::declared_ports_are_open_and_all_others_closed",
    needs: &[Requirement::Root],
    run: declared_ports_are_open_and_all_others_closed,
}];

const HOSTS: [(&str, &str); 4] = [
    ("lb-1", "10.77.0.11"),
    ("collector-1", "10.77.0.21"),
    ("collector-2", "10.77.0.22"),
    ("storage-1", "10.77.0.31"),
];

/// Nobody declares it, and something listens at it.
const UNDECLARED: u16 = 9999;

fn declared_ports_are_open_and_all_others_closed(lab: &Lab) {
    let listen = format!(
        "systemd-run --quiet --unit=undeclared systemd-socket-activate --accept -l {UNDECLARED} cat"
    );
    for (host, address) in HOSTS {
        let _ = lab.ssh(host, &listen);
        let up = (0..50).any(|_| reaches(lab, address, UNDECLARED));
        assert!(up, "{host} before");
    }
    let _ = lab.ssh(
        "lb-1",
        "apt-get install -qq -y nftables >/dev/null && nft add table inet theirs",
    );
    let edit = lab.project().edit(
        "environments/development.toml",
        "playbook = \"site\"",
        "playbook = [\"site\", \"firewall\"]",
    );
    let _ = lab.project().apply();
    lab.expect_unchanged(|| drop(lab.project().apply()));
    for (host, address) in HOSTS {
        assert!(reaches(lab, address, 22), "{host}: ssh");
        assert!(reaches(lab, address, 13133), "{host}: health");
        assert!(!reaches(lab, address, UNDECLARED), "{host}: undeclared");
    }
    for port in [4317, 4318, 8404] {
        assert!(reaches(lab, "10.77.0.11", port), "lb-1: {port}");
    }
    // A gateway takes telemetry from the balancer only, the storage from gateways only.
    assert!(!reaches(lab, "10.77.0.21", 4317));
    assert!(!reaches(lab, "10.77.0.31", 4317));
    for (host, address, open) in [
        ("lb-1", "10.77.0.21", true),
        ("collector-1", "10.77.0.31", true),
        ("lb-1", "10.77.0.31", false),
        ("storage-1", "10.77.0.21", false),
    ] {
        let connect = format!("timeout 2 bash -c ': </dev/tcp/{address}/4317'");
        let connected = lab.try_ssh(host, &connect).code == 0;
        assert_eq!(connected, open, "{host} to {address}");
    }
    let healthy = ["status", "--env", "development"];
    let _ = lab.project().provision(&healthy).success();

    let destroy = [
        "destroy",
        "--env",
        "development",
        "--yes",
        "--limit",
        "collector-2",
    ];
    let _ = lab.project().provision(&destroy).success();
    let gone = "! command -v nft >/dev/null || ! nft list table inet provision 2>/dev/null";
    let _ = lab.ssh("collector-2", gone);
    assert!(reaches(lab, "10.77.0.22", UNDECLARED), "after destroy");
    drop(edit);
    let _ = lab.project().apply();
    for (host, address) in HOSTS {
        let _ = lab.ssh(host, gone);
        assert!(reaches(lab, address, UNDECLARED), "{host} afterwards");
        let _ = lab.ssh(host, "systemctl stop undeclared");
    }
    let theirs = lab.ssh("lb-1", "nft list tables; nft delete table inet theirs");
    assert_eq!(theirs.trim(), "table inet theirs");
}

/// Whether something accepts a connection from beside the hosts within two seconds.
fn reaches(lab: &Lab, address: &str, port: u16) -> bool {
    let connect = format!(": </dev/tcp/{address}/{port}");
    Output::of(&mut lab.exec(&["timeout", "2", "bash", "-c", &connect])).code == 0
}
