//! One play, batch by batch.
//!
//! Goes in: the hosts of a run. Comes out: those of the play are as it says, or it stopped.
//! Invariant: a batch is begun when the hosts of the batch before it are healthy; when more hosts
//! fail than the play allows, or a canary does, the hosts after them stay as they were.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::RunOptions;
use super::apply::words;
use super::balancer;
use super::batch::{self, Waiting};
use super::session::HostSession;
use crate::error::Error;
use crate::playbook::{Pause, Play};
use crate::report::Event;

/// How often hosts are looked at that are watched.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Runs one play; `false` when it stopped.
pub(super) async fn run_play(
    sessions: &mut [HostSession],
    play: &Play,
    hosts: &[String],
    options: &RunOptions,
) -> bool {
    let (mut changing, settled): (Vec<String>, Vec<String>) = sessions
        .iter()
        .filter(|session| !session.attends())
        .map(|session| session.name().to_owned())
        .filter(|name| hosts.contains(name))
        .partition(|name| {
            sessions
                .iter()
                .any(|one| one.name() == name && one.asks(play))
        });
    batch::arrange(&mut changing, play.pace.order, &options.run);
    let mut run = PlayRun {
        canaries: batch::canaries(play.pace.canary.as_ref(), &changing),
        sessions,
        play,
        group: hosts,
        options,
        failed: 0,
        done: Vec::new(),
    };
    run.run(changing, settled).await
}

struct PlayRun<'a> {
    sessions: &'a mut [HostSession],
    play: &'a Play,
    /// All hosts that the play is for, also those that this run has nothing to do with.
    group: &'a [String],
    options: &'a RunOptions,
    canaries: BTreeSet<String>,
    failed: usize,
    /// Hosts that were changed and are well.
    done: Vec<String>,
}

impl PlayRun<'_> {
    async fn run(&mut self, mut waiting: Vec<String>, settled: Vec<String>) -> bool {
        // A host that needs no change must be well before others are touched: what an earlier run
        // broke must not be spread.
        if !self.run_batch(&settled).await {
            return false;
        }
        let count = waiting.len() - self.canaries.len();
        let mut batches = 0;
        let mut first = true;
        while !waiting.is_empty() {
            if !first && !self.pause(&waiting).await {
                return false;
            }
            first = false;
            let canaries: Vec<String> = waiting
                .iter()
                .filter(|host| self.canaries.contains(*host))
                .cloned()
                .collect();
            let is_canary = !canaries.is_empty();
            let (candidates, size) = if is_canary {
                let size = canaries.len();
                (canaries, size)
            } else {
                (waiting.clone(), self.play.batch_size(batches, count))
            };
            batches += usize::from(!is_canary);
            let Some(batch) = self.next(&candidates, size).await else {
                return false;
            };
            waiting.retain(|host| !batch.contains(host));
            let went_on = self.run_batch(&batch).await;
            if !went_on || (is_canary && !self.watch_canaries(&batch).await) {
                return false;
            }
        }
        true
    }

    /// The next batch; `None` where too few hosts are ready for one.
    async fn next(&mut self, candidates: &[String], size: usize) -> Option<Vec<String>> {
        let Some(min_ready) = &self.play.pace.min_ready else {
            return Some(candidates.iter().take(size).cloned().collect());
        };
        let wanted = min_ready.value.of(self.group.len());
        let ready = self.ready().await;
        let waiting: Vec<Waiting> = candidates
            .iter()
            .map(|host| Waiting {
                host: host.clone(),
                ready: ready.contains(host),
            })
            .collect();
        let spare = ready.len().saturating_sub(wanted);
        let batch = batch::next(&waiting, size, Some(spare));
        if batch.is_empty() {
            self.note(&format!(
                "stops: {} of {} hosts are ready, and {wanted} must be",
                ready.len(),
                self.group.len()
            ));
            return None;
        }
        Some(batch)
    }

    /// The hosts of the group that are healthy now, and that no balancer leaves out.
    async fn ready(&mut self) -> BTreeSet<String> {
        let out: BTreeSet<String> = self
            .group
            .iter()
            .filter(|host| balancer::is_out(self.sessions, self.play, host))
            .cloned()
            .collect();
        let members = self.sessions.iter_mut().filter(|session| {
            session.failure.is_none() && self.group.iter().any(|host| host == session.name())
        });
        let (name, options) = (&self.play.name, self.options);
        let looked: Vec<Option<String>> = stream::iter(members)
            .map(|session| async {
                let look = async |one: &mut HostSession| one.look(name).await;
                let healthy = matches!(session.persist(options, look).await, Ok(None));
                healthy.then(|| session.name().to_owned())
            })
            .buffer_unordered(self.options.forks.max(1))
            .collect()
            .await;
        let healthy = looked.into_iter().flatten();
        healthy.filter(|host| !out.contains(host)).collect()
    }

    /// Changes the hosts of a batch, left out by their balancers meanwhile; `false` when the play
    /// stops.
    async fn run_batch(&mut self, batch: &[String]) -> bool {
        if self.options.interrupt.has_come() {
            return false;
        }
        for host in batch {
            let asks = self.session(host).is_some_and(|one| one.asks(self.play));
            if asks
                && let Err(error) =
                    balancer::take_out(self.sessions, self.play, host, self.options).await
            {
                self.fail(host, &error).await;
            }
        }
        let (play, options) = (self.play, self.options);
        let members = self.sessions.iter_mut().filter(|session| {
            session.failure.is_none() && batch.iter().any(|name| name == session.name())
        });
        let results: Vec<(String, Result<(), Error>)> = stream::iter(members)
            .map(|session| async {
                let step = async |one: &mut HostSession| one.run_play(play, options).await;
                let result = session.persist(options, step).await;
                (session.name().to_owned(), result)
            })
            .buffer_unordered(options.forks.max(1))
            .collect()
            .await;
        for (host, result) in results {
            match result {
                Ok(()) => self.finish(&host).await,
                Err(error) => {
                    self.fail(&host, &error).await;
                    self.put_back_if_well(&host).await;
                }
            }
        }
        self.is_within_limit()
    }

    /// A host is as the play says: its balancers use it again.
    async fn finish(&mut self, host: &str) {
        let asked = self.session(host).is_some_and(|one| one.asks(self.play));
        let back = balancer::put_back(self.sessions, self.play, host, self.options).await;
        if let Err(error) = back {
            self.give_up(host, &error).await;
            return;
        }
        if asked {
            self.done.push(host.to_owned());
            let text = format!("play {} done", self.play.name);
            self.finished(host, true, text);
        }
    }

    /// A host that was in use again is not well: it is left out, and goes back.
    async fn give_up(&mut self, host: &str, error: &Error) {
        self.done.retain(|one| one != host);
        let _ = balancer::take_out(self.sessions, self.play, host, self.options).await;
        self.fail(host, error).await;
        self.put_back_if_well(host).await;
    }

    /// A host failed: it goes back to what it had, unless somebody ended the run or asked to be
    /// left with what there is.
    async fn fail(&mut self, host: &str, error: &Error) {
        let (play, options) = (self.play, self.options);
        let Some(session) = self.sessions.iter_mut().find(|one| one.name() == host) else {
            return;
        };
        let mut text = words(host, error);
        session.finished.remove(play.name.as_str());
        session.failure = Some(text.clone());
        if options.interrupt.has_come() {
            session.failure = Some("interrupted after the step in hand".to_owned());
        } else if options.rollback {
            let first_line = text.lines().next().unwrap_or_default().to_owned();
            if let Err(error) = session.go_back(&first_line, options).await {
                text.push_str(match session.rolled_back {
                    true => "\n  it has what it had before, but: ",
                    false => "\n  not rolled back: ",
                });
                text.push_str(&words(host, &error));
                session.failure = Some(text.clone());
            }
        }
        if let Some(told) = session.settle_switch(options).await {
            text.push_str("\n  ");
            text.push_str(&told);
            session.failure = Some(text.clone());
        }
        self.failed += 1;
        self.finished(host, false, text);
    }

    /// A host that failed gets requests again if it is as it was before; otherwise it is left out
    /// until a run has brought it to what it shall be.
    async fn put_back_if_well(&mut self, host: &str) {
        if !balancer::is_out(self.sessions, self.play, host) {
            return;
        }
        let as_before = |session: &HostSession| {
            !session.doubtful && (session.rolled_back || session.changed.is_empty())
        };
        let well = self.session(host).is_some_and(as_before);
        if well
            && balancer::put_back(self.sessions, self.play, host, self.options)
                .await
                .is_ok()
        {
            return;
        }
        let text = "stays left out by its balancer until a run finds it well".to_owned();
        let host = host.to_owned();
        let _ = self.options.events.send(Event::Said { host, text });
    }

    /// Watches hosts for a time; those that do not stay healthy fail.
    async fn watch(&mut self, hosts: &[String], time: Duration) {
        let until = Instant::now() + time;
        loop {
            let (name, options) = (&self.play.name, self.options);
            let members = self.sessions.iter_mut().filter(|session| {
                session.failure.is_none() && hosts.iter().any(|host| host == session.name())
            });
            let looked: Vec<(String, Option<Error>)> = stream::iter(members)
                .map(|session| async {
                    let left = until.saturating_duration_since(Instant::now()).as_secs();
                    session.say(options, &format!("watched for {left} s more"));
                    let look = async |one: &mut HostSession| one.look(name).await;
                    let sick = match session.persist(options, look).await {
                        Ok(None) => None,
                        Ok(Some(why)) => Some(Error::host(why)),
                        Err(error) => Some(error),
                    };
                    (session.name().to_owned(), sick)
                })
                .buffer_unordered(options.forks.max(1))
                .collect()
                .await;
            for (host, sick) in looked {
                if let Some(error) = sick {
                    self.give_up(&host, &error).await;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || options.interrupt.has_come() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(WATCH_PAUSE)) => {}
                () = options.interrupt.comes() => return,
            }
        }
    }

    /// Watches the canaries of a batch; `false` where one of them failed.
    async fn watch_canaries(&mut self, batch: &[String]) -> bool {
        let watch = self.play.pace.canary.as_ref().map(|canary| canary.watch);
        if let Some(time) = watch.filter(|time| !time.is_zero())
            && self.failed == 0
        {
            self.watch(batch, time).await;
        }
        let failed = |host: &&String| {
            let session = self.session(host);
            session.is_some_and(|session| session.failure.is_some())
        };
        let Some(host) = batch.iter().find(failed) else {
            return !self.options.interrupt.has_come();
        };
        let text = format!("stops: its canary {host} failed, the hosts after it stay as they were");
        self.note(&text);
        false
    }

    /// Waits between two batches; `false` when the play stops.
    async fn pause(&mut self, waiting: &[String]) -> bool {
        match self.play.pace.pause {
            None => {}
            Some(Pause::For(time)) => {
                let done = self.done.clone();
                let time_in_words = humantime::format_duration(time);
                self.note(&format!(
                    "pauses for {time_in_words}, {} to come",
                    waiting.len()
                ));
                self.watch(&done, time).await;
            }
            Some(Pause::Confirm) => {
                let question = format!(
                    "play {}: {} done, {} to come ({}). Go on?",
                    self.play.name,
                    self.done.len(),
                    waiting.len(),
                    waiting.join(", ")
                );
                if !self.options.confirm.ask(question).await {
                    self.note("stops: nobody said that it shall go on");
                    return false;
                }
            }
        }
        self.is_within_limit() && !self.options.interrupt.has_come()
    }

    fn is_within_limit(&self) -> bool {
        let (failed, limit) = (self.failed, self.play.max_fail);
        if failed <= limit {
            return true;
        }
        let noun = if failed == 1 { "host" } else { "hosts" };
        self.note(&format!("stops: {failed} {noun} failed, it allows {limit}"));
        false
    }

    fn session(&self, host: &str) -> Option<&HostSession> {
        self.sessions.iter().find(|session| session.name() == host)
    }

    fn note(&self, what: &str) {
        let text = format!("play {} {what}", self.play.name);
        let _ = self.options.events.send(Event::Note(text));
    }

    fn finished(&self, host: &str, succeeded: bool, text: String) {
        let host = host.to_owned();
        let _ = self.options.events.send(Event::Finished {
            host,
            succeeded,
            text,
        });
    }
}
