//! Whether a connection lives, and for how long it may.
//!
//! In: settings and the time. Out: what to do next.
//! Invariant: nothing here does I/O but pings.

use std::future::poll_fn;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

/// How a client asks its server whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How often; zero means never.
    pub interval: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// Whether it is asked while no call is open.
    pub while_idle: bool,
}

impl Default for KeepAlive {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(10));
        Self {
            interval,
            timeout,
            while_idle: false,
        }
    }
}

/// How a server keeps its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKeepAlive {
    /// When a client that is silent is asked whether it lives.
    pub time: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// When a connection without calls is closed; nothing means never.
    pub max_connection_idle: Option<Duration>,
    /// When a connection is closed so that its client connects again; nothing means never.
    pub max_connection_age: Option<Duration>,
    /// How long the calls of a connection that is closed may go on; nothing means for ever.
    pub max_connection_age_grace: Option<Duration>,
    /// How often clients may ask whether the server lives; nothing means as often as they like.
    pub enforcement: Option<EnforcementPolicy>,
}

/// How often clients may ask whether their server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnforcementPolicy {
    /// The least time between pings.
    pub min_time: Duration,
    /// Whether they may ask while no call is open.
    pub permit_without_stream: bool,
}

impl Default for EnforcementPolicy {
    /// What grpc-go does.
    fn default() -> Self {
        Self {
            min_time: Duration::from_secs(300),
            permit_without_stream: false,
        }
    }
}

impl Default for ServerKeepAlive {
    /// What grpc-go does.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(7200),
            timeout: Duration::from_secs(20),
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
            enforcement: None,
        }
    }
}

/// Asks the other side of a connection whether it lives.
pub(super) struct Pinger {
    pings: Option<PingPong>,
    interval: Duration,
    timeout: Duration,
    /// When to ask next, or until when an answer must come.
    due: Instant,
    asked: bool,
}

impl Pinger {
    /// Asks at every `interval`; zero means never.
    pub(super) fn new(pings: Option<PingPong>, interval: Duration, timeout: Duration) -> Self {
        Self {
            pings: pings.filter(|_| !interval.is_zero()),
            interval,
            timeout,
            due: Instant::now() + interval,
            asked: false,
        }
    }

    /// Notes that the other side has just been heard.
    pub(super) fn heard(&mut self) {
        if !self.asked {
            self.due = Instant::now() + self.interval;
        }
    }

    /// Waits for what comes next; false means that the other side is gone. `wanted` says
    /// whether an answer matters now.
    pub(super) async fn next(&mut self, wanted: impl Fn() -> bool) -> bool {
        let Some(pings) = &mut self.pings else {
            return std::future::pending().await;
        };
        if self.asked {
            let answered = poll_fn(|context| pings.poll_pong(context));
            let alive = matches!(tokio::time::timeout_at(self.due, answered).await, Ok(Ok(_)));
            self.asked = false;
            self.due = Instant::now() + self.interval;
            return alive;
        }
        tokio::time::sleep_until(self.due).await;
        self.asked = wanted() && pings.send_ping(Ping::opaque()).is_ok();
        self.due = Instant::now()
            + if self.asked {
                self.timeout
            } else {
                self.interval
            };
        true
    }
}
