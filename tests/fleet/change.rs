//! One line of a template changes: what is shown, what is touched, and in which order.

use fleet_tests::{Lab, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "change::only_what_a_changed_line_concerns_is_touched",
        needs: &[Requirement::Root],
        run: only_what_a_changed_line_concerns_is_touched,
    },
    Test {
        name: "change::a_host_is_healthy_before_the_next_one_is_touched",
        needs: &[Requirement::Root],
        run: a_host_is_healthy_before_the_next_one_is_touched,
    },
    Test {
        name: "change::a_gateway_that_does_not_become_healthy_stops_the_rollout",
        needs: &[Requirement::Root],
        run: a_gateway_that_does_not_become_healthy_stops_the_rollout,
    },
    Test {
        name: "change::a_restart_that_an_interrupted_run_owes_is_done_by_the_next",
        needs: &[Requirement::Root],
        run: a_restart_that_an_interrupted_run_owes_is_done_by_the_next,
    },
];

const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";
const FOLDER: &str = "/etc/otel-collector";
const CONFIG: &str = "/etc/otel-collector/config.yaml";
const UNIT: &str = "otel-collector.service";

fn only_what_a_changed_line_concerns_is_touched(lab: &Lab) {
    let before = lab.trees();
    let edit = lab.project().edit(
        TEMPLATE,
        "max_concurrent_streams: 100",
        "max_concurrent_streams: 250",
    );
    let plan = lab
        .project()
        .provision(&["plan", "--env", "development"])
        .expect_code(2)
        .says(&[
            "collector-1, collector-2",
            "~ update file /etc/otel-collector/config.yaml",
            "-        max_concurrent_streams: 100",
            "+        max_concurrent_streams: 250",
            "~ restart service otel-collector",
            "4 changes on 2 of 4 hosts",
        ]);
    let changed = |sign: char| {
        let begins = |line: &str| line.trim_start().starts_with(&format!("{sign}  "));
        plan.stdout.lines().filter(|line| begins(line)).count()
    };
    assert_eq!((changed('-'), changed('+')), (1, 1), "{}", plan.describe());
    assert_eq!(before, lab.trees(), "a plan changes nothing");
    let _ = lab.project().apply();
    let after = lab.trees();
    for (host, mut state) in before {
        let mut now = after[&host].clone();
        if host.starts_with("collector-") {
            assert_ne!(
                state.paths.remove(CONFIG),
                now.paths.remove(CONFIG),
                "{host}"
            );
            assert_ne!(state.units.remove(UNIT), now.units.remove(UNIT), "{host}");
            let processes = [&mut state, &mut now].map(|state| state.processes.remove(UNIT));
            assert_ne!(processes[0], processes[1], "{host}");
            // A rename changes the times of the directory that it happens in.
            let _ = (state.paths.remove(FOLDER), now.paths.remove(FOLDER));
        }
        assert_eq!(state, now, "{host}: nothing else was touched");
    }
    drop(edit);
    let _ = lab.project().apply();
}

fn a_host_is_healthy_before_the_next_one_is_touched(lab: &Lab) {
    let edit = lab.project().edit(
        TEMPLATE,
        "max_concurrent_streams: 100",
        "max_concurrent_streams: 251",
    );
    let _ = lab.project().apply();
    // Type=notify: a unit is active once its listeners are bound.
    let ready = lab.ssh(
        "collector-1",
        &format!("systemctl show {UNIT} -p ActiveEnterTimestampMonotonic --value"),
    );
    let touched = lab.ssh(
        "collector-2",
        &format!("systemctl show {UNIT} -p InactiveEnterTimestampMonotonic --value"),
    );
    let number = |text: &str| text.trim().parse::<u64>().expect("microseconds");
    println!(
        "collector-1 was ready {} µs before collector-2 was stopped",
        number(&touched) - number(&ready)
    );
    assert!(number(&ready) < number(&touched), "{ready} {touched}");
    drop(edit);
    let _ = lab.project().apply();
}

fn a_gateway_that_does_not_become_healthy_stops_the_rollout(lab: &Lab) {
    let before = lab.tree("collector-2");
    let health = lab.project().edit(
        "playbooks/collectors.toml",
        "13133/health\", within = \"30s\"",
        "13133/wrong\", within = \"2s\"",
    );
    let edit = lab.project().edit(
        TEMPLATE,
        "max_concurrent_streams: 100",
        "max_concurrent_streams: 252",
    );
    let output = lab
        .project()
        .provision(&["apply", "--env", "development", "--yes"]);
    let _ = output.expect_code(1).says(&[
        "collector-1: http://127.0.0.1:13133/wrong is not healthy within 2s",
        "collector-1: failed, and has what it had before",
        "play gateways stops: 1 host failed, it allows 0",
        "collector-2: not reached",
        "not done",
    ]);
    assert_eq!(
        before,
        lab.tree("collector-2"),
        "a host that was not reached is as it was"
    );
    drop((health, edit));
    let _ = lab.project().apply();
    assert_eq!(before, lab.tree("collector-2"));
}

fn a_restart_that_an_interrupted_run_owes_is_done_by_the_next(lab: &Lab) {
    let before = lab.tree("collector-1");
    // A debt as a run leaves it that ends between the file and the restart.
    let debts = "ls /var/lib/provision/debts | wc -l";
    assert_eq!(lab.ssh("collector-1", debts).trim(), "0");
    let edit = lab.project().edit(
        TEMPLATE,
        "max_concurrent_streams: 100",
        "max_concurrent_streams: 253",
    );
    let broken = lab.project().edit(
        "playbooks/collectors.toml",
        "[[play.resource]]\nservice",
        "[[play.resource]]\ncommand = { run = \"false\", creates = \"/nowhere\" }\n\n[[play.resource]]\nservice",
    );
    let output = lab
        .project()
        .provision(&["apply", "--env", "development", "--yes", "--no-rollback"])
        .expect_code(1);
    let _ = output.says(&["collector-1: command false"]);
    assert_eq!(
        lab.tree("collector-1").units,
        before.units,
        "it was not restarted"
    );
    assert_eq!(lab.ssh("collector-1", debts).trim(), "1");
    drop(broken);
    let _ = lab
        .project()
        .provision(&["plan", "--env", "development"])
        .expect_code(2)
        .says(&["restarted because an earlier run owes it a restart"]);
    let _ = lab.project().apply();
    assert_ne!(lab.tree("collector-1").units[UNIT], before.units[UNIT]);
    assert_eq!(lab.ssh("collector-1", debts).trim(), "0");
    drop(edit);
    let _ = lab.project().apply();
}
