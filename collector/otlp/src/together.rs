//! Several passes as one walk, so that each message is read and rewritten once.
//!
//! In: passes, one after another. Out: one pass that does what they would do in turn.
//! Invariant: a pass joins others only if none of them could tell that it came early.

use crate::error::WireError;
use crate::pass::{Above, Level, Pass, Verdict};
use crate::record::Record;

/// Passes that share a walk.
pub struct Together<'a, E> {
    passes: Vec<(Level, Box<dyn Pass<'a, Error = E> + 'a>)>,
}

impl<E> Default for Together<'_, E> {
    fn default() -> Self {
        Self { passes: Vec::new() }
    }
}

impl<'a, E: From<WireError>> Together<'a, E> {
    /// Whether a pass that comes after these can do its part in the same walk.
    ///
    /// It edits resources before the others see the items in them, so it may only edit or drop
    /// what stands as low as everything that they look at; and what they drop it must not see.
    pub fn admits(&self, next: &(dyn Pass<'a, Error = E> + 'a)) -> bool {
        self.passes.iter().all(|(level, pass)| {
            let blind = !pass.looks_up() && !next.prunes();
            !pass.prunes() && (*level <= next.touches() || blind)
        })
    }

    /// Adds a pass that these admit.
    pub fn push(&mut self, next: Box<dyn Pass<'a, Error = E> + 'a>) {
        self.passes.push((next.level(), next));
    }

    /// Shows a message to every pass that goes so far down, until one drops it.
    #[inline]
    fn each(
        &mut self,
        at: Level,
        mut show: impl FnMut(&mut (dyn Pass<'a, Error = E> + 'a)) -> Result<Verdict, E>,
    ) -> Result<Verdict, E> {
        for (level, pass) in &mut self.passes {
            if *level >= at && show(pass.as_mut())? == Verdict::Drop {
                return Ok(Verdict::Drop);
            }
        }
        Ok(Verdict::Keep)
    }
}

impl<'a, E: From<WireError>> Pass<'a> for Together<'a, E> {
    type Error = E;

    fn level(&self) -> Level {
        let levels = self.passes.iter().map(|(level, _)| *level);
        levels.max().unwrap_or(Level::Resource)
    }

    fn prunes(&self) -> bool {
        self.passes.iter().any(|(_, pass)| pass.prunes())
    }

    fn touches(&self) -> Level {
        let levels = self.passes.iter().map(|(_, pass)| pass.touches());
        levels.min().unwrap_or(Level::Event)
    }

    fn looks_up(&self) -> bool {
        self.passes.iter().any(|(_, pass)| pass.looks_up())
    }

    fn done(&mut self, dropped: usize) {
        for (_, pass) in &mut self.passes {
            // Nothing is admitted after a pass that drops, so all that is gone is that one's.
            let own = if pass.prunes() { dropped } else { 0 };
            pass.done(own);
        }
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, E> {
        self.each(Level::Resource, |pass| pass.resource(resource))
    }

    fn scope(&mut self, resource: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, E> {
        self.each(Level::Scope, |pass| pass.scope(resource, scope))
    }

    fn metric(&mut self, above: &Above<'_, 'a>, metric: &mut Record<'a>) -> Result<Verdict, E> {
        self.each(Level::Metric, |pass| pass.metric(above, metric))
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, E> {
        self.each(Level::Item, |pass| pass.item(above, item))
    }

    fn event(&mut self, above: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, E> {
        self.each(Level::Event, |pass| pass.event(above, event))
    }
}
