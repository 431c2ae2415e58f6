//! From a plan to a fleet that is as it shall be.
//!
//! Goes in: desired state and endpoints. Comes out: observed hosts, then a [`Report`]. Invariant:
//! nothing is committed on any host before every host of the run has staged and validated what it
//! can; a host is not begun before the hosts of the batch before it are healthy.

mod apply;
mod balancer;
mod batch;
mod confirm;
mod deadman;
mod interrupt;
mod observe;
mod play;
mod reboot;
mod reconnect;
mod recover;
mod remove;
mod session;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use batch::check_pace;
pub use confirm::Confirm;
pub use interrupt::Interrupt;
pub use observe::{Observation, look, observe, observe_for};
pub use session::HostSession;

use std::collections::BTreeSet;
use std::time::Duration;

use provision_protocol::generation::{Origin, Peer};

use crate::report::Events;
use crate::secret::Redactor;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The environment's name.
    pub environment: String,
    /// How many hosts are worked on at once, and connected to by a run that only looks.
    pub forks: usize,
    /// Names this run in journals and locks: who, where and when.
    pub run: String,
    /// Who asks for it, and from which state of the project.
    pub origin: Origin,
    /// The hosts of the environment, for those of them that write them down.
    pub peers: Vec<Peer>,
    /// The hosts that write down which hosts there are.
    pub keepers: BTreeSet<String>,
    /// A host that fails goes back to what it had.
    pub rollback: bool,
    /// How long a host's lock is waited for.
    pub lock_timeout: Duration,
    /// Who says that a play shall go on, where it pauses for that.
    pub confirm: Confirm,
    /// Whether somebody wants the run to end.
    pub interrupt: Interrupt,
    /// Takes secrets out of what hosts write down.
    pub redactor: Redactor,
    /// Where events go.
    pub events: Events,
}
