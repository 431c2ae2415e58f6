//! How many conversations are open at once.

use super::*;
use crate::error::Result;
use crate::host::{BoxFuture, Conversation};
use crate::rollout;

const SIX: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// How many conversations are open, and how many were at most.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One conversation, for as long as the host's side of it is there.
struct Counted(Arc<Open>);

impl Counted {
    fn new(open: &Arc<Open>) -> Self {
        let now = open.now.fetch_add(1, Ordering::SeqCst) + 1;
        open.most.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A host whose conversations are counted.
struct CountedHost {
    endpoint: Endpoint,
    script: Script,
    requests: Requests,
    open: Arc<Open>,
}

impl std::fmt::Debug for CountedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountedHost")
    }
}

impl Host for CountedHost {
    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>> {
        Box::pin(async move {
            let (counted, script) = (Counted::new(&self.open), Arc::clone(&self.script));
            let host = FakeHost {
                endpoint: self.endpoint.clone(),
                script: Arc::new(move |name, request| {
                    let _ = &counted;
                    script(name, request)
                }),
                requests: Arc::clone(&self.requests),
            };
            host.connect(opening).await
        })
    }

    fn revert_after(&self) -> Duration {
        self.endpoint.revert_after
    }

    fn reconnect_within(&self) -> Duration {
        self.endpoint.reconnect_within
    }
}

/// Six hosts, two of which may be worked on at once; `changing` of them need a change.
struct Fleet {
    open: Arc<Open>,
    requests: Requests,
    script: Script,
    options: RunOptions,
}

impl Fleet {
    fn new(changing: &'static [&'static str]) -> Self {
        let script: Script = Arc::new(move |host, request| {
            Some(match request {
                to_host::Body::Observe(observe) if !changing.contains(&host) => {
                    let Some(fact_kind::Kind::File(file)) =
                        fixtures::regular("hello\n", 0o644).kind
                    else {
                        unreachable!()
                    };
                    let queries = observe.queries.iter();
                    vec![from_host::Body::Facts(Facts {
                        facts: queries.map(|query| look(query, file.clone())).collect(),
                    })]
                }
                other => well(other),
            })
        });
        Self {
            open: Arc::default(),
            requests: Arc::default(),
            script,
            options: RunOptions {
                forks: 2,
                ..options(&Interrupt::default(), Confirm::Given)
            },
        }
    }

    fn hosts(&self) -> Vec<(Box<dyn Host>, HostDesired)> {
        let hosts = SIX.iter().map(|name| -> Box<dyn Host> {
            Box::new(CountedHost {
                endpoint: Endpoint::example(name),
                script: Arc::clone(&self.script),
                requests: Arc::clone(&self.requests),
                open: Arc::clone(&self.open),
            })
        });
        hosts.map(|host| (host, desired())).collect()
    }

    fn open_now(&self) -> usize {
        self.open.now.load(Ordering::SeqCst)
    }

    fn open_at_most(&self) -> usize {
        self.open.most.load(Ordering::SeqCst)
    }

    /// The kinds of requests that a host got.
    fn asked(&self, host: &str) -> Vec<&'static str> {
        let requests = self.requests.lock().unwrap();
        let own = requests.iter().filter(|(name, _)| name == host);
        own.map(|(_, body)| match body {
            to_host::Body::Lock(_) => "lock",
            to_host::Body::Observe(_) => "observe",
            to_host::Body::Probe(_) => "probe",
            _ => "more",
        })
        .collect()
    }
}

fn for_six(pace: Pace) -> [(Play, Vec<String>); 1] {
    let play = Play {
        pace,
        ..play(Vec::new(), 0)
    };
    [(play, SIX.map(ToOwned::to_owned).to_vec())]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn who_only_looks_has_no_more_conversations_open_than_forks_says() {
    let fleet = Fleet::new(&["b"]);
    let (observation, answers) = block_on(async {
        let ask = async |session: &mut HostSession| {
            let options = fleet.options.clone();
            let generations = session.generations(1, &options).await;
            (session.name().to_owned(), generations.is_ok())
        };
        rollout::look(fleet.hosts(), &fleet.options, ask).await
    });
    assert_eq!(fleet.open_at_most(), 2);
    assert_eq!(fleet.open_now(), 0, "whoever has answered is let go");
    assert_eq!(answers, SIX.map(|name| (name.to_owned(), true)));
    let plans = observation.plans();
    let changing = plans.iter().filter(|plan| !plan.is_empty());
    let names: Vec<&str> = changing.map(|plan| plan.host.as_str()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn a_run_with_nothing_to_do_lets_each_host_go_after_one_turn() {
    let fleet = Fleet::new(&[]);
    let plays = for_six(Pace::default());
    let outcomes = block_on(async {
        let mut observation = observe_for(fleet.hosts(), &plays, &fleet.options).await;
        assert_eq!(fleet.open_now(), 0);
        apply(&mut observation, &plays, &fleet.options).await
    });
    assert_eq!(fleet.open_at_most(), 2);
    let outcomes: Vec<Outcome> = outcomes.unwrap().iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unchanged; 6]);
    for host in SIX {
        assert_eq!(fleet.asked(host), ["lock", "observe", "probe"], "{host}");
    }
}

#[test]
fn hosts_that_are_changed_stay_connected_and_the_others_do_not() {
    let fleet = Fleet::new(&["b", "e"]);
    let plays = for_six(Pace::default());
    let outcomes = block_on(async {
        let mut observation = observe_for(fleet.hosts(), &plays, &fleet.options).await;
        assert_eq!(fleet.open_now(), 2);
        let outcomes = apply(&mut observation, &plays, &fleet.options).await;
        assert_eq!(fleet.open_now(), 2, "nobody was connected to again");
        observation.close().await;
        outcomes
    });
    assert_eq!(fleet.open_now(), 0);
    let changed = outcomes.unwrap();
    let changed = changed
        .iter()
        .filter(|one| one.outcome == Outcome::Changed && one.failure.is_none());
    let names: Vec<&str> = changed.map(|one| one.host.as_str()).collect();
    assert_eq!(names, ["b", "e"]);
}

#[test]
fn hosts_that_count_for_others_or_write_them_down_stay_connected() {
    let min_ready = crate::document::Entry {
        value: BatchSize::Hosts(5),
        location: Source::new("test".to_owned(), String::new()).locate(0..0),
    };
    let counts = for_six(Pace {
        min_ready: Some(min_ready),
        ..Pace::default()
    });
    let fleet = Fleet::new(&["b"]);
    let outcomes = block_on(async {
        let mut observation = observe_for(fleet.hosts(), &counts, &fleet.options).await;
        assert_eq!(fleet.open_now(), 6);
        apply(&mut observation, &counts, &fleet.options).await
    });
    assert_eq!(outcomes.unwrap()[1].outcome, Outcome::Changed);

    let mut fleet = Fleet::new(&[]);
    fleet.options.keepers = BTreeSet::from(["c".to_owned()]);
    let observation = block_on(async {
        let plays = for_six(Pace::default());
        let observation = observe_for(fleet.hosts(), &plays, &fleet.options).await;
        assert_eq!(fleet.open_now(), 1);
        observation
    });
    let left = observation.sessions.iter();
    let kept = left.filter(|session| !session.conversation.is_left());
    let names: Vec<&str> = kept.map(HostSession::name).collect();
    assert_eq!(names, ["c"]);
}
