//! What a report says of hosts that fail half-way: no more and no less than what is known.

use provision_protocol::message::Progress;

use super::*;
use crate::document::Entry;
use crate::playbook::Balancer;

/// One host at a time, each left out by a balancer meanwhile.
fn behind_a_balancer() -> Play {
    let location = Source::new("test".to_owned(), String::new()).locate(0..0);
    let balancer = Balancer {
        hosts: Entry {
            value: "balancers".to_owned(),
            location,
        },
        socket: "/run/admin.sock".to_owned(),
        state_file: "/state".to_owned(),
        within: Duration::from_secs(1),
    };
    Play {
        pace: Pace {
            balancer: Some(balancer),
            ..Pace::default()
        },
        ..play(vec![BatchSize::Hosts(1)], 0)
    }
}

fn reported<'a>(run: &'a Run, host: &str) -> &'a HostOutcome {
    let outcomes = run.outcomes.as_ref().unwrap();
    outcomes.iter().find(|one| one.host == host).unwrap()
}

fn is_put_back(run: &Run) -> bool {
    let puts_back = |body: &to_host::Body| match body {
        to_host::Body::Balance(balance) => balance.verb() == BalanceVerb::PutBack,
        _ => false,
    };
    run.requests.iter().any(|(_, body)| puts_back(body))
}

/// Host `a` was healthy, and never is again once it was changed. How its changes are taken back
/// is said by `back`.
fn never_well_again(back: fn(&to_host::Body) -> Vec<from_host::Body>) -> Script {
    let changes = Arc::new(AtomicUsize::new(0));
    Arc::new(move |name, request| {
        let changed = changes.load(Ordering::SeqCst);
        Some(match request {
            _ if name != "a" => well(request),
            to_host::Body::Observe(observe) if changed > 0 => {
                vec![from_host::Body::Facts(Facts {
                    facts: observe.queries.iter().map(remembers).collect(),
                })]
            }
            to_host::Body::Perform(_) => match changes.fetch_add(1, Ordering::SeqCst) {
                0 => well(request),
                _ => back(request),
            },
            to_host::Body::Probe(_) => vec![from_host::Body::Probed(Probed {
                healthy: changed == 0,
                detail: "HTTP 503".to_owned(),
            })],
            _ => well(request),
        })
    })
}

#[test]
fn a_host_that_stays_sick_has_what_it_had_and_is_left_out() {
    let run = run(behind_a_balancer(), never_well_again(well));
    let a = reported(&run, "a");
    assert_eq!(a.outcome, Outcome::RolledBack);
    assert_eq!(a.generation, Some(1), "its history knows");
    let why = a.failure.as_deref().unwrap();
    assert!(why.contains("it has what it had before, but: "), "{why}");
    assert!(!is_put_back(&run), "it gets requests");
}

#[test]
fn what_could_be_taken_back_is_not_called_changed() {
    let script = never_well_again(|request| {
        let to_host::Body::Perform(perform) = request else {
            return well(request);
        };
        // The file is back; what comes after it fails.
        vec![from_host::Body::Performed(Performed {
            done: u32::try_from(perform.operations.len()).unwrap(),
            failure: Some(OperationFailure {
                resource: "service motd".to_owned(),
                message: "it does not start".to_owned(),
                guard: false,
            }),
        })]
    });
    let run = run(behind_a_balancer(), script);
    let a = reported(&run, "a");
    assert_eq!(a.outcome, Outcome::Failed);
    assert_eq!(a.changed, Vec::<String>::new());
    let why = a.failure.as_deref().unwrap();
    assert!(why.contains("not rolled back: "), "{why}");
}

#[test]
fn a_conversation_that_breaks_during_a_change_leaves_it_in_doubt() {
    let script: Script = Arc::new(|name, request| match request {
        to_host::Body::Perform(perform) if name == "a" => Some(vec![
            from_host::Body::Progress(Progress {
                resource: perform.operations[0].resource.clone(),
                doing: "write".to_owned(),
            }),
            from_host::Body::Unstaged(Unstaged {}),
        ]),
        _ => Some(well(request)),
    });
    let run = run(behind_a_balancer(), script);
    let a = reported(&run, "a");
    assert_eq!(a.outcome, Outcome::Failed);
    let why = a.failure.as_deref().unwrap();
    assert!(why.contains("was in hand; whether that was done"), "{why}");
    assert!(!is_put_back(&run), "it gets requests");
}
