//! How one host is reached.
//!
//! Goes in: a host of the fleet and, for lab hosts, the state of the lab. Comes out: an
//! [`Endpoint`]. Invariant: it has an address.

use std::time::Duration;

use provision_protocol::generation::Peer;
use serde::{Deserialize, Serialize};

use crate::document::Name;
use crate::error::{Error, Result};
use crate::fleet::FleetHost;
use crate::inventory::Become;
use crate::secret::{NamedSecret, Secrets};

/// How one host is reached.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The host's name in the inventory.
    pub name: String,
    /// Where the inventory describes it: `file:line:column`.
    pub described_at: String,
    /// An IP address or a DNS name.
    pub address: String,
    /// It is this machine.
    pub local: bool,
    /// The port; the user's `ssh_config` decides when absent.
    pub port: Option<u16>,
    /// The account; the user's `ssh_config` decides when absent.
    pub user: Option<String>,
    /// A private key file.
    pub identity: Option<String>,
    /// A host to jump through.
    pub jump: Option<String>,
    /// A command that connects its standard input and output to the host.
    pub proxy_command: Option<String>,
    /// What the account is let in with, where that is a password.
    pub password: Option<NamedSecret>,
    /// There is an access of its provider's, with which this one can be made.
    pub bootstraps: bool,
    /// The public keys that its sshd may show; empty leaves it to `known_hosts`.
    pub host_keys: Vec<String>,
    /// How root's rights are got where the account is not root.
    pub becoming: Become,
    /// What is asked for then.
    pub become_password: Option<NamedSecret>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an idle connection stays for runs to come; zero ends it with the run.
    pub keep_connection: Duration,
    /// After how long the host puts back by itself what locked everybody out.
    pub revert_after: Duration,
    /// How long it is tried to be reached again when its connection was lost.
    pub reconnect_within: Duration,
}

/// How a host is reached, as it is written down on other hosts: nothing of it is secret.
#[derive(Debug, Deserialize, Serialize)]
struct Reached {
    address: String,
    local: bool,
    port: Option<u16>,
    user: Option<String>,
    identity: Option<String>,
    jump: Option<String>,
    proxy_command: Option<String>,
    host_keys: Vec<String>,
    becoming: Become,
    /// The name of the secret that is asked for then.
    become_secret: Option<String>,
}

/// How long a connection to a host that left the inventory may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After how long such a host puts back by itself what locked everybody out.
const REVERT_AFTER: Duration = Duration::from_secs(60);

/// How long such a host is tried to be reached again.
const RECONNECT_WITHIN: Duration = Duration::from_secs(60);

impl Endpoint {
    /// How a host is reached, in words for [`Endpoint::of_peer`].
    #[must_use]
    pub fn peer(host: &FleetHost) -> Option<Peer> {
        let ssh = &host.host.ssh;
        let reached = Reached {
            address: host.host.address.clone()?,
            local: host.host.local,
            port: ssh.port,
            user: ssh.user.clone(),
            identity: ssh.identity.clone(),
            jump: ssh.jump.clone(),
            proxy_command: ssh.proxy_command.clone(),
            host_keys: host.host.host_keys.clone(),
            becoming: ssh.becoming,
            become_secret: ssh.become_password.as_ref().map(ToString::to_string),
        };
        Some(Peer {
            name: host.name().to_owned(),
            reached: serde_json::to_string(&reached).ok()?,
        })
    }

    /// How a host is reached that only other hosts remember.
    ///
    /// # Errors
    /// What they remember cannot be read, or names a secret that the environment does not have.
    pub fn of_peer(peer: &Peer, secrets: &Secrets) -> Result<Self> {
        let name = &peer.name;
        let reached: Reached = serde_json::from_str(&peer.reached).map_err(|error| {
            Error::host(format!("{name}: how it was reached cannot be read")).caused_by(error)
        })?;
        let secret = reached.become_secret.as_deref().map(str::parse::<Name>);
        let secret = secret.transpose().map_err(Error::host)?;
        let become_password = known(secret.as_ref(), name, secrets)?;
        Ok(Self {
            name: name.clone(),
            described_at: "no inventory any more".to_owned(),
            address: reached.address,
            local: reached.local,
            port: reached.port,
            user: reached.user,
            identity: reached.identity,
            jump: reached.jump,
            proxy_command: reached.proxy_command,
            password: None,
            bootstraps: false,
            host_keys: reached.host_keys,
            becoming: reached.becoming,
            become_password,
            connect_timeout: CONNECT_TIMEOUT,
            keep_connection: Duration::ZERO,
            revert_after: REVERT_AFTER,
            reconnect_within: RECONNECT_WITHIN,
        })
    }

    /// How this host of the fleet is reached.
    ///
    /// # Errors
    /// It has no address yet, or names a secret that the environment does not have.
    pub fn of(host: &FleetHost, secrets: &Secrets) -> Result<Self> {
        let ssh = &host.host.ssh;
        let name = host.name().to_owned();
        let Some(address) = host.host.address.clone() else {
            let error = Error::configuration(format!("host {name} has no address"))
                .caused_by(format!("it is described at {}", host.host.location));
            return Err(match &host.instance_type {
                Some(kind) => error.hint(format!(
                    "make a machine of type {kind}, then write its address: hosts.{name} = {{ address = \"…\" }}"
                )),
                None => error.hint("write `address` for it in the inventory"),
            });
        };
        let become_password = known(ssh.become_password.as_ref(), &name, secrets)?;
        Ok(Self {
            name,
            described_at: host.host.location.to_string(),
            address,
            local: host.host.local,
            port: ssh.port,
            user: ssh.user.clone(),
            identity: ssh.identity.clone(),
            jump: ssh.jump.clone(),
            proxy_command: ssh.proxy_command.clone(),
            password: None,
            bootstraps: ssh.bootstrap.is_some(),
            host_keys: host.host.host_keys.clone(),
            becoming: ssh.becoming,
            become_password,
            connect_timeout: ssh.connect_timeout,
            keep_connection: ssh.keep_connection,
            revert_after: ssh.revert_after,
            reconnect_within: ssh.reconnect_within,
        })
    }
}

impl Endpoint {
    /// How this host of the fleet is reached with the access that its provider gave, where that
    /// is known.
    ///
    /// # Errors
    /// As with [`Endpoint::of`].
    pub fn of_provider(host: &FleetHost, secrets: &Secrets) -> Result<Option<Self>> {
        let Some(given) = &host.host.ssh.bootstrap else {
            return Ok(None);
        };
        let own = Self::of(host, secrets)?;
        Ok(Some(Self {
            user: Some(given.user.clone()),
            identity: given.identity.clone().or(own.identity),
            password: known(given.password.as_ref(), &own.name, secrets)?,
            bootstraps: false,
            becoming: given.becoming,
            become_password: known(given.become_password.as_ref(), &own.name, secrets)?,
            ..own
        }))
    }
}

#[cfg(test)]
impl Endpoint {
    /// A host of a test, for which nothing is written.
    pub(crate) fn example(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            described_at: "test".to_owned(),
            address: String::new(),
            local: true,
            port: None,
            user: None,
            identity: None,
            jump: None,
            proxy_command: None,
            password: None,
            bootstraps: false,
            host_keys: Vec::new(),
            becoming: Become::Never,
            become_password: None,
            connect_timeout: Duration::from_secs(1),
            keep_connection: Duration::ZERO,
            revert_after: Duration::from_secs(60),
            reconnect_within: Duration::from_secs(5),
        }
    }
}

/// A secret that a host needs.
fn known(secret: Option<&Name>, host: &str, secrets: &Secrets) -> Result<Option<NamedSecret>> {
    let Some(name) = secret else {
        return Ok(None);
    };
    let Some(value) = secrets.get(name).cloned() else {
        let message =
            format!("host {host} needs a secret `{name}` that the environment does not have");
        return Err(Error::configuration(message).hint(format!(
            "describe it in the environment: [secrets.{name}] ask = true, or env, file or command"
        )));
    };
    let name = name.clone();
    Ok(Some(NamedSecret { name, value }))
}
