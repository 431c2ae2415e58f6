//! Play by play, batch by batch.
//!
//! Goes in: an [`Observation`]. Comes out: what became of every host. Invariant: when any host
//! refuses what it was given, no host was changed; when more hosts fail than a play allows, the
//! hosts after them stay as they were.

use futures_util::StreamExt as _;
use futures_util::stream;

use super::RunOptions;
use super::observe::Observation;
use super::session::HostSession;
use crate::error::{Error, Result};
use crate::playbook::Play;
use crate::report::{Event, HostOutcome, Outcome};

/// Carries all plans out.
///
/// # Errors
/// A host refused what it was given; nothing was changed anywhere.
pub async fn apply(
    observation: &mut Observation,
    plays: &[(Play, Vec<String>)],
    options: &RunOptions,
) -> Result<Vec<HostOutcome>> {
    let prepared = prepare(&mut observation.sessions, options).await;
    if prepared.is_ok() {
        for (play, hosts) in plays {
            if !run_play(&mut observation.sessions, play, hosts, options).await {
                break;
            }
        }
    }
    stream::iter(observation.sessions.iter_mut())
        .for_each_concurrent(options.forks.max(1), |session| async {
            if let Err(error) = session.unstage().await
                && session.failure.is_none()
            {
                session.failure = Some(error.to_string());
            }
        })
        .await;
    prepared?;
    Ok(observation.sessions.iter().map(outcome).collect())
}

async fn prepare(sessions: &mut [HostSession], options: &RunOptions) -> Result<()> {
    let changing = sessions
        .iter_mut()
        .filter(|session| !session.plan.is_empty());
    let mut failures: Vec<(String, Error)> = stream::iter(changing)
        .map(|session| async move {
            let result = session.prepare(options).await;
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

/// Runs one play; `false` when more hosts failed than it allows.
async fn run_play(
    sessions: &mut [HostSession],
    play: &Play,
    hosts: &[String],
    options: &RunOptions,
) -> bool {
    let asks_for_changes = |name: &&String| {
        sessions
            .iter()
            .any(|session| session.name() == name.as_str() && session.asks(play))
    };
    let (changing, settled): (Vec<&String>, Vec<&String>) =
        hosts.iter().partition(asks_for_changes);
    // A host that needs no change must be well before others are touched: what an earlier run
    // broke must not be spread.
    let batches = std::iter::once(settled).chain(play.batches(&changing));
    let mut failed = 0;
    for batch in batches {
        let members = sessions.iter_mut().filter(|session| {
            session.failure.is_none() && batch.iter().any(|name| *name == session.name())
        });
        failed += stream::iter(members)
            .map(|session| run_host(session, play, options))
            .buffer_unordered(options.forks.max(1))
            .filter(|succeeded| std::future::ready(!succeeded))
            .count()
            .await;
        if failed > play.max_fail {
            let noun = if failed == 1 { "host" } else { "hosts" };
            let text = format!(
                "play {} stops: {failed} {noun} failed, it allows {}",
                play.name, play.max_fail
            );
            let _ = options.events.send(Event::Note(text));
            return false;
        }
    }
    true
}

async fn run_host(session: &mut HostSession, play: &Play, options: &RunOptions) -> bool {
    let changes = session.asks(play);
    let result = session.run_play(play, options).await;
    let (succeeded, text) = match result {
        Ok(()) if !changes => return true,
        Ok(()) => (true, format!("play {} done", play.name)),
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let text = without_name(session.name(), text).to_owned();
            session.failure = Some(text.clone());
            (false, text)
        }
    };
    let host = session.name().to_owned();
    let _ = options.events.send(Event::Finished {
        host,
        succeeded,
        text,
    });
    succeeded
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
            .filter(|_| outcome == Outcome::Failed),
    }
}
