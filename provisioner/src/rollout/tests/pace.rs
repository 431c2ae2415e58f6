//! The pace of a play: canaries, pauses, hosts that must stay ready, and balancers.

use super::*;
use crate::document::Entry;
use crate::error::{Error, ErrorKind};
use crate::playbook::{Balancer, Canary, CanaryHosts, Order, Pause, Unreachable};

fn one_by_one(pace: Pace) -> Play {
    Play {
        pace,
        ..play(vec![BatchSize::Hosts(1)], 0)
    }
}

fn entry<T>(value: T) -> Entry<T> {
    Entry {
        value,
        location: Source::new("test".to_owned(), String::new()).locate(0..0),
    }
}

fn min_ready(size: BatchSize) -> Pace {
    Pace {
        min_ready: Some(entry(size)),
        ..Pace::default()
    }
}

fn all_well() -> Script {
    Arc::new(|_, request| Some(well(request)))
}

fn canary(hosts: CanaryHosts, watch_millis: u64) -> Pace {
    Pace {
        canary: Some(Canary {
            hosts,
            watch: Duration::from_millis(watch_millis),
        }),
        ..Pace::default()
    }
}

#[test]
fn a_canary_by_name_is_first_and_the_others_follow() {
    let named = CanaryHosts::Named(vec![entry("b".to_owned())]);
    let play = Play {
        pace: canary(named, 1),
        ..play(Vec::new(), 0)
    };
    let run = run(play, all_well());
    assert_eq!(run.performed()[0], "b");
    let looks = |(host, body): &&(String, to_host::Body)| {
        host == "b" && matches!(body, to_host::Body::Probe(probe) if probe.within_millis == 0)
    };
    // Once when observed, twice while watched.
    assert_eq!(run.requests.iter().filter(looks).count(), 3);
    assert!(
        HOSTS
            .iter()
            .all(|host| run.outcome(host) == Outcome::Changed)
    );
}

#[test]
fn a_canary_that_falls_ill_while_it_is_watched_goes_back_and_stops_the_play() {
    // It is healthy right after the change and not any more when it is looked at again.
    let looks = Arc::new(AtomicUsize::new(0));
    let sick = sick_after_a_change("a");
    let script: Script = Arc::new(move |host, request| match request {
        to_host::Body::Probe(probe) if host == "a" && probe.within_millis > 0 => {
            looks.fetch_add(1, Ordering::SeqCst);
            Some(well(request))
        }
        _ => sick(host, request),
    });
    let play = Play {
        max_fail: 9,
        ..one_by_one(canary(CanaryHosts::Count(1), 1))
    };
    let run = run(play, script);
    assert_eq!(run.performed(), ["a", "a"]);
    assert_eq!(run.outcome("a"), Outcome::RolledBack);
    assert_eq!(run.outcome("b"), Outcome::NotReached);
    assert_eq!(run.outcome("c"), Outcome::NotReached);
}

#[test]
fn a_play_that_pauses_for_a_yes_stops_at_a_no() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let questions = Arc::clone(&asked);
    let confirm = Confirm::Ask(Arc::new(move |question| {
        let mut asked = questions.lock().unwrap();
        asked.push(question);
        let answer = asked.len() < 2;
        Box::pin(async move { answer })
    }));
    let pace = Pace {
        pause: Some(Pause::Confirm),
        ..Pace::default()
    };
    let run = run_confirmed(one_by_one(pace), all_well(), &Interrupt::default(), confirm);
    assert_eq!(run.performed(), ["a", "b"]);
    assert_eq!(run.outcome("c"), Outcome::NotReached);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "play motd: 1 done, 2 to come (b, c). Go on?",
            "play motd: 2 done, 1 to come (c). Go on?"
        ]
    );
}

#[test]
fn an_order_can_be_the_other_way_round() {
    let pace = Pace {
        order: Order::Reverse,
        ..Pace::default()
    };
    assert_eq!(
        run(one_by_one(pace), all_well()).performed(),
        ["c", "b", "a"]
    );
}

#[test]
fn what_cannot_hold_is_refused_before_anything_is_touched() {
    let play = Play {
        serial: Vec::new(),
        ..one_by_one(min_ready(BatchSize::Percent(100)))
    };
    let run = run(play, all_well());
    let error = run.outcomes.as_ref().unwrap_err();
    assert!(
        error.contains("3 hosts must stay ready, and changing one leaves 2 of 3"),
        "{error}"
    );
    let touched = |(_, body): &&(String, to_host::Body)| {
        matches!(
            body,
            to_host::Body::Stage(_) | to_host::Body::Chunk(_) | to_host::Body::Perform(_)
        )
    };
    assert_eq!(run.requests.iter().filter(touched).count(), 0);
}

#[test]
fn a_batch_is_only_as_large_as_leaves_enough_hosts_ready() {
    // All at once was asked for, and two must stay: one after the other.
    let play = Play {
        serial: Vec::new(),
        ..one_by_one(min_ready(BatchSize::Hosts(2)))
    };
    let run = run(play, all_well());
    assert_eq!(
        order(&run),
        [
            "change a", "probe a", "change b", "probe b", "change c", "probe c"
        ]
    );
}

#[test]
fn hosts_that_fall_ill_by_themselves_stop_a_play_that_needs_them() {
    // `c` dies after `a` was changed; with it, no other may go.
    let changed = Arc::new(AtomicUsize::new(0));
    let script: Script = Arc::new(move |host, request| {
        if matches!(request, to_host::Body::Perform(_)) {
            changed.fetch_add(1, Ordering::SeqCst);
        }
        Some(match request {
            to_host::Body::Probe(_) if host == "c" && changed.load(Ordering::SeqCst) > 0 => {
                vec![from_host::Body::Probed(Probed::default())]
            }
            other => well(other),
        })
    });
    let run = run(one_by_one(min_ready(BatchSize::Hosts(2))), script);
    // A host that is ill already may be changed: nothing is taken away by that.
    assert_eq!(run.performed()[..2], ["a", "c"]);
    assert_eq!(run.outcome("b"), Outcome::NotReached);
}

#[test]
fn hosts_on_which_nothing_runs_yet_are_not_counted_as_taken_away() {
    let script: Script = Arc::new(|_, request| {
        Some(match request {
            to_host::Body::Probe(probe) if probe.within_millis == 0 => {
                vec![from_host::Body::Probed(Probed::default())]
            }
            other => well(other),
        })
    });
    let run = run(one_by_one(min_ready(BatchSize::Hosts(3))), script);
    assert_eq!(run.performed(), ["a", "b", "c"]);
}

pub(super) fn balanced() -> Pace {
    Pace {
        balancer: Some(Balancer {
            hosts: entry("balancers".to_owned()),
            socket: "/run/haproxy/admin.sock".to_owned(),
            state_file: "/var/lib/haproxy/server-state".to_owned(),
            within: Duration::from_secs(1),
        }),
        ..Pace::default()
    }
}

/// What was asked of the balancer and changed on hosts, in order.
pub(super) fn steps(run: &Run) -> Vec<String> {
    let words = |(host, body): &(String, to_host::Body)| match body {
        to_host::Body::Balance(balance) => {
            let verb = match balance.verb() {
                BalanceVerb::TakeOut => "out",
                BalanceVerb::PutBack => "back",
                BalanceVerb::Look => "look",
            };
            Some(format!("{verb} {}", balance.server))
        }
        to_host::Body::Perform(_) => Some(format!("change {host}")),
        to_host::Body::Probe(probe) if probe.within_millis > 0 => Some(format!("probe {host}")),
        _ => None,
    };
    run.requests.iter().filter_map(words).collect()
}

#[test]
fn a_host_is_left_out_by_its_balancer_until_it_is_healthy() {
    let run = run(one_by_one(balanced()), all_well());
    let expected: Vec<String> = HOSTS
        .iter()
        .flat_map(|host| ["out", "change", "probe", "back"].map(|verb| format!("{verb} {host}")))
        .collect();
    assert_eq!(steps(&run), expected);
    let locked = |(host, body): &(String, to_host::Body)| {
        host == "lb" && matches!(body, to_host::Body::Lock(_))
    };
    assert!(run.requests.iter().any(locked), "the balancer is leased");
    let outcomes = run.outcomes.as_ref().unwrap();
    assert!(outcomes.iter().all(|one| one.host != "lb"));
}

#[test]
fn a_host_whose_sessions_do_not_end_is_not_touched() {
    let script: Script = Arc::new(|_, request| {
        Some(match request {
            to_host::Body::Balance(_) => vec![from_host::Body::Balanced(Balanced {
                running: true,
                backends: 1,
                detail: "7 sessions did not end".to_owned(),
                ..Balanced::default()
            })],
            other => well(other),
        })
    });
    let run = run(one_by_one(balanced()), script);
    assert_eq!(steps(&run), ["out a"]);
    assert_eq!(run.outcome("a"), Outcome::Failed);
    let outcomes = run.outcomes.as_ref().unwrap();
    let failure = outcomes[0].failure.as_ref().unwrap();
    assert!(
        failure.contains("lb cannot leave it out within 1s")
            && failure.contains("7 sessions did not end"),
        "{failure}"
    );
    assert_eq!(run.outcome("b"), Outcome::NotReached);
}

#[test]
fn a_host_that_went_back_is_used_again_and_one_that_did_not_is_not() {
    let back = run(one_by_one(balanced()), sick_after_a_change("a"));
    let expected = [
        "out a", "change a", "probe a", "change a", "probe a", "back a",
    ];
    assert_eq!(steps(&back), expected);
    assert_eq!(back.outcome("a"), Outcome::RolledBack);
    // Here it stays as ill as it is with what it had.
    let sick = sick_after_a_change("a");
    let script: Script = Arc::new(move |host, request| match request {
        to_host::Body::Probe(probe) if host == "a" && probe.within_millis > 0 => {
            Some(vec![from_host::Body::Probed(Probed::default())])
        }
        _ => sick(host, request),
    });
    let stuck = run(one_by_one(balanced()), script);
    assert_eq!(stuck.outcome("a"), Outcome::RolledBack);
    assert!(!steps(&stuck).contains(&"back a".to_owned()));
}

#[test]
fn a_host_that_an_earlier_run_left_out_is_used_again_once_it_is_well() {
    let script: Script = Arc::new(|host, request| {
        let to_host::Body::Observe(observe) = request else {
            return Some(well(request));
        };
        let facts = observe.queries.iter().map(|query| match &query.kind {
            Some(query::Kind::TakenOut(_)) => {
                let servers = vec!["b".to_owned()];
                fixtures::fact(fact_kind::Kind::TakenOut(TakenOutFact { servers }))
            }
            _ if host == "lb" => look(query, FileFact::default()),
            _ => {
                let fact_kind::Kind::File(file) = fixtures::regular("hello\n", 0o644).kind.unwrap()
                else {
                    unreachable!()
                };
                look(query, file)
            }
        });
        Some(vec![from_host::Body::Facts(Facts {
            facts: facts.collect(),
        })])
    });
    let run = run(one_by_one(balanced()), script);
    assert_eq!(steps(&run), ["back b"]);
    assert_eq!(run.outcome("b"), Outcome::Unchanged);
}

#[test]
fn only_hosts_that_do_not_answer_are_left_out_and_only_where_all_plays_say_so() {
    let failures = || {
        vec![
            (
                "a".to_owned(),
                Error::new(ErrorKind::Unreachable, "a cannot be reached"),
            ),
            ("b".to_owned(), Error::host("b shows another host key")),
        ]
    };
    let left = |manners: &[Unreachable]| {
        let mut observation = Observation {
            sessions: Vec::new(),
            failures: failures(),
            absent: Vec::new(),
            skipped: Vec::new(),
        };
        let plays: Vec<_> = manners
            .iter()
            .map(|unreachable| {
                let pace = Pace {
                    unreachable: *unreachable,
                    ..Pace::default()
                };
                (one_by_one(pace), HOSTS.map(ToOwned::to_owned).to_vec())
            })
            .collect();
        observation.skip_unreachable(&plays);
        let names = |list: &[(String, Error)]| -> Vec<String> {
            list.iter().map(|(name, _)| name.clone()).collect()
        };
        (names(&observation.failures), names(&observation.skipped))
    };
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(left(&[Unreachable::Skip]), (owned(&["b"]), owned(&["a"])));
    assert_eq!(
        left(&[Unreachable::Skip, Unreachable::Stop]),
        (owned(&["a", "b"]), owned(&[]))
    );
}
