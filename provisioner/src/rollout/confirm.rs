//! Whether a rollout that pauses shall go on.
//!
//! Goes in: a question. Comes out: the answer of whoever started the run. Invariant: nothing here
//! knows of a terminal; who asks there is handed in.

use std::fmt;
use std::sync::Arc;

use crate::host::BoxFuture;

/// Asks a person.
type Ask = dyn Fn(String) -> BoxFuture<'static, bool> + Send + Sync;

/// Who says that a play shall go on.
#[derive(Clone, Default)]
pub enum Confirm {
    /// It was said beforehand, for all that may come.
    #[default]
    Given,
    /// Somebody is asked each time.
    Ask(Arc<Ask>),
}

impl Confirm {
    /// Whether it shall go on.
    pub async fn ask(&self, question: String) -> bool {
        match self {
            Self::Given => true,
            Self::Ask(ask) => ask(question).await,
        }
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "Given",
            Self::Ask(_) => "Ask",
        })
    }
}
