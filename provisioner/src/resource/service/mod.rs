//! A systemd unit: its file, whether it starts at boot, and whether it runs.
//!
//! Goes in: `service = { name, unit, restart_on, reload_on, instead_of, enabled, running }`. Comes
//! out: the unit in that state, and those of `instead_of` stopped and disabled before it starts.
//! Invariant: it is restarted exactly when its unit file or one of the paths of `restart_on`
//! changed, or when an earlier run still owes it a restart.

use provision_protocol::fact::{Fact, Query, UnitFact, query};
use provision_protocol::operation::{
    Adopt, Debt, ManifestKind, Owed, UnitAction, UnitVerb, Validation, operation,
};

use super::change::{Action, Change, Detail, Refusal};
use super::file::ManagedFile;
use super::{Attributes, HostContext, Kind, Observed, Resource, Spec, fact, thing};
use crate::document::{Entry, Location, Section};

/// Where the operator's units live.
const UNIT_FOLDER: &str = "/etc/systemd/system";

pub(super) const KIND: Kind = Kind {
    name: "service",
    summary: "a systemd unit with its file, enabled and running",
    parse: |section| Some(Box::new(ServiceSpec::parse(section)?)),
};

#[derive(Debug)]
struct ServiceSpec {
    unit: String,
    unit_path: String,
    template: Option<Entry<String>>,
    restart_on: Vec<Entry<String>>,
    reload_on: Vec<Entry<String>>,
    instead_of: Vec<String>,
    enabled: bool,
    running: bool,
}

impl ServiceSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let name = section.require_string("name");
        let spec = Self {
            template: section.string("unit"),
            restart_on: section.strings("restart_on"),
            reload_on: section.strings("reload_on"),
            instead_of: section
                .strings("instead_of")
                .into_iter()
                .map(|entry| full_name(entry.value))
                .collect(),
            enabled: section.boolean("enabled").unwrap_or(true),
            running: section.boolean("running").unwrap_or(true),
            unit: String::new(),
            unit_path: String::new(),
        };
        let name = name?;
        let unit = full_name(name.value.clone());
        if spec.instead_of.contains(&unit) {
            section.error_at(
                &name.location,
                "a service cannot run instead of itself",
                None,
            );
        }
        let unit_path = format!("{UNIT_FOLDER}/{unit}");
        Some(Self {
            unit,
            unit_path,
            ..spec
        })
    }
}

/// A unit with the kind that systemd knows it by.
fn full_name(name: String) -> String {
    match name.rsplit_once('.') {
        Some((_, "service" | "timer" | "socket" | "path" | "mount" | "target")) => name,
        _ => format!("{name}.service"),
    }
}

impl Spec for ServiceSpec {
    fn path(&self) -> Option<&str> {
        self.template.as_ref().map(|_| self.unit_path.as_str())
    }

    fn debts(&self) -> Vec<(String, Location, Debt)> {
        let debt = |owed: Owed| Debt {
            unit: self.unit.clone(),
            owed: owed as i32,
        };
        let restarts = self
            .restart_on
            .iter()
            .map(|entry| (entry, debt(Owed::Restart)));
        let reloads = self
            .reload_on
            .iter()
            .map(|entry| (entry, debt(Owed::Reload)));
        let mut debts: Vec<_> = restarts
            .chain(reloads)
            .map(|(entry, debt)| (entry.value.clone(), entry.location.clone(), debt))
            .collect();
        if let Some(template) = &self.template {
            debts.push((
                self.unit_path.clone(),
                template.location.clone(),
                debt(Owed::Restart),
            ));
        }
        debts
    }

    fn resolve(&self, _: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        let file = match &self.template {
            None => None,
            Some(name) => {
                let text = context.templates.render(
                    &name.value,
                    context.variables,
                    &name.location,
                    context.diagnostics,
                )?;
                let path = self.unit_path.clone();
                let attributes = Attributes {
                    owner: "root".to_owned(),
                    group: "root".to_owned(),
                    mode: 0o644,
                };
                let mut file = ManagedFile::new(&path, text, attributes, context);
                file.rendered_from(name);
                file.validation = Some(Validation {
                    path,
                    arguments: ["systemd-analyze", "verify", "--man=no", "{}"]
                        .map(ToOwned::to_owned)
                        .to_vec(),
                });
                Some(file)
            }
        };
        Some(Box::new(Service {
            id: format!("service {}", self.unit.trim_end_matches(".service")),
            unit: self.unit.clone(),
            file,
            restart_on: self
                .restart_on
                .iter()
                .map(|entry| entry.value.clone())
                .collect(),
            reload_on: self
                .reload_on
                .iter()
                .map(|entry| entry.value.clone())
                .collect(),
            instead_of: self.instead_of.clone(),
            enabled: self.enabled,
            running: self.running,
        }))
    }
}

#[derive(Debug)]
struct Service {
    id: String,
    unit: String,
    file: Option<ManagedFile>,
    restart_on: Vec<String>,
    reload_on: Vec<String>,
    instead_of: Vec<String>,
    enabled: bool,
    running: bool,
}

impl Resource for Service {
    fn id(&self) -> &str {
        &self.id
    }

    fn things(&self) -> Vec<Adopt> {
        let file = self.file.iter().map(ManagedFile::thing);
        file.chain([thing(ManifestKind::Unit, &self.unit)])
            .collect()
    }

    fn queries(&self) -> Vec<Query> {
        let unit = |unit: &String| Query {
            kind: Some(query::Kind::Unit(unit.clone())),
        };
        let mut queries = vec![unit(&self.unit)];
        queries.extend(self.file.as_ref().map(ManagedFile::query));
        queries.extend(self.instead_of.iter().map(unit));
        queries
    }

    fn diff(&self, facts: &[Fact], observed: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let unit = fact::unit(facts, 0)?;
        let file = match &self.file {
            Some(file) => file.diff(fact::file(facts, 1)?)?,
            None => None,
        };
        let mut change = file.unwrap_or_else(|| Change::new(Action::Update));
        let writes_unit = !change.changed_paths.is_empty();
        if writes_unit || unit.needs_daemon_reload {
            change.step(self.action("", UnitVerb::DaemonReload));
        }
        if unit.load_state == "masked" && (self.enabled || self.running) {
            return Err(
                Refusal::new(format!("{} is masked by the operator", self.unit)).hint(format!(
                    "`systemctl unmask {}` on the host, or leave it out",
                    self.unit
                )),
            );
        }
        let own = 1 + usize::from(self.file.is_some());
        for (index, other) in self.instead_of.iter().enumerate() {
            self.diff_other(other, fact::unit(facts, own + index)?, &mut change);
        }
        self.diff_enablement(unit, &mut change);
        self.diff_activity(unit, writes_unit, observed, &mut change);
        if change.steps.is_empty() {
            return Ok(None);
        }
        Ok(Some(change))
    }
}

impl Service {
    fn action(&self, unit: &str, verb: UnitVerb) -> operation::Kind {
        operation::Kind::UnitAction(UnitAction {
            unit: unit.to_owned(),
            verb: verb as i32,
        })
    }

    /// Another unit makes way before this one needs its ports.
    fn diff_other(&self, other: &str, unit: &UnitFact, change: &mut Change) {
        let mut note = |what: &str, verb| {
            change.details.push(Detail::Note(format!(
                "{other} is {what}: {} runs instead",
                self.unit
            )));
            change.step(self.action(other, verb));
        };
        if !matches!(unit.active_state.as_str(), "" | "inactive" | "failed") {
            note("stopped", UnitVerb::Stop);
        }
        if matches!(unit.unit_file_state.as_str(), "enabled" | "enabled-runtime") {
            note("disabled", UnitVerb::Disable);
        }
    }

    fn diff_enablement(&self, unit: &UnitFact, change: &mut Change) {
        // `static`, `indirect`, `generated` and the like cannot be switched.
        let state = unit.unit_file_state.as_str();
        let is_enabled = matches!(state, "enabled" | "enabled-runtime");
        let can_switch = matches!(state, "" | "enabled" | "enabled-runtime" | "disabled");
        if is_enabled != self.enabled && can_switch {
            let from = if state.is_empty() { "absent" } else { state };
            let to = if self.enabled { "enabled" } else { "disabled" };
            change.details.push(Detail::changed("at boot", from, to));
            let verb = if self.enabled {
                UnitVerb::Enable
            } else {
                UnitVerb::Disable
            };
            change.step(self.action(&self.unit, verb));
        }
    }

    fn diff_activity(
        &self,
        unit: &UnitFact,
        writes_unit: bool,
        observed: &Observed<'_>,
        change: &mut Change,
    ) {
        let active = unit.active_state.as_str();
        // Between two attempts of a unit that crashes, systemd calls it activating.
        let runs = matches!(active, "active" | "reloading")
            || (active == "activating" && unit.sub_state != "auto-restart");
        if !self.running {
            if runs {
                change.action = Action::Stop;
                change
                    .details
                    .push(Detail::changed("state", active, "inactive"));
                change.step(self.action(&self.unit, UnitVerb::Stop));
            }
            return;
        }
        if !runs {
            if change.action != Action::Create {
                change.action = Action::Start;
            }
            let from = if active.is_empty() { "absent" } else { active };
            change
                .details
                .push(Detail::changed("state", from, "active"));
            // A unit that failed before is brought back by a restart as well as by a start.
            change.step(self.action(&self.unit, UnitVerb::Restart));
            return;
        }
        let changed = |paths: &[String]| {
            paths
                .iter()
                .find(|path| observed.changed_paths.contains(*path))
                .cloned()
        };
        let restart = if writes_unit {
            Some("its unit file changes".to_owned())
        } else if unit.owed() == Owed::Restart {
            Some("an earlier run owes it a restart".to_owned())
        } else {
            changed(&self.restart_on).map(|path| format!("{path} changes"))
        };
        if let Some(why) = restart {
            change.action = Action::Restart;
            change
                .details
                .push(Detail::Note(format!("restarted because {why}")));
            change.step(self.action(&self.unit, UnitVerb::Restart));
            return;
        }
        let reload = if unit.owed() == Owed::Reload {
            Some("an earlier run owes it a reload".to_owned())
        } else {
            changed(&self.reload_on).map(|path| format!("{path} changes"))
        };
        if let Some(why) = reload {
            change.action = Action::Reload;
            change
                .details
                .push(Detail::Note(format!("reloaded because {why}")));
            change.step(self.action(&self.unit, UnitVerb::Reload));
        }
    }
}
