//! Messages to systemd, for units with `Type=notify` and `WatchdogSec`.
//!
//! In: the collector's state. Out: datagrams to `$NOTIFY_SOCKET`; nothing without it.
//! Invariant: the watchdog is fed by the runtime's own timer, so a stuck runtime starves it.

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// Says that every listener is bound.
pub fn ready() {
    send(&[NotifyState::Ready, NotifyState::Status("receiving")]);
}

/// Says that another configuration is about to take over; [`ready`] ends it.
pub fn reloading() {
    let mut state = vec![NotifyState::Reloading, NotifyState::Status("reloading")];
    state.extend(NotifyState::monotonic_usec_now().ok());
    send(&state);
}

/// Says that the collector is draining.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Feeds the watchdog at half its interval, when there is one.
pub fn watchdog() -> Option<JoinHandle<()>> {
    let interval = sd_notify::watchdog_enabled()? / 2;
    Some(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        loop {
            ticks.tick().await;
            send(&[NotifyState::Watchdog]);
        }
    }))
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
