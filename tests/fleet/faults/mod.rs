//! The fault matrix: every fault in every phase of a run.
//!
//! Goes in: the table of faults and phases. Comes out: a verdict for each of its cells. Invariant:
//! a cell counts only when its phase was begun and not ended at the moment of the fault.
//!
//! What containers cannot have is fired on whole machines, which are the hosts of a site where it
//! happens. A few cells run on CI. `FLEET_TESTS=long` runs all of them and prints the table of
//! `docs/fault-matrix.md`; `FLEET_FAULTS="power cut × drain"` runs those whose names have this.

mod fault;
mod phase;
mod site;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Child;
use std::time::{Duration, Instant};

use fleet_tests::{Lab, Output, Requirement};
use serde_json::Value;

use crate::Test;
use fault::Fault;
use phase::Phase;
use site::{BALANCER, GATEWAYS, Seen, Site, wait_for};
use truth::Versions;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "faults::each_leaves_a_true_report_and_a_fleet_that_the_next_run_completes",
        needs: &[Requirement::Root],
        run: each_leaves_a_true_report_and_a_fleet_that_the_next_run_completes,
    },
    Test {
        name: "faults::a_power_cut_and_a_wrong_clock_on_a_whole_machine_do_so_too",
        needs: &[Requirement::Root, Requirement::Machine],
        run: a_power_cut_and_a_wrong_clock_on_a_whole_machine_do_so_too,
    },
];

/// What CI runs: each fault once, each phase at least once.
const SAMPLE: &[(Fault, Phase)] = &[
    (Fault::SecondController, Phase::Observe),
    (Fault::DiskFull, Phase::Upload),
    (Fault::ReadOnly, Phase::Stage),
    (Fault::SshdStopped, Phase::Drain),
    (Fault::NetworkCut, Phase::Commit),
    (Fault::ControllerKilled, Phase::Commit),
    (Fault::ServiceBroken, Phase::Restart),
    (Fault::NeverHealthy, Phase::Restart),
    (Fault::ClockOff, Phase::Stage),
    (Fault::PowerCut, Phase::Commit),
];

/// How long a run may take to end by itself, whatever happened to it.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// What became of a cell.
enum Verdict {
    Held(String),
    Failed(String),
}

fn each_leaves_a_true_report_and_a_fleet_that_the_next_run_completes(_: &Lab) {
    run_cells(chosen(|fault| !fault.needs_a_machine()), &BTreeSet::new());
}

fn a_power_cut_and_a_wrong_clock_on_a_whole_machine_do_so_too(_: &Lab) {
    let cells = chosen(Fault::needs_a_machine);
    let whole = cells.iter().map(|(_, phase)| phase.host()).collect();
    run_cells(cells, &whole);
}

/// Runs cells on a site with these hosts as whole machines.
fn run_cells(cells: Vec<(Fault, Phase)>, whole: &BTreeSet<&'static str>) {
    if cells.is_empty() {
        return;
    }
    let mut site = Site::bring_up(whole);
    let mut verdicts: BTreeMap<(usize, usize), Verdict> = BTreeMap::new();
    for (fault, phase) in cells {
        let begun = Instant::now();
        let verdict = run_cell(&mut site, fault, phase);
        let words = match &verdict {
            Verdict::Held(words) => words.as_str(),
            Verdict::Failed(_) => "FAILED",
        };
        println!(
            "{} × {}: {words} ({:.0} s)",
            fault.name(),
            phase.name(),
            begun.elapsed().as_secs_f64()
        );
        verdicts.insert(place(fault, phase), verdict);
    }
    println!("{}", table(&verdicts));
    let failed: Vec<String> = verdicts
        .iter()
        .filter_map(|((fault, phase), verdict)| match verdict {
            Verdict::Failed(why) => Some(format!(
                "{} × {}: {why}",
                Fault::ALL[*fault].name(),
                Phase::ALL[*phase].name()
            )),
            _ => None,
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn chosen(fits: impl Fn(Fault) -> bool) -> Vec<(Fault, Phase)> {
    let all = Fault::ALL.into_iter().filter(|fault| fits(*fault));
    let all = all.flat_map(|fault| {
        let phases = Phase::ALL.into_iter();
        phases.map(move |phase| (fault, phase))
    });
    if let Ok(wanted) = std::env::var("FLEET_FAULTS") {
        let named = |cell: &(Fault, Phase)| {
            let name = format!("{} × {}", cell.0.name(), cell.1.name());
            wanted.split(',').any(|part| name.contains(part.trim()))
        };
        return all.filter(named).collect();
    }
    match std::env::var("FLEET_TESTS").as_deref() {
        Ok("long") => all.collect(),
        _ => all.filter(|cell| SAMPLE.contains(cell)).collect(),
    }
}

fn place(fault: Fault, phase: Phase) -> (usize, usize) {
    let row = Fault::ALL.iter().position(|one| *one == fault);
    let column = Phase::ALL.iter().position(|one| *one == phase);
    (row.expect("a row"), column.expect("a column"))
}

/// One cell; what it leaves broken is mended, so that the next one finds a site that is well.
fn run_cell(site: &mut Site, fault: Fault, phase: Phase) -> Verdict {
    let ended = catch_unwind(AssertUnwindSafe(|| check_cell(site, fault, phase)));
    ended.map_or_else(
        |panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
            let words = words.unwrap_or_else(|| "it panicked".to_owned());
            let _ = catch_unwind(AssertUnwindSafe(|| recover(site, fault, phase)));
            Verdict::Failed(words)
        },
        Verdict::Held,
    )
}

fn recover(site: &mut Site, fault: Fault, phase: Phase) {
    let _ = std::fs::remove_file(site.stall(site::FIRST));
    if fault != Fault::PowerCut || !site.is_on(phase.host()) {
        fault.mend(site, phase);
    }
    for host in GATEWAYS {
        let _ = site.try_on(host, "rm -rf /run/faults; mkdir -p /run/faults");
    }
    let _ = site.apply(&["--lock-timeout", "2m"]).success();
}

/// One cell, and what the report of its run came to.
fn check_cell(site: &mut Site, fault: Fault, phase: Phase) -> String {
    let volumes = looks(site, is_of_volume);
    let before = site.wanted(site.version());
    site.next_version();
    let versions = Versions {
        before,
        wanted: site.wanted(site.version()),
    };
    let held = phase.hold(site);
    let mut run = site.begin();
    wait_for("the phase to begin", || {
        let early = run.try_wait().expect("a run");
        assert!(early.is_none(), "the run ended before {}", phase.name());
        phase.has_begun(site)
    });
    assert!(!phase.has_ended(site), "the phase ended before the fault");
    fault.fire(site, phase, &mut run);
    // The phase is still held open, so that it was not over when the fault was there. What cannot
    // be asked any more was asked just before; and a balancer's host that notices that nobody hears
    // it ends the drain by itself.
    let visible = site.is_on(phase.host()) && site.is_on(site::FIRST);
    let ends_by_itself = phase == Phase::Drain && fault.ends_the_conversation();
    assert!(
        !visible || ends_by_itself || !phase.has_ended(site),
        "the phase had ended"
    );
    held.release(site);
    let output = end(run);
    fault.mend(site, phase);
    let words = if fault == Fault::ControllerKilled {
        "no report".to_owned()
    } else {
        let seen = looks(site, |_| true);
        truth::check(&output, &seen, &versions, fault.ends_the_conversation())
    };
    completes(site, &versions, &output);
    assert_eq!(
        volumes,
        looks(site, is_of_volume),
        "a data volume was touched"
    );
    words
}

/// The next run brings everything to what it shall be, and the one after it changes nothing.
fn completes(site: &Site, versions: &Versions, output: &Output) {
    let next = site.apply(&["--lock-timeout", "2m"]);
    assert_eq!(
        next.code,
        0,
        "the next run does not complete it\n{}\nafter\n{}",
        next.describe(),
        output.describe()
    );
    let settled = looks(site, |_| true);
    for host in GATEWAYS {
        for (key, value) in &versions.wanted {
            assert_eq!(&settled[host][key], value, "{host}, {key}");
        }
        for key in ["half-files", "left-behind"] {
            assert_eq!(settled[host][key], "", "{host}, {key}");
        }
        wait_for("the balancer to use the gateway", || {
            site.balanced(host) == "UP"
        });
    }
    let left = site.on(
        BALANCER,
        "ls /var/lib/haproxy/server-state 2>/dev/null || true",
    );
    assert_eq!(left, "", "a gateway is still left out");
    let last = site.apply(&[]).success();
    let report: Value = serde_json::from_str(&last.stdout).expect("JSON");
    for host in report["hosts"].as_array().expect("hosts") {
        assert_eq!(host["outcome"], "unchanged", "{}", last.describe());
    }
    assert_eq!(
        settled,
        looks(site, |_| true),
        "the last run changed something"
    );
}

fn is_of_volume(key: &str) -> bool {
    key.starts_with("volume-")
}

/// What all gateways have.
fn looks(site: &Site, wanted: impl Fn(&str) -> bool) -> BTreeMap<&'static str, Seen> {
    let look = |host| {
        let mut seen = site.look(host);
        seen.retain(|key, _| wanted(key));
        assert!(!seen.is_empty(), "{host} shows nothing");
        (host, seen)
    };
    GATEWAYS.map(look).into()
}

fn end(mut run: Child) -> Output {
    let begun = Instant::now();
    while run.try_wait().expect("a run").is_none() {
        if begun.elapsed() > ENDS_WITHIN {
            run.kill().expect("a run to be killed");
            let _ = run.wait();
            panic!("the run does not end by itself");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Output::ended(run)
}

/// The matrix as it stands in the documentation.
fn table(verdicts: &BTreeMap<(usize, usize), Verdict>) -> String {
    let mut text = String::from("|");
    for phase in Phase::ALL {
        text += &format!(" | {}", phase.name());
    }
    text += &format!(" |\n|---|{}\n", "---|".repeat(Phase::ALL.len()));
    for (row, fault) in Fault::ALL.iter().enumerate() {
        if !verdicts.keys().any(|(of, _)| *of == row) {
            continue;
        }
        text += &format!("| {} |", fault.name());
        for column in 0..Phase::ALL.len() {
            let words = match verdicts.get(&(row, column)) {
                None => "",
                Some(Verdict::Held(words)) => words,
                Some(Verdict::Failed(_)) => "FAILED",
            };
            text += &format!(" {words} |");
        }
        text.push('\n');
    }
    text
}
