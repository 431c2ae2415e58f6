//! All hosts are asked at once, each in one turn.
//!
//! Goes in: hosts and what they shall be. Comes out: an [`Observation`]: sessions with their
//! plans. Invariant: nothing on a host changes but the lock that an apply takes; who is asked
//! nothing more is let go before the next host is asked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::fact::{Fact, Query, fact_kind, query};
use provision_protocol::generation::GenerationsFact;
use provision_protocol::message::Probed;
use provision_protocol::operation::ManifestEntry;

use super::RunOptions;
use super::deadman::{ask_whether_armed, read_whether_armed};
use super::recover::{read_remembered, remembered};
use super::session::HostSession;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Conversation, Host, Look};
use crate::plan::{HostDesired, HostPlan, Part, PlayResources, decide, removal};
use crate::playbook::{Balancer, Play, Unreachable};
use crate::report::Event;

/// How often a lock is tried that another run holds.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// The pauses before a host is asked again whose connection was lost: looking changes nothing.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How long the lock of a connection that was lost may be held: a helper notices the loss when it
/// next says that it is there.
const LOST_LOCK: Duration = Duration::from_secs(15);

/// What was found on all hosts.
#[derive(Debug)]
pub struct Observation {
    /// Hosts that answered, in the order of the fleet.
    pub sessions: Vec<HostSession>,
    /// Hosts that did not, each with its error.
    pub failures: Vec<(String, Error)>,
    /// Hosts that did not and only had to attend.
    pub absent: Vec<Absent>,
    /// Hosts that were left out because they did not answer.
    pub skipped: Vec<(String, Error)>,
}

/// A host that had to attend and does not answer.
#[derive(Debug)]
pub struct Absent {
    /// Its name.
    pub host: String,
    /// The balancer that runs on it.
    pub balancer: Option<Balancer>,
    /// Why it does not.
    pub error: Error,
}

impl Observation {
    /// The plans of all hosts that answered.
    #[must_use]
    pub fn plans(&self) -> Vec<HostPlan> {
        let changing = self.sessions.iter().filter(|session| !session.attends());
        changing.map(|session| session.plan.clone()).collect()
    }

    /// Leaves hosts out that do not answer, where all of their plays say so.
    pub fn skip_unreachable(&mut self, plays: &[(Play, Vec<String>)]) {
        let skips = |name: &String| {
            let mut of_host = plays.iter().filter(|(_, hosts)| hosts.contains(name));
            let skips = |(play, _): &(Play, _)| play.pace.unreachable == Unreachable::Skip;
            of_host.clone().next().is_some() && of_host.all(skips)
        };
        let all = std::mem::take(&mut self.failures);
        let (skipped, failures) = all
            .into_iter()
            .partition(|(name, error)| error.kind == ErrorKind::Unreachable && skips(name));
        self.skipped = skipped;
        self.failures = failures;
    }

    /// Ends all conversations; the plans of all hosts that answered are left.
    pub async fn close(self) -> Vec<HostPlan> {
        let mut plans = Vec::new();
        let mut conversations = Vec::new();
        for session in self.sessions {
            let attends = session.attends();
            conversations.push(session.conversation);
            plans.extend((!attends).then_some(session.plan));
        }
        stream::iter(conversations)
            .for_each_concurrent(None, Conversation::close)
            .await;
        plans
    }
}

/// What a host has to do with the run.
type Role = (Part, Option<Balancer>);

/// A host's place in the fleet, its name, and what became of its turn.
type Turn<T> = (usize, String, Role, Result<(HostSession, T)>);

/// Asks all hosts, and keeps the conversations. With `lock`, each host's lock is taken in the same
/// turn.
pub async fn observe(
    hosts: Vec<(Box<dyn Host>, HostDesired)>,
    lock: bool,
    options: &RunOptions,
) -> Observation {
    turns(hosts, lock, options, async |_| ()).await.0
}

/// Asks all hosts, and each of them something more; the answers are in the order of the sessions.
/// Each conversation ends with its host's turn, so that no more are open than `--forks` says.
pub async fn look<T>(
    hosts: Vec<(Box<dyn Host>, HostDesired)>,
    options: &RunOptions,
    ask: impl AsyncFn(&mut HostSession) -> T,
) -> (Observation, Vec<T>) {
    let turn = async |session: &mut HostSession| {
        let answer = ask(session).await;
        session.conversation.leave().await;
        answer
    };
    turns(hosts, false, options, turn).await
}

/// Locks and asks all hosts for a run of these plays. A host that it has nothing to do with is let
/// go in its turn, and with it its lock: no part of the run needs either.
pub async fn observe_for(
    hosts: Vec<(Box<dyn Host>, HostDesired)>,
    plays: &[(Play, Vec<String>)],
    options: &RunOptions,
) -> Observation {
    let turn = async |session: &mut HostSession| {
        if is_settled(session, plays, options) {
            session.conversation.leave().await;
        }
    };
    turns(hosts, true, options, turn).await.0
}

/// Whether nothing is to be asked of a host any more, whatever becomes of the others: it is as it
/// shall be and well, no play counts on seeing it well again, and it writes nothing down.
fn is_settled(session: &HostSession, plays: &[(Play, Vec<String>)], options: &RunOptions) -> bool {
    let counted = plays.iter().any(|(play, hosts)| {
        play.pace.min_ready.is_some() && hosts.iter().any(|host| host == session.name())
    });
    let takes_part = session.attends() || session.desired.balancer.is_some() || counted;
    let keeps = options.keepers.contains(session.name());
    let well = session.health.iter().all(|seen| seen.healthy);
    session.plan.is_empty() && !session.is_unfinished() && well && !takes_part && !keeps
}

/// Asks all hosts, as many at once as `--forks` says; `end` is the end of each host's turn.
async fn turns<T>(
    hosts: Vec<(Box<dyn Host>, HostDesired)>,
    lock: bool,
    options: &RunOptions,
    end: impl AsyncFn(&mut HostSession) -> T,
) -> (Observation, Vec<T>) {
    let end = &end;
    let mut answers = Vec::new();
    let mut observation = Observation {
        sessions: Vec::new(),
        failures: Vec::new(),
        absent: Vec::new(),
        skipped: Vec::new(),
    };
    let mut results: Vec<Turn<T>> = stream::iter(hosts.into_iter().enumerate())
        .map(|(index, (host, desired))| async move {
            let name = host.name().to_owned();
            let role = (desired.part, desired.balancer.clone());
            let observe =
                |patience| observe_host(host.as_ref(), &desired, lock, (options, patience));
            let mut result = observe(options.lock_timeout).await;
            for pause in RETRY_PAUSES {
                if !result.as_ref().is_err_and(|error| is_lost(error, options)) {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = options.interrupt.comes() => break,
                }
                result = observe(options.lock_timeout.max(LOST_LOCK)).await;
            }
            let result = match result {
                Ok(found) => {
                    let mut session = found.session(desired);
                    session.host = Some(host);
                    let answer = end(&mut session).await;
                    Ok((session, answer))
                }
                Err(error) => Err(error),
            };
            (index, name, role, result)
        })
        .buffer_unordered(options.forks.max(1))
        .collect()
        .await;
    results.sort_by_key(|(index, ..)| *index);
    for (_, name, (part, balancer), result) in results {
        match result {
            Ok((session, answer)) => {
                observation.sessions.push(session);
                answers.push(answer);
            }
            Err(error) if part == Part::Attends && error.kind == ErrorKind::Unreachable => {
                observation.absent.push(Absent {
                    host: name,
                    balancer,
                    error,
                });
            }
            Err(error) => observation.failures.push((name, error)),
        }
    }
    (observation, answers)
}

/// Whether a host may be asked again: nobody has ended the run, and its connection was lost.
fn is_lost(error: &Error, options: &RunOptions) -> bool {
    error.kind == ErrorKind::Lost && !options.interrupt.has_come()
}

/// What was found on one host.
struct Found {
    conversation: Conversation,
    plan: HostPlan,
    health: Vec<Probed>,
    taken_out: BTreeSet<String>,
    armed: bool,
    manifest: Vec<ManifestEntry>,
    generations: GenerationsFact,
}

impl Found {
    fn session(self, desired: HostDesired) -> HostSession {
        let mut session = HostSession::new(self.conversation, desired, self.plan, self.health);
        session.taken_out = self.taken_out;
        session.armed = self.armed;
        session.manifest = self.manifest;
        session.open = self.generations.generations.into_iter().next_back();
        session.peers = self.generations.peers;
        session
    }
}

async fn observe_host(
    host: &dyn Host,
    desired: &HostDesired,
    lock: bool,
    (options, patience): (&RunOptions, Duration),
) -> Result<Found> {
    let mut queries = desired.queries();
    let own = queries.len();
    let peers = options.keepers.contains(host.name());
    queries.extend(remembered(options, peers, 0));
    queries.extend(ask_taken_out(desired));
    queries.extend(lock.then(ask_whether_armed));
    let targets = desired.health().map(|health| health.target.clone());
    let look = Look {
        holder: lock.then(|| options.run.clone()),
        queries,
        targets: targets.collect(),
    };
    let (mut conversation, mut facts, health) = meet(host, &look, (options, patience)).await?;
    let mut answers = facts.split_off(own);
    let armed = lock && read_whether_armed(answers.pop());
    let taken_out = match &desired.balancer {
        Some(_) => read_taken_out(answers.pop()),
        None => BTreeSet::new(),
    };
    let (manifest, generations) = read_remembered(host.name(), answers)?;
    let mut plan = first_plan(desired, &facts, &conversation);
    let left = removal::left(&manifest, desired);
    let changes = desired.part == Part::Changes && !desired.plays.is_empty();
    if !left.is_empty() && changes {
        let facts = conversation.ask(removal::queries(&left)).await?;
        let (changes, stays) = removal::removals(&left, &facts, desired);
        plan.changes.extend(changes);
        plan.stays = stays;
    }
    Ok(Found {
        conversation,
        plan,
        health,
        taken_out,
        armed,
        manifest,
        generations,
    })
}

/// A conversation with a host, and its answers to a first look. A lock that is taken is waited for.
pub(super) async fn meet(
    host: &dyn Host,
    look: &Look,
    (options, patience): (&RunOptions, Duration),
) -> Result<(Conversation, Vec<Fact>, Vec<Probed>)> {
    let working = |doing: &str| {
        let event = Event::Working {
            host: host.name().to_owned(),
            doing: doing.to_owned(),
        };
        let _ = options.events.send(event);
    };
    working("connecting");
    let opening = look.asked(host.name())?;
    let mut conversation = host.connect(&opening).await?;
    conversation.heed(options.interrupt.clone());
    working("observing");
    let begun = Instant::now();
    let mut observed = conversation.observed(look).await;
    loop {
        match observed {
            Err(error) if conversation.is_taken() && begun.elapsed() < patience => {
                working(error.message.as_str());
                tokio::select! {
                    () = tokio::time::sleep(LOCK_PAUSE) => {}
                    () = options.interrupt.comes() => return Err(error),
                }
                observed = conversation.observe(look).await;
            }
            observed => {
                let (facts, health) = observed?;
                return Ok((conversation, facts, health));
            }
        }
    }
}

fn first_plan(desired: &HostDesired, facts: &[Fact], conversation: &Conversation) -> HostPlan {
    let plays: Vec<PlayResources<'_>> = desired
        .plays
        .iter()
        .map(|play| (play.play.as_str(), play.resources.as_slice()))
        .collect();
    decide(conversation.name(), &plays, facts, conversation.hello())
}

/// Asks which servers the balancer on the host leaves out, where there is one.
fn ask_taken_out(desired: &HostDesired) -> Option<Query> {
    let state_file = desired.balancer.as_ref()?.state_file.clone();
    Some(Query {
        kind: Some(query::Kind::TakenOut(state_file)),
    })
}

/// The servers that an earlier run left out of the balancer. What cannot be read holds up nothing
/// here: whoever talks to that balancer is told.
fn read_taken_out(fact: Option<Fact>) -> BTreeSet<String> {
    match fact.and_then(|fact| fact.kind) {
        Some(fact_kind::Kind::TakenOut(taken_out)) => taken_out.servers.into_iter().collect(),
        _ => BTreeSet::new(),
    }
}
