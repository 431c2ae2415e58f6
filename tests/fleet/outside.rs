//! An opinion from outside: pytest-testinfra, which knows nothing of this tool, looks at every host.

use std::process::Command;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "outside::testinfra_finds_on_every_host_what_the_playbooks_say",
    needs: &[Requirement::Root, Requirement::Testinfra],
    run: testinfra_finds_on_every_host_what_the_playbooks_say,
}];

fn testinfra_finds_on_every_host_what_the_playbooks_say(lab: &Lab) {
    let state = lab.state();
    let identity = state["identity"].as_str().expect("a key");
    let hosts = state["hosts"].as_array().expect("hosts");
    let address = |host: &serde_json::Value| {
        let address = host["address"].as_str().expect("an address");
        format!("ssh://root@{address}")
    };
    let hosts: Vec<String> = hosts.iter().map(address).collect();
    let python = std::env::var("FLEET_PYTHON").expect("a requirement of this test");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fleet/outside.py");
    let mut command: Command = lab.exec(&[&python, "-B", "-m", "pytest", "-p", "no:cacheprovider"]);
    command.args(["-q", "--tb=short", script]);
    command.arg(format!("--hosts={}", hosts.join(",")));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("ssh_config");
    let text = format!(
        "Host *\n  IdentityFile {identity}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  \
         UserKnownHostsFile {folder}/known_hosts\n  ControlPath {folder}/%h\n  LogLevel ERROR\n",
        folder = folder.path().display()
    );
    std::fs::write(&config, text).expect("a file");
    command.arg(format!("--ssh-config={}", config.display()));
    let output = Output::of(&mut command);
    // It keeps connections for the next command, and for a minute after the last.
    for host in &hosts {
        let host = host.trim_start_matches("ssh://");
        let _ = Command::new("ssh")
            .args(["-q", "-O", "exit", "-F"])
            .arg(&config)
            .arg(host)
            .output();
    }
    let output = output.success();
    println!("{}", output.stdout.lines().last().unwrap_or_default());
}
