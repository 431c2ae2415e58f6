//! The host key that a machine shows.
//!
//! Goes in: an [`Endpoint`]. Comes out: its public host key, proven by the handshake of OpenSSH.
//! Invariant: no account is logged in to, and nothing that is learnt here is kept.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;

use super::{Endpoint, SshAgent};
use crate::error::{Error, Result};

/// How long the handshake may take beside the connection itself.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

impl SshAgent {
    /// The key that a host shows, as `ssh-ed25519 AAAA…`. The way there (jumps, proxies, ports) is
    /// that of every run. `algorithms` says which kind it shall show, in OpenSSH's words.
    ///
    /// # Errors
    /// It cannot be reached, or has no key of that kind.
    pub async fn scan(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        algorithms: Option<&str>,
    ) -> Result<String> {
        let folder = tempfile::tempdir().map_err(|error| {
            Error::controller("a temporary folder cannot be made").caused_by(error)
        })?;
        let learnt = folder.path().join("known_hosts");
        let mut command = self.handshake(endpoint, &learnt);
        if let Some(algorithms) = algorithms {
            command.args(["-o", &format!("HostKeyAlgorithms={algorithms}")]);
        }
        command.args(["--", &endpoint.name, "true"]);
        let deadline = endpoint.connect_timeout + HANDSHAKE_TIMEOUT;
        let output = match tokio::time::timeout(deadline, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(Error::controller("ssh cannot be run").caused_by(error));
            }
            Err(_) => {
                let host = self.host(endpoint.clone());
                return Err(host.explain("the handshake did not end in time"));
            }
        };
        let text = std::fs::read_to_string(&learnt).unwrap_or_default();
        let key = text.lines().find_map(|line| {
            let (_, key) = line.split_once(' ')?;
            (!line.starts_with('#')).then(|| key.trim().to_owned())
        });
        key.ok_or_else(|| {
            let words = String::from_utf8_lossy(&output.stderr);
            self.host(endpoint.clone()).explain(&words)
        })
    }

    /// An `ssh` that learns a host key, and then has no way to log in.
    fn handshake(&self, endpoint: &Endpoint, learnt: &Path) -> Command {
        let mut command = Command::new("ssh");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .arg("-F")
            .arg(self.config());
        let timeout = endpoint.connect_timeout.as_secs().max(1);
        for option in [
            format!("ConnectTimeout={timeout}"),
            format!("UserKnownHostsFile={}", learnt.display()),
            format!("HostKeyAlias={}", endpoint.name),
            "GlobalKnownHostsFile=none".to_owned(),
            "KnownHostsCommand=none".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "VerifyHostKeyDNS=no".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "HashKnownHosts=no".to_owned(),
            "CheckHostIP=no".to_owned(),
            "PreferredAuthentications=none".to_owned(),
            "ControlMaster=no".to_owned(),
            "ControlPath=none".to_owned(),
            "PermitLocalCommand=no".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}
