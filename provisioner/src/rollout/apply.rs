//! All plays, one after the other.
//!
//! Goes in: an [`Observation`]. Comes out: what became of every host. Invariant: when any host
//! refuses what it was given, or the pace of a play cannot hold, no host was changed.

use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::generation::Ending;

use super::RunOptions;
use super::check_pace;
use super::observe::Observation;
use super::play::run_play;
use super::session::HostSession;
use crate::error::{Error, Result};
use crate::playbook::Play;
use crate::report::{HostOutcome, Outcome};

/// Carries all plans out.
///
/// # Errors
/// A host refused what it was given; nothing was changed anywhere.
pub async fn apply(
    observation: &mut Observation,
    plays: &[(Play, Vec<String>)],
    options: &RunOptions,
) -> Result<Vec<HostOutcome>> {
    check_pace(observation, plays)?;
    let prepared = prepare(&mut observation.sessions, options).await;
    if prepared.is_ok() {
        run_plays(&mut observation.sessions, plays, options).await;
        close_generations(&mut observation.sessions, options).await;
    }
    stream::iter(observation.sessions.iter_mut())
        .for_each_concurrent(options.forks.max(1), |session| async {
            // A helper that was told to end throws away what is staged by itself.
            if !options.interrupt.has_come()
                && let Err(error) = session.unstage().await
                && session.failure.is_none()
            {
                session.failure = Some(error.to_string());
            }
        })
        .await;
    prepared?;
    let changing = observation.sessions.iter().filter(|one| !one.attends());
    let skipped = observation.skipped.iter();
    let skipped = skipped.map(|(host, error)| HostOutcome {
        host: host.clone(),
        outcome: Outcome::Unreachable,
        changed: Vec::new(),
        failure: Some(words(host, error)),
        generation: None,
        stays: Vec::new(),
    });
    Ok(changing.map(outcome).chain(skipped).collect())
}

async fn run_plays(
    sessions: &mut [HostSession],
    plays: &[(Play, Vec<String>)],
    options: &RunOptions,
) {
    for (play, hosts) in plays {
        if !run_play(sessions, play, hosts, options).await {
            return;
        }
    }
    let removal = Play::of_removals();
    let hosts: Vec<String> = sessions
        .iter()
        .filter(|session| session.asks(&removal) && !session.is_through(&removal))
        .map(|session| session.name().to_owned())
        .collect();
    run_play(sessions, &removal, &hosts, options).await;
}

/// Has every host write down what became of it. A host that failed and was not brought back, and
/// one that was interrupted, keeps its generation open: the next run goes on with it.
async fn close_generations(sessions: &mut [HostSession], options: &RunOptions) {
    if options.interrupt.has_come() {
        return;
    }
    let mut peers = options.peers.clone();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let peers = &peers;
    let closing = sessions.iter_mut().filter(|session| {
        let news = !session.changed.is_empty() || session.open.is_some();
        let keeps = options.keepers.contains(session.name())
            && !session.manifest.is_empty()
            && session.peers != *peers;
        !session.attends() && session.failure.is_none() && (news || keeps)
    });
    stream::iter(closing)
        .for_each_concurrent(options.forks.max(1), |session| async {
            let note = session.note.clone();
            let close = async |one: &mut HostSession| {
                one.close_generation(Ending::Applied, &note, options).await
            };
            if let Err(error) = session.persist(options, close).await {
                session.failure = Some(words(session.name(), &error));
            }
        })
        .await;
}

async fn prepare(sessions: &mut [HostSession], options: &RunOptions) -> Result<()> {
    let changing = sessions
        .iter_mut()
        .filter(|session| !session.plan.is_empty() || session.armed);
    let mut failures: Vec<(String, Error)> = stream::iter(changing)
        .map(|session| async move {
            let result = match session.confirm_earlier(options).await {
                Ok(()) => {
                    let step = async |one: &mut HostSession| one.prepare(options).await;
                    session.persist(options, step).await
                }
                Err(error) => Err(error),
            };
            result.err().map(|error| (session.name().to_owned(), error))
        })
        .buffer_unordered(options.forks.max(1))
        .filter_map(|failure| async { failure })
        .collect()
        .await;
    if failures.is_empty() {
        return Ok(());
    }
    failures.sort_by(|(a, _), (b, _)| a.cmp(b));
    Err(refused_by(failures))
}

/// All failures as one error; hosts that say the same are named together.
fn refused_by(failures: Vec<(String, Error)>) -> Error {
    let mut all = Error::host("refused before anything was changed on any host");
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for (host, failure) in failures {
        let mut words = without_name(&host, &failure.message).to_owned();
        for cause in &failure.causes {
            words.push('\n');
            words.push_str(cause);
        }
        match said.iter_mut().find(|(known, _)| *known == words) {
            Some((_, hosts)) => hosts.push(host),
            None => said.push((words, vec![host])),
        }
        for hint in failure.hints {
            if !all.hints.contains(&hint) {
                all = all.hint(hint);
            }
        }
    }
    for (words, hosts) in said {
        all = all.caused_by(format!("{}: {words}", hosts.join(", ")));
    }
    all
}

/// The words of a message that names the host where the reader has just read it.
fn without_name<'a>(host: &str, message: &'a str) -> &'a str {
    let rest = message.strip_prefix(host);
    rest.and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(message)
}

/// An error in words, for whoever has just read the host's name.
pub(super) fn words(host: &str, error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    without_name(host, text).to_owned()
}

fn outcome(session: &HostSession) -> HostOutcome {
    let outcome = session.outcome();
    HostOutcome {
        host: session.name().to_owned(),
        outcome,
        changed: session.changed.clone(),
        failure: session
            .failure
            .clone()
            .filter(|_| matches!(outcome, Outcome::Failed | Outcome::RolledBack)),
        generation: session.generation,
        stays: session.stays.clone(),
    }
}
