//! A host is rebooted, and the run goes on with it.
//!
//! Goes in: a change that reboots a host. Comes out: a session with the helper of another boot, which
//! holds the lock. Invariant: the host is back when it answers from another boot than the one that
//! was ended, to a connection and an authentication of its own; what could lock everybody out is
//! armed before the boot and confirmed after it.

use std::time::{Duration, Instant};

use provision_protocol::message::{Perform, Probe};
use provision_protocol::operation::{ManifestKind, Reboot};

use super::deadman::endangered;
use super::session::HostSession;
use super::{Observation, RunOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Conversation, Host, Look};
use crate::plan::ResourceChange;
use crate::playbook::Health;
use crate::report::Event;

/// What is active once everything that starts with a boot has been started, or has failed to.
const BOOTED: &str = "unit:default.target";

/// The pause between two looks whether a host is back.
const PAUSE: Duration = Duration::from_secs(1);

impl HostSession {
    /// Reboots the host, waits until it is back, and until what it served before is healthy again.
    ///
    /// # Errors
    /// It does not begin to, is not back in time, or somebody else took its lock meanwhile.
    pub(super) async fn reboot(
        &mut self,
        entry: &ResourceChange,
        reboot: &Reboot,
        options: &RunOptions,
    ) -> Result<()> {
        self.arm_for_reboot(reboot, options).await?;
        self.say(options, "rebooting");
        let perform = Perform {
            run: options.run.clone(),
            operations: entry.operations(&options.environment),
            origin: Some(options.origin.clone()),
        };
        let started = Instant::now();
        match self.conversation.perform(perform, |_| {}).await {
            Ok(performed) => {
                if let Some(failure) = performed.failure {
                    return Err(Error::host(format!("reboot: {}", failure.message)));
                }
            }
            Err(error) if options.interrupt.has_come() => return Err(error),
            // The host takes the connection down with it, perhaps before the answer.
            Err(error) if error.kind == ErrorKind::Lost => {}
            Err(error) => return Err(error),
        }
        // Nobody knows whether it went down until it is back.
        self.doubtful = true;
        let _ = options.events.send(Event::Changed {
            host: self.name().to_owned(),
            resource: entry.resource.clone(),
            action: entry.change.action.word(),
        });
        self.conversation = self.come_back(reboot, started, options).await?;
        self.doubtful = false;
        self.changed.push(entry.resource.clone());
        self.staged = false;
        let within = Duration::from_millis(reboot.within_millis);
        self.go_on(within.saturating_sub(started.elapsed()), options)
            .await?;
        let text = format!("back after {} s", started.elapsed().as_secs());
        let host = self.name().to_owned();
        let _ = options.events.send(Event::Said { host, text });
        self.settle_again(options).await
    }

    /// Has the host put back by itself what this run, and an unfinished one before it, changed of
    /// what decides who gets in: part of it may take effect with the boot.
    async fn arm_for_reboot(&mut self, reboot: &Reboot, options: &RunOptions) -> Result<()> {
        let Some(open) = self.open_generation(options).await? else {
            return Ok(());
        };
        let files = open
            .changes
            .iter()
            .filter(|one| one.kind() == ManifestKind::File);
        let units = open
            .changes
            .iter()
            .filter(|one| one.kind() == ManifestKind::Unit);
        let paths = files.map(|one| one.name.as_str());
        let Some(mut arm) = endangered(paths, units.map(|one| one.name.as_str())) else {
            return Ok(());
        };
        arm.within_millis = reboot.within_millis;
        arm.reboots = true;
        self.say(options, "arming the dead man's switch");
        self.conversation.arm(arm).await?;
        let within = Duration::from_millis(reboot.within_millis);
        (self.armed, self.reverts_within) = (true, Some(within));
        Ok(())
    }

    /// A conversation with the host in another boot.
    async fn come_back(
        &self,
        reboot: &Reboot,
        started: Instant,
        options: &RunOptions,
    ) -> Result<Conversation> {
        let Some(host) = &self.host else {
            return Err(Error::host("there is no way to get in anew"));
        };
        host.forget_connection().await;
        let within = Duration::from_millis(reboot.within_millis);
        let until = started + within;
        let mut last = None;
        loop {
            let waited = started.elapsed().as_secs();
            self.say(options, &format!("rebooting, for {waited} s"));
            let left = until.saturating_duration_since(Instant::now());
            let connected = tokio::select! {
                connected = tokio::time::timeout(left, connect(host.as_ref(), reboot)) => connected,
                () = options.interrupt.comes() => {
                    let error = Error::new(ErrorKind::Cancelled, "interrupted while it rebooted");
                    return Err(error.hint("run it again: what was begun is completed"));
                }
            };
            match connected {
                Ok(Ok(conversation)) => return Ok(conversation),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
            if Instant::now() + PAUSE > until {
                let within = humantime::format_duration(within);
                let message = format!("it was told to reboot and is not back within {within}");
                let mut error = Error::host(message);
                if let Some(last) = last {
                    error.causes.push(last.message);
                    error.causes.extend(last.causes);
                }
                return Err(error.hint("look at its console; the next run goes on with it"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the lock that went with the boot, confirms that somebody got in, and waits for the end
    /// of the boot.
    async fn go_on(&mut self, within: Duration, options: &RunOptions) -> Result<()> {
        self.conversation.heed(options.interrupt.clone());
        if self.armed {
            let confirmed = self.conversation.disarm().await?;
            self.armed = false;
            if !confirmed {
                return Err(Error::host("it put the change back by itself"));
            }
        }
        let lock = Look {
            holder: Some(options.run.clone()),
            ..Look::default()
        };
        self.conversation.observe(&lock).await?;
        self.await_boot(within, options).await
    }

    /// Waits for the end of the boot that the host is in: a service that is about to start is none
    /// that has to be started.
    pub(super) async fn await_boot(
        &mut self,
        within: Duration,
        options: &RunOptions,
    ) -> Result<()> {
        let probe = Probe {
            target: BOOTED.to_owned(),
            within_millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        self.say(options, "waiting for the end of its boot");
        let probed = self.conversation.probe(probe).await?;
        if !probed.healthy {
            let error = Error::host("it answers again, but its boot does not end in time");
            return Err(error.caused_by(probed.detail));
        }
        Ok(())
    }

    /// Waits for what plays before this one had made healthy.
    pub(super) async fn settle_again(&mut self, options: &RunOptions) -> Result<()> {
        let plays = self.desired.plays.iter();
        let healths: Vec<Health> = plays
            .filter(|one| self.finished.contains(one.play.as_str()))
            .flat_map(|one| one.health.iter().cloned())
            .collect();
        for health in &healths {
            self.probe(health, options).await?;
        }
        Ok(())
    }
}

/// Whether the run goes on while each of its hosts reboots.
///
/// # Errors
/// It comes from that host, or reaches others through it.
pub(super) fn check_reboots(observation: &Observation) -> Result<()> {
    let sessions = || observation.sessions.iter();
    let reboots = |session: &&HostSession| {
        let mut changes = session.plan.changes.iter();
        changes.any(ResourceChange::may_reboot)
    };
    for session in sessions().filter(reboots) {
        let name = session.name();
        if session.desired.host.host.local {
            let message = format!("{name} is this machine, and its reboot would end the run");
            return Err(Error::host(message).hint("reboot it by hand, then run it again"));
        }
        let through = |other: &&HostSession| {
            let jump = other.desired.host.host.ssh.jump.as_deref();
            other.name() != name && jump == Some(name)
        };
        if let Some(other) = sessions().find(through) {
            let other = other.name();
            let message = format!("{other} is reached through {name}, which would reboot");
            return Err(Error::host(message).hint(format!("first `--limit {name}`, then the rest")));
        }
    }
    Ok(())
}

async fn connect(host: &dyn Host, reboot: &Reboot) -> Result<Conversation> {
    let conversation = host.connect_anew().await?;
    if conversation.hello().boot_id != reboot.boot_id {
        return Ok(conversation);
    }
    conversation.close().await;
    Err(Error::host("it still answers from the boot before"))
}
