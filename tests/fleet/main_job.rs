//! From nothing to a platform, and the same again.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleet_tests::{Lab, Output, Requirement, TreeState};

use crate::Test;
use crate::failure::{server_state, wait_for};
use crate::telemetry::fetch;

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

const GATEWAYS: [&str; 2] = ["collector-1", "collector-2"];

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
        expect_static(lab, host, "/usr/local/bin/collector");
    }
}

/// What a segment of a program is (`p_type`).
const LOAD: u32 = 1;
/// The same, of the segment that names the dynamic linker.
const INTERPRETER: u32 = 3;

/// A program that asks for no dynamic linker is linked with nothing when it starts.
#[track_caller]
fn expect_static(lab: &Lab, host: &str, path: &str) {
    let encoded = lab.ssh(host, &format!("head -c 4096 {path} | base64 -w0"));
    let head = BASE64.decode(encoded.trim()).expect("base64");
    assert!(
        head.starts_with(b"\x7fELF\x02\x01"),
        "{path} is no ELF of 64 bits"
    );
    let number = |at: usize, bytes: usize| {
        let bytes = head[at..at + bytes].iter().rev();
        bytes.fold(0, |value, byte| value << 8 | usize::from(*byte))
    };
    // e_phoff, e_phentsize and e_phnum of the file's header.
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let segments: Vec<u32> = (0..count)
        .map(|segment| number(offset + segment * size, 4) as u32)
        .collect();
    assert!(segments.contains(&LOAD), "{path}: {segments:?}");
    assert!(!segments.contains(&INTERPRETER), "{path}: {segments:?}");
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
    let state = lab.ssh("lb-1", &fetch("127.0.0.1", 8404, "/stats;csv"));
    let up = state
        .lines()
        .filter(|line| line.contains(",collector-") && line.contains(",UP,"));
    assert_eq!(up.count(), 4, "{state}");
    let metrics = lab.ssh("lb-1", &fetch("127.0.0.1", 8404, "/metrics"));
    for line in [
        "# TYPE haproxy_server_status gauge",
        "haproxy_server_status{proxy=\"gateways_grpc\",server=\"collector-1\",state=\"UP\"} 1",
        "haproxy_server_status{proxy=\"gateways_http\",server=\"collector-2\",state=\"UP\"} 1",
    ] {
        let is_there = metrics.lines().any(|found| found.trim() == line);
        assert!(is_there, "{line} in\n{metrics}");
    }
    is_healthy_while_a_gateway_is(lab);
}

fn is_healthy_while_a_gateway_is(lab: &Lab) {
    let health = || {
        let answer = lab.ssh("lb-1", &fetch("127.0.0.1", 13133, "/health"));
        let code = answer.split_whitespace().nth(1);
        code.unwrap_or_else(|| panic!("no status in {answer}"))
            .to_owned()
    };
    let both = |verb: &str| {
        for gateway in GATEWAYS {
            let _ = lab.ssh(gateway, &format!("systemctl {verb} otel-collector"));
        }
    };
    let are = |state: &str| {
        GATEWAYS
            .iter()
            .all(|gateway| server_state(lab, gateway).starts_with(state))
    };
    assert_eq!(health(), "200");
    let _ = lab.ssh(GATEWAYS[0], "systemctl stop otel-collector");
    wait_for("HAProxy to take the first one out", || {
        server_state(lab, GATEWAYS[0]).starts_with("DOWN")
    });
    assert_eq!(health(), "200", "one gateway is left");
    both("stop");
    wait_for("HAProxy to take both out", || are("DOWN"));
    assert_eq!(health(), "503");
    both("start");
    wait_for("HAProxy to take both back", || are("UP"));
    assert_eq!(health(), "200");
}

/// How many commands sshd has run for an account, the one that asks included.
pub(crate) fn executions(lab: &Lab, host: &str, user: &str) -> usize {
    let line = format!("Starting session: command for {user} ");
    // What sshd said last may still be on its way to the journal.
    let count = format!(
        "journalctl --sync; journalctl -u ssh --no-pager -o cat | grep -cF '{line}' || true"
    );
    lab.ssh(host, &count).trim().parse().expect("a number")
}

/// What is compared is there: a look at nothing would find nothing changed.
fn looks_at_what_is_managed(trees: &BTreeMap<String, TreeState>) {
    for (host, path, unit) in [
        ("lb-1", "/etc/haproxy/haproxy.cfg", "haproxy.service"),
        (
            "collector-1",
            "/usr/local/bin/collector",
            "otel-collector.service",
        ),
        (
            "collector-2",
            "/etc/otel-collector/config.yaml",
            "otel-collector.service",
        ),
        ("storage-1", "/mnt/data", "mnt-data.mount"),
    ] {
        let tree = &trees[host];
        let link = "/etc/systemd/system/multi-user.target.wants/otel-collector.service";
        let link = (host != "lb-1").then_some(link);
        for path in [Some(path), Some("/etc/fstab"), link].into_iter().flatten() {
            assert!(tree.paths.contains_key(path), "{path} in {tree:?}");
        }
        assert_eq!(tree.helpers.len(), 1, "one helper, copied once: {tree:?}");
        assert!(!tree.units[unit].is_empty(), "{unit} in {tree:?}");
        let is_process = |id: &String| id.parse::<u32>().is_ok();
        let processes = tree.processes.values();
        assert_eq!(processes.filter(|id| is_process(id)).count(), 1, "{tree:?}");
    }
}

fn a_second_run_changes_and_restarts_nothing(lab: &Lab) {
    let before = lab.trees();
    let hosts = lab.hosts();
    looks_at_what_is_managed(&before);
    let counted: Vec<usize> = hosts
        .iter()
        .map(|host| executions(lab, host, "root"))
        .collect();
    let output = lab.project().apply().says(&["done in"]);
    says_where_to_look(&output, &crate::lab_name());
    for (host, before) in hosts.iter().zip(counted) {
        // Counting is an execution of its own.
        let during = executions(lab, host, "root") - before - 1;
        println!("{host}: {during} execution in a run that changes nothing");
        assert_eq!(during, 1, "{host}");
        let _ = output.clone().says(&[&format!("\n{host}: unchanged\n")]);
    }
    assert_eq!(before, lab.trees());
    let _ = lab
        .project()
        .provision(&["plan", "--env", "development"])
        .success();
}

/// The last words of a run tell a newcomer where to send telemetry, and how to look.
#[track_caller]
pub(crate) fn says_where_to_look(output: &Output, lab_name: &str) {
    let (_, last) = output
        .stdout
        .split_once("\nSend OTLP to ")
        .unwrap_or_else(|| panic!("nothing says where to send:\n{}", output.describe()));
    let mut lines = last.lines();
    let send = format!(
        "10.77.0.11:4317 (gRPC) or http://10.77.0.11:4318 (HTTP). \
         The lab `{lab_name}` has a network of its own:"
    );
    assert_eq!(lines.next(), Some(send.as_str()), "{}", output.describe());
    let commands: Vec<&str> = lines
        .filter_map(|line| line.trim_start().split("   ").next())
        .collect();
    assert_eq!(
        commands,
        [
            "provision lab exec -- PROGRAM …",
            "provision lab exec -- curl -s http://10.77.0.11:8404/stats",
            "provision lab ssh storage-1 -- tail -f /mnt/data/otel/telemetry.jsonl",
            "provision status --env development",
            "provision lab down",
        ],
        "{}",
        output.describe()
    );
}
