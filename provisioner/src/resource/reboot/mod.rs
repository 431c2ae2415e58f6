//! A reboot of the host, where something needs one.
//!
//! Goes in: `reboot = { on, if_required, within }`. Comes out: the host in another boot, after one of
//! the paths of `on` has changed, or where the distribution says that it must be rebooted. Invariant:
//! the boot that follows a change settles it, whoever rebooted the host; so a second run does nothing.
//!
//! - `on`: paths that other resources put something at, and that take effect with a boot;
//! - `if_required`: also while `/run/reboot-required` is there, as packages leave it;
//! - `within`: how long the host may take until it answers again, 10 minutes unless given, at most an
//!   hour.

use std::time::Duration;

use provision_protocol::REBOOT_UNIT;
use provision_protocol::fact::{Fact, Query, RebootFact, RebootQuery, query};
use provision_protocol::operation::{Debt, Owed, Reboot, operation};

use super::change::{Action, Change, Detail, Refusal};
use super::{HostContext, Kind, Observed, Resource, Spec, fact};
use crate::document::{self, Entry, Location, Section};

/// How long a host may take when the playbook does not say.
const WITHIN: Duration = Duration::from_secs(600);
/// The longest time that can be given; a host puts nothing back by itself after a longer one.
const MAX_WITHIN: Duration = Duration::from_secs(3600);

pub(super) const KIND: Kind = Kind {
    name: "reboot",
    summary: "a reboot of the host, awaited, where something that changed needs one",
    parse: |section| Some(Box::new(RebootSpec::parse(section)?)),
};

#[derive(Debug)]
struct RebootSpec {
    on: Vec<Entry<String>>,
    if_required: bool,
    within: Duration,
}

impl RebootSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let on = section.strings("on");
        let if_required = section.boolean("if_required").unwrap_or(false);
        let within = section.parse::<document::Duration>("within");
        if let Some(wrong) = within
            .as_ref()
            .filter(|within| within.value.0 > MAX_WITHIN || within.value.0.is_zero())
        {
            section.error_at(
                &wrong.location,
                "a host is given between a second and an hour to reboot",
                None,
            );
            return None;
        }
        if on.is_empty() && !if_required {
            let hint = "on = [\"/path/that/changes\"], or if_required = true";
            section.error(
                "a reboot needs a reason: `on` or `if_required`",
                Some(hint.to_owned()),
            );
            return None;
        }
        Some(Self {
            on,
            if_required,
            within: within.map_or(WITHIN, |within| within.value.0),
        })
    }
}

impl Spec for RebootSpec {
    fn debts(&self) -> Vec<(String, Location, Debt)> {
        let debt = |entry: &Entry<String>| {
            let debt = Debt {
                unit: REBOOT_UNIT.to_owned(),
                owed: Owed::Restart as i32,
            };
            (entry.value.clone(), entry.location.clone(), debt)
        };
        self.on.iter().map(debt).collect()
    }

    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(RebootResource {
            on: self.on.iter().map(|entry| entry.value.clone()).collect(),
            if_required: self.if_required,
            within: self.within,
        }))
    }
}

/// The resource that reboots a host. It is rebooted in one place: with two it would have to be known
/// which one is meant.
pub(crate) const REBOOT: &str = "reboot";

#[derive(Debug)]
struct RebootResource {
    on: Vec<String>,
    if_required: bool,
    within: Duration,
}

impl RebootResource {
    /// Why the host is rebooted, where it is.
    fn reason(&self, fact: &RebootFact, observed: &Observed<'_>) -> Option<String> {
        let changed = |path: &&String| observed.changed_paths.contains(*path);
        if let Some(path) = self.on.iter().find(changed) {
            return Some(format!("{path} changes"));
        }
        if fact.owed {
            return Some("what an earlier run changed waits for it".to_owned());
        }
        if !self.if_required || !fact.required {
            return None;
        }
        Some(match fact.packages.as_slice() {
            [] => "/run/reboot-required is there".to_owned(),
            packages => format!("/run/reboot-required names {}", packages.join(", ")),
        })
    }
}

impl Resource for RebootResource {
    fn id(&self) -> &str {
        REBOOT
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query {
            kind: Some(query::Kind::Reboot(RebootQuery {})),
        }]
    }

    fn diff(&self, facts: &[Fact], observed: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let fact = fact::reboot(facts, 0)?;
        let mut change = Change::new(Action::Run);
        // All that follows is looked at in the new boot.
        change.opaque = true;
        change.irreversible = true;
        let within = humantime::format_duration(self.within);
        match self.reason(fact, observed) {
            Some(why) => {
                change.details.push(Detail::Note(format!(
                    "because {why}; it must answer again within {within}"
                )));
                change.step(operation::Kind::Reboot(Reboot {
                    boot_id: observed.hello.boot_id.clone(),
                    within_millis: u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX),
                }));
            }
            None if self.if_required && observed.after_opaque => {
                change.details.push(Detail::Note(format!(
                    "only if /run/reboot-required is there by then; it must answer again within \
                     {within}"
                )));
            }
            None => return Ok(None),
        }
        Ok(Some(change))
    }
}
