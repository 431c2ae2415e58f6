//! How to reach a lab's hosts: the files that OpenSSH reads, and ready commands.
//!
//! In: a lab's record and keys. Out: `known_hosts`, a configuration for `ssh -F`, and commands.
//!
//! Invariant: host keys are pinned from the lab's own files; nothing is ever learnt by scanning.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::Command;

use super::error::LabError;
use super::name::{HostName, LabName};
use super::record::{LabDirectory, Record, replace_file};
use super::tree::public_key;

/// What a connection from outside the lab's namespace goes through.
pub(super) fn proxy_command(lab: &LabDirectory) -> String {
    format!("nsenter --net={} nc %h %p", lab.namespace_path().display())
}

/// Writes `known_hosts` and the configuration for all hosts of the record.
pub(super) fn write_files(lab: &LabDirectory, record: &Record) -> Result<(), LabError> {
    let mut known_hosts = String::new();
    let mut config = String::new();
    for host in &record.spec.hosts {
        let Some(address) = host.address else {
            continue;
        };
        let key = public_key(&lab.host_key(&host.name))?;
        // Writing to a String does not fail.
        let _ = writeln!(known_hosts, "{},{address} {key}", host.name);
        let _ = writeln!(
            config,
            "Host {} {address}\n    HostName {address}",
            host.name
        );
    }
    let _ = write!(
        config,
        "Host *
    User root
    IdentityFile {identity}
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    UpdateHostKeys no
    ConnectTimeout 10
    ProxyCommand {proxy}
",
        identity = lab.identity().display(),
        known_hosts = lab.known_hosts().display(),
        proxy = proxy_command(lab),
    );
    replace_file(&lab.known_hosts(), known_hosts.as_bytes(), 0o644)?;
    replace_file(&lab.ssh_config(), config.as_bytes(), 0o644)
}

/// An `ssh` into a host: a shell, or a command when words are given.
///
/// # Errors
/// When there is no such lab or host.
pub fn ssh_command<W: AsRef<OsStr>>(
    name: &LabName,
    host: &HostName,
    user: Option<&str>,
    words: impl IntoIterator<Item = W>,
) -> Result<Command, LabError> {
    let lab = LabDirectory::of(name);
    lab.read_existing()?.host(host)?;
    let mut command = Command::new("ssh");
    command.arg("-F").arg(lab.ssh_config());
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    command.arg(host.as_str()).arg("--").args(words);
    Ok(command)
}

/// A program that runs on this machine, but inside the lab's network.
///
/// # Errors
/// When there is no such lab.
pub fn exec_command<W: AsRef<OsStr>>(
    name: &LabName,
    words: impl IntoIterator<Item = W>,
) -> Result<Command, LabError> {
    let lab = LabDirectory::of(name);
    lab.read_existing()?;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", lab.namespace_path().display()))
        .arg("--")
        .args(words);
    Ok(command)
}
