//! Two balancers share an address: when the one that has it loses power, the other takes it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use fleet_tests::{Lab, Project};

use crate::Test;
use crate::telemetry::{self, Amount};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "floating::the_address_moves_when_its_balancer_loses_power",
    needs: telemetry::NEEDS,
    run: the_address_moves_when_its_balancer_loses_power,
}];

const ADDRESS: &str = "10.77.0.10";

/// How long the address may be nowhere.
const MOVE_DEADLINE: Duration = Duration::from_secs(20);

fn the_address_moves_when_its_balancer_loses_power(_: &Lab) {
    let lab = bring_up();
    let holders = || -> Vec<&str> {
        let has = |host: &&str| {
            lab.try_ssh(host, "ip -o addr show")
                .stdout
                .contains(ADDRESS)
        };
        ["lb-1", "lb-2"].into_iter().filter(has).collect()
    };
    wait_for("one balancer to have the address", || holders() == ["lb-1"]);
    // A balancer that is not healthy gives the address away, and does not take it back by itself.
    let _ = lab.ssh("lb-1", "systemctl stop haproxy");
    wait_for("the other to have it", || holders() == ["lb-2"]);
    let _ = lab.ssh("lb-1", "systemctl start haproxy");
    let amount = Amount {
        spans: 5_000,
        logs: 5_000,
        points: 100,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("expected.json");
    let before = telemetry::accepted_spans_of(&lab, &["collector-1"]);
    let client = telemetry::client(&lab, "grpc", "floating", amount, &file)
        .env("FLEET_HOST", ADDRESS)
        .env("FLEET_RATE", "333")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    wait_for("the client to send", || {
        telemetry::accepted_spans_of(&lab, &["collector-1"]) > before
    });
    let _ = lab
        .project()
        .provision(&["lab", "power-off", "lb-2"])
        .success();
    assert!(!file.exists(), "the client was through before");
    let begun = Instant::now();
    while !answers(&lab) {
        assert!(begun.elapsed() < MOVE_DEADLINE, "the address is gone");
    }
    println!("the address answered again after {:.1?}", begun.elapsed());
    let output = client.wait_with_output().expect("an end");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // Every export was acknowledged, so what a gateway accepted is no less than what was sent; the
    // answer to a request in flight may have been lost with the power, and it is sent twice then.
    let after = telemetry::accepted_spans_of(&lab, &["collector-1"]);
    let accepted = after[0] - before[0];
    println!("{accepted} spans accepted of {}", amount.spans);
    assert!(accepted >= 5_000, "{accepted}");
}

/// Whether the balancer that has the address is healthy.
fn answers(lab: &Lab) -> bool {
    let ask = telemetry::fetch(ADDRESS, 13133, "/health");
    let mut command = lab.exec(&["timeout", "1", "bash", "-c", &ask]);
    fleet_tests::Output::of(&mut command).stdout.contains("200")
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < 60, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A lab of its own with two balancers, and the platform on it.
fn bring_up() -> Lab {
    let project = Project::new(&format!("{}-f", crate::lab_name()));
    let environment = project.path("environments/development.toml");
    let text = std::fs::read_to_string(&environment).expect("an environment");
    let text = text
        .replace("playbook = \"site\"", "playbook = [\"site\", \"floating\"]")
        .replace(
            "[settings]\n",
            &format!(
                "[settings]\nfloating = {{ address = \"{ADDRESS}/24\", interface = \"eth0\" }}\n"
            ),
        );
    let secret = "\n[secrets.vrrp]\ncommand = [\"printf\", \"s3cr3t-8\"]\n";
    std::fs::write(environment, text + secret).expect("an environment");
    let inventory = project.path("inventories/lab.toml");
    let text = std::fs::read_to_string(&inventory).expect("an inventory");
    let text = text
        .replace(
            "hosts.lb-1 = { address = \"10.77.0.11\" }\n",
            "hosts.lb-1 = { address = \"10.77.0.11\" }\nhosts.lb-2 = { address = \"10.77.0.12\" }\n",
        )
        .replace("hosts.collector-2 = { address = \"10.77.0.22\" }\n", "");
    std::fs::write(inventory, text).expect("an inventory");
    let lab = Lab::new(project);
    let _ = lab.project().provision(&["lab", "down"]);
    let _ = lab.project().apply();
    lab
}
