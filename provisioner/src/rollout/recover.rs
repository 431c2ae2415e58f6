//! A host that failed goes back to what it had.
//!
//! Goes in: a session whose play failed. Comes out: the host as it was before the run, and healthy
//! as far as it was then. Invariant: only what this run has changed is undone; what cannot be
//! undone is named; a host whose connection is gone is left to the next run.

use provision_protocol::fact::{Query, fact_kind, query};
use provision_protocol::generation::{Ending, Generation, GenerationsQuery};
use provision_protocol::message::Commit;

use super::RunOptions;
use super::session::HostSession;
use crate::error::{Error, Result};
use crate::plan::undo;
use crate::playbook::Health;
use crate::report::Event;

impl HostSession {
    /// Puts back what this run has changed on the host, and what an interrupted run before it had
    /// left undone.
    ///
    /// # Errors
    /// It is not as it was before, or has what it had and is not as healthy as it was then; the
    /// message says why.
    pub(super) async fn go_back(&mut self, why: &str, options: &RunOptions) -> Result<()> {
        // A host that was let go had nothing to be changed.
        if self.conversation.is_left() {
            return Ok(());
        }
        let Some(open) = self.open_generation(options).await? else {
            return Ok(());
        };
        self.say(options, "going back to what it had");
        let net = undo::net(&[open]);
        let undo = undo::undo(&net, &self.manifest, None);
        let done = self.changed.len();
        let result = self.perform(&undo.changes, options).await;
        let taken_back = self.changed.split_off(done);
        if let Err(error) = result {
            // What is back is not among what was changed any more; the rest still is.
            self.changed.retain(|one| !taken_back.contains(one));
            return Err(error);
        }
        self.stays = undo.stays;
        self.rolled_back = true;
        let settled = self.settle_as_before(options).await;
        self.doubtful |= settled.is_err();
        let _ = options.events.send(Event::Said {
            host: self.name().to_owned(),
            text: "back to what it had before".to_owned(),
        });
        let closed = self.close_generation(Ending::RolledBack, why, options);
        closed.await?;
        settled
    }

    /// Waits for whatever was healthy before the run.
    async fn settle_as_before(&mut self, options: &RunOptions) -> Result<()> {
        let healths: Vec<Health> = self.desired.health().cloned().collect();
        let before = healths.into_iter().zip(&self.health);
        let well: Vec<Health> = before
            .filter(|(_, seen)| seen.healthy)
            .map(|(health, _)| health)
            .collect();
        for health in well {
            self.probe(&health, options).await?;
        }
        Ok(())
    }

    /// What was changed since the last generation was closed; also takes in the manifest.
    pub(super) async fn open_generation(
        &mut self,
        options: &RunOptions,
    ) -> Result<Option<Generation>> {
        let queries = remembered(options, false, 0);
        let facts = self.conversation.ask(queries).await?;
        let (manifest, generations) = read_remembered(self.name(), facts)?;
        self.manifest = manifest;
        let mut generations = generations.generations;
        Ok(generations
            .pop()
            .filter(|last| last.ending() == Ending::Unfinished))
    }

    /// Closes what this run has changed as one generation.
    ///
    /// # Errors
    /// The connection ends, or the host cannot write it down.
    pub(super) async fn close_generation(
        &mut self,
        ending: Ending,
        note: &str,
        options: &RunOptions,
    ) -> Result<()> {
        let peers = if options.keepers.contains(self.name()) {
            options.peers.clone()
        } else {
            Vec::new()
        };
        let commit = Commit {
            environment: options.environment.clone(),
            plays: self.finished.iter().cloned().collect(),
            ending: ending as i32,
            // It may quote what a program printed.
            note: options.redactor.redact(note),
            peers,
        };
        let committed = self.conversation.commit(commit).await?;
        let mut number = committed.number;
        if number == 0 && self.resumes {
            // The answer that named it may have been lost.
            let newest = self.generations(1, options).await?.pop();
            number = newest
                .filter(|newest| newest.run == options.run)
                .map_or(0, |newest| newest.number);
        }
        self.generation = (number > 0).then_some(number);
        self.open = None;
        Ok(())
    }
}

/// Asks what a host remembers: its manifest, and the generations of this environment.
pub(super) fn remembered(options: &RunOptions, peers: bool, generations: u32) -> Vec<Query> {
    let kinds = [
        query::Kind::Manifest(options.environment.clone()),
        query::Kind::Generations(GenerationsQuery {
            environment: options.environment.clone(),
            limit: generations,
            peers,
        }),
    ];
    kinds.map(|kind| Query { kind: Some(kind) }).to_vec()
}

type Remembered = (
    Vec<provision_protocol::operation::ManifestEntry>,
    provision_protocol::generation::GenerationsFact,
);

/// The answers to [`remembered`].
pub(super) fn read_remembered(
    host: &str,
    facts: Vec<provision_protocol::fact::Fact>,
) -> Result<Remembered> {
    let mut why = None;
    let mut kinds = Vec::new();
    for fact in facts {
        why = why.or(fact.error);
        kinds.extend(fact.kind);
    }
    match <[fact_kind::Kind; 2]>::try_from(kinds) {
        Ok(
            [
                fact_kind::Kind::Manifest(manifest),
                fact_kind::Kind::Generations(generations),
            ],
        ) => Ok((manifest.entries, generations)),
        _ => {
            let error = Error::host(format!("{host}: what it remembers cannot be read"));
            Err(match why {
                Some(why) => error.caused_by(why),
                None => error,
            })
        }
    }
}
