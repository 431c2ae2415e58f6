//! `provision tls rotate`: new certificates, rolled through the fleet.
//!
//! Goes in: an environment with certificates. Comes out: hosts with new ones. Invariant: no host
//! shows a certificate before all that it talks to trust who signed it, and an authority is
//! forgotten only when no host shows a certificate of it; a rotation that was interrupted is
//! finished by the next.
//!
//! Each step is an `apply`: hosts change as their plays say, and programs take new certificates
//! without a restart. What they trust, they have read again before the next step.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::super::apply::{self, ApplyArgs};
use super::super::secret::{SecretArgs, Store, say};
use super::{authority_path, fleet, issue_for, key_name, write};
use crate::error::{Error, Result};
use crate::fleet::FleetHost;
use crate::report::OutputFormat;
use crate::tls::{certificates_in, is_issued_by, make_authority};

/// Arguments of `tls rotate`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RotateArgs {
    /// Replace the authority as well: hosts trust both until none shows the old one's certificate
    #[arg(long)]
    authority: bool,
    /// For how many days a certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
    /// How long programs may take to read certificates again, between the steps of an authority's
    /// replacement: more than `reload_interval` of the collectors
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    settle: Duration,
    #[command(flatten)]
    apply: ApplyArgs,
}

impl RotateArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.apply.output()
    }
}

pub(super) async fn run(args: RotateArgs) -> Result<ExitCode> {
    let common = SecretArgs::of(&args.apply.fleet);
    let bundle = bundle(&common)?;
    if !args.authority && bundle.len() == 1 {
        issue_anew(&common, &args, |_| true)?;
        return apply::run(args.apply).await;
    }
    if !args.apply.fleet.limit.is_empty() {
        return Err(Error::usage("an authority is replaced on all hosts")
            .hint("leave out --limit: every host must trust the new one first"));
    }
    if bundle.len() == 1 {
        begin(&common, &bundle[0])?;
    } else {
        say("going on with the replacement of the authority that an earlier run began");
    }
    // Every host trusts the new one before any shows a certificate of it.
    let code = apply::run(args.apply.clone()).await?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    tokio::time::sleep(args.settle).await;
    let new = current(&common)?;
    wait_for_clients(&common, &new)?;
    issue_anew(&common, &args, |certificate| {
        !is_issued_by(certificate, &new)
    })?;
    let code = apply::run(args.apply.clone()).await?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    tokio::time::sleep(args.settle).await;
    end(&common, &new)?;
    apply::run(args.apply).await
}

/// Programs outside must trust both authorities before a host shows a certificate of the new one,
/// and show one of it themselves before the old one is forgotten. Only people can see to that.
fn wait_for_clients(common: &SecretArgs, new: &str) -> Result<()> {
    let store = Store::open(common)?;
    let certificates = fleet(&store)?.certificates.clients;
    let old: Vec<&str> = certificates
        .iter()
        .filter(|(_, certificate)| !is_issued_by(certificate, new))
        .map(|(client, _)| client.as_str())
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let env = &store.environment.name;
    Err(Error::usage(format!(
        "hosts trust both authorities, and show certificates of the old one until these programs have new ones: {}",
        old.join(", ")
    ))
    .hint(format!(
        "`provision tls issue --env {env} --client NAME` makes them; when each program has its own and trusts all of tls/{env}/ca.pem, run this again"
    )))
}

/// The authorities that are trusted; the first one signs.
fn bundle(common: &SecretArgs) -> Result<Vec<String>> {
    let store = Store::open(common)?;
    let known = fleet(&store)?.certificates.ca.unwrap_or_default();
    let bundle: Vec<String> = certificates_in(&known).collect();
    if bundle.is_empty() {
        let env = &store.environment.name;
        return Err(
            Error::usage(format!("environment `{env}` has no authority"))
                .hint(format!("`provision tls init --env {env}` makes one")),
        );
    }
    Ok(bundle)
}

fn current(common: &SecretArgs) -> Result<String> {
    Ok(bundle(common)?.remove(0))
}

/// The new authority stands first, and signs; the old one is trusted still.
fn begin(common: &SecretArgs, old: &str) -> Result<()> {
    let mut store = Store::open(common)?;
    let env = store.environment.name.clone();
    let authority = make_authority(&env)?;
    let both = format!("{}{old}", authority.certificate);
    store.put(&[(key_name(None)?, authority.key.expose().to_owned())], &[])?;
    write(store.project.root(), &authority_path(&env), &both)?;
    say(&format!("{env} has a new authority, and trusts both"));
    Ok(())
}

fn end(common: &SecretArgs, new: &str) -> Result<()> {
    let store = Store::open(common)?;
    let env = &store.environment.name;
    write(store.project.root(), &authority_path(env), new)?;
    say(&format!("{env} trusts its new authority only"));
    Ok(())
}

/// Makes certificates for the hosts of which the old one is to be replaced.
fn issue_anew(
    common: &SecretArgs,
    args: &RotateArgs,
    replaced: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut store = Store::open(common)?;
    let fleet = fleet(&store)?;
    let names = fleet.limited(&args.apply.fleet.limit)?;
    let due = |host: &&FleetHost| {
        let known = fleet.certificates.hosts.get(host.name());
        names.iter().any(|name| name == host.name()) && known.is_none_or(|known| replaced(known))
    };
    let hosts: Vec<&FleetHost> = fleet.hosts.iter().filter(due).collect();
    if hosts.is_empty() {
        return Ok(());
    }
    issue_for(&mut store, &fleet, &hosts, args.days)
}
