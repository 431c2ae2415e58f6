//! A program that is run: the last resort.
//!
//! Goes in: `command = { run, creates | unless, timeout }`. Comes out: the program, run unless it
//! has been done. Invariant: a command without something that tells that it is done is refused.

use provision_protocol::fact::{CommandQuery, Fact, Query, query};
use provision_protocol::operation::{RunCommand, operation};

use super::attributes::parse_arguments;
use super::change::{Action, Change, Detail, Refusal};
use super::{HostContext, Kind, Observed, Resource, Spec, fact};
use crate::document::{Duration, Location, Section};

/// How long a program may run when the playbook does not say, in seconds.
const TIMEOUT_SECONDS: u32 = 300;

pub(super) const KIND: Kind = Kind {
    name: "command",
    summary: "a program that is run unless it has been done; the last resort",
    parse: |section| Some(Box::new(CommandSpec::parse(section)?)),
};

#[derive(Clone, Debug)]
struct CommandSpec {
    arguments: Vec<String>,
    done: CommandQuery,
    timeout_seconds: u32,
}

impl CommandSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        let arguments = parse_arguments(section, "run");
        let creates = section
            .string("creates")
            .map(|entry| entry.value)
            .unwrap_or_default();
        let unless = parse_arguments(section, "unless");
        let timeout = section
            .parse::<Duration>("timeout")
            .map(|entry| entry.value.0.as_secs().max(1));
        if arguments.is_empty() {
            section.error(
                "`run` is missing",
                Some("run = [\"program\", \"argument\"]".to_owned()),
            );
            return None;
        }
        if creates.is_empty() == unless.is_empty() {
            section.error(
                "a command needs exactly one of `creates` and `unless` to tell that it is done",
                Some(
                    "creates = \"/path\", or unless = \"program that exits 0 when it is done\""
                        .to_owned(),
                ),
            );
            return None;
        }
        let timeout_seconds = timeout.map_or(TIMEOUT_SECONDS, |seconds| {
            u32::try_from(seconds).unwrap_or(u32::MAX)
        });
        Some(Self {
            arguments,
            done: CommandQuery { creates, unless },
            timeout_seconds,
        })
    }
}

impl Spec for CommandSpec {
    fn resolve(&self, _: &Location, _: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        Some(Box::new(Command {
            id: format!("command {}", self.arguments.join(" ")),
            spec: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct Command {
    id: String,
    spec: CommandSpec,
}

impl Resource for Command {
    fn id(&self) -> &str {
        &self.id
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query {
            kind: Some(query::Kind::Command(self.spec.done.clone())),
        }]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        if fact::command(facts, 0)?.done {
            return Ok(None);
        }
        let mut change = Change::new(Action::Run);
        change.opaque = true;
        change.irreversible = true;
        change
            .details
            .push(Detail::Note(match self.spec.done.creates.as_str() {
                "" => format!(
                    "`{}` says that it is not done",
                    self.spec.done.unless.join(" ")
                ),
                path => format!("{path} does not exist"),
            }));
        change.step(operation::Kind::RunCommand(RunCommand {
            arguments: self.spec.arguments.clone(),
            timeout_seconds: self.spec.timeout_seconds,
            done: Some(self.spec.done.clone()),
        }));
        Ok(Some(change))
    }
}
