//! Both programs together, on real hosts: a module per capability.
//!
//! Goes in: the programs beside this one. Comes out: a verdict per test. Invariant: tests run one
//! after the other on one lab, which is removed at the end, also after a failure.

#![expect(clippy::print_stdout, reason = "figures belong to what a test prints")]

mod access;
mod accounts;
mod adopt;
mod change;
mod command_line;
mod connections;
mod destroy;
mod disks;
mod failure;
mod faults;
mod firewall;
mod floating;
mod kinds;
mod lockout;
mod lost;
mod machine;
mod main_job;
mod memory;
mod newcomer;
mod nginx;
mod outside;
mod pace;
mod packaging;
mod reboot;
mod refusal;
mod rollout;
mod saved_plan;
mod secrets;
mod telemetry;
mod tls;
mod unreachable;

use std::sync::{Arc, Mutex, PoisonError};

use fleet_tests::{Lab, Project, Requirement, missing};
use libtest_mimic::{Arguments, Failed, Trial};

/// One test: a sentence, what it needs, and what it does.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Requirement],
    pub(crate) run: fn(&Lab),
}

/// All tests, in the order in which they run.
fn tests() -> Vec<Test> {
    [
        main_job::TESTS,
        telemetry::TESTS,
        change::TESTS,
        failure::TESTS,
        outside::TESTS,
        nginx::TESTS,
        rollout::TESTS,
        reboot::TESTS,
        saved_plan::TESTS,
        tls::TESTS,
        firewall::TESTS,
        floating::TESTS,
        kinds::TESTS,
        refusal::TESTS,
        unreachable::TESTS,
        pace::TESTS,
        lost::TESTS,
        connections::TESTS,
        lockout::TESTS,
        faults::TESTS,
        adopt::TESTS,
        disks::TESTS,
        machine::TESTS,
        accounts::TESTS,
        access::TESTS,
        secrets::TESTS,
        newcomer::TESTS,
        packaging::TESTS,
        command_line::TESTS,
        memory::TESTS,
        // It empties the hosts, so it comes last.
        destroy::TESTS,
    ]
    .into_iter()
    .flatten()
    .map(|test| Test { ..*test })
    .collect()
}

fn main() {
    let (options, filters) = split_filters(std::env::args());
    let mut arguments = Arguments::from_iter(options);
    // The tests share hosts.
    arguments.test_threads = Some(1);
    let lab: Arc<Mutex<Option<Lab>>> = Arc::default();
    let on_ci = std::env::var_os("CI").is_some();
    let wanted = |test: &Test| {
        filters.is_empty() || filters.iter().any(|part| test.name.contains(part.as_str()))
    };
    let trials = tests()
        .into_iter()
        .filter(wanted)
        .map(|test| trial(&test, &lab, on_ci))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(lab.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit();
}

/// Options that are followed by a value.
const OPTIONS_WITH_VALUE: [&str; 5] = [
    "--skip",
    "--test-threads",
    "--format",
    "--logfile",
    "--color",
];

/// The options, and the parts of names of which a test must have one, as many as there are.
fn split_filters(arguments: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let (mut options, mut filters): (Vec<String>, Vec<String>) = Default::default();
    for argument in arguments {
        let is_value = options
            .last()
            .is_some_and(|last| OPTIONS_WITH_VALUE.contains(&last.as_str()));
        if options.is_empty() || is_value || argument.starts_with('-') {
            options.push(argument);
        } else {
            filters.push(argument);
        }
    }
    (options, filters)
}

fn trial(test: &Test, lab: &Arc<Mutex<Option<Lab>>>, on_ci: bool) -> Trial {
    let (lab, run) = (Arc::clone(lab), test.run);
    let reasons: Vec<String> = test
        .needs
        .iter()
        .filter_map(|need| missing(*need))
        .collect();
    let reason = reasons.join("; ");
    let ignored = !reason.is_empty() && !on_ci;
    let name = if ignored {
        format!("{} ({reason})", test.name)
    } else {
        test.name.to_owned()
    };
    Trial::test(name, move || {
        if !reason.is_empty() {
            return Err(Failed::from(reason));
        }
        let mut lab = lab.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = lab.get_or_insert_with(bring_up);
        run(lab);
        Ok(())
    })
    .with_ignored_flag(ignored)
}

/// The name of the lab; labs beside it begin with this name and a dash.
pub(crate) fn lab_name() -> String {
    std::env::var("FLEET_LAB").unwrap_or_else(|_| "test".to_owned())
}

/// A lab of this run's own, with the platform on it.
fn bring_up() -> Lab {
    let lab = Lab::new(Project::new(&lab_name()));
    let _ = lab.project().provision(&["lab", "down"]);
    let output = lab.project().apply();
    main_job::says_where_to_look(&output, &lab_name());
    lab
}
