//! What happens during a run.
//!
//! Goes in: the steps of a rollout. Comes out: [`Event`]s in a channel, and a [`Report`] at the
//! end. Invariant: the report says of every host what it has now.

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

/// Where events go.
pub type Events = UnboundedSender<Event>;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something about the whole run.
    Note(String),
    /// A host begins something that takes a while.
    Working {
        /// The host.
        host: String,
        /// A few words.
        doing: String,
    },
    /// A resource was brought to what it shall be.
    Changed {
        /// The host.
        host: String,
        /// The resource.
        resource: String,
        /// What was done, in one word.
        action: &'static str,
    },
    /// Something about a host worth keeping on the screen.
    Said {
        /// The host.
        host: String,
        /// A few words.
        text: String,
    },
    /// Take everything that moves off the screen, and say so on this channel.
    Clear(UnboundedSender<()>),
    /// A host is done.
    Finished {
        /// The host.
        host: String,
        /// Whether it went well.
        succeeded: bool,
        /// A few words.
        text: String,
    },
}

/// What became of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The environment.
    pub environment: String,
    /// Whether every host is as it shall be.
    pub succeeded: bool,
    /// Whether somebody ended it before it was through.
    pub interrupted: bool,
    /// How long it took, in milliseconds.
    pub elapsed_millis: u64,
    /// Why the audit log has not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_failure: Option<String>,
    /// Every host.
    pub hosts: Vec<HostOutcome>,
}

/// What became of one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostOutcome {
    /// The host.
    pub host: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The resources that were changed, in order.
    pub changed: Vec<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// The number of the generation that the run became on this host.
    pub generation: Option<u64>,
    /// What could not be taken back when it was rolled back, each with the reason.
    pub stays: Vec<String>,
}

/// What became of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It already was as it shall be.
    Unchanged,
    /// It was changed and is now as it shall be.
    Changed,
    /// The run stopped between two plays; `changed` says what was done before.
    Partly,
    /// Something went wrong; `changed` says what was done before.
    Failed,
    /// Something went wrong, and it was brought back to what it had; `changed` says what was done
    /// and taken back, `stays` what could not be.
    RolledBack,
    /// The run stopped before its turn; it is as it was.
    NotReached,
    /// It did not answer and was left out; it is as it was.
    Unreachable,
}

impl Outcome {
    /// The word that stands in a report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Partly => "partly changed",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
            Self::NotReached => "not reached",
            Self::Unreachable => "does not answer",
        }
    }
}
