//! Hosts behind OpenSSH.
//!
//! Goes in: endpoints. Comes out: one generated `ssh_config` for all of them, and conversations.
//! Invariant: host keys are always checked, and nothing ever asks on the terminal.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use tempfile::TempDir;

use super::conversation::Transport;
use super::launch::script;
use super::{BoxFuture, Conversation, Endpoint, Helpers, Host};
use crate::error::{Error, ErrorKind, Result};

/// How long the handshake may take beside the connection itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection outlives a run that was killed before it could end it.
const IDLE_SECONDS: NonZeroUsize = NonZeroUsize::new(30).unwrap();

/// How often a connection that is silent is asked for a sign of life.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// OpenSSH's files for one run: the configuration, the pinned keys and the control sockets.
#[derive(Debug)]
pub struct SshAgent {
    folder: TempDir,
    helpers: Helpers,
}

impl SshAgent {
    /// Writes the files for these hosts.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn prepare(endpoints: &[Endpoint], helpers: Helpers) -> Result<Arc<Self>> {
        let wrap = |error: std::io::Error| {
            Error::controller("the files for ssh cannot be written").caused_by(error)
        };
        // A control socket's path has 108 bytes at most, so its folder stands near the root.
        let folder = tempfile::Builder::new()
            .prefix("provision-")
            .tempdir_in("/tmp")
            .map_err(wrap)?;
        let known_hosts = folder.path().join("known_hosts");
        std::fs::write(&known_hosts, pinned_keys(endpoints)).map_err(wrap)?;
        let config = ssh_config(endpoints, &known_hosts);
        std::fs::write(folder.path().join("config"), config).map_err(wrap)?;
        Ok(Arc::new(Self { folder, helpers }))
    }

    /// One of the hosts.
    #[must_use]
    pub fn host(self: &Arc<Self>, endpoint: Endpoint) -> SshHost {
        SshHost {
            agent: Arc::clone(self),
            endpoint,
        }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }
}

/// One host behind OpenSSH.
#[derive(Debug)]
pub struct SshHost {
    agent: Arc<SshAgent>,
    endpoint: Endpoint,
}

impl SshHost {
    async fn run(&self) -> Result<Conversation> {
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .config_file(self.agent.config())
            .control_directory(self.agent.folder.path())
            .control_persist(ControlPersist::IdleFor(IDLE_SECONDS))
            .connect_timeout(self.endpoint.connect_timeout)
            .server_alive_interval(ALIVE_INTERVAL);
        let connecting = builder.connect_mux(&self.endpoint.name);
        let deadline = self.endpoint.connect_timeout + HANDSHAKE_TIMEOUT;
        let session = match tokio::time::timeout(deadline, connecting).await {
            Ok(Ok(session)) => Arc::new(session),
            Ok(Err(error)) => return Err(self.explain(&describe(&error))),
            Err(_) => return Err(self.explain("the handshake did not end in time")),
        };
        let transport = self.execute(session).await?;
        Conversation::begin(transport, &self.agent.helpers, &self.endpoint).await
    }

    async fn execute(&self, session: Arc<Session>) -> Result<Transport> {
        let command = script(&self.agent.helpers, &self.endpoint);
        let mut child = Session::to_raw_command(Arc::clone(&session), command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .await
            .map_err(|error| self.explain(&describe(&error)))?;
        let (stdin, stdout, stderr) = (
            child.stdin().take(),
            child.stdout().take(),
            child.stderr().take(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(self.explain("a stream of the execution is missing"));
        };
        let agent = Arc::clone(&self.agent);
        Ok(Transport {
            reader: Box::new(stdout),
            writer: Box::new(stdin),
            stderr: Box::new(stderr),
            closer: Box::new(move || {
                Box::pin(async move {
                    let _ = child.wait().await;
                    if let Some(session) = Arc::into_inner(session) {
                        let _ = session.close().await;
                    }
                    // The control sockets stand in its folder, so it goes last.
                    drop(agent);
                })
            }),
        })
    }

    /// OpenSSH's words as an error with a way out.
    pub(super) fn explain(&self, words: &str) -> Error {
        let Endpoint {
            name,
            address,
            described_at,
            ..
        } = &self.endpoint;
        let at = format!("{name} ({address})");
        let has = |text: &str| words.contains(text);
        let (what, hint) = if has("IDENTIFICATION HAS CHANGED") {
            (
                "shows another host key than the one that is pinned",
                format!(
                    "someone may stand in between; if the machine was rebuilt, put its new key in at {described_at}: hosts.{name} = {{ host_key = \"…\" }}"
                ),
            )
        } else if has("host key is known") || has("Host key verification failed") {
            (
                "shows a host key that is not known",
                format!(
                    "`provision trust {name} --env …` shows it and pins it at {described_at}, once you have compared it on the machine"
                ),
            )
        } else if has("Permission denied") {
            (
                "does not let this account in",
                "is the key in its authorized_keys, and the user right? [ssh] user, identity"
                    .to_owned(),
            )
        } else if has("Could not resolve") {
            (
                "has an address that does not resolve",
                format!("correct `address` at {described_at}"),
            )
        } else {
            (
                "cannot be reached",
                format!(
                    "is it up, and its sshd? `ssh {address}` by hand shows more; --limit leaves hosts out; it is described at {described_at}"
                ),
            )
        };
        let kind = match what {
            "cannot be reached" => ErrorKind::Unreachable,
            _ => ErrorKind::Host,
        };
        Error::new(kind, format!("{at} {what}"))
            .caused_by(last_words(words))
            .hint(hint)
    }
}

impl Host for SshHost {
    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn connect(&self) -> BoxFuture<'_, Result<Conversation>> {
        Box::pin(self.run())
    }
}

/// The error and all its sources in one text.
fn describe(error: &openssh::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let _ = write!(text, ": {inner}");
        source = inner.source();
    }
    text
}

/// What OpenSSH says that helps nobody: a banner, advice about files of this run alone, and the
/// name that it has for the other end of a proxy.
const EMPTY_WORDS: &[&str] = &[
    "@",
    "remove with:",
    "ssh-keygen -f",
    "Offending ",
    "Add correct host key in ",
    "Please contact your system administrator",
    "Connection to UNKNOWN port",
];

/// The last lines that say something.
fn last_words(words: &str) -> String {
    let empty = |line: &str| EMPTY_WORDS.iter().any(|words| line.starts_with(words));
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !empty(line))
        .collect();
    lines[lines.len().saturating_sub(4)..].join("\n")
}

fn pinned_keys(endpoints: &[Endpoint]) -> String {
    let mut lines = String::new();
    for endpoint in endpoints {
        for key in &endpoint.host_keys {
            let _ = writeln!(lines, "{} {key}", endpoint.name);
        }
    }
    lines
}

/// One block per host; the user's own configuration fills in what they leave out.
fn ssh_config(endpoints: &[Endpoint], known_hosts: &Path) -> String {
    let mut text = String::new();
    for endpoint in endpoints {
        let _ = writeln!(text, "Host {}", endpoint.name);
        let mut option = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name} {value}");
        };
        option("HostName", &endpoint.address);
        if let Some(port) = endpoint.port {
            option("Port", &port.to_string());
        }
        if let Some(user) = &endpoint.user {
            option("User", user);
        }
        if let Some(identity) = &endpoint.identity {
            option("IdentityFile", &format!("\"{identity}\""));
            option("IdentitiesOnly", "yes");
        }
        if let Some(jump) = &endpoint.jump {
            option("ProxyJump", jump);
        }
        if let Some(command) = &endpoint.proxy_command {
            option("ProxyCommand", command);
        }
        if !endpoint.host_keys.is_empty() {
            option("HostKeyAlias", &endpoint.name);
            option("UserKnownHostsFile", &known_hosts.display().to_string());
            option("GlobalKnownHostsFile", "none");
        }
    }
    // No host of this run may be met by a block of the user's with another meaning of BatchMode.
    text.push_str("Host *\n  BatchMode yes\n  ForwardAgent no\n  ForwardX11 no\n  RequestTTY no\n");
    for file in ["~/.ssh/config", "/etc/ssh/ssh_config"] {
        let _ = writeln!(text, "Match all\n  Include {file}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            name: "collector-1".into(),
            described_at: "inventories/on-prem.toml:7:1".into(),
            address: "10.0.1.10".into(),
            local: false,
            port: Some(2222),
            user: Some("deploy".into()),
            identity: None,
            jump: Some("bastion.example.com".into()),
            proxy_command: None,
            host_keys: vec!["ssh-ed25519 AAAA1".into()],
            sudo: true,
            sudo_password: None,
            connect_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_pinned_host_is_checked_against_its_pin_alone() {
        let config = ssh_config(&[endpoint()], Path::new("/tmp/known"));
        insta::assert_snapshot!(config);
        assert_eq!(
            pinned_keys(&[endpoint()]),
            "collector-1 ssh-ed25519 AAAA1\n"
        );
    }
}
