//! A host that may not know the operator's account yet.
//!
//! In: two ways to one host: the operator's own account, and the one that its provider gave. Out:
//! a conversation by the first that is let in. Invariant: only the own account counts where it is
//! to be shown that somebody gets in.

use std::time::Duration;

use super::{BoxFuture, Conversation, Host, SshHost};
use crate::error::{ErrorKind, Result};

/// A host that may not know the operator's account yet.
#[derive(Clone, Debug)]
pub struct FirstContact {
    own: SshHost,
    given: SshHost,
}

impl FirstContact {
    /// A host by its own account, and by the one that its provider gave.
    #[must_use]
    pub const fn new(own: SshHost, given: SshHost) -> Self {
        Self { own, given }
    }
}

impl Host for FirstContact {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Conversation>> {
        Box::pin(async {
            match self.own.connect().await {
                Err(error) if error.kind == ErrorKind::Denied => self
                    .given
                    .connect()
                    .await
                    .map_err(|given| given.caused_by(format!("by [ssh]: {}", error.message))),
                reached => reached,
            }
        })
    }

    fn connect_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        self.own.connect_anew()
    }

    fn forget_connection(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.own.forget_connection().await;
            self.given.forget_connection().await;
        })
    }

    fn revert_after(&self) -> Duration {
        self.own.revert_after()
    }
}
