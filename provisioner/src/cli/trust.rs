//! `provision trust`: show the host keys that machines have, and pin them in the inventory.
//!
//! Goes in: hosts. Comes out: their keys, compared with those that are pinned, and the inventory
//! with the new ones. Invariant: a key is pinned only after somebody agreed to that very key.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::apply::confirm;
use super::{OutputArgs, ProjectArgs, default_forks, parse_forks};
use crate::document::{Diagnostics, replace_file};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, FleetHost, Project};
use crate::host::{Endpoint, Helpers, SshAgent};
use crate::inventory::{Provider, pin_host_key};
use crate::report::{OutputFormat, print, print_json, render_table};
use crate::secret::{Redactor, Secrets};

/// Arguments of `trust`.
#[derive(Debug, Clone, Args)]
pub(super) struct TrustArgs {
    /// Hosts or groups; all without
    #[arg(value_name = "HOST|GROUP")]
    hosts: Vec<String>,
    /// The environment: a file environments/NAME.toml
    #[arg(long, short, value_name = "NAME", env = "PROVISION_ENV")]
    env: String,
    /// Only show and compare (exit 1 where a key is new or another one)
    #[arg(long, conflicts_with = "yes")]
    check: bool,
    /// Draw each key, as `ssh-keygen -lv` does
    #[arg(long)]
    randomart: bool,
    /// Also pin keys that differ from those that are pinned: the machine was rebuilt
    #[arg(long)]
    replace: bool,
    /// Pin without asking: the network is trusted this once
    #[arg(long)]
    yes: bool,
    /// How many hosts are asked at once
    #[arg(long, value_name = "N", default_value_t = default_forks(), value_parser = parse_forks)]
    forks: usize,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

/// How the key of a host compares with what is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum KeyState {
    /// It is the one that is pinned.
    Pinned,
    /// None is pinned.
    New,
    /// Another one is pinned.
    Changed,
    /// The host cannot be asked.
    Unreachable,
}

/// What is shown of a host.
#[derive(Debug, Serialize)]
struct HostKey {
    host: String,
    address: String,
    state: KeyState,
    key: Option<String>,
    fingerprint: Option<String>,
    error: Option<String>,
    #[serde(skip)]
    inventory: String,
}

impl TrustArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.output.output
    }
}

pub(super) async fn run(args: TrustArgs) -> Result<ExitCode> {
    let project = Project::find(args.project.project.as_deref())?;
    let diagnostics = Diagnostics::default();
    let fleet = project.fleet(&args.env, &[], &diagnostics)?;
    diagnostics.into_result()?;
    let endpoints = endpoints(&fleet, &args.hosts)?;
    let mut keys = ask_all(endpoints, args.forks).await?;
    keys.sort_by(|a, b| a.host.cmp(&b.host));
    let json = args.output.output == OutputFormat::Json;
    if json {
        print_json(&Redactor::default(), &keys)?;
    } else {
        print(&Redactor::default(), &render(&keys, args.randomart)?)?;
    }
    let wanted = |key: &&HostKey| match key.state {
        KeyState::New => true,
        KeyState::Changed => args.replace,
        KeyState::Pinned | KeyState::Unreachable => false,
    };
    let pins: Vec<&HostKey> = keys.iter().filter(wanted).collect();
    let changed = keys.iter().filter(|key| key.state == KeyState::Changed);
    let changed: Vec<&str> = changed.map(|key| key.host.as_str()).collect();
    if !changed.is_empty() && !args.replace {
        return Err(Error::host(format!("another key than the one that is pinned: {}", changed.join(", ")))
            .caused_by("nothing was pinned")
            .hint("someone may stand in between; if the machine was rebuilt, compare the key on it, then --replace"));
    }
    if args.check || (json && !args.yes) {
        return Ok(verdict(pins.is_empty() && all_reached(&keys)));
    }
    if !pins.is_empty() {
        if !args.yes {
            confirm(&question(&pins))?;
        }
        pin(&project, &pins)?;
    }
    Ok(verdict(all_reached(&keys)))
}

fn all_reached(keys: &[HostKey]) -> bool {
    keys.iter().all(|key| key.state != KeyState::Unreachable)
}

fn verdict(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn question(pins: &[&HostKey]) -> String {
    let count = pins.len();
    let noun = if count == 1 { "this key" } else { "these keys" };
    format!(
        "On each machine, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints its fingerprint.\nAre they equal, and shall {noun} be pinned?"
    )
}

/// The hosts that have a key to be pinned: reached through SSH, and not made by a lab.
fn endpoints(fleet: &Fleet, limits: &[String]) -> Result<Vec<(Endpoint, String)>> {
    let names = fleet.limited(limits)?;
    // Nobody is logged in, so a placeholder stands for every secret.
    let secrets = Secrets::placeholders(&fleet.environment.secrets);
    let mut endpoints = Vec::new();
    let is_asked = |host: &&FleetHost| {
        let is_lab = matches!(fleet.provider(host), Some(Provider::Lab(_)));
        names.iter().any(|name| name == host.name()) && !host.host.local && !is_lab
    };
    for host in fleet.hosts.iter().filter(is_asked) {
        endpoints.push((Endpoint::of(host, &secrets)?, host.inventory.to_string()));
    }
    if endpoints.is_empty() {
        return Err(Error::usage("none of these hosts has a host key to pin")
            .hint("the hosts of a lab are known to it, and this machine needs no SSH"));
    }
    Ok(endpoints)
}

async fn ask_all(endpoints: Vec<(Endpoint, String)>, forks: usize) -> Result<Vec<HostKey>> {
    let all: Vec<Endpoint> = endpoints.iter().map(|(one, _)| one.clone()).collect();
    let agent = SshAgent::prepare(&all, Helpers::default())?;
    let asking = endpoints.into_iter().map(|(endpoint, inventory)| {
        let agent = Arc::clone(&agent);
        async move { ask(&agent, &endpoint, inventory).await }
    });
    Ok(futures_util::stream::iter(asking)
        .buffer_unordered(forks)
        .collect()
        .await)
}

async fn ask(agent: &Arc<SshAgent>, endpoint: &Endpoint, inventory: String) -> HostKey {
    let pinned: Vec<String> = endpoint.host_keys.iter().map(|key| bare(key)).collect();
    let algorithms = algorithms(&pinned);
    let mut shown = agent.scan(endpoint, algorithms.as_deref()).await;
    if shown.is_err() && algorithms.is_some() {
        // It may have no key of the pinned kind any more; then it shows another one.
        shown = agent.scan(endpoint, None).await;
    }
    let mut host = HostKey {
        host: endpoint.name.clone(),
        address: endpoint.address.clone(),
        state: KeyState::Unreachable,
        key: None,
        fingerprint: None,
        error: None,
        inventory,
    };
    match shown {
        Ok(key) => {
            let key = bare(&key);
            host.state = if pinned.is_empty() {
                KeyState::New
            } else if pinned.contains(&key) {
                KeyState::Pinned
            } else {
                KeyState::Changed
            };
            host.fingerprint = fingerprint(&key);
            host.key = Some(key);
        }
        Err(error) => {
            let words = [vec![error.message], error.causes].concat();
            host.error = Some(words.join(": "));
        }
    }
    host
}

/// The key without a comment.
fn bare(key: &str) -> String {
    let words: Vec<&str> = key.split_whitespace().take(2).collect();
    words.join(" ")
}

/// The kinds of the pinned keys, in OpenSSH's words; nothing where none is pinned.
fn algorithms(pinned: &[String]) -> Option<String> {
    let kinds: Vec<&str> = pinned
        .iter()
        .filter_map(|key| key.split(' ').next())
        .map(|kind| match kind {
            "ssh-rsa" => "rsa-sha2-512,rsa-sha2-256",
            other => other,
        })
        .collect();
    (!kinds.is_empty()).then(|| kinds.join(","))
}

/// `SHA256:…`, as OpenSSH writes it.
fn fingerprint(key: &str) -> Option<String> {
    let blob = key.split_whitespace().nth(1)?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(blob)
        .ok()?;
    let hash = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(bytes));
    Some(format!("SHA256:{hash}"))
}

fn render(keys: &[HostKey], randomart: bool) -> Result<String> {
    let row = |key: &HostKey| {
        let kind = key.key.as_ref().and_then(|key| key.split(' ').next());
        let state = match key.state {
            KeyState::Pinned => "pinned",
            KeyState::New => "new",
            KeyState::Changed => "NOT THE ONE THAT IS PINNED",
            KeyState::Unreachable => "unreachable",
        };
        vec![
            key.host.clone(),
            key.address.clone(),
            state.to_owned(),
            kind.unwrap_or("-").to_owned(),
            key.fingerprint.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    let header = ["HOST", "ADDRESS", "KEY", "KIND", "FINGERPRINT"];
    let mut text = render_table(&header, &rows);
    for key in keys {
        if let Some(error) = &key.error {
            text.push_str(&format!("{}: {}\n", key.host, error.replace('\n', "; ")));
        }
        if let (true, Some(public)) = (randomart, &key.key) {
            text.push_str(&format!("{}\n{}", key.host, draw(public)?));
        }
    }
    Ok(text)
}

/// The picture of a key, from OpenSSH itself.
fn draw(key: &str) -> Result<String> {
    let wrap =
        |error: std::io::Error| Error::controller("ssh-keygen cannot be run").caused_by(error);
    let mut child = Command::new("ssh-keygen")
        .args(["-lv", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(wrap)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.as_bytes()).map_err(wrap)?;
    }
    let output = child.wait_with_output().map_err(wrap)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let picture: Vec<&str> = text.lines().skip(1).collect();
    Ok(format!("{}\n", picture.join("\n")))
}

fn pin(project: &Project, pins: &[&HostKey]) -> Result<()> {
    let mut inventories: BTreeMap<&str, Vec<&HostKey>> = BTreeMap::new();
    for key in pins {
        inventories.entry(&key.inventory).or_default().push(key);
    }
    for (inventory, keys) in inventories {
        let file = format!("inventories/{inventory}.toml");
        let path = project.root().join(&file);
        let wrap = |what: &str, error: std::io::Error| {
            Error::controller(format!("{file} cannot be {what}")).caused_by(error)
        };
        let mut text = std::fs::read_to_string(&path).map_err(|error| wrap("read", error))?;
        for key in &keys {
            let public = key.key.as_deref().unwrap_or_default();
            text = pin_host_key(&text, &key.host, public).ok_or_else(|| {
                Error::configuration(format!(
                    "{file} does not describe host {} in a table of its own",
                    key.host
                ))
                .hint(format!(
                    "write it: hosts.{} = {{ address = \"{}\", host_key = \"{public}\" }}",
                    key.host, key.address
                ))
            })?;
        }
        replace_file(Path::new(&path), &text).map_err(|error| wrap("written", error))?;
        let names: Vec<&str> = keys.iter().map(|key| key.host.as_str()).collect();
        let _ = writeln!(
            anstream::stderr().lock(),
            "pinned in {file}: {}",
            names.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ssh-keygen -lf` prints it for this key.
    #[test]
    fn a_fingerprint_is_the_one_of_openssh() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(
            fingerprint(key).unwrap(),
            "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
        );
        assert!(draw(key).unwrap().contains("SHA256"));
        assert_eq!(fingerprint("nonsense"), None);
    }

    #[test]
    fn a_host_is_asked_for_the_kind_of_key_that_is_pinned() {
        assert_eq!(algorithms(&[]), None);
        let pinned = ["ssh-rsa AAAA".to_owned(), "ssh-ed25519 AAAA".to_owned()];
        assert_eq!(
            algorithms(&pinned).unwrap(),
            "rsa-sha2-512,rsa-sha2-256,ssh-ed25519"
        );
    }
}
