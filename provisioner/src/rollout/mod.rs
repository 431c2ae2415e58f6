//! From a plan to a fleet that is as it shall be.
//!
//! Goes in: desired state and endpoints. Comes out: observed hosts, then a [`Report`]. Invariant:
//! nothing is committed on any host before every host of the run has staged and validated what it
//! can; a host is not begun before the hosts of the batch before it are healthy.

mod apply;
mod observe;
mod session;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use observe::{Observation, observe};
pub use session::HostSession;

use crate::report::Events;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The environment's name.
    pub environment: String,
    /// How many hosts are worked on at once.
    pub forks: usize,
    /// Names this run in journals and locks: who, where and when.
    pub run: String,
    /// Where events go.
    pub events: Events,
}
