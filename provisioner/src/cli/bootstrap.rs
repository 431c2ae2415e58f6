//! `provision bootstrap`: the operator's access to new machines, made with the access that their
//! provider gave.
//!
//! In: `[ssh]`, which names the account, and `[ssh.bootstrap]`, which names the one that is there.
//! Out: hosts with the account, its keys and its right to be root. Invariant: a host puts back by
//! itself an access that does not let in whoever made it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use provision_protocol::fact::{FileQuery, FileType, Query, fact_kind, query};
use serde_json::Map;

use super::apply::{carry_out, check_consent, confirm, finish, report};
use super::context::RunContext;
use super::plan::{refused, unreachable};
use super::{FleetArgs, LockArgs};
use crate::document::Diagnostics;
use crate::error::{Error, Result};
use crate::fleet::FleetHost;
use crate::host::{Endpoint, FirstContact, Helpers, Host, SshAgent};
use crate::inventory::Become;
use crate::plan::bootstrap::{Access, Account};
use crate::plan::{HostDesired, PlayDesired};
use crate::playbook::Play;
use crate::report::{Events, HostOutcome, Outcome, OutputFormat, Progress, Report};
use crate::report::{print, render_plans};
use crate::resource::{Artifacts, HostContext};
use crate::rollout::{RunOptions, observe};
use crate::template::{SharedVariables, Templates};

/// The largest `authorized_keys` that a key is added to, in bytes.
const KEYS_LIMIT_BYTES: u64 = 256 * 1024;

/// Arguments of `bootstrap`.
#[derive(Debug, Clone, Args)]
pub(super) struct BootstrapArgs {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    lock: LockArgs,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
}

impl BootstrapArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.fleet.output.output
    }
}

pub(super) async fn run(args: BootstrapArgs) -> Result<ExitCode> {
    let mut context = RunContext::load(&args.fleet)?;
    let (progress, events) = Progress::start(&args.fleet.output, &context.redactor);
    let result = bootstrap(&mut context, &args, events).await;
    progress.finish().await;
    let report = result.map_err(|error| context.redact(error))?;
    finish(&context, &args.fleet.output, &report)
}

/// A host with the access that it shall give.
struct Newcomer {
    host: FleetHost,
    access: Access,
    contact: FirstContact,
}

async fn bootstrap(
    context: &mut RunContext,
    args: &BootstrapArgs,
    events: Events,
) -> Result<Report> {
    let started = Instant::now();
    check_consent(args.yes, args.output(), "--yes bootstraps without asking")?;
    context.open_audit_log()?;
    context.attach_labs(false, &events)?;
    let newcomers = newcomers(context, &args.fleet.limit)?;
    let mut options = context.options(&args.fleet, events);
    // What it puts on a host belongs to no playbook: `apply` leaves it there, as does `destroy`.
    // No name has a blank, so no environment is called like that.
    options.environment = format!("{} bootstrap", options.environment);
    options.keepers = BTreeSet::new();
    options.lock_timeout = args.lock.lock_timeout;
    let (play, hosts) = desired(context, &newcomers, args.fleet.forks).await?;
    let names = newcomers.iter().map(|one| one.host.name().to_owned());
    let plays = [(play, names.collect())];
    let mut observation = observe(hosts, true, &options).await;
    if !observation.failures.is_empty() {
        let failures = std::mem::take(&mut observation.failures);
        observation.close().await;
        return Err(unreachable(failures));
    }
    let plans = observation.plans();
    let changes = plans.iter().any(|plan| !plan.is_empty());
    if args.output() == OutputFormat::Text && changes {
        Progress::clear(&options.events).await;
        print(
            &context.redactor,
            &render_plans(&plans, args.fleet.output.verbose),
        )?;
    }
    let agreed = if plans.iter().any(|plan| !plan.refusals.is_empty()) {
        Err(refused(&plans))
    } else if changes && !args.yes {
        confirm("Apply these changes?")
    } else {
        Ok(())
    };
    let outcomes = carry_out(agreed, observation, &plays, &options).await;
    let mut outcomes = outcomes?;
    prove(&newcomers, &mut outcomes, &options).await;
    Ok(report(context, &options, outcomes, started))
}

/// The hosts for which a provider's access is known, each by both ways.
fn newcomers(context: &RunContext, limits: &[String]) -> Result<Vec<Newcomer>> {
    let names = context.fleet.limited(limits)?;
    let wanted = |host: &&FleetHost| {
        let named = names.iter().any(|name| name == host.name());
        named && !host.host.local && host.host.ssh.bootstrap.is_some()
    };
    let hosts: Vec<&FleetHost> = context.fleet.hosts.iter().filter(wanted).collect();
    if hosts.is_empty() {
        let message = "no host says how it is reached for the first time";
        return Err(Error::configuration(message).hint(
            "write into the inventory what the provider gave: [ssh.bootstrap] user = \"root\"",
        ));
    }
    check_jumps(&hosts)?;
    let (mut own, mut given, mut access) = (Vec::new(), Vec::new(), Vec::new());
    for host in &hosts {
        access.push(access_to(host)?);
        own.push(Endpoint::of(host, &context.secrets)?);
        given.extend(Endpoint::of_provider(host, &context.secrets)?);
    }
    let helpers = Helpers::load()?;
    let by_own = SshAgent::prepare(&context.with_bastions(&own)?, helpers.clone())?;
    let by_given = SshAgent::prepare(&context.with_bastions(&given)?, helpers)?;
    let ways = own.into_iter().zip(given);
    let ways = ways.map(|(own, given)| FirstContact::new(by_own.host(own), by_given.host(given)));
    let hosts = hosts.into_iter().cloned().zip(access).zip(ways);
    let newcomer = |((host, access), contact)| Newcomer {
        host,
        access,
        contact,
    };
    Ok(hosts.map(newcomer).collect())
}

/// A host that others are reached through cannot be made together with them: its own account lets
/// nobody in before.
fn check_jumps(hosts: &[&FleetHost]) -> Result<()> {
    for host in hosts {
        let name = host.name();
        let jump = host.host.ssh.jump.as_deref();
        let leads = |other: &&&FleetHost| other.name() != name && jump == Some(other.name());
        if let Some(bastion) = hosts.iter().find(leads) {
            let bastion = bastion.name();
            let message =
                format!("{name} is reached through {bastion}, which is to be bootstrapped itself");
            let hint = format!("first `--limit {bastion}`, then the rest");
            return Err(Error::usage(message).hint(hint));
        }
    }
    Ok(())
}

/// The account that `[ssh]` names, with the keys that it is to be let in with.
fn access_to(host: &FleetHost) -> Result<Access> {
    let ssh = &host.host.ssh;
    let refuse = |what: &str, hint: &str| {
        let error = Error::configuration(format!("host {}: {what}", host.name()));
        let place = format!("it is described at {}", host.host.location);
        error.caused_by(place).hint(hint)
    };
    let Some(user) = ssh.user.clone() else {
        let what = "[ssh] names no account that could be made";
        return Err(refuse(what, "[ssh] user = \"deploy\""));
    };
    // The rule that it gets is for sudo, and asks for no password.
    if user != "root" && ssh.becoming != Become::Sudo {
        let what = format!(
            "[ssh] has become = \"{}\", and bootstrap makes a way to root by sudo alone",
            ssh.becoming.word()
        );
        return Err(refuse(
            &what,
            "[ssh] become = \"sudo\", or make the account by hand",
        ));
    }
    if user != "root" && ssh.become_password.is_some() {
        let what = "[ssh] become_password asks for what bootstrap does without";
        let hint = "leave become_password out, or make the account by hand";
        return Err(refuse(what, hint));
    }
    let bootstrap = ssh.bootstrap.as_ref();
    let mut keys: Vec<String> = bootstrap
        .map(|bootstrap| bootstrap.authorized_keys.clone())
        .unwrap_or_default();
    if let Some(identity) = &ssh.identity {
        match public_key_of(identity) {
            Ok(key) => keys.push(key),
            // Keys that are named are enough.
            Err(_) if !keys.is_empty() => {}
            Err(error) => {
                let hint = format!("`ssh-keygen -y -f {identity} > {identity}.pub` writes it");
                return Err(
                    refuse("the public key of [ssh] identity is missing", &hint).caused_by(error)
                );
            }
        }
    }
    if keys.is_empty() {
        let what = "there is no key that its account could be let in with";
        let hint = "[ssh] identity = \"~/.ssh/id_ed25519\", or [ssh.bootstrap] authorized_keys = [\"ssh-ed25519 AAAA…\"]";
        return Err(refuse(what, hint));
    }
    Ok(Access { user, keys })
}

/// The public key beside a private one.
fn public_key_of(identity: &str) -> Result<String, String> {
    let path = match (identity.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest).display().to_string(),
        _ => identity.to_owned(),
    };
    // With a key that only an agent has, OpenSSH is given the public one.
    let path = match path.strip_suffix(".pub") {
        Some(_) => path,
        None => format!("{path}.pub"),
    };
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim().to_owned())
}

/// What every host shall have, which depends on what the account has there already.
async fn desired(
    context: &RunContext,
    newcomers: &[Newcomer],
    forks: usize,
) -> Result<(Play, Vec<(Box<dyn Host>, HostDesired)>)> {
    let accounts: Vec<Result<Account>> = stream::iter(newcomers)
        .map(|one| look_at(&one.contact, &one.access.user))
        .buffered(forks)
        .collect()
        .await;
    let mut failures = Vec::new();
    let mut hosts: Vec<(Box<dyn Host>, HostDesired)> = Vec::new();
    let mut play = None;
    let diagnostics = Diagnostics::default();
    let templates = Templates::load(context.project().root(), &diagnostics)?;
    let none = SharedVariables::new(Map::new());
    for (one, account) in newcomers.iter().zip(accounts) {
        let account = match account {
            Ok(account) => account,
            Err(error) => {
                failures.push((one.host.name().to_owned(), error));
                continue;
            }
        };
        let Some(own) = one.access.play(&account, &diagnostics) else {
            continue;
        };
        let about = HostContext {
            fleet: &context.fleet,
            host: &one.host,
            variables: &none.for_host(Map::new()),
            templates: &templates,
            artifacts: &Artifacts::default(),
            redactor: &context.redactor,
            debts: &BTreeMap::new(),
            diagnostics: &diagnostics,
        };
        let resources = own.resources.iter();
        let resources =
            resources.filter_map(|planned| planned.spec.resolve(&planned.location, &about));
        let plays = vec![PlayDesired {
            play: own.name.clone(),
            resources: resources.collect(),
            health: Vec::new(),
        }];
        let desired = HostDesired {
            plays,
            ..HostDesired::without_plays(one.host.clone())
        };
        hosts.push((Box::new(one.contact.clone()), desired));
        play = Some(own);
    }
    if !failures.is_empty() {
        return Err(unreachable(failures));
    }
    diagnostics.into_result()?;
    match play {
        Some(play) => Ok((play, hosts)),
        None => Err(Error::configuration("there is no host to bootstrap")),
    }
}

/// What a host has of an account.
async fn look_at(contact: &FirstContact, user: &str) -> Result<Account> {
    let unknown = |what: &str| Error::host(format!("{}: {what}", contact.name()));
    let mut conversation = contact.connect(&[]).await?;
    let query = |kind| vec![Query { kind: Some(kind) }];
    let facts = conversation.ask(query(query::Kind::User(user.to_owned())));
    let found = facts.await?.into_iter().find_map(|fact| fact.kind);
    let Some(fact_kind::Kind::User(found)) = found else {
        return Err(unknown("its accounts cannot be read"));
    };
    let mut account = Account::default();
    if found.exists {
        let path = Account::keys_path(&found.home);
        let facts = conversation.ask(query(query::Kind::File(FileQuery {
            path: path.clone(),
            text_limit_bytes: KEYS_LIMIT_BYTES,
            known_sha256: Vec::new(),
        })));
        let keys = facts.await?.into_iter().find_map(|fact| fact.kind);
        account.authorized_keys = match keys {
            Some(fact_kind::Kind::File(file)) if file.file_type() == FileType::Absent => {
                String::new()
            }
            Some(fact_kind::Kind::File(file)) if file.text.is_some() => {
                file.text.unwrap_or_default()
            }
            _ => {
                return Err(unknown(&format!(
                    "{path} cannot be read, so no key is added"
                )));
            }
        };
        account.home = Some(found.home);
    }
    conversation.close().await;
    Ok(account)
}

/// Gets into every host by its own account; one that does not let it in has failed, also where
/// nothing had to be changed.
async fn prove(newcomers: &[Newcomer], outcomes: &mut [HostOutcome], options: &RunOptions) {
    if options.interrupt.has_come() {
        return;
    }
    let well = |outcome: &Outcome| matches!(outcome, Outcome::Unchanged | Outcome::Changed);
    let proofs = outcomes.iter_mut().filter(|one| well(&one.outcome));
    stream::iter(proofs)
        .for_each_concurrent(options.forks.max(1), |outcome| async {
            let newcomer = newcomers.iter().find(|one| one.host.name() == outcome.host);
            let Some(newcomer) = newcomer else { return };
            match newcomer.contact.connect_anew().await {
                Ok(conversation) => conversation.close().await,
                Err(error) => {
                    let text = error.to_string();
                    let text = text.strip_prefix("error: ").unwrap_or(&text);
                    outcome.outcome = Outcome::Failed;
                    outcome.failure = Some(format!("[ssh] does not get in: {text}"));
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::fixtures;

    const GIVEN: &str = "bootstrap = { user = \"root\", authorized_keys = \"ssh-ed25519 AAAA\" }";

    fn fleet(inventory: &str) -> Vec<FleetHost> {
        let diagnostics = Diagnostics::default();
        let inventory = format!("provider = \"on-prem\"\n[ssh]\n{GIVEN}\n{inventory}");
        let fleet = fixtures::fleet_of(&inventory, &diagnostics);
        diagnostics.into_result().unwrap();
        fleet.hosts
    }

    fn access(ssh: &str) -> Result<Access> {
        let host = "[groups.a.hosts.one]\naddress = \"10.0.0.1\"\n";
        access_to(&fleet(&format!("{ssh}\n{host}"))[0])
    }

    #[test]
    fn an_account_that_it_could_not_make_root_is_refused() {
        let doas = access("user = \"deploy\"\nbecome = \"doas\"").unwrap_err();
        insta::assert_snapshot!(doas, @r#"
        error: host one: [ssh] has become = "doas", and bootstrap makes a way to root by sudo alone
          cause: it is described at test.toml:6:17
          hint: [ssh] become = "sudo", or make the account by hand
        "#);
        let asks = "user = \"deploy\"\nbecome_password = \"sudo\"";
        insta::assert_snapshot!(access(asks).unwrap_err(), @"
        error: host one: [ssh] become_password asks for what bootstrap does without
          cause: it is described at test.toml:6:17
          hint: leave become_password out, or make the account by hand
        ");
        for fine in ["user = \"deploy\"", "user = \"root\"\nbecome = \"never\""] {
            let _ = access(fine).unwrap();
        }
    }

    #[test]
    fn a_bastion_comes_before_the_hosts_behind_it() {
        let hosts = fleet(
            "user = \"deploy\"\n\
             [groups.a.hosts]\n\
             behind = { address = \"10.0.0.1\", ssh.jump = \"jump-1\" }\n\
             beside = { address = \"10.0.0.2\", ssh.jump = \"elsewhere\" }\n\
             jump-1 = { address = \"10.0.0.3\" }\n",
        );
        let hosts: Vec<&FleetHost> = hosts.iter().collect();
        insta::assert_snapshot!(check_jumps(&hosts).unwrap_err(), @"
        error: behind is reached through jump-1, which is to be bootstrapped itself
          hint: first `--limit jump-1`, then the rest
        ");
        check_jumps(&hosts[..2]).unwrap();
        check_jumps(&hosts[1..]).unwrap();
    }
}
