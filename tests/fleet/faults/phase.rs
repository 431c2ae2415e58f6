//! What a run does when a fault is fired, and how it is kept at that.
//!
//! Goes in: a site. Comes out: a run that stays in a phase until it is let go. Invariant: programs
//! get nothing for it that a user has not: a look that takes long, a clogged link, a slow
//! validator, a slow command, a slow start, and a session that does not end.

use std::process::{Child, Stdio};

use super::site::{BALANCER, FIRST, Site, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Observe,
    Upload,
    Stage,
    Drain,
    Commit,
    Restart,
}

impl Phase {
    /// In the order in which a run goes through them.
    pub(super) const ALL: [Self; 6] = [
        Self::Observe,
        Self::Upload,
        Self::Stage,
        Self::Drain,
        Self::Commit,
        Self::Restart,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Upload => "upload",
            Self::Stage => "stage",
            Self::Drain => "drain",
            Self::Commit => "commit",
            Self::Restart => "restart",
        }
    }

    /// The host that works in it.
    pub(super) const fn host(self) -> &'static str {
        match self {
            Self::Drain => BALANCER,
            _ => FIRST,
        }
    }

    /// Has the next run stay in this phase once it gets there.
    pub(super) fn hold(self, site: &Site) -> Held {
        let name = self.name();
        let file = format!("/run/faults/hold-{name}");
        let forget = "mkdir -p /run/faults && rm -rf /run/faults/*";
        let _ = site.on(FIRST, &format!("{forget} && : > {file}"));
        let mut client = None;
        match self {
            Self::Upload => std::fs::write(site.stall(FIRST), "").expect("a file"),
            Self::Drain => {
                let request = format!("GET /{FIRST}/wait HTTP/1.0\\r\\n\\r\\n");
                let ask = format!(
                    "{{ printf '{request}'; exec sleep 300; }} | nc {} 80",
                    Site::address(BALANCER)
                );
                let mut command = site.lab.exec(&["sh", "-c", &ask]);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                client = Some(command.spawn().expect("a client"));
                wait_for("the request that keeps the gateway busy", || {
                    site.try_on(FIRST, "test -e /run/faults/waits").code == 0
                });
            }
            _ => {}
        }
        Held {
            phase: self,
            client,
        }
    }

    /// The run has got to it.
    pub(super) fn has_begun(self, site: &Site) -> bool {
        let test = match self {
            Self::Upload => format!("test -s {}.part", content(site)),
            Self::Drain => return site.balanced(FIRST).starts_with("DRAIN"),
            _ => format!("test -e /run/faults/begun-{}", self.name()),
        };
        site.try_on(FIRST, &test).code == 0
    }

    /// The run is beyond it.
    pub(super) fn has_ended(self, site: &Site) -> bool {
        let test = match self {
            Self::Upload => format!("test -e {}", content(site)),
            Self::Drain => return !site.balanced(FIRST).starts_with("DRAIN"),
            _ => format!("test -e /run/faults/ended-{}", self.name()),
        };
        site.try_on(FIRST, &test).code == 0
    }
}

fn content(site: &Site) -> String {
    format!("/var/lib/provision/contents/{}", site.payload())
}

/// A phase that is kept open.
pub(super) struct Held {
    phase: Phase,
    client: Option<Child>,
}

impl Held {
    /// Lets the run go on.
    pub(super) fn release(mut self, site: &Site) {
        if self.phase == Phase::Upload {
            std::fs::remove_file(site.stall(FIRST)).expect("a file");
        }
        // What a host without power was waiting for is gone with its /run.
        if site.is_on(FIRST) {
            let file = format!("/run/faults/hold-{}", self.phase.name());
            let _ = site.on(FIRST, &format!("rm -f {file}"));
        }
        if let Some(client) = &mut self.client {
            let _ = client.kill();
            let _ = client.wait();
        }
    }
}
