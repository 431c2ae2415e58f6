//! Conversations with hosts.
//!
//! Goes in: an [`Endpoint`]. Comes out: a [`Conversation`] with the helper that runs there.
//! Invariant: one execution per host and run, whatever is done, and at most one new connection
//! where none was kept, unless one is lost or has to be shown anew.

mod conversation;
mod endpoint;
mod explain;
#[cfg(test)]
mod fake;
mod first_contact;
mod helper;
mod launch;
mod local;
mod master;
mod scan;
mod ssh;

pub use conversation::{Conversation, Look, Transport};
pub use endpoint::Endpoint;
#[cfg(test)]
pub(crate) use fake::{FakeHost, Requests, Script, asks_for_reboot};
pub use first_contact::FirstContact;
pub use helper::Helpers;
pub use local::LocalHost;
pub use master::ASKPASS_VARIABLE;
pub use ssh::{SshAgent, SshHost};

use std::pin::Pin;

use crate::error::Result;

/// A future that is not tied to a thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A machine that a helper can be run on.
pub trait Host: Send + Sync + std::fmt::Debug {
    /// The host's name in the inventory.
    fn name(&self) -> &str;

    /// Runs the helper and waits until it has said who it is. The opening, if any, is what
    /// [`Look::asked`] gives: its answers are on their way then.
    ///
    /// The error names the host, the cause and the way out.
    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>>;

    /// The same with a connection, an authentication and root's rights of its own, so that it
    /// shows whether somebody who comes now gets in.
    fn connect_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        self.connect(&[])
    }

    /// The same for somebody who only has to see what there is, by whatever way there was before.
    fn look_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        self.connect_anew()
    }

    /// Leaves the connection to itself that runs to come would find: it leads into a boot that is over.
    fn forget_connection(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// After how long the host puts back by itself what locked everybody out.
    fn revert_after(&self) -> std::time::Duration;

    /// How long it is tried to be reached again when its connection was lost.
    fn reconnect_within(&self) -> std::time::Duration;
}
