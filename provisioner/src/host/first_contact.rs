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
pub struct FirstContact<H = SshHost> {
    own: H,
    given: H,
}

impl<H> FirstContact<H> {
    /// A host by its own account, and by the one that its provider gave.
    #[must_use]
    pub const fn new(own: H, given: H) -> Self {
        Self { own, given }
    }
}

/// By the own account or, where that is not let in, by the given one.
async fn by_either(
    own: BoxFuture<'_, Result<Conversation>>,
    given: BoxFuture<'_, Result<Conversation>>,
) -> Result<Conversation> {
    match own.await {
        Err(error) if error.kind == ErrorKind::Denied => given
            .await
            .map_err(|given| given.caused_by(format!("by [ssh]: {}", error.message))),
        reached => reached,
    }
}

impl<H: Host> Host for FirstContact<H> {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>> {
        let given = self.given.connect(opening);
        Box::pin(by_either(self.own.connect(opening), given))
    }

    fn connect_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        self.own.connect_anew()
    }

    fn look_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        Box::pin(by_either(self.own.look_anew(), self.given.look_anew()))
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

    fn reconnect_within(&self) -> Duration {
        self.own.reconnect_within()
    }
}
