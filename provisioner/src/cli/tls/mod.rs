//! `provision tls`: a certificate authority for an environment, certificates for its hosts and for
//! programs that send to it.
//!
//! Goes in: an environment. Comes out: certificates in `tls/`, keys among the encrypted secrets.
//! Invariant: a private key is never written in clear, nor printed.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

mod alerts;
mod rotate;

use super::OutputArgs;
use super::secret::{SecretArgs, Store, say};
use crate::document::{Diagnostics, Name, replace_file};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, FleetHost};
use crate::report::{OutputFormat, print, print_json, render_table};
use crate::secret::Redactor;
use crate::tls::{
    Certificates, Issued, authority_path, certificates_in, client_path, host_path, issue,
    make_authority, valid_until,
};

/// The secret that holds the authority's key; that of a host is `tls.HOST`.
const AUTHORITY_KEY: &str = "tls-authority";

const DAY: Duration = Duration::from_secs(86_400);

/// The commands below `tls`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum TlsCommand {
    /// Make the authority of an environment, once
    Init(InitArgs),
    /// Make certificates for hosts that have none, or one that ends soon
    Issue(IssueArgs),
    /// Make new certificates and bring them to the hosts, one after the other
    Rotate(rotate::RotateArgs),
    /// Show when certificates end (exit 2: one is missing or ends soon)
    Status(StatusArgs),
    /// Print rules for Prometheus that tell when certificates end soon
    Alerts(alerts::AlertsArgs),
}

/// Arguments of `tls init`.
#[derive(Debug, Clone, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `tls issue`.
#[derive(Debug, Clone, Args)]
pub(super) struct IssueArgs {
    /// These hosts or groups, whether they need one or not
    #[arg(value_name = "HOST|GROUP")]
    hosts: Vec<String>,
    /// For how many days a certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
    /// Renew those that end within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    within: u32,
    /// One for a program outside, which sends to the platform; its key is the secret tls.NAME
    #[arg(long, value_name = "NAME", conflicts_with = "hosts")]
    client: Option<Name>,
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `tls status`.
#[derive(Debug, Clone, Args)]
pub(super) struct StatusArgs {
    /// What ends within so many days ends soon
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    within: u32,
    #[command(flatten)]
    common: SecretArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl TlsCommand {
    pub(super) const fn output(&self) -> OutputFormat {
        match self {
            Self::Status(args) => args.output.output,
            Self::Rotate(args) => args.output(),
            Self::Init(_) | Self::Issue(_) | Self::Alerts(_) => OutputFormat::Text,
        }
    }
}

pub(super) async fn run(command: TlsCommand) -> Result<ExitCode> {
    match command {
        TlsCommand::Rotate(args) => rotate::run(args).await,
        TlsCommand::Alerts(args) => alerts::run(&args),
        TlsCommand::Init(args) => init(&args),
        TlsCommand::Issue(args) => issue_all(&args),
        TlsCommand::Status(args) => status(&args),
    }
}

fn init(args: &InitArgs) -> Result<ExitCode> {
    let mut store = Store::open(&args.common)?;
    let env = store.environment.name.clone();
    let file = authority_path(&env);
    let key = key_name(None)?;
    let known = store
        .file()?
        .is_some_and(|file| file.values.contains_key(&key));
    if known || store.project.root().join(&file).exists() {
        let message = format!("environment `{env}` has an authority already");
        return Err(Error::usage(message)
            .hint("every certificate would have to be issued again; if that is meant, take out its file and its key first"));
    }
    let authority = make_authority(&env)?;
    // The key first: a certificate without its key would be in the way of another attempt.
    store.put(&[(key, authority.key.expose().to_owned())], &[])?;
    write(store.project.root(), &file, &authority.certificate)?;
    say(&format!(
        "{} is the authority of {env}; its key is the secret {AUTHORITY_KEY}",
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn issue_all(args: &IssueArgs) -> Result<ExitCode> {
    let mut store = Store::open(&args.common)?;
    let fleet = fleet(&store)?;
    if let Some(client) = &args.client {
        return issue_client(&mut store, &fleet, client, args.days);
    }
    let names = fleet.limited(&args.hosts)?;
    let soon = SystemTime::now() + DAY * args.within;
    let needs = |host: &&FleetHost| {
        let known = fleet.certificates.hosts.get(host.name());
        let ends = known.and_then(|certificate| valid_until(certificate));
        names.iter().any(|name| name == host.name())
            && (!args.hosts.is_empty() || ends.is_none_or(|ends| ends < soon))
    };
    let hosts: Vec<&FleetHost> = fleet.hosts.iter().filter(needs).collect();
    if hosts.is_empty() {
        let _ = authority(&store, &fleet)?;
        say("every host has a certificate that is good for long enough");
        return Ok(ExitCode::SUCCESS);
    }
    issue_for(&mut store, &fleet, &hosts, args.days)?;
    Ok(ExitCode::SUCCESS)
}

/// The authority that signs, with its key.
fn authority(store: &Store, fleet: &Fleet) -> Result<Issued> {
    let env = &fleet.environment.name;
    let bundle = fleet.certificates.ca.as_deref().unwrap_or_default();
    let certificate = certificates_in(bundle).next().ok_or_else(|| {
        Error::usage(format!("environment `{env}` has no authority"))
            .hint(format!("`provision tls init --env {env}` makes one"))
    })?;
    let Some(file) = store.file()? else {
        return Err(Error::usage(format!(
            "the secret {AUTHORITY_KEY} is missing"
        )));
    };
    Ok(Issued {
        certificate,
        key: store.decrypt(&file, &key_name(None)?)?.into(),
    })
}

/// Makes certificates for hosts; the keys are stored before any certificate is.
fn issue_for(store: &mut Store, fleet: &Fleet, hosts: &[&FleetHost], days: u32) -> Result<()> {
    let env = &fleet.environment.name;
    let authority = authority(store, fleet)?;
    let mut issued = Vec::new();
    let mut keys = Vec::new();
    for host in hosts {
        let mut names = vec![
            host.name().to_owned(),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        names.extend(host.host.address.clone());
        // Whoever balances over a group may know it by that name only.
        names.extend(host.groups.iter().map(ToString::to_string));
        names.dedup();
        let made = issue(&authority, host.name(), &names, DAY * days)?;
        keys.push((key_name(Some(host.name()))?, made.key.expose().to_owned()));
        issued.push((host.name(), made));
    }
    store.put(&keys, &[])?;
    for (host, made) in &issued {
        let file = host_path(env, host);
        write(store.project.root(), &file, &made.certificate)?;
        say(&format!("{host}: {}", file.display()));
    }
    Ok(())
}

fn issue_client(store: &mut Store, fleet: &Fleet, client: &Name, days: u32) -> Result<ExitCode> {
    let env = &fleet.environment.name;
    if fleet
        .hosts
        .iter()
        .any(|host| host.name() == client.as_str())
    {
        let message = format!("`{client}` is a host of environment `{env}`");
        return Err(Error::usage(message).hint("take another name for the program that sends"));
    }
    let made = issue(
        &authority(store, fleet)?,
        client.as_str(),
        &[client.to_string()],
        DAY * days,
    )?;
    let key = key_name(Some(client.as_str()))?;
    store.put(&[(key.clone(), made.key.expose().to_owned())], &[])?;
    let file = client_path(env, client.as_str());
    write(store.project.root(), &file, &made.certificate)?;
    say(&format!(
        "{client}: {}; its key is the secret {key}",
        file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn fleet(store: &Store) -> Result<Fleet> {
    let diagnostics = Diagnostics::default();
    let environment = store.environment.name.as_str();
    let fleet = store.project.fleet(environment, &[], &diagnostics)?;
    diagnostics.into_result()?;
    Ok(fleet)
}

/// The name of the secret that holds a key: `tls-authority`, or `tls.HOST`.
fn key_name(host: Option<&str>) -> Result<Name> {
    let text = host.map_or_else(|| AUTHORITY_KEY.to_owned(), |host| format!("tls.{host}"));
    text.parse().map_err(|what: String| {
        Error::configuration(what)
            .hint("a secret for its key begins with `tls.`: shorten the name of the host")
    })
}

fn write(root: &Path, file: &Path, text: &str) -> Result<()> {
    let path = root.join(file);
    let wrap = |error: std::io::Error| {
        Error::controller(format!("{} cannot be written", file.display())).caused_by(error)
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrap)?;
    }
    replace_file(&path, text).map_err(wrap)
}

/// What is shown of a certificate.
#[derive(Debug, Serialize)]
struct Row {
    /// The host or the program outside; none for the authority.
    host: Option<String>,
    /// When it ends, in RFC 3339.
    until: Option<String>,
    days_left: Option<u64>,
    /// `valid`, `ends-soon`, `ended` or `missing`.
    state: &'static str,
}

fn status(args: &StatusArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let fleet = fleet(&store)?;
    let Certificates { ca, hosts, clients } = &fleet.certificates;
    let mut rows = vec![row(None, ca.as_deref(), args.within)];
    for host in &fleet.hosts {
        let certificate = hosts.get(host.name()).map(String::as_str);
        rows.push(row(Some(host.name()), certificate, args.within));
    }
    for (client, certificate) in clients {
        rows.push(row(Some(client), Some(certificate), args.within));
    }
    let good = rows.iter().all(|row| row.state == "valid");
    if args.output.output == OutputFormat::Json {
        print_json(&Redactor::default(), &rows)?;
    } else {
        let cells = |row: &Row| {
            let days = row.days_left.map(|days| format!("{days} days"));
            vec![
                row.host.clone().unwrap_or_else(|| "(authority)".to_owned()),
                row.state.to_owned(),
                row.until.clone().unwrap_or_else(|| "-".to_owned()),
                days.unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        let header = ["HOST", "STATE", "UNTIL", "LEFT"];
        print(&Redactor::default(), &render_table(&header, &rows))?;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn row(host: Option<&str>, certificate: Option<&str>, within: u32) -> Row {
    let until = certificate.and_then(valid_until);
    let left = until.map(|until| until.duration_since(SystemTime::now()).ok());
    let state = match left {
        None => "missing",
        Some(None) => "ended",
        Some(Some(left)) if left < DAY * within => "ends-soon",
        Some(Some(_)) => "valid",
    };
    Row {
        host: host.map(ToOwned::to_owned),
        until: until.map(|until| humantime::format_rfc3339_seconds(until).to_string()),
        days_left: left.flatten().map(|left| left.as_secs() / DAY.as_secs()),
        state,
    }
}
