//! How carefully a play is rolled out.
//!
//! Goes in: keys of a `[[play]]` table. Comes out: a [`Pace`]. Invariant: what is not said is what
//! disturbs nobody who wrote a play without it.

use std::time::Duration;

use super::play::{BatchSize, parse_size};
use crate::document::{self, Entry, Section};

/// How long a server may take to have no session, and to be seen up again.
const DRAIN_WITHIN: Duration = Duration::from_secs(90);
/// Where the templates have HAProxy listen for commands.
const SOCKET: &str = "/run/haproxy/admin.sock";
/// Where the templates have HAProxy look for servers that are taken out.
const STATE_FILE: &str = "/var/lib/haproxy/server-state";

/// How carefully a play is rolled out, beside the sizes of its batches.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// How many hosts of the group are healthy at every moment.
    pub min_ready: Option<Entry<BatchSize>>,
    /// Who is first, and for how long it is watched.
    pub canary: Option<Canary>,
    /// What is waited for between two batches.
    pub pause: Option<Pause>,
    /// Who comes before whom.
    pub order: Order,
    /// What becomes of a run when a host does not answer.
    pub unreachable: Unreachable,
    /// What sends requests to the hosts, and is told to leave one out while it changes.
    pub balancer: Option<Balancer>,
}

/// The first batch.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Its hosts.
    pub hosts: CanaryHosts,
    /// How long it must stay healthy before the next batch is begun.
    pub watch: Duration,
}

/// Who is in the first batch.
#[derive(Clone, Debug)]
pub enum CanaryHosts {
    /// So many of the hosts that change.
    Count(usize),
    /// These, as far as they change.
    Named(Vec<Entry<String>>),
}

/// What is waited for between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Somebody says that it shall go on.
    Confirm,
    /// The hosts that were changed stay healthy for so long.
    For(Duration),
}

/// Who comes before whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As in the inventory.
    #[default]
    Inventory,
    /// The other way round.
    Reverse,
    /// Another order in every run.
    Random,
}

/// What becomes of a run when a host does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreachable {
    /// Nothing is changed on any host.
    #[default]
    Stop,
    /// It is left out, and the report says so.
    Skip,
}

/// HAProxy in front of the hosts of a play.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// The group of hosts on which it runs.
    pub hosts: Entry<String>,
    /// Its runtime socket.
    pub socket: String,
    /// The `server-state-file` of its configuration.
    pub state_file: String,
    /// How long sessions may take to end, and a server to be seen up again.
    pub within: Duration,
}

impl Pace {
    /// Each key in words, where it says something.
    pub(super) fn words(&self) -> Vec<(&'static str, Option<String>)> {
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let canary = self.canary.as_ref().map(|canary| {
            let hosts = match &canary.hosts {
                CanaryHosts::Count(count) => count.to_string(),
                CanaryHosts::Named(names) => {
                    let names: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
                    names.join(", ")
                }
            };
            format!("{hosts}, watched for {}", time(canary.watch))
        });
        let pause = self.pause.map(|pause| match pause {
            Pause::Confirm => "confirm".to_owned(),
            Pause::For(duration) => time(duration),
        });
        let order = match self.order {
            Order::Inventory => None,
            Order::Reverse => Some("reverse"),
            Order::Random => Some("random"),
        };
        let skips = (self.unreachable == Unreachable::Skip).then_some("skip");
        let balancer = self.balancer.as_ref().map(|balancer| {
            let within = time(balancer.within);
            format!(
                "{} at {} within {within}",
                balancer.hosts.value, balancer.socket
            )
        });
        let min_ready = self.min_ready.as_ref();
        vec![
            ("min_ready", min_ready.map(|entry| entry.value.to_string())),
            ("canary", canary),
            ("pause", pause),
            ("order", order.map(ToOwned::to_owned)),
            ("unreachable", skips.map(ToOwned::to_owned)),
            ("balancer", balancer),
        ]
    }

    pub(super) fn parse(section: &Section<'_>) -> Self {
        let min_ready = section.scalars("min_ready").into_iter().next();
        let min_ready = min_ready.and_then(|entry| {
            let value = parse_size(section, &entry)?;
            Some(Entry {
                value,
                location: entry.location,
            })
        });
        if let Some(entry) = &min_ready
            && !section.has("health")
        {
            section.error_at(
                &entry.location,
                "`min_ready` counts hosts that are healthy, and the play has no `health`",
                None,
            );
        }
        let orders = [
            ("inventory", Order::Inventory),
            ("reverse", Order::Reverse),
            ("random", Order::Random),
        ];
        let manners = [("stop", Unreachable::Stop), ("skip", Unreachable::Skip)];
        Self {
            min_ready,
            canary: section.section("canary").and_then(parse_canary),
            pause: parse_pause(section),
            order: section.choice("order", &orders).unwrap_or_default(),
            unreachable: section.choice("unreachable", &manners).unwrap_or_default(),
            balancer: parse_balancer(section),
        }
    }
}

fn parse_canary(section: Section<'_>) -> Option<Canary> {
    let count = section.integer("count", 1..=1_000_000);
    let hosts = section.strings("hosts");
    let watch = section
        .parse::<document::Duration>("watch")
        .map_or(Duration::ZERO, |entry| entry.value.0);
    let hosts = match (count, hosts.is_empty()) {
        (Some(count), true) => Some(CanaryHosts::Count(usize::try_from(count.value).ok()?)),
        (None, false) => Some(CanaryHosts::Named(hosts)),
        _ => {
            let hint = "canary = { count = 1, watch = \"5m\" }";
            section.error(
                "a canary is given by exactly one of `count` and `hosts`",
                Some(hint.to_owned()),
            );
            None
        }
    };
    section.finish();
    Some(Canary {
        hosts: hosts?,
        watch,
    })
}

fn parse_pause(section: &Section<'_>) -> Option<Pause> {
    let entry = section.string("pause")?;
    if entry.value == "confirm" {
        return Some(Pause::Confirm);
    }
    match entry.value.parse::<document::Duration>() {
        Ok(duration) => Some(Pause::For(duration.0)),
        Err(_) => {
            section.error_at(
                &entry.location,
                format!("`{}` is no pause", entry.value),
                Some("a time such as \"10m\", or \"confirm\"".to_owned()),
            );
            None
        }
    }
}

fn parse_balancer(section: &Section<'_>) -> Option<Balancer> {
    if !section.is_table("balancer") {
        return Some(Balancer {
            hosts: section.string("balancer")?,
            socket: SOCKET.to_owned(),
            state_file: STATE_FILE.to_owned(),
            within: DRAIN_WITHIN,
        });
    }
    let section = section.section("balancer")?;
    let hosts = section.require_string("hosts");
    let path = |key: &str, default: &str| {
        let entry = section.string(key);
        if let Some(wrong) = entry.as_ref().filter(|one| !one.value.starts_with('/')) {
            let message = format!("`{key}` is an absolute path");
            section.error_at(&wrong.location, message, None);
        }
        entry.map_or_else(|| default.to_owned(), |entry| entry.value)
    };
    let socket = path("socket", SOCKET);
    let state_file = path("state_file", STATE_FILE);
    let within = section
        .parse::<document::Duration>("within")
        .map_or(DRAIN_WITHIN, |entry| entry.value.0);
    section.finish();
    Some(Balancer {
        hosts: hosts?,
        socket,
        state_file,
        within,
    })
}
