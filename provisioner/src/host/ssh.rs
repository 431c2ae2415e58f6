//! Hosts behind OpenSSH.
//!
//! Goes in: endpoints. Comes out: one generated `ssh_config` for all of them, and conversations.
//! Invariant: host keys are always checked, and nothing ever asks on the terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::{Session, Stdio};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::conversation::Transport;
use super::explain::explain;
use super::launch::script;
use super::master::{self, Master, Password};
use super::{BoxFuture, Conversation, Endpoint, Helpers, Host};
use crate::error::{Error, Result};

/// OpenSSH's files for one run: the configuration and the pinned keys, and the hosts that others
/// are reached through.
#[derive(Debug)]
pub struct SshAgent {
    folder: TempDir,
    helpers: Helpers,
    /// Where control sockets stand.
    sockets: PathBuf,
    /// The user's own configuration, which decides what the inventory leaves out.
    user_config: String,
    /// By what the inventory calls them; all hosts behind one of them share one connection to it.
    bastions: BTreeMap<String, Bastion>,
}

/// A host that others are reached through.
#[derive(Debug)]
struct Bastion {
    master: Master,
    connection: Mutex<Reached>,
}

/// How a bastion was reached.
#[derive(Debug)]
enum Reached {
    /// Not yet.
    No,
    /// By the connection of an earlier run, which may be dead.
    Before,
    /// By a connection of this run.
    Now,
    /// Not at all, for this reason.
    Never(String),
}

impl SshAgent {
    /// Writes the files for these hosts.
    ///
    /// # Errors
    /// The temporary folder cannot be written, or there is no place for control sockets.
    pub fn prepare(endpoints: &[Endpoint], helpers: Helpers) -> Result<Arc<Self>> {
        let wrap = |error: std::io::Error| {
            Error::controller("the files for ssh cannot be written").caused_by(error)
        };
        let folder = tempfile::Builder::new()
            .prefix("provision-")
            .tempdir_in("/tmp")
            .map_err(wrap)?;
        let sockets = master::folder()?;
        let user_config = user_config();
        let config = folder.path().join("config");
        let bastions = bastions(endpoints, &config, &sockets, &user_config);
        let known_hosts = folder.path().join("known_hosts");
        std::fs::write(&known_hosts, pinned_keys(endpoints)).map_err(wrap)?;
        let text = ssh_config(endpoints, &known_hosts, &bastions);
        std::fs::write(config, text).map_err(wrap)?;
        Ok(Arc::new(Self {
            folder,
            helpers,
            sockets,
            user_config,
            bastions,
        }))
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

    fn master(&self, endpoint: &Endpoint) -> Master {
        Master {
            destination: endpoint.name.clone(),
            config: self.config(),
            socket: self.sockets.join(way(endpoint, &self.user_config)),
            connect_timeout: endpoint.connect_timeout,
            keep: endpoint.keep_connection,
            password: endpoint.password.clone().map(|password| Password {
                accounts: accounts(endpoint),
                value: password.value,
            }),
        }
    }
}

/// What OpenSSH may call the account when it asks for its password.
fn accounts(endpoint: &Endpoint) -> String {
    let user = endpoint.user.as_deref().unwrap_or_default();
    // It writes an address small, and an alias as it is.
    let address = endpoint.address.to_ascii_lowercase();
    format!("{user}@{}\n{user}@{address}", endpoint.name)
}

/// A name for the way to a host: all that the inventory and the user's own configuration say.
fn way(endpoint: &Endpoint, user_config: &str) -> String {
    let Endpoint {
        name,
        address,
        port,
        user,
        identity,
        jump,
        proxy_command,
        host_keys,
        ..
    } = endpoint;
    let account = (port, user, identity, host_keys);
    let words = format!(
        "{name:?} {address:?} {account:?} {:?}",
        (jump, proxy_command)
    );
    master::short_name(&[&words, user_config])
}

impl Bastion {
    /// Sees to it that there is a connection; `true` where an earlier run made it. `Err` holds
    /// OpenSSH's words.
    async fn reach(&self) -> std::result::Result<bool, String> {
        let mut reached = self.connection.lock().await;
        if let Reached::No = *reached {
            *reached = if self.master.answers().await {
                Reached::Before
            } else {
                self.make().await
            };
        }
        match &*reached {
            Reached::Never(words) => Err(words.clone()),
            other => Ok(matches!(other, Reached::Before)),
        }
    }

    /// Replaces the connection of an earlier run, unless another host has just had that done.
    async fn renew(&self) {
        let mut reached = self.connection.lock().await;
        if let Reached::Before = *reached {
            if let Some(session) = self.master.found() {
                self.master.retire(session).await;
            }
            *reached = self.make().await;
        }
    }

    async fn make(&self) -> Reached {
        match self.master.make().await {
            Ok(_) => Reached::Now,
            Err(words) => Reached::Never(words),
        }
    }
}

/// One host behind OpenSSH.
#[derive(Clone, Debug)]
pub struct SshHost {
    agent: Arc<SshAgent>,
    endpoint: Endpoint,
}

impl SshHost {
    async fn run(&self, opening: &[u8]) -> Result<Conversation> {
        let master = self.agent.master(&self.endpoint);
        let transport = match self.over_kept(&master, opening).await {
            Some(transport) => transport,
            None => self.over_new(&master, opening).await?,
        };
        Conversation::begin(transport, &self.agent.helpers, &self.endpoint, opening).await
    }

    /// An execution over the connection that an earlier run left, unless that is dead.
    async fn over_kept(&self, master: &Master, opening: &[u8]) -> Option<Transport> {
        let session = Arc::new(master.found()?);
        let execution = self.execute(Arc::clone(&session), false, opening);
        if let Ok(Ok(transport)) = tokio::time::timeout(master.connect_timeout, execution).await {
            return Some(transport);
        }
        if let Some(session) = Arc::into_inner(session) {
            master.retire(session).await;
        }
        None
    }

    async fn over_new(&self, master: &Master, opening: &[u8]) -> Result<Transport> {
        let session = match self.connect_through_bastion(master).await {
            Ok(session) => Arc::new(session),
            Err(words) => return Err(self.explain(&words)),
        };
        let execution = self.execute(session, !master.is_kept(), opening);
        match tokio::time::timeout(master.connect_timeout, execution).await {
            Ok(transport) => transport,
            Err(_) => Err(self.explain("the execution did not begin in time")),
        }
    }

    async fn connect_through_bastion(
        &self,
        master: &Master,
    ) -> std::result::Result<Session, String> {
        if master.is_kept()
            && let Some(own) = self.agent.bastions.get(&self.endpoint.name)
        {
            if own.reach().await? {
                own.renew().await;
                own.reach().await?;
            }
            return Ok(own.master.session());
        }
        let jump = self.endpoint.jump.as_deref();
        let Some(bastion) = jump.and_then(|jump| self.agent.bastions.get(jump)) else {
            return master.make().await;
        };
        let name = &bastion.master.destination;
        let unreached = |words: String| format!("through {name}: {words}");
        let before = bastion.reach().await.map_err(unreached)?;
        match master.make().await {
            // What an earlier run left may lead nowhere any more.
            Err(_) if before => {
                bastion.renew().await;
                bastion.reach().await.map_err(unreached)?;
                master.make().await
            }
            made => made,
        }
    }

    async fn execute(
        &self,
        session: Arc<Session>,
        close: bool,
        opening: &[u8],
    ) -> Result<Transport> {
        let command = script(&self.agent.helpers, &self.endpoint, opening);
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
        Ok(Transport {
            reader: Box::new(stdout),
            writer: Box::new(stdin),
            stderr: Box::new(stderr),
            closer: Box::new(move || {
                Box::pin(async move {
                    let _ = child.wait().await;
                    if close && let Some(session) = Arc::into_inner(session) {
                        let _ = session.close().await;
                    }
                })
            }),
        })
    }

    /// OpenSSH's words as an error with a way out.
    pub(super) fn explain(&self, words: &str) -> Error {
        explain(&self.endpoint, words)
    }
}

impl Host for SshHost {
    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>> {
        Box::pin(self.run(opening))
    }

    fn connect_anew(&self) -> BoxFuture<'_, Result<Conversation>> {
        Box::pin(async {
            let mut master = self.agent.master(&self.endpoint);
            master.keep = Duration::ZERO;
            let transport = self.over_new(&master, &[]).await?;
            Conversation::begin(transport, &self.agent.helpers, &self.endpoint, &[]).await
        })
    }

    fn forget_connection(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let master = self.agent.master(&self.endpoint);
            if let Some(session) = master.found() {
                master.retire(session).await;
            }
        })
    }

    fn revert_after(&self) -> Duration {
        self.endpoint.revert_after
    }

    fn reconnect_within(&self) -> Duration {
        self.endpoint.reconnect_within
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

fn pinned_keys(endpoints: &[Endpoint]) -> String {
    let mut lines = String::new();
    for endpoint in endpoints {
        for key in &endpoint.host_keys {
            let _ = writeln!(lines, "{} {key}", endpoint.name);
        }
    }
    lines
}

/// The files of OpenSSH's that are the user's and the machine's.
const USER_CONFIGS: [&str; 2] = ["~/.ssh/config", "/etc/ssh/ssh_config"];

/// What they say now; a connection that was made by other words is not used again.
fn user_config() -> String {
    let home = std::env::home_dir().unwrap_or_default();
    let read = |file: &&str| {
        let path = match file.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(file),
        };
        std::fs::read_to_string(path).unwrap_or_default()
    };
    USER_CONFIGS.iter().map(read).collect()
}

/// The hosts that others are reached through. A jump in words that could mean more to a shell
/// than a name is left to OpenSSH.
fn bastions(
    endpoints: &[Endpoint],
    config: &Path,
    sockets: &Path,
    user_config: &str,
) -> BTreeMap<String, Bastion> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:@[]-".contains(c);
    let through = |endpoint: &&Endpoint| {
        let jump = endpoint.jump.as_deref().unwrap_or_default();
        !jump.is_empty() && !jump.starts_with('-') && jump.chars().all(plain)
    };
    let mut bastions = BTreeMap::new();
    for endpoint in endpoints.iter().filter(through) {
        let jump = endpoint.jump.clone().unwrap_or_default();
        let described = endpoints.iter().find(|other| other.name == jump);
        let (destination, name) = match described {
            Some(other) => (jump.clone(), way(other, user_config)),
            None => {
                let name = master::short_name(&["bastion", &jump, user_config]);
                (format!("ssh://{jump}"), name)
            }
        };
        let master = Master {
            destination,
            config: config.to_owned(),
            socket: sockets.join(name),
            connect_timeout: endpoint.connect_timeout,
            keep: endpoint.keep_connection,
            password: None,
        };
        bastions.entry(jump).or_insert_with(|| Bastion {
            master,
            connection: Mutex::new(Reached::No),
        });
    }
    bastions
}

/// One block per host; the user's own configuration fills in what they leave out.
fn ssh_config(
    endpoints: &[Endpoint],
    known_hosts: &Path,
    bastions: &BTreeMap<String, Bastion>,
) -> String {
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
            match bastions.get(jump) {
                Some(bastion) => option("ProxyCommand", &through(&bastion.master)),
                None => option("ProxyJump", jump),
            }
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
    for file in USER_CONFIGS {
        let _ = writeln!(text, "Match all\n  Include {file}");
    }
    text
}

/// What ProxyJump would do, but over the connection that all hosts behind the bastion share.
/// Where that has just ended, `ssh` makes one of its own.
fn through(bastion: &Master) -> String {
    let (config, socket) = (bastion.config.display(), bastion.socket());
    let socket = socket.display();
    let destination = &bastion.destination;
    format!("ssh -F {config} -S {socket} -o ControlMaster=no -W [%h]:%p {destination}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Become;

    fn endpoint() -> Endpoint {
        Endpoint {
            described_at: "inventories/on-prem.toml:7:1".into(),
            address: "10.0.1.10".into(),
            local: false,
            port: Some(2222),
            user: Some("deploy".into()),
            jump: Some("bastion.example.com".into()),
            host_keys: vec!["ssh-ed25519 AAAA1".into()],
            becoming: Become::Sudo,
            connect_timeout: Duration::from_secs(10),
            keep_connection: Duration::from_secs(60),
            ..Endpoint::example("collector-1")
        }
    }

    #[test]
    fn a_pinned_host_is_checked_against_its_pin_alone() {
        let endpoints = [endpoint()];
        let config = Path::new("/tmp/provision-x/config");
        let bastions = bastions(&endpoints, config, Path::new("/run/provision"), "");
        let config = ssh_config(&endpoints, Path::new("/tmp/known"), &bastions);
        insta::assert_snapshot!(config);
        assert_eq!(
            pinned_keys(&[endpoint()]),
            "collector-1 ssh-ed25519 AAAA1\n"
        );
    }

    #[test]
    fn a_password_is_asked_for_in_the_words_of_openssh() {
        let mut db = endpoint();
        db.address = "DB1.example.com".into();
        assert_eq!(accounts(&db), "deploy@collector-1\ndeploy@db1.example.com");
    }

    #[test]
    fn another_way_to_a_host_is_another_connection() {
        let (first, mut other) = (endpoint(), endpoint());
        other.host_keys = vec!["ssh-ed25519 AAAA2".into()];
        assert_ne!(way(&first, ""), way(&other, ""));
        assert_ne!(way(&first, ""), way(&first, "Host *"));
        // How long it is kept is no part of the way.
        other = endpoint();
        other.keep_connection = Duration::ZERO;
        assert_eq!(way(&first, ""), way(&other, ""));
    }

    #[test]
    fn a_jump_that_a_shell_could_read_otherwise_is_left_to_openssh() {
        let mut strange = endpoint();
        strange.jump = Some("bastion;id".into());
        let none = bastions(&[strange], Path::new("/tmp/c"), Path::new("/run/p"), "");
        assert!(none.is_empty());
    }
}
