//! One play: a group of hosts, what they shall be, and how carefully they are brought there.
//!
//! Goes in: a `[[play]]` table. Comes out: a [`Play`]. Invariant: a batch has at least one host.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pace::Pace;
use crate::document::{self, Entry, Location, Name, Section, Source, suggestion};
use crate::plan::removal::REMOVAL;
use crate::resource::{KINDS, Spec};

/// How long a host may take to become healthy, when the play does not say.
const HEALTH_WITHIN: Duration = Duration::from_secs(30);

/// One play.
#[derive(Debug)]
pub struct Play {
    /// Its name; that of its group when not given.
    pub name: Name,
    /// The group whose hosts it is for.
    pub hosts: Entry<String>,
    /// The sizes of its batches, growing; the last one repeats.
    pub serial: Vec<BatchSize>,
    /// How many hosts may fail before it stops.
    pub max_fail: usize,
    /// How carefully it is rolled out beside that.
    pub pace: Pace,
    /// What must be healthy on a host before the next batch is begun.
    pub health: Vec<Health>,
    /// The ports at which its hosts serve others.
    pub ports: Vec<OpenPort>,
    /// What its hosts shall be, in order.
    pub resources: Vec<PlannedResource>,
    /// Where it is described.
    pub location: Location,
}

/// A port at which the hosts of a play serve others.
#[derive(Clone, Debug)]
pub struct OpenPort {
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The groups whose hosts it is for; everybody's where there is none.
    pub from: Vec<Entry<String>>,
}

/// A resource as it stands in a play.
#[derive(Debug)]
pub struct PlannedResource {
    /// What it is, before it is resolved for a host.
    pub spec: Box<dyn Spec>,
    /// Where it is described.
    pub location: Location,
}

/// How many hosts are done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// This many.
    Hosts(usize),
    /// This share of the group, rounded up.
    Percent(usize),
}

/// Something that must be healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `http://…`, `tcp://host:port` or `unit:NAME`, seen from the host itself.
    pub target: String,
    /// How long it may take.
    pub within: Duration,
}

impl BatchSize {
    /// The number of hosts out of a group of this size.
    #[must_use]
    pub fn of(self, group: usize) -> usize {
        match self {
            Self::Hosts(count) => count.max(1),
            Self::Percent(percent) => (group * percent).div_ceil(100).max(1),
        }
    }
}

impl std::fmt::Display for BatchSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hosts(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Play {
    pub(super) fn parse(section: Section<'_>) -> Option<Self> {
        let hosts = section.require_string("hosts");
        let name = section.parse::<Name>("name").map(|entry| entry.value);
        let serial = parse_serial(&section);
        let max_fail = section
            .integer("max_fail", 0..=1_000_000)
            .map_or(0, |entry| entry.value);
        let pace = Pace::parse(&section);
        let mut health: Vec<Health> = if section.is_table("health") {
            section
                .section("health")
                .into_iter()
                .filter_map(parse_health)
                .collect()
        } else {
            section
                .sections("health")
                .into_iter()
                .filter_map(parse_health)
                .collect()
        };
        health.dedup();
        let ports = section
            .sections("ports")
            .into_iter()
            .filter_map(parse_port)
            .collect();
        let resources = section
            .sections("resource")
            .into_iter()
            .filter_map(parse_resource)
            .collect();
        let location = section.location();
        let hosts = hosts?;
        if let Err(message) = hosts.value.parse::<Name>() {
            let hint = Some("a play is for one group; write one for each".to_owned());
            section.error_at(&hosts.location, message, hint);
        }
        let name = name.or_else(|| hosts.value.parse().ok());
        section.finish();
        let name = name?;
        Some(Self {
            name,
            hosts,
            serial,
            max_fail: usize::try_from(max_fail).unwrap_or(0),
            pace,
            health,
            ports,
            resources,
            location,
        })
    }

    /// The play of what no play asks for any more: one host first, then all others.
    #[must_use]
    pub fn of_removals() -> Self {
        let location = Source::new("playbooks".to_owned(), String::new()).locate(0..0);
        Self {
            name: Name::of_ours(REMOVAL),
            hosts: Entry {
                value: String::new(),
                location: location.clone(),
            },
            serial: vec![BatchSize::Hosts(1), BatchSize::Percent(100)],
            max_fail: 0,
            pace: Pace::default(),
            health: Vec::new(),
            ports: Vec::new(),
            resources: Vec::new(),
            location,
        }
    }

    /// Each key that says how carefully it is rolled out, in words; what is not said is left out.
    #[must_use]
    pub fn manner(&self) -> BTreeMap<String, String> {
        let mut words = self.pace.words();
        let sizes: Vec<String> = self.serial.iter().map(ToString::to_string).collect();
        words.push(("serial", (!sizes.is_empty()).then(|| sizes.join(", "))));
        words.push(("max_fail", Some(self.max_fail.to_string())));
        let health: Vec<String> = self
            .health
            .iter()
            .map(|health| {
                let within = humantime::format_duration(health.within);
                format!("{} within {within}", health.target)
            })
            .collect();
        words.push(("health", (!health.is_empty()).then(|| health.join(", "))));
        let said = words.into_iter();
        said.filter_map(|(key, words)| Some((key.to_owned(), words?)))
            .collect()
    }

    /// How many of `count` hosts are in a batch, by the number of batches before it.
    #[must_use]
    pub fn batch_size(&self, batches_before: usize, count: usize) -> usize {
        let size = self.serial.get(batches_before).or(self.serial.last());
        size.map_or(count.max(1), |size| size.of(count))
    }
}

fn parse_port(section: Section<'_>) -> Option<OpenPort> {
    section.require(
        "port",
        Some("ports = [{ port = 4317, from = [\"balancers\"] }]"),
    );
    let port = section.integer("port", 1..=65_535);
    let protocol = section.choice("protocol", &[("tcp", "tcp"), ("udp", "udp")]);
    let from = section.strings("from");
    section.finish();
    Some(OpenPort {
        port: u16::try_from(port?.value).ok()?,
        protocol: protocol.unwrap_or("tcp"),
        from,
    })
}

fn parse_serial(section: &Section<'_>) -> Vec<BatchSize> {
    let entries = section.scalars("serial");
    let sizes = entries
        .iter()
        .filter_map(|entry| parse_size(section, entry));
    sizes.collect()
}

pub(super) fn parse_size(section: &Section<'_>, entry: &Entry<String>) -> Option<BatchSize> {
    let size = match entry.value.strip_suffix('%') {
        Some(percent) => percent
            .parse()
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .map(BatchSize::Percent),
        None => entry
            .value
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .map(BatchSize::Hosts),
    };
    if size.is_none() {
        section.error_at(
            &entry.location,
            format!("`{}` is no number of hosts", entry.value),
            Some("a number above 0, or a share such as \"50%\"".to_owned()),
        );
    }
    size
}

fn parse_health(section: Section<'_>) -> Option<Health> {
    let http = section.string("http");
    let tcp = section.string("tcp");
    let unit = section.string("unit");
    let within = section
        .parse::<document::Duration>("within")
        .map_or(HEALTH_WITHIN, |entry| entry.value.0);
    if let Some(wrong) = http
        .as_ref()
        .filter(|http| !http.value.starts_with("http://"))
    {
        section.error_at(
            &wrong.location,
            "a health check speaks plain HTTP to the host itself",
            Some("for instance http://127.0.0.1:13133/health".to_owned()),
        );
    }
    if let Some(wrong) = tcp.as_ref().filter(|tcp| {
        let port = tcp
            .value
            .rsplit_once(':')
            .map(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        port != Some(true)
    }) {
        section.error_at(
            &wrong.location,
            format!("`{}` is not a host and a port", wrong.value),
            Some("for instance 127.0.0.1:4317".to_owned()),
        );
    }
    let mut targets: Vec<String> = [
        http.map(|entry| entry.value),
        tcp.map(|entry| format!("tcp://{}", entry.value)),
        unit.map(|entry| format!("unit:{}", entry.value)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let target = if targets.len() == 1 {
        targets.pop()
    } else {
        None
    };
    if target.is_none() {
        section.error(
            "a health check is exactly one of `http`, `tcp` and `unit`",
            None,
        );
    }
    section.finish();
    Some(Health {
        target: target?,
        within,
    })
}

fn parse_resource(section: Section<'_>) -> Option<PlannedResource> {
    let location = section.location();
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let name = match section.one_key(&names) {
        Ok(name) => name,
        Err(Some(key)) => {
            let hint = suggestion(&key.value, names);
            let message = format!("unknown kind of resource `{}`", key.value);
            section.error_at(&key.location, message, hint);
            return None;
        }
        Err(None) => {
            let hint = "[[play.resource]] file = { path = \"/etc/motd\", content = \"…\" }";
            section.error("a resource has exactly one kind", Some(hint.to_owned()));
            return None;
        }
    };
    let kind = KINDS.iter().find(|kind| kind.name == name)?;
    let body = section.section(&name)?;
    let spec = (kind.parse)(&body);
    body.finish();
    Some(PlannedResource {
        spec: spec?,
        location,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(serial: Vec<BatchSize>) -> Play {
        Play {
            name: "a".parse().unwrap(),
            hosts: Entry {
                value: "a".into(),
                location: crate::document::Source::new(String::new(), String::new()).locate(0..0),
            },
            serial,
            max_fail: 0,
            pace: Pace::default(),
            health: Vec::new(),
            ports: Vec::new(),
            resources: Vec::new(),
            location: crate::document::Source::new(String::new(), String::new()).locate(0..0),
        }
    }

    #[test]
    fn batches_grow_and_the_last_size_repeats() {
        let sizes = |serial| {
            let play = play(serial);
            let (mut left, mut sizes) = (7, Vec::new());
            while left > 0 {
                sizes.push(play.batch_size(sizes.len(), 7).min(left));
                left -= sizes.last().unwrap();
            }
            sizes
        };
        assert_eq!(sizes(vec![]), [7]);
        assert_eq!(sizes(vec![BatchSize::Hosts(1)]), [1; 7]);
        assert_eq!(
            sizes(vec![BatchSize::Hosts(1), BatchSize::Percent(50)]),
            [1, 4, 2]
        );
        assert_eq!(sizes(vec![BatchSize::Percent(1)]), [1; 7]);
    }
}
