//! Connections that break in the middle of a run.

use provision_protocol::message::Refused;

use super::pace::{balanced, steps};
use super::*;

fn one_by_one() -> Play {
    play(vec![BatchSize::Hosts(1)], 0)
}

fn behind_a_balancer() -> Play {
    Play {
        pace: balanced(),
        ..one_by_one()
    }
}

/// What the hosts were asked to do, `a` alone.
fn of_a(run: &Run) -> Vec<&to_host::Body> {
    let of_a = run.requests.iter().filter(|(host, _)| host == "a");
    of_a.map(|(_, body)| body).collect()
}

#[test]
fn a_connection_that_breaks_at_any_request_is_made_again() {
    let good = run(one_by_one(), Arc::new(|_, request| Some(well(request))));
    let requests = of_a(&good);
    assert!(
        requests.len() >= 9,
        "lock, observe, probe, chunk, stage, perform, probe, commit, unstage"
    );
    for (broken, body) in requests.iter().enumerate() {
        let seen = Arc::new(AtomicUsize::new(0));
        let script: Script = Arc::new(move |host, request| {
            if host == "a" && seen.fetch_add(1, Ordering::SeqCst) == broken {
                return None;
            }
            Some(well(request))
        });
        let run = run(one_by_one(), script);
        // What is staged is thrown away by the helper itself, but nobody has said so.
        let outcome = match body {
            to_host::Body::Unstage(_) => Outcome::Failed,
            _ => Outcome::Changed,
        };
        assert_eq!(run.outcome("a"), outcome, "broken at {broken}, {body:?}");
        assert_eq!(run.outcome("b"), Outcome::Changed, "broken at {broken}");
        let locks = of_a(&run);
        let locks = locks
            .iter()
            .filter(|body| matches!(body, to_host::Body::Lock(_)));
        let again = usize::from(outcome == Outcome::Changed);
        assert_eq!(locks.count(), 1 + again, "broken at {broken}");
    }
}

#[test]
fn what_was_done_when_the_connection_broke_is_not_done_again() {
    let done = Arc::new(AtomicUsize::new(0));
    let script: Script = Arc::new(move |host, request| match request {
        to_host::Body::Perform(_) if host == "a" => {
            assert_eq!(done.fetch_add(1, Ordering::SeqCst), 0, "it was done before");
            None
        }
        to_host::Body::Observe(observe) if host == "a" && done.load(Ordering::SeqCst) > 0 => {
            let there = |query: &Query| match query.kind {
                Some(query::Kind::File(_)) => fixtures::regular("hello\n", 0o644),
                _ => look(query, FileFact::default()),
            };
            Some(vec![from_host::Body::Facts(Facts {
                facts: observe.queries.iter().map(there).collect(),
            })])
        }
        _ => Some(well(request)),
    });
    let run = run(one_by_one(), script);
    assert_eq!(run.outcome("a"), Outcome::Changed);
    let outcomes = run.outcomes.as_ref().unwrap();
    let a = outcomes.iter().find(|one| one.host == "a").unwrap();
    assert_eq!(a.changed, ["file /etc/motd"], "it is known by now");
    let waits = |body: &&&to_host::Body| matches!(body, to_host::Body::Probe(probe) if probe.within_millis > 0);
    assert_eq!(of_a(&run).iter().filter(waits).count(), 1, "its health");
}

#[test]
fn a_generation_whose_number_was_lost_is_known_all_the_same() {
    let commits = Arc::new(AtomicUsize::new(0));
    let script: Script = Arc::new(move |host, request| match request {
        to_host::Body::Commit(_) if host == "a" => match commits.fetch_add(1, Ordering::SeqCst) {
            0 => None,
            _ => Some(vec![from_host::Body::Committed(Committed { number: 0 })]),
        },
        to_host::Body::Observe(observe) => {
            let newest = |query: &Query| match &query.kind {
                Some(query::Kind::Generations(asked)) if asked.limit == 1 => {
                    let closed = Generation {
                        number: 5,
                        run: "test".to_owned(),
                        ..Generation::default()
                    };
                    fixtures::fact(fact_kind::Kind::Generations(GenerationsFact {
                        generations: vec![closed],
                        peers: Vec::new(),
                    }))
                }
                _ => look(query, FileFact::default()),
            };
            Some(vec![from_host::Body::Facts(Facts {
                facts: observe.queries.iter().map(newest).collect(),
            })])
        }
        _ => Some(well(request)),
    });
    let run = run(one_by_one(), script);
    let outcomes = run.outcomes.as_ref().unwrap();
    let a = outcomes.iter().find(|one| one.host == "a").unwrap();
    assert_eq!(a.generation, Some(5));
}

#[test]
fn a_connection_that_is_lost_while_the_lock_is_waited_for_is_made_again() {
    let (performed, locks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let script: Script = Arc::new(move |host, request| {
        let count = |of: &AtomicUsize| of.fetch_add(1, Ordering::SeqCst);
        match request {
            to_host::Body::Perform(_) if host == "a" && count(&performed) == 0 => None,
            to_host::Body::Lock(_) if host == "a" => match count(&locks) {
                // The helper that was left holds it; then the connection goes again.
                1 => Some(vec![from_host::Body::Refused(Refused {
                    message: "another run works on this host".to_owned(),
                })]),
                2 => None,
                _ => Some(well(request)),
            },
            _ => Some(well(request)),
        }
    });
    assert_eq!(run(one_by_one(), script).outcome("a"), Outcome::Changed);
}

#[test]
fn a_host_that_is_not_reached_again_fails_and_stops_the_play() {
    let lost = Arc::new(AtomicUsize::new(0));
    let script: Script = Arc::new(move |host, request| {
        let change = matches!(request, to_host::Body::Perform(_));
        let before = lost.fetch_add(usize::from(host == "a" && change), Ordering::SeqCst);
        (host != "a" || (before == 0 && !change)).then(|| well(request))
    });
    let run = run(one_by_one(), script);
    assert_eq!(run.outcome("a"), Outcome::Failed);
    let outcomes = run.outcomes.as_ref().unwrap();
    let a = outcomes.iter().find(|one| one.host == "a").unwrap();
    let why = a.failure.as_deref().unwrap();
    assert!(why.contains("the conversation broke off"), "{why}");
    assert!(why.contains("not reached again within 5s"), "{why}");
    assert_eq!(run.outcome("b"), Outcome::NotReached);
    assert_eq!(run.performed(), ["a"], "nothing is done twice");
}

/// How often the balancer's lock was asked for.
fn leases(run: &Run) -> usize {
    let lease = |(host, body): &&(String, to_host::Body)| {
        host == "lb" && matches!(body, to_host::Body::Lock(_))
    };
    run.requests.iter().filter(lease).count()
}

#[test]
fn a_balancer_that_is_lost_is_told_again_and_no_host_changes_in_use_or_stays_left_out() {
    for (broken, does_it) in [(0, false), (0, true), (1, false), (1, true)] {
        let out: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (told, left_out) = (AtomicUsize::new(0), Arc::clone(&out));
        let script: Script = Arc::new(move |host, request| {
            let mut out = left_out.lock().unwrap();
            match request {
                to_host::Body::Balance(balance) => {
                    let breaks = told.fetch_add(1, Ordering::SeqCst) == broken;
                    if breaks && !does_it {
                        return None;
                    }
                    match balance.verb() {
                        BalanceVerb::TakeOut => out.insert(balance.server.clone()),
                        _ => out.remove(&balance.server),
                    };
                    (!breaks).then(|| well(request))
                }
                to_host::Body::Perform(_) => {
                    assert!(out.contains(host), "{host} is in use");
                    Some(well(request))
                }
                _ => Some(well(request)),
            }
        });
        let run = run(behind_a_balancer(), script);
        let case = format!("broken at {broken}, done: {does_it}");
        for host in HOSTS {
            assert_eq!(run.outcome(host), Outcome::Changed, "{host}, {case}");
        }
        assert!(out.lock().unwrap().is_empty(), "{case}");
        assert_eq!(leases(&run), 2, "{case}");
        let mut expected = vec!["out a", "change a", "probe a", "back a"];
        let again = if broken == 0 { 0 } else { 3 };
        expected.insert(again, expected[again]);
        assert_eq!(steps(&run)[..5], expected, "{case}");
    }
}

#[test]
fn a_balancer_that_is_not_reached_again_is_waited_for_once_and_no_host_is_touched() {
    let lost = AtomicUsize::new(0);
    let script: Script = Arc::new(move |host, request| {
        let asked = matches!(request, to_host::Body::Balance(_));
        let before = lost.fetch_add(usize::from(asked), Ordering::SeqCst);
        (host != "lb" || (before == 0 && !asked)).then(|| well(request))
    });
    let all_at_once = Play {
        serial: Vec::new(),
        ..behind_a_balancer()
    };
    let run = run(all_at_once, script);
    let outcomes = run.outcomes.as_ref().unwrap();
    for one in outcomes {
        assert_eq!(one.outcome, Outcome::Failed, "{}", one.host);
        let why = one.failure.as_deref().unwrap();
        assert!(why.contains("lb: the conversation broke off"), "{why}");
    }
    let why = outcomes[0].failure.as_deref().unwrap();
    assert!(why.contains("not reached again within 5s"), "{why}");
    assert!(!steps(&run).iter().any(|step| step.starts_with("change")));
    // Tried after one, three and five seconds, and not with the other hosts again.
    assert!(leases(&run) <= 4, "{} leases", leases(&run));
}
