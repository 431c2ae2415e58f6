//! From nothing to a platform, and the same again.

use fleet_tests::{Lab, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "main_job::every_host_runs_what_its_playbook_says",
        needs: &[Requirement::Root],
        run: every_host_runs_what_its_playbook_says,
    },
    Test {
        name: "main_job::the_collector_is_installed_as_the_documents_ask",
        needs: &[Requirement::Root],
        run: the_collector_is_installed_as_the_documents_ask,
    },
    Test {
        name: "main_job::the_balancer_serves_its_ports",
        needs: &[Requirement::Root],
        run: the_balancer_serves_its_ports,
    },
    Test {
        name: "main_job::a_second_run_changes_and_restarts_nothing",
        needs: &[Requirement::Root],
        run: a_second_run_changes_and_restarts_nothing,
    },
];

fn every_host_runs_what_its_playbook_says(lab: &Lab) {
    let output = lab
        .project()
        .provision(&["status", "--env", "development", "--output", "json"]);
    let output = output.success();
    let hosts: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let hosts = hosts.as_array().expect("a list");
    assert_eq!(hosts.len(), 4, "{}", output.describe());
    for host in hosts {
        assert_eq!(host["reachable"], true, "{host}");
        assert_eq!(host["pending"], 0, "{host}");
        let healthy = |check: &serde_json::Value| check["healthy"] == true;
        assert!(
            host["health"]
                .as_array()
                .is_some_and(|checks| checks.iter().all(healthy)),
            "{host}"
        );
        let running = |unit: &serde_json::Value| unit["state"] == "active (running)";
        assert!(
            host["services"]
                .as_array()
                .is_some_and(|units| units.iter().all(running)),
            "{host}"
        );
    }
    // What systemd itself says.
    for (host, unit) in [
        ("lb-1", "haproxy"),
        ("collector-1", "otel-collector"),
        ("collector-2", "otel-collector"),
        ("storage-1", "otel-collector"),
    ] {
        let _ = lab.ssh(
            host,
            &format!("systemctl is-active {unit} && systemctl is-enabled {unit}"),
        );
    }
}

fn the_collector_is_installed_as_the_documents_ask(lab: &Lab) {
    let show = "systemctl show otel-collector -p Restart -p LimitNOFILE -p MemoryMax \
        -p CPUQuotaPerSecUSec -p NoNewPrivileges -p ProtectSystem -p ReadWritePaths -p Type -p User";
    for (host, memory_bytes, writable) in [
        ("collector-1", 2_u64 << 30, ""),
        ("collector-2", 2_u64 << 30, ""),
        ("storage-1", 4_u64 << 30, "/mnt/data/otel"),
    ] {
        let shown = lab.ssh(host, show);
        for expected in [
            "Restart=always",
            "LimitNOFILE=65536",
            &format!("MemoryMax={memory_bytes}"),
            "CPUQuotaPerSecUSec=2s",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            &format!("ReadWritePaths={writable}"),
            "Type=notify",
            "User=otel",
        ] {
            assert!(
                shown.lines().any(|line| line == expected),
                "{host}: {expected} in\n{shown}"
            );
        }
        let config = lab.ssh(host, "stat -c '%a %U' /etc/otel-collector/config.yaml");
        assert_eq!(config.trim(), "640 otel");
        let limit = lab.ssh(host, "grep ' limit_mib:' /etc/otel-collector/config.yaml");
        let expected = (memory_bytes >> 20) * 8 / 10;
        assert_eq!(limit.trim(), format!("limit_mib: {expected}"));
        let rating = lab.ssh(host, "systemd-analyze security otel-collector | tail -n 1");
        let exposure: f64 = rating
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no rating in {rating}"));
        assert!(exposure <= 4.9, "{host} is rated worse than OK: {rating}");
        println!("{host}: {}", rating.trim());
        let _ = lab.ssh(
            host,
            "! ldd /usr/local/bin/collector 2>/dev/null | grep -q '=>'",
        );
    }
}

fn the_balancer_serves_its_ports(lab: &Lab) {
    let listening = lab.ssh("lb-1", "ss -Hltn");
    for port in [4317, 4318, 8404, 13133] {
        let address = format!(":{port} ");
        assert!(listening.contains(&address), "port {port} in\n{listening}");
    }
    let config = lab.ssh("lb-1", "cat /etc/haproxy/haproxy.cfg");
    for gateway in [
        "10.77.0.21:4317",
        "10.77.0.22:4317",
        "10.77.0.21:4318",
        "10.77.0.22:4318",
    ] {
        assert!(config.contains(gateway), "{gateway} in\n{config}");
    }
    let state = lab.ssh("lb-1", STATISTICS);
    let up = state
        .lines()
        .filter(|line| line.contains(",collector-") && line.contains(",UP,"));
    assert_eq!(up.count(), 4, "{state}");
}

/// Asks HAProxy for its statistics, with nothing but bash.
const STATISTICS: &str = "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/8404; \
    printf \"GET /stats;csv HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'";

/// How many commands sshd has run for an account, the one that asks included.
pub(crate) fn executions(lab: &Lab, host: &str, user: &str) -> usize {
    let line = format!("Starting session: command for {user} ");
    // What sshd said last may still be on its way to the journal.
    let count = format!(
        "journalctl --sync; journalctl -u ssh --no-pager -o cat | grep -cF '{line}' || true"
    );
    lab.ssh(host, &count).trim().parse().expect("a number")
}

fn a_second_run_changes_and_restarts_nothing(lab: &Lab) {
    let before = lab.trees();
    let hosts = lab.hosts();
    let counted: Vec<usize> = hosts
        .iter()
        .map(|host| executions(lab, host, "root"))
        .collect();
    let _ = lab.project().apply().says(&["done in"]);
    for (host, before) in hosts.iter().zip(counted) {
        // Counting is an execution of its own.
        let during = executions(lab, host, "root") - before - 1;
        println!("{host}: {during} execution in a run that changes nothing");
        assert_eq!(during, 1, "{host}");
    }
    assert_eq!(before, lab.trees());
    let _ = lab
        .project()
        .provision(&["plan", "--env", "development"])
        .success();
}
