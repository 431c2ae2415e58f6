//! One host during a run.
//!
//! Goes in: its plan, play by play. Comes out: what was changed, or why not. Invariant: only what
//! the plan showed is done; what an opaque change brought to light is decided anew first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use provision_protocol::fact::{ContentFact, Query, fact_kind, query};
use provision_protocol::generation::{Generation, Peer};
use provision_protocol::message::{Perform, Probe, Probed, Stage, StagedFile};
use provision_protocol::operation::{ManifestEntry, Validation, operation};

use super::RunOptions;
use super::recover::{read_remembered, remembered};
use crate::document::Name;
use crate::error::{Error, Result};
use crate::host::{Conversation, Host};
use crate::plan::removal::REMOVAL;
use crate::plan::{HostDesired, HostPlan, Part, ResourceChange, decide};
use crate::playbook::{Health, Play};
use crate::report::{Event, Outcome};
use crate::resource::Content;

/// Contents smaller than this are uploaded without being asked for first.
const ASK_FIRST_BYTES: u64 = 64 * 1024;

/// One host during a run.
#[derive(Debug)]
pub struct HostSession {
    /// The helper on it.
    pub conversation: Conversation,
    /// What it shall be.
    pub desired: HostDesired,
    /// What would be done.
    pub plan: HostPlan,
    /// How healthy it was when it was observed, in the order of what it desires.
    pub health: Vec<Probed>,
    /// What was done, in order.
    pub changed: Vec<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// What this tool has put on it, as it was when it was observed.
    pub manifest: Vec<ManifestEntry>,
    /// What an earlier run began and did not end.
    pub open: Option<Generation>,
    /// The hosts that are written down on it.
    pub peers: Vec<Peer>,
    /// What is to be said of this run in the host's history.
    pub note: String,
    /// Its plan leads back to an earlier generation, and not to what it shall be.
    pub goes_back: bool,
    /// The generation that this run became.
    pub generation: Option<u64>,
    /// It failed, and was brought back to what it had.
    pub rolled_back: bool,
    /// It may have been changed further than `changed` says, or is not well with what it had.
    pub(super) doubtful: bool,
    /// What could not be taken back then.
    pub stays: Vec<String>,
    /// The servers that the balancer on it leaves out since an earlier run.
    pub taken_out: BTreeSet<String>,
    /// Plays that it is through with.
    pub(super) finished: BTreeSet<String>,
    /// How to get in anew.
    pub(super) host: Option<Box<dyn Host>>,
    /// It puts back by itself what this run changed, unless somebody gets in anew.
    pub(super) armed: bool,
    /// How long it waits until it does, where this run told it.
    pub(super) reverts_within: Option<Duration>,
    /// Files or contents of this run may be on it.
    pub(super) staged: bool,
    /// An opaque change was made or the connection was lost, so that its plan no longer holds.
    pub(super) stale: bool,
    /// Its connection was lost, and the play goes on over another one.
    pub(super) resumes: bool,
    /// Its connection was lost, and nobody got in again in time.
    pub(super) given_up: bool,
    /// It is in another boot since, whose end nobody has waited for.
    pub(super) booted_meanwhile: bool,
    /// Changes that were sent over a connection that was lost before it said what became of them.
    pub(super) unsure: Vec<ResourceChange>,
}

impl HostSession {
    pub(super) fn new(
        conversation: Conversation,
        desired: HostDesired,
        plan: HostPlan,
        health: Vec<Probed>,
    ) -> Self {
        Self {
            conversation,
            desired,
            plan,
            health,
            finished: BTreeSet::new(),
            changed: Vec::new(),
            failure: None,
            manifest: Vec::new(),
            open: None,
            peers: Vec::new(),
            note: String::new(),
            goes_back: false,
            generation: None,
            rolled_back: false,
            doubtful: false,
            stays: Vec::new(),
            taken_out: BTreeSet::new(),
            host: None,
            armed: false,
            reverts_within: None,
            staged: false,
            stale: false,
            resumes: false,
            given_up: false,
            booted_meanwhile: false,
            unsure: Vec::new(),
        }
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.conversation.name()
    }

    /// Whether an earlier run has left something to complete, to take back or to confirm.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.open.is_some() || self.armed
    }

    /// Whether it only attends the run.
    #[must_use]
    pub fn attends(&self) -> bool {
        self.desired.part == Part::Attends
    }

    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let through = self
            .plan
            .changes
            .iter()
            .all(|entry| self.finished.contains(&entry.play));
        match (&self.failure, self.plan.changes.is_empty()) {
            (Some(_), _) if self.rolled_back => Outcome::RolledBack,
            (Some(_), _) => Outcome::Failed,
            (None, true) => Outcome::Unchanged,
            (None, false) if through => Outcome::Changed,
            (None, false) if self.changed.is_empty() => Outcome::NotReached,
            (None, false) => Outcome::Partly,
        }
    }

    /// The newest generations of the environment, the oldest of them first.
    ///
    /// # Errors
    /// The connection ends, or the host cannot read them.
    pub async fn generations(
        &mut self,
        limit: u32,
        options: &RunOptions,
    ) -> Result<Vec<Generation>> {
        let queries = remembered(options, false, limit);
        let facts = self.conversation.ask(queries).await?;
        let (_, generations) = read_remembered(self.name(), facts)?;
        Ok(generations.generations)
    }

    /// Whether a play asks for any change of the host.
    pub(super) fn asks(&self, play: &Play) -> bool {
        self.plan.of_play(play.name.as_str()).next().is_some()
    }

    /// Whether it has gone through a play.
    pub(super) fn is_through(&self, play: &Play) -> bool {
        self.finished.contains(play.name.as_str())
    }

    /// What a play wants to be healthy, with what was seen of it when it was observed.
    fn health_of<'a>(&'a self, play: &'a Name) -> impl Iterator<Item = (&'a Health, &'a Probed)> {
        let checks = self.desired.plays.iter().flat_map(|one| {
            let checks = one.health.iter();
            checks.map(move |health| (&one.play, health))
        });
        let seen = checks.zip(&self.health);
        seen.filter(move |((name, _), _)| *name == play)
            .map(|((_, health), seen)| (health, seen))
    }

    /// Whether all that a play wants to be healthy was so when it was observed.
    pub(super) fn was_ready(&self, play: &Name) -> bool {
        self.health_of(play).all(|(_, seen)| seen.healthy)
    }

    /// Looks once whether all that a play wants to be healthy is so; what is not, otherwise.
    ///
    /// # Errors
    /// The connection ends.
    pub(super) async fn look(&mut self, play: &Name) -> Result<Option<String>> {
        let targets: Vec<String> = self
            .health_of(play)
            .map(|(health, _)| health.target.clone())
            .collect();
        for target in targets {
            let probe = Probe {
                target: target.clone(),
                within_millis: 0,
            };
            let probed = self.conversation.probe(probe).await?;
            if !probed.healthy {
                return Ok(Some(format!("{target} is not healthy: {}", probed.detail)));
            }
        }
        Ok(None)
    }

    /// Waits until a play that asked for no change is healthy, unless it was so when observed.
    async fn settle(&mut self, play: &Name, options: &RunOptions) -> Result<()> {
        let sick: Vec<Health> = self
            .health_of(play)
            .filter(|(_, seen)| !seen.healthy)
            .map(|(health, _)| health.clone())
            .collect();
        for health in sick {
            self.probe(&health, options).await?;
        }
        Ok(())
    }

    /// Uploads, stages and validates all that is known before anything is committed.
    ///
    /// # Errors
    /// What was refused, with the validator's own words.
    pub(super) async fn prepare(&mut self, options: &RunOptions) -> Result<()> {
        let changes: Vec<ResourceChange> = self
            .plan
            .changes
            .iter()
            .filter(|entry| entry.unknown_after.is_none())
            .cloned()
            .collect();
        self.stage(&changes, options).await
    }

    /// Brings the host to what one play asks for, and waits until it is healthy.
    ///
    /// # Errors
    /// What failed; everything before it is done and recorded on the host.
    pub(super) async fn run_play(&mut self, play: &Play, options: &RunOptions) -> Result<()> {
        let name = play.name.clone();
        let planned = self.plan.of_play(name.as_str()).cloned();
        // What left the playbook goes last, whatever is decided again before.
        let (mut removals, mut changes): (Vec<_>, Vec<_>) =
            planned.partition(|entry| entry.left_playbook);
        let mut touched = self.resumes;
        if self.stale {
            changes = self.decide_again(&name, None).await?;
            if self.resumes {
                removals = self.still_to_remove(removals).await?;
                self.note_done_unseen(&changes, &removals, options);
            }
            self.stage(&changes, options).await?;
        }
        loop {
            let cut = changes.iter().position(|entry| entry.change.opaque);
            let now = &changes[..cut.map_or(changes.len(), |at| at + 1)];
            touched |= !now.is_empty();
            match now
                .split_last()
                .map(|(last, before)| (before, last, last.reboot()))
            {
                Some((before, last, Some(reboot))) => {
                    self.perform(before, options).await?;
                    self.reboot(last, reboot, options).await?;
                }
                _ => self.perform(now, options).await?,
            }
            let Some(cut) = cut else { break };
            self.stale = true;
            let after = changes[cut].resource.clone();
            changes = self.decide_again(&name, Some(&after)).await?;
            self.stage(&changes, options).await?;
        }
        touched |= !removals.is_empty();
        self.perform(&removals, options).await?;
        if !touched {
            self.settle(&name, options).await?;
        } else if name.as_str() == REMOVAL {
            let healths: Vec<Health> = self.desired.health().cloned().collect();
            for health in &healths {
                self.probe(health, options).await?;
            }
        } else {
            for health in &play.health {
                self.probe(health, options).await?;
            }
        }
        self.finished.insert(name.to_string());
        self.resumes = false;
        Ok(())
    }

    /// Throws away what was staged, so that neither a secret nor a large file stays behind.
    ///
    /// # Errors
    /// The connection ends.
    pub(super) async fn unstage(&mut self) -> Result<()> {
        if self.staged {
            self.conversation.unstage().await?;
            self.staged = false;
        }
        Ok(())
    }

    /// The changes of a play, or of what follows `after` in it, as the host is now.
    async fn decide_again(
        &mut self,
        name: &Name,
        after: Option<&str>,
    ) -> Result<Vec<ResourceChange>> {
        let Some(play) = self.desired.play(name) else {
            return Ok(Vec::new());
        };
        let first = after
            .and_then(|after| {
                play.resources
                    .iter()
                    .position(|resource| resource.id() == after)
            })
            .map_or(0, |at| at + 1);
        let rest = &play.resources[first..];
        let queries: Vec<Query> = rest
            .iter()
            .flat_map(|resource| resource.queries())
            .collect();
        let facts = self.conversation.ask(queries).await?;
        let again = decide(
            self.conversation.name(),
            &[(name.as_str(), rest)],
            &facts,
            self.conversation.hello(),
        );
        if let Some(refused) = again.refusals.first() {
            let error = Error::host(format!("{}: {}", refused.resource, refused.refusal.message));
            return Err(match &refused.refusal.hint {
                Some(hint) => error.hint(hint.clone()),
                None => error,
            });
        }
        if let Some(entry) = again.changes.iter().find(|entry| !self.plan.showed(entry)) {
            return Err(Error::host(format!(
                "{} has become another change than the plan showed: {}",
                entry.resource,
                entry.change.action.word()
            ))
            .hint("run it again to see what would be changed"));
        }
        Ok(again.changes)
    }

    async fn stage(&mut self, changes: &[ResourceChange], options: &RunOptions) -> Result<()> {
        // What stands behind an opaque change is decided again, and staged then.
        let until = changes.iter().position(|entry| entry.change.opaque);
        let changes = &changes[..until.map_or(changes.len(), |at| at + 1)];
        let contents: Vec<Arc<Content>> = changes
            .iter()
            .flat_map(|entry| entry.change.contents.iter().cloned())
            .collect();
        let stage = Stage {
            files: staged_files(changes),
            validations: validations(changes),
        };
        if contents.is_empty() && stage.files.is_empty() {
            return Ok(());
        }
        self.staged = true;
        self.upload(&contents, options).await?;
        if stage.files.is_empty() {
            return Ok(());
        }
        self.say(options, "validating");
        let staged = self.conversation.stage(stage).await?;
        if staged.failures.is_empty() {
            return Ok(());
        }
        let mut error = Error::host("it refuses what it was given");
        for failure in &staged.failures {
            // A validator's own words usually begin with the path.
            error = error.caused_by(if failure.message.starts_with(&failure.path) {
                failure.message.clone()
            } else {
                format!("{}: {}", failure.path, failure.message)
            });
            let writes =
                |entry: &&ResourceChange| entry.change.changed_paths.contains(&failure.path);
            let origin = changes
                .iter()
                .find(writes)
                .and_then(|entry| entry.change.origin.as_ref());
            if let Some(origin) = origin {
                error = error.hint(format!("{} comes from {origin}", failure.path));
            }
        }
        Err(error)
    }

    async fn upload(&mut self, contents: &[Arc<Content>], options: &RunOptions) -> Result<()> {
        let large: Vec<&Arc<Content>> = contents
            .iter()
            .filter(|content| content.size >= ASK_FIRST_BYTES)
            .collect();
        let queries = large
            .iter()
            .map(|content| Query {
                kind: Some(query::Kind::Content(content.sha256.clone())),
            })
            .collect();
        let facts = if large.is_empty() {
            Vec::new()
        } else {
            self.conversation.ask(queries).await?
        };
        let mut sent: Vec<&str> = Vec::new();
        for content in contents {
            if sent.contains(&content.sha256.as_str()) {
                continue;
            }
            sent.push(&content.sha256);
            let at = large
                .iter()
                .position(|known| known.sha256 == content.sha256);
            let have = at.and_then(|at| match facts.get(at)?.kind.as_ref()? {
                fact_kind::Kind::Content(fact) => Some(fact.clone()),
                _ => None,
            });
            let ContentFact {
                complete,
                partial_bytes,
            } = have.unwrap_or_default();
            if complete {
                continue;
            }
            let (host, events) = (self.name().to_owned(), options.events.clone());
            let total = content.size;
            self.conversation
                .upload(content, partial_bytes, move |done| {
                    if total >= ASK_FIRST_BYTES {
                        let doing = format!("uploading {} %", done * 100 / total.max(1));
                        let _ = events.send(Event::Working {
                            host: host.clone(),
                            doing,
                        });
                    }
                })
                .await?;
        }
        Ok(())
    }

    pub(super) async fn perform(
        &mut self,
        changes: &[ResourceChange],
        options: &RunOptions,
    ) -> Result<()> {
        let operations: Vec<_> = changes
            .iter()
            .flat_map(|entry| entry.operations(&options.environment))
            .collect();
        if operations.is_empty() {
            return Ok(());
        }
        let armed = self.arm(&operations, options).await?;
        let owners: Vec<String> = operations.iter().map(|o| o.resource.clone()).collect();
        let (host, events) = (self.name().to_owned(), options.events.clone());
        let perform = Perform {
            run: options.run.clone(),
            operations,
            origin: Some(options.origin.clone()),
        };
        let mut in_hand = None;
        let performed = self.conversation.perform(perform, |step| {
            let doing = format!("{} {}", step.doing, step.resource);
            let host = host.clone();
            let _ = events.send(Event::Working { host, doing });
            in_hand = Some(step.resource);
        });
        let performed = match performed.await {
            Ok(performed) => performed,
            Err(error) => {
                // Operations are done in order, so whatever stands before the one in hand is done.
                let position = |name: &String| owners.iter().position(|owner| owner == name);
                let done = in_hand.as_ref().and_then(position).unwrap_or(0);
                let left = &owners[done..];
                self.note_changed(changes, left, options);
                let unsure = changes.iter().filter(|one| left.contains(&one.resource));
                self.unsure = unsure.cloned().collect();
                self.doubtful = true;
                return Err(match in_hand {
                    Some(name) => error.caused_by(format!(
                        "{name} was in hand; whether that was done, and what comes after it, is \
                         not known"
                    )),
                    None => error,
                });
            }
        };
        let done = usize::try_from(performed.done)
            .unwrap_or(usize::MAX)
            .min(owners.len());
        self.note_changed(changes, &owners[done..], options);
        match performed.failure {
            None if armed => self.get_in_anew(options).await,
            None => Ok(()),
            Some(failure) if failure.guard => Err(Error::host(format!(
                "{}: {}",
                failure.resource, failure.message
            ))
            .hint("someone else changed it since the plan was made; run it again")),
            Some(failure) => Err(Error::host(format!(
                "{}: {}",
                failure.resource, failure.message
            ))),
        }
    }

    /// Notes the changes that are done as a whole: none of their operations is left.
    pub(super) fn note_changed(
        &mut self,
        changes: &[ResourceChange],
        left: &[String],
        options: &RunOptions,
    ) {
        for entry in changes.iter().filter(|one| !left.contains(&one.resource)) {
            self.changed.push(entry.resource.clone());
            let _ = options.events.send(Event::Changed {
                host: self.name().to_owned(),
                resource: entry.resource.clone(),
                action: entry.change.action.word(),
            });
        }
    }

    pub(super) async fn probe(&mut self, health: &Health, options: &RunOptions) -> Result<()> {
        self.say(options, &format!("waiting for {}", health.target));
        let within_millis = u64::try_from(health.within.as_millis()).unwrap_or(u64::MAX);
        let probe = Probe {
            target: health.target.clone(),
            within_millis,
        };
        let probed = self.conversation.probe(probe).await?;
        if probed.healthy {
            let text = format!("healthy: {}", health.target);
            let _ = options.events.send(Event::Said {
                host: self.name().to_owned(),
                text,
            });
            return Ok(());
        }
        let within = humantime::format_duration(health.within);
        Err(
            Error::host(format!("{} is not healthy within {within}", health.target))
                .caused_by(probed.detail),
        )
    }

    pub(super) fn say(&self, options: &RunOptions, doing: &str) {
        let event = Event::Working {
            host: self.name().to_owned(),
            doing: doing.to_owned(),
        };
        let _ = options.events.send(event);
    }
}

fn staged_files(changes: &[ResourceChange]) -> Vec<StagedFile> {
    changes
        .iter()
        .flat_map(|entry| &entry.change.steps)
        .filter_map(|step| match &step.operation {
            operation::Kind::WriteFile(write) => Some(StagedFile {
                path: write.path.clone(),
                sha256: write.sha256.clone(),
                mode: write.mode,
            }),
            _ => None,
        })
        .collect()
}

fn validations(changes: &[ResourceChange]) -> Vec<Validation> {
    changes
        .iter()
        .flat_map(|entry| entry.change.validations.iter().cloned())
        .collect()
}
