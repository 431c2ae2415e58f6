//! Rollouts over fake hosts, also over hosts whose connection breaks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use provision_protocol::DEADMAN_NOTES;
use provision_protocol::fact::{
    Fact, FileFact, ManifestFact, Query, TakenOutFact, fact_kind, query,
};
use provision_protocol::generation::{
    Alteration, Ending, Generation, GenerationsFact, Origin, Standing,
};
use provision_protocol::message::{
    Armed, BalanceVerb, Balanced, Committed, Disarmed, Facts, Locked, OperationFailure, Performed,
    Probed, StageFailure, Staged, Stored, Unstaged, from_host, to_host,
};
use provision_protocol::operation::{ManifestKind, operation};
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::document::{Diagnostics, Source};
use crate::host::{Endpoint, FakeHost, Host, Requests, Script};
use crate::plan::{HostDesired, PlayDesired};
use crate::playbook::{BatchSize, Health, Pace, Play};
use crate::report::{HostOutcome, Outcome};
use crate::resource::fixtures;
use crate::secret::Redactor;

mod bound;
mod deadman;
mod pace;
mod reboot;
mod reconnect;
mod truth;

const PLAY: &str = "motd";
const HOSTS: [&str; 3] = ["a", "b", "c"];

fn play(serial: Vec<BatchSize>, max_fail: usize) -> Play {
    let location = Source::new("test".to_owned(), String::new()).locate(0..0);
    Play {
        name: PLAY.parse().unwrap(),
        hosts: crate::document::Entry {
            value: PLAY.to_owned(),
            location: location.clone(),
        },
        serial,
        max_fail,
        pace: Pace::default(),
        health: vec![health()],
        ports: Vec::new(),
        resources: Vec::new(),
        location,
    }
}

fn health() -> Health {
    Health {
        target: "tcp://127.0.0.1:1".to_owned(),
        within: Duration::from_secs(1),
    }
}

fn desired() -> HostDesired {
    let file = "file = { path = \"/etc/motd\", content = \"hello\\n\", validate = \"true {}\" }";
    desired_of(&[file])
}

fn desired_of(resources: &[&str]) -> HostDesired {
    let resources = resources.iter();
    let play = PlayDesired {
        play: PLAY.parse().unwrap(),
        resources: resources
            .map(|text| fixtures::resource(text, &Redactor::default()).unwrap())
            .collect(),
        health: vec![health()],
    };
    let host = fixtures::fleet(&Diagnostics::default()).hosts.remove(0);
    HostDesired {
        plays: vec![play],
        ..HostDesired::without_plays(host)
    }
}

/// The answer of a host on which nothing was ever put, with what is at every path.
fn look(query: &Query, file: FileFact) -> Fact {
    fixtures::fact(match query.kind.as_ref().unwrap() {
        query::Kind::Manifest(_) => fact_kind::Kind::Manifest(ManifestFact::default()),
        query::Kind::Generations(_) => fact_kind::Kind::Generations(GenerationsFact::default()),
        query::Kind::TakenOut(_) => fact_kind::Kind::TakenOut(TakenOutFact::default()),
        // Nothing waits to be put back.
        query::Kind::File(query) if query.path == DEADMAN_NOTES => {
            fact_kind::Kind::File(FileFact::default())
        }
        _ => fact_kind::Kind::File(file),
    })
}

/// A host without the file, on which everything goes well.
fn well(request: &to_host::Body) -> Vec<from_host::Body> {
    vec![match request {
        to_host::Body::Lock(_) => from_host::Body::Locked(Locked {}),
        to_host::Body::Observe(observe) => from_host::Body::Facts(Facts {
            facts: observe
                .queries
                .iter()
                .map(|query| look(query, FileFact::default()))
                .collect(),
        }),
        to_host::Body::Chunk(chunk) => from_host::Body::Stored(Stored {
            sha256: chunk.sha256.clone(),
        }),
        to_host::Body::Stage(_) => from_host::Body::Staged(Staged::default()),
        to_host::Body::Perform(perform) => from_host::Body::Performed(Performed {
            done: u32::try_from(perform.operations.len()).unwrap(),
            failure: None,
        }),
        to_host::Body::Probe(_) => from_host::Body::Probed(Probed {
            healthy: true,
            detail: String::new(),
        }),
        to_host::Body::Unstage(_) => from_host::Body::Unstaged(Unstaged {}),
        to_host::Body::Commit(_) => from_host::Body::Committed(Committed { number: 1 }),
        to_host::Body::Balance(balance) => from_host::Body::Balanced(Balanced {
            running: true,
            backends: 1,
            taken_out: balance.verb() == BalanceVerb::TakeOut,
            done: true,
            detail: String::new(),
        }),
        to_host::Body::Arm(_) => from_host::Body::Armed(Armed {}),
        to_host::Body::Disarm(_) => from_host::Body::Disarmed(Disarmed { armed: true }),
        to_host::Body::Retire(_) => unreachable!("a rollout retires nothing"),
    }]
}

struct Run {
    outcomes: Result<Vec<HostOutcome>, String>,
    requests: Vec<(String, to_host::Body)>,
}

impl Run {
    fn performed(&self) -> Vec<&str> {
        let performs = |body: &to_host::Body| matches!(body, to_host::Body::Perform(_));
        self.requests
            .iter()
            .filter(|(_, body)| performs(body))
            .map(|(host, _)| host.as_str())
            .collect()
    }

    fn outcome(&self, host: &str) -> Outcome {
        let outcomes = self.outcomes.as_ref().unwrap();
        outcomes
            .iter()
            .find(|one| one.host == host)
            .unwrap()
            .outcome
    }
}

fn options(interrupt: &Interrupt, confirm: Confirm) -> RunOptions {
    let (events, _) = unbounded_channel();
    RunOptions {
        redactor: Redactor::default(),
        environment: "test".into(),
        forks: 8,
        run: "test".into(),
        origin: Origin::default(),
        peers: Vec::new(),
        keepers: BTreeSet::new(),
        rollback: true,
        lock_timeout: Duration::ZERO,
        interrupt: interrupt.clone(),
        confirm,
        events,
    }
}

fn run(play: Play, script: Script) -> Run {
    run_until(play, script, &Interrupt::default())
}

fn run_until(play: Play, script: Script, interrupt: &Interrupt) -> Run {
    run_confirmed(play, script, interrupt, Confirm::Given)
}

fn run_confirmed(play: Play, script: Script, interrupt: &Interrupt, confirm: Confirm) -> Run {
    run_desired(play, desired, script, interrupt, confirm)
}

/// Runs a play for all hosts; with a balancer, `lb` attends.
fn run_desired(
    play: Play,
    desired: fn() -> HostDesired,
    script: Script,
    interrupt: &Interrupt,
    confirm: Confirm,
) -> Run {
    let requests: Requests = Arc::new(Mutex::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcomes = runtime.block_on(async {
        let options = options(interrupt, confirm);
        let host = |name: &str| {
            let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
            Box::new(FakeHost {
                endpoint: Endpoint::example(name),
                script,
                requests,
            }) as Box<dyn Host>
        };
        let mut hosts: Vec<_> = HOSTS.iter().map(|name| (host(name), desired())).collect();
        if let Some(balancer) = &play.pace.balancer {
            let mut desired = HostDesired::without_plays(desired().host);
            desired.balancer = Some(balancer.clone());
            desired.attend();
            hosts.push((host("lb"), desired));
        }
        let plays = [(play, HOSTS.map(ToOwned::to_owned).to_vec())];
        let mut observation = observe(hosts, true, &options).await;
        observation.skip_unreachable(&plays);
        if let Some((host, error)) = observation.failures.pop() {
            return Err(format!("{host}: {error}"));
        }
        apply(&mut observation, &plays, &options)
            .await
            .map_err(|error| error.to_string())
    });
    let requests = requests.lock().unwrap().clone();
    Run { outcomes, requests }
}

#[test]
fn a_file_that_one_host_refuses_changes_no_host() {
    let script: Script = Arc::new(|host, request| {
        Some(match request {
            to_host::Body::Stage(stage) if host == "b" => {
                let path = stage.files[0].path.clone();
                let failure = StageFailure {
                    path,
                    message: "line 1 is bad".to_owned(),
                };
                let staged = Staged {
                    failures: vec![failure],
                    unvalidated: Vec::new(),
                };
                vec![from_host::Body::Staged(staged)]
            }
            other => well(other),
        })
    });
    let run = run(play(Vec::new(), 0), script);
    let error = run.outcomes.as_ref().unwrap_err();
    assert!(
        error.contains("b: ") && error.contains("line 1 is bad"),
        "{error}"
    );
    assert_eq!(run.performed(), Vec::<&str>::new());
    let unstaged = |(_, body): &&(String, to_host::Body)| matches!(body, to_host::Body::Unstage(_));
    assert_eq!(
        run.requests.iter().filter(unstaged).count(),
        3,
        "nothing staged is left anywhere"
    );
}

#[test]
fn a_host_whose_connection_is_lost_while_it_is_looked_at_is_asked_again() {
    let lost = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&lost);
    let script: Script = Arc::new(move |host, request| match request {
        to_host::Body::Observe(_) if host == "b" && times.fetch_add(1, Ordering::SeqCst) == 0 => {
            None
        }
        other => Some(well(other)),
    });
    let run = run(play(Vec::new(), 0), script);
    assert_eq!(run.outcome("b"), Outcome::Changed);
    assert_eq!(run.performed(), ["a", "b", "c"]);
}

#[test]
fn a_host_that_loses_every_connection_is_named_and_no_host_is_changed() {
    let script: Script = Arc::new(|host, request| match request {
        to_host::Body::Observe(_) if host == "b" => None,
        other => Some(well(other)),
    });
    let run = run(play(Vec::new(), 0), script);
    let error = run.outcomes.as_ref().unwrap_err();
    assert!(error.contains("b: the conversation broke off"), "{error}");
    assert_eq!(run.performed(), Vec::<&str>::new());
    let observed = |(host, body): &&(String, to_host::Body)| {
        host == "b" && matches!(body, to_host::Body::Observe(_))
    };
    assert_eq!(run.requests.iter().filter(observed).count(), 3);
}

/// In what order hosts were changed and waited for.
fn order(run: &Run) -> Vec<String> {
    let requests = run.requests.iter();
    let told = requests.filter_map(|(host, body)| match body {
        to_host::Body::Perform(_) => Some(format!("change {host}")),
        to_host::Body::Probe(probe) if probe.within_millis > 0 => Some(format!("probe {host}")),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_host_is_healthy_before_the_next_one_is_begun() {
    let run = run(
        play(vec![BatchSize::Hosts(1)], 0),
        Arc::new(|_, request| Some(well(request))),
    );
    assert_eq!(
        order(&run),
        [
            "change a", "probe a", "change b", "probe b", "change c", "probe c"
        ]
    );
    assert!(
        HOSTS
            .iter()
            .all(|host| run.outcome(host) == Outcome::Changed)
    );
}

#[test]
fn a_failure_stops_the_rollout_at_its_limit() {
    let script = || -> Script {
        Arc::new(|host, request| {
            Some(match request {
                to_host::Body::Perform(_) if host == "a" => {
                    let failure = OperationFailure {
                        resource: "file /etc/motd".to_owned(),
                        message: "no".to_owned(),
                        guard: false,
                    };
                    vec![from_host::Body::Performed(Performed {
                        done: 0,
                        failure: Some(failure),
                    })]
                }
                other => well(other),
            })
        })
    };
    let stopped = run(play(vec![BatchSize::Hosts(1)], 0), script());
    assert_eq!(stopped.performed(), ["a"]);
    assert_eq!(stopped.outcome("a"), Outcome::Failed);
    assert_eq!(stopped.outcome("b"), Outcome::NotReached);
    let went_on = run(play(vec![BatchSize::Hosts(1)], 1), script());
    assert_eq!(went_on.performed(), ["a", "b", "c"]);
    assert_eq!(went_on.outcome("c"), Outcome::Changed);
}

#[test]
fn a_host_that_was_left_unhealthy_stops_the_rollout_before_it_spreads() {
    let script: Script = Arc::new(|host, request| {
        Some(match request {
            // `a` has the file already, and is not healthy with it.
            to_host::Body::Observe(observe) if host == "a" && !observe.queries.is_empty() => {
                let Some(fact_kind::Kind::File(file)) = fixtures::regular("hello\n", 0o644).kind
                else {
                    unreachable!()
                };
                let queries = observe.queries.iter();
                vec![from_host::Body::Facts(Facts {
                    facts: queries.map(|query| look(query, file.clone())).collect(),
                })]
            }
            to_host::Body::Probe(_) if host == "a" => {
                let detail = "connection refused".to_owned();
                vec![from_host::Body::Probed(Probed {
                    healthy: false,
                    detail,
                })]
            }
            other => well(other),
        })
    });
    let run = run(play(vec![BatchSize::Hosts(1)], 0), script);
    assert_eq!(run.performed(), Vec::<&str>::new());
    assert_eq!(run.outcome("a"), Outcome::Failed);
    assert_eq!(run.outcome("b"), Outcome::NotReached);
}

/// What a host says of a run that has changed the file.
fn remembers(query: &Query) -> Fact {
    remembers_change(query, "/etc/motd")
}

fn remembers_change(query: &Query, path: &str) -> Fact {
    let Some(query::Kind::Generations(_)) = &query.kind else {
        return look(query, FileFact::default());
    };
    let standing = |sha256: &str| {
        Some(Standing {
            sha256: sha256.repeat(64),
            attributes: "root:root:644".to_owned(),
            value: String::new(),
        })
    };
    let alteration = Alteration {
        play: PLAY.to_owned(),
        resource: format!("file {path}"),
        kind: ManifestKind::File as i32,
        name: path.to_owned(),
        managed: true,
        before: standing("a"),
        after: standing("b"),
        kept: true,
        wrote: true,
        ..Alteration::default()
    };
    let open = Generation {
        number: 7,
        changes: vec![alteration],
        ..Generation::default()
    };
    fixtures::fact(fact_kind::Kind::Generations(GenerationsFact {
        generations: vec![open],
        peers: Vec::new(),
    }))
}

/// A host that was healthy, and is not once it was changed, until it is changed back.
fn sick_after_a_change(host: &'static str) -> Script {
    let changes = Arc::new(AtomicUsize::new(0));
    Arc::new(move |name, request| {
        if name != host {
            return Some(well(request));
        }
        Some(match request {
            to_host::Body::Observe(observe) if changes.load(Ordering::SeqCst) > 0 => {
                vec![from_host::Body::Facts(Facts {
                    facts: observe.queries.iter().map(remembers).collect(),
                })]
            }
            to_host::Body::Perform(_) => {
                changes.fetch_add(1, Ordering::SeqCst);
                well(request)
            }
            to_host::Body::Probe(_) => vec![from_host::Body::Probed(Probed {
                healthy: changes.load(Ordering::SeqCst) != 1,
                detail: "connection refused".to_owned(),
            })],
            _ => well(request),
        })
    })
}

#[test]
fn a_host_that_is_not_healthy_goes_back_and_the_others_stay_as_they_were() {
    let run = run(play(vec![BatchSize::Hosts(1)], 0), sick_after_a_change("b"));
    assert_eq!(run.performed(), ["a", "b", "b"]);
    assert_eq!(run.outcome("a"), Outcome::Changed);
    assert_eq!(run.outcome("b"), Outcome::RolledBack);
    assert_eq!(run.outcome("c"), Outcome::NotReached);
    let b: Vec<&to_host::Body> = run
        .requests
        .iter()
        .filter(|(host, _)| host == "b")
        .map(|(_, body)| body)
        .collect();
    let mut performs = b.iter().filter_map(|body| match body {
        to_host::Body::Perform(perform) => Some(perform),
        _ => None,
    });
    let back = performs.next_back().unwrap();
    let Some(operation::Kind::WriteFile(write)) = &back.operations[0].kind else {
        panic!("{back:?}")
    };
    assert_eq!(write.sha256, "a".repeat(64));
    let commits: Vec<_> = b
        .iter()
        .filter_map(|body| match body {
            to_host::Body::Commit(commit) => Some((commit.ending(), commit.note.as_str())),
            _ => None,
        })
        .collect();
    let [(Ending::RolledBack, note)] = commits.as_slice() else {
        panic!("{commits:?}")
    };
    assert!(note.contains("is not healthy within 1s"), "{note}");
}

#[test]
fn an_interrupt_ends_after_the_step_in_hand_and_leaves_the_generation_open() {
    let interrupt = Interrupt::default();
    let raised = interrupt.clone();
    let script: Script = Arc::new(move |host, request| {
        if host == "a" && matches!(request, to_host::Body::Perform(_)) {
            raised.raise();
        }
        Some(well(request))
    });
    let run = run_until(play(vec![BatchSize::Hosts(1)], 0), script, &interrupt);
    assert_eq!(run.performed(), ["a"]);
    assert_eq!(run.outcome("a"), Outcome::Failed);
    assert_eq!(run.outcome("b"), Outcome::NotReached);
    let commits = |(_, body): &&(String, to_host::Body)| matches!(body, to_host::Body::Commit(_));
    assert_eq!(run.requests.iter().filter(commits).count(), 0);
}
