//! Which hosts come next.
//!
//! Goes in: a play, and the hosts that wait for it. Comes out: the next batch. Invariant: pure;
//! never so many hosts that are ready that fewer than `min_ready` would be left.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::observe::Observation;
use super::reboot::check_reboots;
use crate::error::{Error, Result};
use crate::playbook::{Balancer, Canary, CanaryHosts, Order, Play};

/// A host that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) host: String,
    /// Whether it is healthy, so that taking it away leaves one less.
    pub(super) ready: bool,
}

/// Hosts in the order of a play. `run` names the run, which a random order follows from.
pub(super) fn arrange(hosts: &mut [String], order: Order, run: &str) {
    match order {
        Order::Inventory => {}
        Order::Reverse => hosts.reverse(),
        Order::Random => {
            hosts.sort_by_cached_key(|host| Sha256::digest(format!("{run}\n{host}")).to_vec());
        }
    }
}

/// Those of the hosts that are first of all.
pub(super) fn canaries(canary: Option<&Canary>, hosts: &[String]) -> BTreeSet<String> {
    match canary.map(|canary| &canary.hosts) {
        None => BTreeSet::new(),
        Some(CanaryHosts::Count(count)) => hosts.iter().take(*count).cloned().collect(),
        Some(CanaryHosts::Named(names)) => {
            let names = names.iter().map(|name| &name.value);
            names.filter(|name| hosts.contains(name)).cloned().collect()
        }
    }
}

/// The next hosts, at most `size` of them, and at most `spare` that are ready.
pub(super) fn next(waiting: &[Waiting], size: usize, spare: Option<usize>) -> Vec<String> {
    let mut spare = spare.unwrap_or(usize::MAX);
    let mut batch = Vec::new();
    for one in waiting {
        if batch.len() == size {
            break;
        }
        if one.ready {
            if spare == 0 {
                continue;
            }
            spare -= 1;
        }
        batch.push(one.host.clone());
    }
    batch
}

/// Whether what the plays say of their rollout can hold, before anything is touched.
///
/// # Errors
/// Fewer hosts than `min_ready` would be ready at some moment, or a balancer that must leave hosts
/// out does not answer; or a reboot would end the run itself.
pub fn check_pace(observation: &Observation, plays: &[(Play, Vec<String>)]) -> Result<()> {
    check_reboots(observation)?;
    for (play, hosts) in plays {
        let sessions = || {
            let sessions = observation.sessions.iter();
            sessions.filter(|session| hosts.iter().any(|host| host == session.name()))
        };
        let (ready, other): (Vec<_>, Vec<_>) =
            sessions().partition(|session| session.was_ready(&play.name));
        let change = |sessions: &[&super::HostSession]| {
            sessions.iter().filter(|session| session.asks(play)).count()
        };
        let (from_ready, from_other) = (change(&ready), change(&other));
        if from_ready + from_other > 0 {
            check_balancer(observation, play)?;
        }
        let Some(min_ready) = &play.pace.min_ready else {
            continue;
        };
        let wanted = min_ready.value.of(hosts.len());
        if from_ready > 0 && ready.len() + from_other < wanted + 1 {
            let message = format!(
                "play {}: {wanted} hosts must stay ready, and changing one leaves {} of {}",
                play.name,
                ready.len() + from_other - 1,
                hosts.len()
            );
            return Err(Error::host(message).hint(format!(
                "nothing was changed; lower `min_ready` at {}, or add a host to `{}`",
                min_ready.location, play.hosts.value
            )));
        }
    }
    Ok(())
}

fn check_balancer(observation: &Observation, play: &Play) -> Result<()> {
    let Some(balancer) = &play.pace.balancer else {
        return Ok(());
    };
    let group = &balancer.hosts.value;
    let balances = |known: &Balancer| known.hosts.value == *group;
    let absent = observation.absent.iter();
    match absent
        .into_iter()
        .find(|absent| absent.balancer.as_ref().is_some_and(balances))
    {
        None => Ok(()),
        Some(absent) => {
            let message = format!(
                "play {}: {} balances for it and cannot be asked to leave hosts out",
                play.name, absent.host
            );
            Err(Error::host(message)
                .caused_by(&absent.error.message)
                .hint("nothing was changed on any host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(hosts: &[(&str, bool)]) -> Vec<Waiting> {
        let one = |(host, ready): &(&str, bool)| Waiting {
            host: (*host).to_owned(),
            ready: *ready,
        };
        hosts.iter().map(one).collect()
    }

    #[test]
    fn a_batch_leaves_as_many_hosts_ready_as_must_be() {
        let all = waiting(&[("a", true), ("b", true), ("c", false), ("d", true)]);
        assert_eq!(next(&all, 9, None), ["a", "b", "c", "d"]);
        assert_eq!(next(&all, 2, None), ["a", "b"]);
        assert_eq!(next(&all, 9, Some(1)), ["a", "c"]);
        assert_eq!(next(&all, 9, Some(0)), ["c"]);
        assert_eq!(next(&all[..2], 9, Some(0)), [""; 0]);
    }

    #[test]
    fn an_order_has_every_host_once() {
        let names = || ["a", "b", "c", "d"].map(ToOwned::to_owned);
        let mut hosts = names();
        arrange(&mut hosts, Order::Reverse, "run");
        assert_eq!(hosts, ["d", "c", "b", "a"]);
        let random = |run: &str| {
            let mut hosts = names();
            arrange(&mut hosts, Order::Random, run);
            hosts
        };
        let mut sorted = random("run");
        assert_eq!(random("run"), sorted, "one run has one order");
        let orders: BTreeSet<_> = (0..20).map(|run| random(&run.to_string())).collect();
        assert!(orders.len() > 5, "{orders:?}");
        sorted.sort();
        assert_eq!(sorted, names());
    }
}
