//! One word in the environment has NGINX balance in the place of HAProxy, and back.

use std::process::Stdio;
use std::time::Duration;

use fleet_tests::Lab;

use crate::Test;
use crate::telemetry::{self, Amount};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "nginx::takes_the_place_of_haproxy_and_gives_it_back",
    needs: telemetry::NEEDS,
    run: takes_the_place_of_haproxy_and_gives_it_back,
}];

const ENVIRONMENT: &str = "environments/development.toml";

fn takes_the_place_of_haproxy_and_gives_it_back(lab: &Lab) {
    let word = lab.project().edit(
        ENVIRONMENT,
        "playbook = \"site\"",
        "playbook = \"site\"\ninstead.balancers = \"nginx\"",
    );
    let plan = lab
        .project()
        .provision(&["plan", "--env", "development"])
        .expect_code(2);
    let _ = plan.says(&[
        "haproxy.service is stopped: nginx.service runs instead",
        "file /etc/haproxy/haproxy.cfg",
        "changes on 1 of 4 hosts",
    ]);
    let _ = lab.project().apply().says(&["play balancers done"]);
    runs_instead(lab, "nginx", "haproxy");
    // From 1.25.1 on, HTTP/2 has a directive of its own; what suits the version is not warned of.
    let said = lab.ssh("lb-1", "nginx -v 2>&1; nginx -t 2>&1");
    println!("{}", said.trim());
    assert!(!said.contains("warn"), "{said}");
    let newer = "dpkg --compare-versions $(dpkg-query -W -f '${Version}' nginx) ge 1.25.1";
    let newer = lab.try_ssh("lb-1", newer).code == 0;
    let config = lab.ssh("lb-1", "cat /etc/nginx/nginx.conf");
    assert_eq!(config.contains("http2 on;"), newer, "{said}{config}");
    assert_eq!(config.contains(" http2;"), !newer, "{said}{config}");
    let statistics = lab.ssh("lb-1", &telemetry::fetch("127.0.0.1", 8404, "/stats"));
    assert!(statistics.contains("Active connections"), "{statistics}");
    both_gateways_get_their_share(lab);
    a_stopped_gateway_loses_nothing(lab);
    lab.expect_unchanged(|| drop(lab.project().apply()));
    drop(word);
    let _ = lab.project().apply();
    runs_instead(lab, "haproxy", "nginx");
    let config = lab.ssh("lb-1", "cat /etc/nginx/nginx.conf");
    assert!(!config.contains("Managed by provision"), "{config}");
}

fn runs_instead(lab: &Lab, runs: &str, makes_way: &str) {
    let state = |verb: &str, unit: &str| {
        let output = lab.try_ssh("lb-1", &format!("systemctl {verb} {unit}"));
        output.stdout.trim().to_owned()
    };
    assert_eq!(state("is-active", runs), "active");
    assert_eq!(state("is-enabled", runs), "enabled");
    assert_eq!(state("is-active", makes_way), "inactive");
    assert_eq!(state("is-enabled", makes_way), "disabled");
}

fn both_gateways_get_their_share(lab: &Lab) {
    let amount = Amount {
        spans: 5_000,
        logs: 500,
        points: 100,
    };
    for protocol in ["grpc", "http"] {
        let before = telemetry::accepted_spans(lab);
        let run = format!("nginx-{protocol}");
        let expected = telemetry::send(lab, protocol, &run, amount);
        telemetry::verify(lab, &run, amount, &expected);
        let after = telemetry::accepted_spans(lab);
        let shares: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        println!("{protocol}: spans by gateway: {shares:?}");
        assert_eq!(shares.iter().sum::<u64>(), 5_000);
        assert!(shares.iter().all(|share| *share > 1_500), "{shares:?}");
    }
}

fn a_stopped_gateway_loses_nothing(lab: &Lab) {
    let amount = Amount {
        spans: 5_000,
        logs: 5_000,
        points: 100,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("expected.json");
    let mut command = telemetry::client(lab, "grpc", "nginx-stop", amount, &file);
    command.env("FLEET_RATE", "1250");
    let before = telemetry::accepted_spans(lab).iter().sum::<u64>();
    let client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    while telemetry::accepted_spans(lab).iter().sum::<u64>() == before {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = lab.ssh("collector-2", "systemctl stop otel-collector");
    assert!(!file.exists(), "the client was through before the stop");
    let output = client.wait_with_output().expect("an end");
    let _ = lab.ssh("collector-2", "systemctl start otel-collector");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", said.trim());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    let expected = std::fs::read_to_string(file).expect("a file");
    let expected = serde_json::from_str(&expected).expect("JSON");
    telemetry::verify(lab, "nginx-stop", amount, &expected);
}
