//! What hosts remember of the runs that changed them, and what is done with it.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fleet_tests::{Lab, Output, Requirement};
use serde_json::Value;

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "memory::a_change_is_remembered_and_rolled_back",
        needs: &[Requirement::Root],
        run: a_change_is_remembered_and_rolled_back,
    },
    Test {
        name: "memory::drift_is_what_somebody_else_has_changed",
        needs: &[Requirement::Root],
        run: drift_is_what_somebody_else_has_changed,
    },
    Test {
        name: "memory::what_leaves_the_playbook_is_removed_and_theirs_is_put_back",
        needs: &[Requirement::Root],
        run: what_leaves_the_playbook_is_removed_and_theirs_is_put_back,
    },
    Test {
        name: "memory::a_gateway_that_fails_goes_back_to_what_it_had",
        needs: &[Requirement::Root],
        run: a_gateway_that_fails_goes_back_to_what_it_had,
    },
    Test {
        name: "memory::an_interrupted_run_ends_after_its_step_and_is_completed",
        needs: &[Requirement::Root],
        run: an_interrupted_run_ends_after_its_step_and_is_completed,
    },
    Test {
        name: "memory::a_controller_that_is_killed_leaves_no_lock_and_no_lost_restart",
        needs: &[Requirement::Root],
        run: a_controller_that_is_killed_leaves_no_lock_and_no_lost_restart,
    },
    Test {
        name: "memory::a_power_cut_at_any_line_of_the_journal_is_made_good",
        needs: &[Requirement::Root],
        run: a_power_cut_at_any_line_of_the_journal_is_made_good,
    },
    Test {
        name: "memory::a_host_that_left_the_inventory_is_named_until_it_is_retired",
        needs: &[Requirement::Root],
        run: a_host_that_left_the_inventory_is_named_until_it_is_retired,
    },
];

const ENVIRONMENT: &str = "environments/development.toml";
const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";
const PLAYBOOK: &str = "playbooks/collectors.toml";
const CONFIG: &str = "/etc/otel-collector/config.yaml";
const STREAMS: &str = "max_concurrent_streams: 100";
/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// A place in the gateways' play after which a test puts resources of its own.
const FIRST: &str = "[[play.resource]]\ngroup = { name = \"otel\", system = true }\n";

fn on(lab: &Lab, command: &str, more: &[&str]) -> Output {
    let arguments = [&[command, "--env", "development"], more].concat();
    lab.project().provision(&arguments)
}

fn json(lab: &Lab, command: &str, more: &[&str], code: i32) -> Value {
    let more = [more, &["--output", "json"]].concat();
    let output = on(lab, command, &more).expect_code(code);
    serde_json::from_str(&output.stdout).expect("JSON")
}

fn nothing_to_do(lab: &Lab) {
    let _ = on(lab, "plan", &[]).success().says(&["nothing to do"]);
    let _ = on(lab, "status", &[]).success();
}

fn config(lab: &Lab, host: &str) -> String {
    lab.ssh(host, &format!("cat {CONFIG}"))
}

/// What a host remembers, and not only the newest of it.
const ALL_RUNS: &[&str] = &["--limit", "collector-1", "--last", "200"];

fn a_change_is_remembered_and_rolled_back(lab: &Lab) {
    let before = config(lab, "collector-1");
    let count = |lab: &Lab| {
        let history = json(lab, "history", ALL_RUNS, 0);
        history.as_array().map_or(0, Vec::len)
    };
    let runs = count(lab);
    let (tier, log) = ("tier = \"small\"\n", "audit_log = \"runs.jsonl\"\n");
    let logging = lab
        .project()
        .edit(ENVIRONMENT, tier, &format!("{tier}{log}"));
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 300");
    let _ = lab.project().apply();
    assert_ne!(config(lab, "collector-1"), before);
    let history = json(lab, "history", ALL_RUNS, 0);
    let history = history.as_array().expect("a list");
    assert_eq!(history.len(), runs + 1);
    let last = &history[runs];
    assert_eq!(last["ending"], "applied");
    assert!(last["who"].as_str().is_some_and(|who| who.contains('@')));
    assert_eq!(last["changes"][0]["what"], format!("file {CONFIG}"));
    assert_eq!(last["changes"][0]["kept"], true);
    let invocation = "systemctl show otel-collector -p InvocationID --value";
    let running = lab.ssh("collector-1", invocation);
    let storage = lab.tree("storage-1");
    let _ = on(lab, "rollback", &["--yes"]).success().says(&[
        "collector-1, collector-2",
        "+        max_concurrent_streams: 100",
        "-        max_concurrent_streams: 300",
        "the playbook is as it was",
    ]);
    for host in ["collector-1", "collector-2"] {
        assert_eq!(
            config(lab, host).replace(host, ""),
            before.replace("collector-1", "")
        );
    }
    assert_ne!(
        running,
        lab.ssh("collector-1", invocation),
        "it runs with it"
    );
    assert_eq!(storage, lab.tree("storage-1"), "the run did not concern it");
    drop(logging);
    both_runs_are_in_the_audit_log(lab, last);
    let _ = on(lab, "status", &[]).success();
    let _ = on(lab, "drift", &[]).success().says(&["no drift"]);
    let _ = on(lab, "plan", &[])
        .expect_code(2)
        .says(&["4 changes on 2 of 4 hosts"]);
    drop(edit);
    nothing_to_do(lab);
    let newest = count(lab);
    assert_eq!(newest, runs + 2);
    let _ = on(
        lab,
        "rollback",
        &["--to", "9999", "--limit", "lb-1", "--yes"],
    )
    .expect_code(1)
    .says(&["lb-1 has no generation 9999"]);
}

/// A line for each host of an apply and a rollback; `applied` is what collector-1 says of the first.
fn both_runs_are_in_the_audit_log(lab: &Lab, applied: &Value) {
    let path = lab.project().path("runs.jsonl");
    let text = std::fs::read_to_string(&path).expect("an audit log");
    std::fs::remove_file(&path).expect("a file");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(lines.len(), 2 * 4, "{text}");
    let line = |command: &str, host: &str| {
        let mut found = lines
            .iter()
            .filter(|line| line["command"] == command && line["host"] == host);
        found.next().expect("a line of the host")
    };
    assert_eq!(line("apply", "lb-1")["outcome"], "unchanged");
    let own = line("apply", "collector-1");
    assert_eq!(own["outcome"], "changed");
    assert_eq!(own["changed"][0], format!("file {CONFIG}"));
    for key in ["generation", "run", "who", "commit", "environment"] {
        assert_eq!(own[key], applied[key], "{key}");
    }
    assert_eq!(line("rollback", "collector-1")["outcome"], "changed");
}

fn drift_is_what_somebody_else_has_changed(lab: &Lab) {
    let _ = on(lab, "drift", &[]).success().says(&["no drift"]);
    let theirs = format!("echo '# mine' >> {CONFIG}; systemctl disable -q otel-collector");
    let _ = lab.ssh("collector-2", &theirs);
    let _ = on(lab, "drift", &[]).expect_code(2).says(&[
        "collector-2",
        "~ differs file /etc/otel-collector/config.yaml",
        "+# mine",
        "at boot: enabled → disabled",
        "2 things differ on 1 of 4 hosts",
    ]);
    let drift = json(lab, "drift", &["--limit", "collector-2"], 2);
    assert_eq!(drift[0]["drift"][0]["name"], CONFIG);
    let _ = lab.project().apply();
    let _ = on(lab, "drift", &[]).success().says(&["no drift"]);
}

fn what_leaves_the_playbook_is_removed_and_theirs_is_put_back(lab: &Lab) {
    let _ = lab.ssh(
        "collector-1",
        "echo theirs > /etc/theirs; chmod 0604 /etc/theirs",
    );
    let users = lab.ssh("collector-1", "getent passwd");
    let more = "[[play.resource]]\nfile = { path = \"/etc/theirs\", content = \"ours\\n\" }\n\
        [[play.resource]]\nfile = { path = \"/etc/ours\", content = \"ours\\n\" }\n\
        [[play.resource]]\nuser = { name = \"guest\", system = true }\n";
    let edit = lab
        .project()
        .edit(PLAYBOOK, FIRST, &format!("{more}{FIRST}"));
    let _ = lab.project().apply();
    assert_eq!(
        lab.ssh("collector-1", "cat /etc/theirs /etc/ours"),
        "ours\nours\n"
    );
    let _ = lab.ssh("collector-2", "echo mine >> /etc/ours");
    drop(edit);
    let _ = on(lab, "plan", &[]).expect_code(2).says(&[
        "- remove file /etc/ours (left the playbook)",
        "~ update file /etc/theirs (left the playbook)",
        "what stood there before the first run is put back",
        "user guest stays",
        "file /etc/ours was changed by somebody else",
    ]);
    let _ = lab.project().apply();
    let shown = "cat /etc/theirs; stat -c %a /etc/theirs; ls /etc/ours 2>&1";
    let shown = lab.try_ssh("collector-1", shown).stdout;
    assert!(
        shown.starts_with("theirs\n604\n") && shown.contains("No such file"),
        "{shown}"
    );
    assert_eq!(lab.ssh("collector-2", "cat /etc/ours"), "ours\nmine\n");
    assert_ne!(
        lab.ssh("collector-1", "getent passwd"),
        users,
        "a user stays"
    );
    // The file that somebody else changed is theirs now, and no reason to do anything.
    nothing_to_do(lab);
    let _ = lab.ssh("collector-2", "rm /etc/ours");
    let _ = lab.project().apply();
    for host in ["collector-1", "collector-2"] {
        let _ = lab.ssh(host, "rm -f /etc/theirs; userdel guest");
    }
    nothing_to_do(lab);
}

fn a_gateway_that_fails_goes_back_to_what_it_had(lab: &Lab) {
    let before = (config(lab, "collector-1"), lab.tree("collector-2"));
    // A collector that answers nobody's question for its health.
    let edit = lab.project().edit(
        TEMPLATE,
        "endpoint: 0.0.0.0:13133",
        "endpoint: 0.0.0.0:13139",
    );
    let within = lab
        .project()
        .edit(PLAYBOOK, "within = \"30s\"", "within = \"3s\"");
    let _ = on(lab, "apply", &["--yes"]).expect_code(1).says(&[
        "collector-1: failed, and has what it had before",
        "is not healthy within 3s",
        "collector-2: not reached",
    ]);
    assert_eq!(config(lab, "collector-1"), before.0);
    assert_eq!(lab.tree("collector-2"), before.1);
    let health = "exec 3<>/dev/tcp/127.0.0.1/13133 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3";
    assert!(
        lab.ssh("collector-1", &format!("bash -c \"{health}\""))
            .contains("200")
    );
    let history = json(
        lab,
        "history",
        &["--limit", "collector-1", "--last", "1"],
        0,
    );
    assert_eq!(history[0]["ending"], "rolled-back");
    drop((edit, within));
    nothing_to_do(lab);
}

/// An apply in the background.
fn begin(lab: &Lab) -> Child {
    let mut command = lab
        .project()
        .command(&["apply", "--env", "development", "--yes"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("a run")
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &id])
        .status();
    assert!(sent.expect("kill").success());
}

fn end(mut child: Child) -> (i32, String) {
    let mut said = String::new();
    let _ = child
        .stdout
        .take()
        .map(|mut one| one.read_to_string(&mut said));
    let _ = child
        .stderr
        .take()
        .map(|mut one| one.read_to_string(&mut said));
    (child.wait().expect("an end").code().unwrap_or(-1), said)
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A command that takes a while, in the middle of the gateways' play, and a change behind it.
const SLOW: &str = "[[play.resource]]\ncommand = { run = [\"/bin/sh\", \"-c\", \
    \"sleep 12; touch /run/slow-done\"], creates = \"/run/slow-done\" }\n";

fn an_interrupted_run_ends_after_its_step_and_is_completed(lab: &Lab) {
    let slow = lab
        .project()
        .edit(PLAYBOOK, FIRST, &format!("{SLOW}{FIRST}"));
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 301");
    let before = config(lab, "collector-1");
    let run = begin(lab);
    let sleeps = || lab.try_ssh("collector-1", "pgrep -f 'sleep 12'").code == 0;
    wait_for("the slow step", sleeps);
    // Another controller is told who is at work, and may wait.
    let refused = on(lab, "apply", &["--yes", "--limit", "collector-1"]).expect_code(1);
    let _ = refused.says(&[
        "another run works on this host: ",
        "process ",
        "since ",
        "apply",
    ]);
    signal(&run, "INT");
    let (code, said) = end(run);
    assert_eq!(code, 1, "{said}");
    for words in [
        "interrupted: every host ends the step in hand",
        "run the same again",
    ] {
        assert!(said.contains(words), "{said}");
    }
    wait_for("the step's end", || {
        lab.try_ssh("collector-1", "test -e /run/slow-done").code == 0
    });
    assert_eq!(
        config(lab, "collector-1"),
        before,
        "nothing was begun after it"
    );
    let history = json(
        lab,
        "history",
        &["--limit", "collector-1", "--last", "1"],
        0,
    );
    let last = history
        .as_array()
        .and_then(|all| all.last())
        .cloned()
        .expect("an entry");
    assert_eq!(last["ending"], "unfinished");
    let _ = lab.project().apply();
    assert!(config(lab, "collector-1").contains("301"));
    let history = json(
        lab,
        "history",
        &["--limit", "collector-1", "--last", "1"],
        0,
    );
    assert_eq!(history[0]["generation"], last["generation"]);
    assert_eq!(history[0]["ending"], "applied");
    drop((slow, edit));
    let _ = lab.project().apply();
    for host in ["collector-1", "collector-2"] {
        let _ = lab.ssh(host, "rm -f /run/slow-done");
    }
    nothing_to_do(lab);
}

fn a_controller_that_is_killed_leaves_no_lock_and_no_lost_restart(lab: &Lab) {
    let slow = lab
        .project()
        .edit(PLAYBOOK, FIRST, &format!("{SLOW}{FIRST}"));
    let edit = lab
        .project()
        .edit(TEMPLATE, STREAMS, "max_concurrent_streams: 302");
    let run = begin(lab);
    wait_for("the slow step", || {
        lab.try_ssh("collector-1", "pgrep -f 'sleep 12'").code == 0
    });
    signal(&run, "KILL");
    let _ = end(run);
    // The helper ends the step in hand first; whoever comes meanwhile waits for it.
    let arguments = ["--yes", "--lock-timeout", "1m"];
    let _ = on(lab, "apply", &arguments).success();
    assert!(config(lab, "collector-1").contains("302"));
    let _ = on(lab, "plan", &[]).success().says(&["nothing to do"]);
    drop((slow, edit));
    let _ = lab.project().apply();
    for host in ["collector-1", "collector-2"] {
        let _ = lab.ssh(host, "rm -f /run/slow-done");
    }
    nothing_to_do(lab);
}

fn a_power_cut_at_any_line_of_the_journal_is_made_good(lab: &Lab) {
    let lines = || -> usize {
        let count = lab.try_ssh("collector-1", "wc -l < /var/lib/provision/journal.jsonl");
        count.stdout.trim().parse().unwrap_or(0)
    };
    // The host stays without power until the run has given it up.
    let brief = "provider = \"lab\"\n\n[ssh]\nreconnect_within = \"2s\"";
    let brief = lab
        .project()
        .edit("inventories/lab.toml", "provider = \"lab\"", brief);
    // Begin and end of: the file, the directory's attributes, the configuration, the restart.
    let mut cuts = 0;
    for (index, after) in [1usize, 2, 3, 4].into_iter().enumerate() {
        let text = format!("max_concurrent_streams: {}", 400 + index);
        let edit = lab.project().edit(TEMPLATE, STREAMS, &text);
        let more = format!(
            "[[play.resource]]\nfile = {{ path = \"/etc/cut\", content = \"{index}\\n\" }}\n"
        );
        let file = lab
            .project()
            .edit(PLAYBOOK, FIRST, &format!("{more}{FIRST}"));
        let before = lines();
        let watch = format!(
            "timeout 60 sh -c 'while [ $(wc -l < /var/lib/provision/journal.jsonl) -lt {} ]; do :; done'",
            before + after
        );
        let (run, seen) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| lab.try_ssh("collector-1", &watch).code == 0);
            let run = begin(lab);
            (run, watcher.join().expect("an end"))
        });
        let _ = lab
            .project()
            .provision(&["lab", "power-off", "collector-1"])
            .success();
        let (code, said) = end(run);
        cuts += usize::from(seen && code != 0);
        println!("cut at line {after}: exit code {code}");
        let _ = lab.project().provision(&["lab", "up"]).success();
        wait_for("the host", || lab.try_ssh("collector-1", "true").code == 0);
        let _ = on(lab, "apply", &["--yes"]).success();
        let wanted = (
            config(lab, "collector-1"),
            lab.ssh("collector-1", "cat /etc/cut"),
        );
        assert!(
            wanted.0.contains(&text) && wanted.1 == format!("{index}\n"),
            "{said}"
        );
        nothing_to_do(lab);
        drop((edit, file));
        let _ = lab.project().apply();
        nothing_to_do(lab);
    }
    drop(brief);
    assert!(cuts > 0, "every run had ended before the power was cut");
}

fn a_host_that_left_the_inventory_is_named_until_it_is_retired(lab: &Lab) {
    let inventory = "inventories/lab.toml";
    let line = "hosts.collector-2 = { address = \"10.77.0.22\" }";
    let edit = lab.project().edit(inventory, line, "");
    let named = "left the inventory and not retired: collector-2";
    let _ = on(lab, "plan", &[]).expect_code(2).says(&[named]);
    let _ = on(lab, "status", &[]).success().says(&[named]);
    let _ = on(lab, "retire", &["collector-1", "--yes"])
        .expect_code(1)
        .says(&["collector-1 is still in the inventory"]);
    let _ = on(lab, "retire", &["collector-9", "--yes"])
        .expect_code(1)
        .says(&["no host remembers a host `collector-9`"]);
    let _ = on(lab, "retire", &["collector-2", "--yes"]).success();
    let plan = on(lab, "plan", &[]).expect_code(2);
    assert!(!plan.stdout.contains(named), "{}", plan.describe());
    drop(edit);
    let left = format!("ls {CONFIG} /var/lib/provision /etc/systemd/system/otel-collector.service");
    assert_eq!(
        lab.try_ssh("collector-2", &left).stdout,
        "",
        "nothing is left on it"
    );
    let _ = lab.project().apply();
    nothing_to_do(lab);
}
