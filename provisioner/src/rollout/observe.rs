//! All hosts are asked at once, each in one turn.
//!
//! Goes in: hosts and what they shall be. Comes out: an [`Observation`]: sessions with their
//! plans. Invariant: nothing on a host changes but the lock that an apply takes.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::RunOptions;
use super::recover::{read_remembered, remembered};
use super::session::HostSession;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::{HostDesired, HostPlan, PlayResources, decide, removal};
use crate::report::Event;

/// How often a lock is tried that another run holds.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// What was found on all hosts.
#[derive(Debug)]
pub struct Observation {
    /// Hosts that answered, in the order of the fleet.
    pub sessions: Vec<HostSession>,
    /// Hosts that did not, each with its error.
    pub failures: Vec<(String, Error)>,
}

impl Observation {
    /// The plans of all hosts that answered.
    #[must_use]
    pub fn plans(&self) -> Vec<HostPlan> {
        self.sessions
            .iter()
            .map(|session| session.plan.clone())
            .collect()
    }

    /// Ends all conversations.
    pub async fn close(self) {
        stream::iter(self.sessions)
            .for_each_concurrent(None, |session| session.conversation.close())
            .await;
    }
}

/// Asks all hosts. With `lock`, each host's lock is taken in the same turn.
pub async fn observe(
    hosts: Vec<(Box<dyn Host>, HostDesired)>,
    lock: bool,
    options: &RunOptions,
) -> Observation {
    let mut observation = Observation {
        sessions: Vec::new(),
        failures: Vec::new(),
    };
    let mut results: Vec<(usize, String, Result<HostSession>)> =
        stream::iter(hosts.into_iter().enumerate())
            .map(|(index, (host, desired))| async move {
                let name = host.name().to_owned();
                (
                    index,
                    name,
                    observe_host(host.as_ref(), desired, lock, options).await,
                )
            })
            .buffer_unordered(options.forks.max(1))
            .collect()
            .await;
    results.sort_by_key(|(index, _, _)| *index);
    for (_, name, result) in results {
        match result {
            Ok(session) => observation.sessions.push(session),
            Err(error) => observation.failures.push((name, error)),
        }
    }
    observation
}

async fn observe_host(
    host: &dyn Host,
    desired: HostDesired,
    lock: bool,
    options: &RunOptions,
) -> Result<HostSession> {
    let working = |doing: &str| {
        let event = Event::Working {
            host: host.name().to_owned(),
            doing: doing.to_owned(),
        };
        let _ = options.events.send(event);
    };
    working("connecting");
    let mut conversation = host.connect().await?;
    conversation.heed(options.interrupt.clone());
    working("observing");
    let mut queries = desired.queries();
    let own = queries.len();
    let peers = options.keepers.contains(host.name());
    queries.extend(remembered(options, peers, 0));
    let targets: Vec<&str> = desired
        .health()
        .map(|health| health.target.as_str())
        .collect();
    let begun = Instant::now();
    let (mut facts, health) = loop {
        let holder = lock.then_some(options.run.as_str());
        let observed = conversation
            .observe(holder, queries.clone(), &targets)
            .await;
        match observed {
            Err(error) if conversation.is_taken() && begun.elapsed() < options.lock_timeout => {
                working(error.message.as_str());
                tokio::select! {
                    () = tokio::time::sleep(LOCK_PAUSE) => {}
                    () = options.interrupt.comes() => return Err(error),
                }
            }
            observed => break observed?,
        }
    };
    let (manifest, generations) = read_remembered(host.name(), facts.split_off(own))?;
    let plays: Vec<PlayResources<'_>> = desired
        .plays
        .iter()
        .map(|play| (play.play.as_str(), play.resources.as_slice()))
        .collect();
    let mut plan = decide(host.name(), &plays, &facts, conversation.hello());
    let left = removal::left(&manifest, &desired);
    if !left.is_empty() && !desired.plays.is_empty() {
        let facts = conversation.ask(removal::queries(&left)).await?;
        let (changes, stays) = removal::removals(&left, &facts, &desired);
        plan.changes.extend(changes);
        plan.stays = stays;
    }
    let mut session = HostSession::new(conversation, desired, plan, health);
    session.manifest = manifest;
    session.open = generations.generations.into_iter().next_back();
    session.peers = generations.peers;
    Ok(session)
}
