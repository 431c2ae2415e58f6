//! What this tool put on a host is taken away.
//!
//! Goes in: operations that no plan holds, as they follow from the manifest alone. Comes out: how
//! many were done, and why it did not end well. Invariant: it ends well only on a host that
//! somebody can still get into.

use provision_protocol::message::{Perform, Progress};
use provision_protocol::operation::Operation;

use super::RunOptions;
use super::apply::words;
use super::session::HostSession;
use crate::error::Result;
use crate::report::Event;

/// How many operations were done, and why it did not end well.
type Removed = (usize, Option<String>);

impl HostSession {
    /// Takes things away. Where that could lock everybody out, the host puts back by itself what
    /// it can unless somebody gets in anew.
    pub async fn remove(&mut self, operations: Vec<Operation>, options: &RunOptions) -> Removed {
        let removed = self.take_away(operations, options).await;
        let (done, failure) = match removed {
            Ok(removed) => removed,
            Err(error) => (0, Some(words(self.name(), &error))),
        };
        let Some(mut failure) = failure else {
            return (done, None);
        };
        if let Some(told) = self.settle_switch(options).await {
            failure.push_str(&format!(
                "; {told}; no manifest names that any more, so it is to be removed by hand"
            ));
        }
        (done, Some(failure))
    }

    async fn take_away(
        &mut self,
        operations: Vec<Operation>,
        options: &RunOptions,
    ) -> Result<Removed> {
        self.confirm_earlier(options).await?;
        if operations.is_empty() {
            return Ok((0, None));
        }
        let armed = self.arm(&operations, options).await?;
        let (events, name) = (options.events.clone(), self.name().to_owned());
        let perform = Perform {
            run: options.run.clone(),
            operations,
            origin: Some(options.origin.clone()),
        };
        let tell = move |step: Progress| {
            let doing = format!("removing {}", step.resource);
            let _ = events.send(Event::Working {
                host: name.clone(),
                doing,
            });
        };
        let performed = self.conversation.perform(perform, tell).await?;
        let mut failures: Vec<String> = performed
            .failure
            .map(|failure| format!("{}: {}", failure.resource, failure.message))
            .into_iter()
            .collect();
        // What was removed before a failure stays so.
        if armed && let Err(error) = self.get_in_anew(options).await {
            failures.push(words(self.name(), &error));
        }
        let failure = (!failures.is_empty()).then(|| failures.join("; "));
        Ok((usize::try_from(performed.done).unwrap_or(0), failure))
    }
}
