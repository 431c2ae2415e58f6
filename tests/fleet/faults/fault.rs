//! What goes wrong.
//!
//! Goes in: a site with a run in hand. Comes out: the fault, and later a site without it.
//! Invariant: a fault stays until it is mended, so that the run has to live with it to its end.

use std::process::Child;
use std::time::{SystemTime, UNIX_EPOCH};

use super::phase::Phase;
use super::site::{FIRST, Site, wait_for};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    ControllerKilled,
    NetworkCut,
    SshdStopped,
    PowerCut,
    DiskFull,
    ReadOnly,
    ServiceBroken,
    NeverHealthy,
    ClockOff,
    SecondController,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::ControllerKilled,
        Self::NetworkCut,
        Self::SshdStopped,
        Self::PowerCut,
        Self::DiskFull,
        Self::ReadOnly,
        Self::ServiceBroken,
        Self::NeverHealthy,
        Self::ClockOff,
        Self::SecondController,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ControllerKilled => "controller killed",
            Self::NetworkCut => "network cut",
            Self::SshdStopped => "sshd stopped",
            Self::PowerCut => "power cut",
            Self::DiskFull => "disk full",
            Self::ReadOnly => "read-only file system",
            Self::ServiceBroken => "service does not start",
            Self::NeverHealthy => "health never good",
            Self::ClockOff => "clock an hour off",
            Self::SecondController => "second controller",
        }
    }

    /// It needs a whole machine: a container has the clock of the machine below, and what it wrote
    /// stays in that machine's memory when its power is cut.
    pub(super) const fn needs_a_machine(self) -> bool {
        matches!(self, Self::PowerCut | Self::ClockOff)
    }

    /// The conversation with the host breaks off.
    pub(super) const fn ends_the_conversation(self) -> bool {
        matches!(
            self,
            Self::ControllerKilled | Self::NetworkCut | Self::SshdStopped | Self::PowerCut
        )
    }

    /// Lets it happen.
    pub(super) fn fire(self, site: &mut Site, phase: Phase, run: &mut Child) {
        let host = phase.host();
        match self {
            Self::ControllerKilled => run.kill().expect("a run to be killed"),
            Self::NetworkCut => site.power("cut", host),
            // Its sessions go with it: a stop that spares them is not felt by a run in hand.
            Self::SshdStopped => {
                let _ = site.on(host, "systemctl stop ssh && { pkill -KILL -x sshd; true; }");
            }
            Self::PowerCut => site.cut_power(host),
            Self::DiskFull => {
                let fill = "cd /srv/system && fallocate -l \
                    $(df --output=avail -B1 . | tail -1) fill; cat /dev/zero > rest";
                let _ = site.try_on(host, fill);
                let written = "head -c 8192 /dev/zero > /srv/system/probe";
                assert_ne!(site.try_on(host, written).code, 0, "the disk is not full");
            }
            Self::ReadOnly => {
                let make = "for place in /var/lib/provision /var/lib/haproxy /opt/faults; do \
                    ! mountpoint -q $place || { mount --bind $place $place && \
                    mount -o remount,bind,ro $place; }; done; \
                    ! touch /var/lib/provision/probe 2>/dev/null";
                let _ = site.on(host, make);
            }
            Self::ServiceBroken => {
                let _ = site.on(FIRST, ": > /run/faults/broken");
            }
            Self::NeverHealthy => {
                let _ = site.on(FIRST, ": > /run/faults/sick");
            }
            Self::SecondController => {
                let output = site.apply(&[]).expect_code(1);
                let _ = output.says(&["another run works on this host: ", "process "]);
            }
            Self::ClockOff => {
                let _ = site.on(host, "date -s '+1 hour'");
                assert!(clock_is_off(site, host), "the clock is right");
            }
        }
    }

    /// Takes it away.
    pub(super) fn mend(self, site: &mut Site, phase: Phase) {
        let host = phase.host();
        match self {
            Self::NetworkCut => site.power("restore", host),
            Self::SshdStopped => {
                let _ = site.on(host, "systemctl start ssh");
            }
            Self::PowerCut => site.restore_power(host),
            Self::DiskFull => {
                let _ = site.on(host, "cd /srv/system && rm -f fill rest probe");
            }
            Self::ReadOnly => {
                let unmount = "for place in /var/lib/provision /var/lib/haproxy /opt/faults; do \
                    ! findmnt -no OPTIONS --mountpoint $place | tail -1 | grep -q '^ro' || \
                    umount -l $place; done; touch /var/lib/provision/probe && \
                    rm /var/lib/provision/probe";
                let _ = site.on(host, unmount);
            }
            Self::ServiceBroken => {
                let _ = site.on(FIRST, "rm -f /run/faults/broken");
            }
            Self::NeverHealthy => {
                let _ = site.on(FIRST, "rm -f /run/faults/sick");
            }
            // It goes back an hour, below the times of what was written meanwhile.
            Self::ClockOff => {
                if clock_is_off(site, host) {
                    let _ = site.on(host, "date -s '-1 hour'");
                }
            }
            Self::ControllerKilled | Self::SecondController => {}
        }
        wait_for("the host to let somebody in", || site.lets_in(host));
    }
}

/// Whether a host's clock is about an hour ahead.
fn clock_is_off(site: &Site, host: &str) -> bool {
    let shown: u64 = site.on(host, "date +%s").trim().parse().expect("seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    shown.abs_diff(now.expect("a time after 1970").as_secs()) > 3000
}
