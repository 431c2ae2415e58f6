//! Hosts that are rebooted in a rollout, and what is not back in time.

use provision_protocol::fact::RebootFact;

use super::*;
use crate::host::asks_for_reboot;

fn rebooting(within: &str) -> HostDesired {
    desired_of(&[
        &format!("reboot = {{ if_required = true, within = \"{within}\" }}"),
        "file = { path = \"/etc/motd\", content = \"hello\\n\" }",
    ])
}

/// Hosts whose packages ask for a reboot until they have had it; those of `hang` do not get far.
fn script(hang: &'static [&'static str]) -> Script {
    let rebooted: Mutex<BTreeSet<String>> = Mutex::default();
    Arc::new(move |host, request| {
        if asks_for_reboot(request) {
            if hang.contains(&host) {
                return None;
            }
            rebooted.lock().unwrap().insert(host.to_owned());
        }
        let required = !rebooted.lock().unwrap().contains(host);
        let to_host::Body::Observe(observe) = request else {
            return Some(well(request));
        };
        let look = |query: &Query| match &query.kind {
            Some(query::Kind::Reboot(_)) => fixtures::fact(fact_kind::Kind::Reboot(RebootFact {
                required,
                ..RebootFact::default()
            })),
            _ => look(query, FileFact::default()),
        };
        let facts = observe.queries.iter().map(look).collect();
        Some(vec![from_host::Body::Facts(Facts { facts })])
    })
}

fn run_all(play: Play, desired: fn() -> HostDesired, script: Script) -> Run {
    let interrupt = Interrupt::default();
    run_desired(play, desired, script, &interrupt, Confirm::Given)
}

#[test]
fn a_host_is_back_and_healthy_before_the_next_one_is_rebooted() {
    let patient = || rebooting("1m");
    let run = run_all(play(vec![BatchSize::Hosts(1)], 0), patient, script(&[]));
    let told: Vec<String> = run
        .requests
        .iter()
        .filter_map(|(host, body)| match body {
            body if asks_for_reboot(body) => Some(format!("reboot {host}")),
            to_host::Body::Perform(_) => Some(format!("change {host}")),
            to_host::Body::Lock(_) => Some(format!("lock {host}")),
            to_host::Body::Probe(probe) if probe.within_millis > 0 => Some(format!("probe {host}")),
            _ => None,
        })
        .skip_while(|told| told.starts_with("lock"))
        .collect();
    let each = |host: &str| {
        ["reboot", "lock", "probe", "change", "probe"].map(|what| format!("{what} {host}"))
    };
    assert_eq!(told, HOSTS.map(each).concat());
    for host in HOSTS {
        assert_eq!(run.outcome(host), Outcome::Changed);
    }
}

#[test]
fn a_host_that_is_not_back_in_time_counts_as_failed() {
    let hurried = || rebooting("3s");
    let stopped = run_all(play(vec![BatchSize::Hosts(1)], 0), hurried, script(&["a"]));
    let outcomes = stopped.outcomes.as_ref().unwrap();
    let failure = outcomes[0].failure.as_deref().unwrap();
    assert!(failure.contains("not back within 3s"), "{failure}");
    assert!(failure.contains("from the boot before"), "{failure}");
    assert!(outcomes[0].changed.is_empty(), "nobody saw it reboot");
    assert_eq!(stopped.outcome("a"), Outcome::Failed);
    assert_eq!(stopped.outcome("b"), Outcome::NotReached);
    let went_on = run_all(play(vec![BatchSize::Hosts(1)], 1), hurried, script(&["a"]));
    assert_eq!(went_on.outcome("a"), Outcome::Failed);
    assert_eq!(went_on.outcome("b"), Outcome::Changed);
    assert_eq!(went_on.outcome("c"), Outcome::Changed);
}
