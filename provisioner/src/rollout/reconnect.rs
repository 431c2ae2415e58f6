//! A host whose connection is lost in the middle is reached again, and the run goes on with it.
//!
//! Goes in: a session without a connection. Comes out: one over another connection, which holds the
//! lock and decides anew what is left to do. Invariant: nothing is done again that was done, and
//! nothing that the plan did not show; a host that may have locked everybody out is left alone, as
//! it puts that back by itself.

use std::time::{Duration, Instant};

use super::RunOptions;
use super::observe::meet;
use super::recover::{read_remembered, remembered};
use super::session::HostSession;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Conversation, Host, Look};
use crate::plan::{ResourceChange, removal};
use crate::report::Event;

/// How often the connection to a host may be lost in one step of a run.
const LOSSES: usize = 3;

/// The first pause before a host is tried again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How long a step may take to end that was in hand when the connection was lost: its helper holds
/// the lock until then.
const STEP_ENDS_WITHIN: Duration = Duration::from_secs(5 * 60);

impl HostSession {
    /// Does a step of the run, and the rest of it over another connection when one is lost.
    ///
    /// # Errors
    /// As the step's; that of the first loss where nobody gets in again in time.
    pub(super) async fn persist<T>(
        &mut self,
        options: &RunOptions,
        step: impl AsyncFn(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let mut losses = 0;
        loop {
            let done = match self.settle_boot(options).await {
                Ok(()) => step(self).await,
                Err(error) => Err(error),
            };
            match done {
                Err(lost)
                    if lost.kind == ErrorKind::Lost
                        && losses < LOSSES
                        && self.may_return(options) =>
                {
                    losses += 1;
                    self.reconnect(lost, options).await?;
                }
                done => return done,
            }
        }
    }

    /// Waits for the end of a boot that nobody asked for.
    async fn settle_boot(&mut self, options: &RunOptions) -> Result<()> {
        if self.booted_meanwhile {
            self.await_boot(STEP_ENDS_WITHIN, options).await?;
            self.settle_again(options).await?;
            self.booted_meanwhile = false;
        }
        Ok(())
    }

    /// Whether what is left can be decided anew: the way back cannot, and who may be locked out waits
    /// for the host to put that back. A balancer is told of one host after the other, and waited for
    /// in vain with the first of them only.
    fn may_return(&self, options: &RunOptions) -> bool {
        let within = self.host.as_ref().map(|host| host.reconnect_within());
        let wanted = within.is_some_and(|within| !within.is_zero());
        let given_up = self.given_up || self.goes_back || self.armed;
        wanted && !given_up && !options.interrupt.has_come()
    }

    async fn reconnect(&mut self, lost: Error, options: &RunOptions) -> Result<()> {
        self.tell("its connection was lost: connecting again", options);
        let begun = Instant::now();
        let Some(host) = self.host.as_deref() else {
            return Err(lost);
        };
        self.conversation.give_up().await;
        let boot_id = self.conversation.hello().boot_id.clone();
        let (conversation, manifest) = match reach_again(host, options).await {
            Ok(reached) => reached,
            Err(error) => {
                self.given_up = true;
                let within = humantime::format_duration(host.reconnect_within());
                let mut lost = match error.kind {
                    ErrorKind::Unreachable | ErrorKind::Lost => {
                        lost.caused_by(format!("not reached again within {within}"))
                    }
                    _ => lost,
                };
                lost.causes.push(error.message);
                lost.causes.extend(error.causes);
                return Err(lost);
            }
        };
        self.booted_meanwhile |= conversation.hello().boot_id != boot_id;
        (self.conversation, self.manifest) = (conversation, manifest);
        // With the lock went what was staged.
        (self.stale, self.resumes) = (true, true);
        (self.staged, self.doubtful) = (false, !self.unsure.is_empty());
        let took = begun.elapsed().as_secs();
        self.tell(&format!("connected again after {took} s"), options);
        Ok(())
    }

    /// Those of the removals that are still to be made.
    pub(super) async fn still_to_remove(
        &mut self,
        planned: Vec<ResourceChange>,
    ) -> Result<Vec<ResourceChange>> {
        if planned.is_empty() {
            return Ok(planned);
        }
        let left = removal::left(&self.manifest, &self.desired);
        let facts = self.conversation.ask(removal::queries(&left)).await?;
        let (mut again, _) = removal::removals(&left, &facts, &self.desired);
        again.retain(|entry| planned.iter().any(|one| one.resource == entry.resource));
        Ok(again)
    }

    /// Notes what was sent over the connection that was lost, and does not have to be done again.
    pub(super) fn note_done_unseen(
        &mut self,
        changes: &[ResourceChange],
        removals: &[ResourceChange],
        options: &RunOptions,
    ) {
        let unsure = std::mem::take(&mut self.unsure);
        let left = changes.iter().chain(removals);
        let left: Vec<String> = left.map(|entry| entry.resource.clone()).collect();
        self.note_changed(&unsure, &left, options);
        self.doubtful = false;
    }

    fn tell(&self, text: &str, options: &RunOptions) {
        let _ = options.events.send(Event::Said {
            host: self.name().to_owned(),
            text: text.to_owned(),
        });
    }
}

type Manifest = Vec<provision_protocol::operation::ManifestEntry>;

/// A conversation that holds the host's lock, and what the host remembers.
async fn reach_again(host: &dyn Host, options: &RunOptions) -> Result<(Conversation, Manifest)> {
    let until = Instant::now() + host.reconnect_within();
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))) => {}
            () = options.interrupt.comes() => {
                return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
            }
        }
        match enter(host, options).await {
            // Whoever is denied is denied again, and may be punished for asking.
            Err(error) if !matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Lost) => {
                return Err(error);
            }
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            entered => return entered,
        }
    }
}

async fn enter(host: &dyn Host, options: &RunOptions) -> Result<(Conversation, Manifest)> {
    let look = Look {
        holder: Some(options.run.clone()),
        queries: remembered(options, false, 0),
        targets: Vec::new(),
    };
    let (conversation, facts, _) = meet(host, &look, (options, STEP_ENDS_WITHIN)).await?;
    let (manifest, _) = read_remembered(host.name(), facts)?;
    Ok((conversation, manifest))
}
