//! A host is left out by the balancers in front of it while it changes.
//!
//! Goes in: a play and one of its hosts. Comes out: every balancer of the play leaves the host
//! out, or uses it again. Invariant: the lock of a balancer's host is the lease of the balancer, so
//! that no two runs leave hosts out at the same time.

use provision_protocol::message::{Balance, BalanceVerb};

use super::RunOptions;
use super::session::HostSession;
use crate::error::{Error, Result};
use crate::playbook::{Balancer, Play};
use crate::report::Event;

/// Has every balancer of the play give the host nothing more, and waits until it has no session.
///
/// # Errors
/// Sessions did not end in time, or a balancer cannot be asked; the host is used as before.
pub(super) async fn take_out(
    sessions: &mut [HostSession],
    play: &Play,
    host: &str,
    options: &RunOptions,
) -> Result<()> {
    let result = tell(sessions, play, host, BalanceVerb::TakeOut, options).await;
    if result.is_err() {
        // One balancer may have been told already. The first error says more than a second.
        let _ = put_back(sessions, play, host, options).await;
    }
    result
}

/// Has every balancer of the play that leaves the host out use it again, and waits until they see
/// it up.
///
/// # Errors
/// A balancer does not see it up in time, or cannot be asked.
pub(super) async fn put_back(
    sessions: &mut [HostSession],
    play: &Play,
    host: &str,
    options: &RunOptions,
) -> Result<()> {
    tell(sessions, play, host, BalanceVerb::PutBack, options).await
}

/// Whether a balancer of the play leaves the host out, as far as this run knows.
pub(super) fn is_out(sessions: &[HostSession], play: &Play, host: &str) -> bool {
    let mut balancers = sessions.iter().filter(|one| balances_for(one, play));
    balancers.any(|one| one.taken_out.contains(host))
}

fn balances_for(session: &HostSession, play: &Play) -> bool {
    let group = |balancer: &Balancer| balancer.hosts.value.clone();
    let own = session.desired.balancer.as_ref().map(group);
    own.is_some() && own == play.pace.balancer.as_ref().map(group)
}

async fn tell(
    sessions: &mut [HostSession],
    play: &Play,
    host: &str,
    verb: BalanceVerb,
    options: &RunOptions,
) -> Result<()> {
    let Some(balancer) = &play.pace.balancer else {
        return Ok(());
    };
    let concerned = |session: &&mut HostSession| {
        let news = verb == BalanceVerb::TakeOut || session.taken_out.contains(host);
        news && balances_for(session, play)
    };
    for session in sessions.iter_mut().filter(concerned) {
        let within = humantime::format_duration(balancer.within);
        let doing = match verb {
            BalanceVerb::TakeOut => format!("has {host} end its sessions"),
            _ => format!("waits to see {host} up"),
        };
        session.say(options, &doing);
        let balance = Balance {
            socket: balancer.socket.clone(),
            state_file: balancer.state_file.clone(),
            server: host.to_owned(),
            verb: verb as i32,
            within_millis: u64::try_from(balancer.within.as_millis()).unwrap_or(u64::MAX),
        };
        let name = session.name().to_owned();
        // Said twice it is done once: a helper that was left ends its drain, or has done it.
        let step = async |one: &mut HostSession| one.conversation.balance(balance.clone()).await;
        let answer = session.persist(options, step).await?;
        if answer.taken_out {
            session.taken_out.insert(host.to_owned());
        } else {
            session.taken_out.remove(host);
        }
        if !answer.running || answer.backends == 0 {
            continue;
        }
        if !answer.done {
            let what = match verb {
                BalanceVerb::TakeOut => "cannot leave it out",
                _ => "does not see it up",
            };
            let message = format!("{name} {what} within {within}");
            return Err(Error::host(message).caused_by(answer.detail));
        }
        let what = match verb {
            BalanceVerb::TakeOut => "left out by",
            _ => "used again by",
        };
        let text = format!("{what} {name}: {}", answer.detail);
        let _ = options.events.send(Event::Said {
            host: host.to_owned(),
            text,
        });
    }
    Ok(())
}
