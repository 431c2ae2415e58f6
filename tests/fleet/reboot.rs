//! Reboots as a step of a rollout: host by host, drained, awaited, and completed by the next run.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use fleet_tests::{Edit, Lab, Requirement};

use crate::Test;
use crate::failure::{server_state, wait_for};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "reboot::gateways_are_rebooted_one_by_one_drained_and_awaited",
        needs: &[Requirement::Root],
        run: gateways_are_rebooted_one_by_one_drained_and_awaited,
    },
    Test {
        name: "reboot::a_controller_that_is_killed_meanwhile_leaves_what_the_next_run_completes",
        needs: &[Requirement::Root],
        run: a_controller_that_is_killed_meanwhile,
    },
    Test {
        name: "reboot::a_host_that_its_boot_locks_puts_back_what_did_and_stops_the_rollout",
        needs: &[Requirement::Root],
        run: a_host_that_its_boot_locks_puts_back_what_did,
    },
];

const PLAYBOOK: &str = "playbooks/collectors.toml";
const GATEWAYS: [&str; 2] = ["collector-1", "collector-2"];
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
const LIMITS: &str = "/etc/security/limits.d/90-gateway.conf";
const SSHD: &str = "/etc/ssh/sshd_config.d/90-gateway.conf";
const PLAN: &[&str] = &["plan", "--env", "development"];

/// Adds a file to the gateways' play, and a reboot that it needs.
fn rebooting(lab: &Lab, path: &str, content: &str, reboot: &str) -> Edit {
    let before = "[[play.resource]]\nsysctl";
    let resources = format!(
        "[[play.resource]]\nfile = {{ path = \"{path}\", content = \"{content}\" }}\n\n\
         [[play.resource]]\nreboot = {{ on = [\"{path}\"], {reboot} }}\n\n{before}"
    );
    lab.project().edit(PLAYBOOK, before, &resources)
}

/// The boots that all hosts are in, by host.
fn boots(lab: &Lab) -> Vec<(String, String)> {
    let boot = |host: String| {
        let boot = lab.ssh(&host, BOOT_ID);
        (host, boot)
    };
    lab.hosts().into_iter().map(boot).collect()
}

fn gateways_are_rebooted_one_by_one_drained_and_awaited(lab: &Lab) {
    let edit = rebooting(lab, LIMITS, "* soft nofile 65536\\n", "within = \"2m\"");
    let _ = lab.project().provision(PLAN).expect_code(2).says(&[
        "~ run reboot (cannot be rolled back)",
        "because /etc/security/limits.d/90-gateway.conf changes; it must answer again within 2m",
        "4 changes on 2 of 4 hosts",
    ]);
    let before = boots(lab);
    let output = lab.project().apply();
    for ((host, before), (_, now)) in before.iter().zip(boots(lab)) {
        let is_gateway = GATEWAYS.contains(&host.as_str());
        assert_eq!(*before != now, is_gateway, "{host}");
    }
    let mut at = 0;
    for gateway in GATEWAYS {
        for what in [
            "left out by lb-1",
            "create file",
            "run reboot",
            "back after",
            "healthy: http",
            "used again by lb-1",
        ] {
            let line = format!("{gateway}: {what}");
            let found = output.stderr[at..].find(&line);
            at += found.unwrap_or_else(|| panic!("{line}: {}", output.describe()));
        }
        assert_eq!(server_state(lab, gateway), "UP");
    }
    // What a boot has settled is settled.
    lab.expect_unchanged(|| {
        let _ = lab.project().provision(PLAN).success();
        let _ = lab.project().apply();
    });
    drop(edit);
    // What left the playbook goes, and the reboot with it.
    let before = boots(lab);
    let _ = lab.project().apply();
    assert_eq!(before, boots(lab));
}

fn a_controller_that_is_killed_meanwhile(lab: &Lab) {
    let reboot = "if_required = true";
    let edit = rebooting(lab, LIMITS, "* soft nofile 65537\\n", reboot);
    let boot = |host: &str| lab.ssh(host, BOOT_ID);
    let before = boot("collector-1");
    let mut apply = lab
        .project()
        .command(&["apply", "--env", "development", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("provision");
    let mut said = BufReader::new(apply.stderr.take().expect("a pipe")).lines();
    let rebooting = said.any(|line| line.is_ok_and(|line| line == "collector-1: run reboot"));
    apply.kill().expect("the controller to be killed");
    apply.wait().expect("the controller to end");
    assert!(rebooting, "collector-1 was not rebooted");
    wait_for("collector-1 to be back", || {
        let now = lab.try_ssh("collector-1", BOOT_ID);
        now.code == 0 && now.stdout.trim() != before.trim()
    });
    assert!(server_state(lab, "collector-1").starts_with("MAINT"));
    // Its packages ask for another one meanwhile, and that is a reason as well.
    let _ = lab.ssh("collector-2", "touch /run/reboot-required");
    let before = GATEWAYS.map(boot);
    let output = lab.project().apply();
    let now = GATEWAYS.map(boot);
    assert_eq!(before[0], now[0], "the boot that it had settles it");
    assert_ne!(before[1], now[1], "{}", output.describe());
    wait_for("HAProxy to use both", || {
        GATEWAYS.map(|gateway| server_state(lab, gateway)) == ["UP", "UP"]
    });
    lab.expect_unchanged(|| {
        let _ = lab.project().provision(PLAN).success();
    });
    let _ = lab.ssh("collector-2", "touch /run/reboot-required");
    let _ = lab
        .project()
        .provision(PLAN)
        .expect_code(2)
        .says(&["/run/reboot-required is there", "1 change on 1 of 4 hosts"]);
    let _ = lab.ssh("collector-2", "rm /run/reboot-required");
    drop(edit);
    let _ = lab.project().apply();
}

fn a_host_that_its_boot_locks_puts_back_what_did(lab: &Lab) {
    let before = boots(lab);
    // sshd reads it with the boot, so getting in before it proves nothing.
    let edit = rebooting(lab, SSHD, "Port 2222\\n", "within = \"8s\"");
    let output = lab
        .project()
        .provision(&["apply", "--env", "development", "--yes"]);
    let _ = output.expect_code(1).says(&[
        "it was told to reboot and is not back within 8s",
        "it has put back by itself what locked everybody out",
        "collector-1: stays left out by its balancer",
        "play gateways stops: 1 host failed, it allows 0",
        "collector-2: not reached",
    ]);
    drop(edit);
    let _ = lab.ssh("collector-1", &format!("! ls {SSHD}"));
    let now = boots(lab);
    for ((host, before), (_, now)) in before.iter().zip(&now) {
        assert_eq!(before != now, host == "collector-1", "{host}");
    }
    let _ = lab.project().apply();
    assert_eq!(boots(lab), now);
    wait_for("HAProxy to use both", || {
        GATEWAYS.map(|gateway| server_state(lab, gateway)) == ["UP", "UP"]
    });
}
