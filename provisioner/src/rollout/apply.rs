//! Play by play, batch by batch.
//!
//! Goes in: an [`Observation`]. Comes out: what became of every host. Invariant: when any host
//! refuses what it was given, no host was changed; when more hosts fail than a play allows, the
//! hosts after them stay as they were.

use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::generation::Ending;

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
    Ok(observation.sessions.iter().map(outcome).collect())
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
        session.failure.is_none() && (news || keeps)
    });
    stream::iter(closing)
        .for_each_concurrent(options.forks.max(1), |session| async {
            let note = session.note.clone();
            if let Err(error) = session
                .close_generation(Ending::Applied, &note, options)
                .await
            {
                session.failure = Some(words(session.name(), &error));
            }
        })
        .await;
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
        if options.interrupt.has_come() {
            return false;
        }
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
            let text = words(session.name(), &error);
            let text = fail(session, text, options).await;
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

/// A host failed: it goes back to what it had, unless somebody ended the run or asked to be left
/// with what there is.
async fn fail(session: &mut HostSession, text: String, options: &RunOptions) -> String {
    let mut text = text;
    session.failure = Some(text.clone());
    if options.interrupt.has_come() {
        session.failure = Some("interrupted after the step in hand".to_owned());
    } else if options.rollback {
        let first_line = text.lines().next().unwrap_or_default().to_owned();
        if let Err(error) = session.go_back(&first_line, options).await {
            text.push_str("\n  not rolled back: ");
            text.push_str(&words(session.name(), &error));
            session.failure = Some(text.clone());
        }
    }
    text
}

/// An error in words, for whoever has just read the host's name.
fn words(host: &str, error: &Error) -> String {
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
