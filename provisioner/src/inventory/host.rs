//! One host, and how it is reached.
//!
//! Goes in: a host's table and the `[ssh]` tables above it. Comes out: a [`Host`]. Invariant: how
//! a host is reached is complete once it is parsed; nothing above it is looked up later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{Duration, Location, Name, Section};

/// One machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: Name,
    /// An IP address or a DNS name; absent while a cloud has not made it.
    pub address: Option<String>,
    /// It is this machine, so that no SSH is needed.
    pub local: bool,
    /// How it is reached.
    pub ssh: SshSettings,
    /// The public keys that its sshd may show; empty leaves it to `known_hosts`.
    pub host_keys: Vec<String>,
    /// Variables of this host alone.
    pub settings: serde_json::Value,
    /// What identifies its volumes, by the volume's name.
    pub volumes: BTreeMap<Name, VolumeIdentity>,
    /// Where it is described.
    pub location: Location,
}

/// What identifies a volume on one host.
#[derive(Clone, Debug, Default)]
pub struct VolumeIdentity {
    /// The serial that the kernel shows.
    pub serial: Option<String>,
    /// The device node.
    pub device: Option<String>,
    /// The file behind a loop device, as the kernel shows it; known for lab hosts.
    pub backing_file: Option<String>,
}

/// How hosts are reached.
#[derive(Clone, Debug)]
pub struct SshSettings {
    /// The account; the user's own `ssh_config` decides when absent.
    pub user: Option<String>,
    /// The port, when not the one of `ssh_config`.
    pub port: Option<u16>,
    /// A private key file.
    pub identity: Option<String>,
    /// A host to jump through.
    pub jump: Option<String>,
    /// A command that connects its standard input and output to the host.
    pub proxy_command: Option<String>,
    /// How root's rights are got where the account is not root.
    pub becoming: Become,
    /// The secret with the password that is asked for then: of root with `su`, of the account
    /// with the others.
    pub become_password: Option<Name>,
    /// The access that the provider of a new machine gives.
    pub bootstrap: Option<Bootstrap>,
    /// How long a connection may take to be made.
    pub connect_timeout: std::time::Duration,
    /// How long an idle connection stays for runs to come; zero ends it with the run.
    pub keep_connection: std::time::Duration,
    /// After how long a host puts back by itself what locked everybody out.
    pub revert_after: std::time::Duration,
    /// How long a host is tried to be reached again whose connection was lost during a run.
    pub reconnect_within: std::time::Duration,
}

/// The access that the provider of a new machine gives, with which the operator's own is made.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The account.
    pub user: String,
    /// A private key file, when another one than later.
    pub identity: Option<String>,
    /// The secret with the password that the account is let in with.
    pub password: Option<Name>,
    /// How root's rights are got where the account is not root.
    pub becoming: Become,
    /// The secret with the password that is asked for then.
    pub become_password: Option<Name>,
    /// Public keys for the operator's account, beside that of its `identity`.
    pub authorized_keys: Vec<String>,
}

/// How root's rights are got where the account is not root.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Become {
    /// Through sudo.
    #[default]
    Sudo,
    /// Through doas.
    Doas,
    /// Through su.
    Su,
    /// Not at all: the account must be root.
    Never,
}

impl Become {
    /// What inventories call them.
    const WORDS: [(&'static str, Self); 4] = [
        ("sudo", Self::Sudo),
        ("doas", Self::Doas),
        ("su", Self::Su),
        ("never", Self::Never),
    ];

    /// The word of an inventory, which is the name of the program where there is one.
    #[must_use]
    pub fn word(self) -> &'static str {
        let row = Self::WORDS.iter().find(|(_, way)| *way == self);
        row.map_or("", |(word, _)| word)
    }
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            identity: None,
            jump: None,
            proxy_command: None,
            becoming: Become::default(),
            become_password: None,
            bootstrap: None,
            connect_timeout: std::time::Duration::from_secs(10),
            keep_connection: std::time::Duration::from_secs(60),
            revert_after: std::time::Duration::from_secs(60),
            reconnect_within: std::time::Duration::from_secs(60),
        }
    }
}

impl SshSettings {
    /// Reads an `[ssh]` table; what it leaves out is as in `above`.
    pub(super) fn parse(section: Option<Section<'_>>, above: &Self) -> Self {
        let Some(section) = section else {
            return above.clone();
        };
        let text = |key: &str| section.string(key).map(|entry| entry.value);
        let (becoming, become_password) = parse_become(&section, above);
        let settings = Self {
            user: text("user").or_else(|| above.user.clone()),
            port: parse_port(&section).or(above.port),
            identity: text("identity").or_else(|| above.identity.clone()),
            jump: text("jump").or_else(|| above.jump.clone()),
            proxy_command: text("proxy_command").or_else(|| above.proxy_command.clone()),
            becoming,
            become_password,
            bootstrap: section
                .section("bootstrap")
                .and_then(Bootstrap::parse)
                .or_else(|| above.bootstrap.clone()),
            connect_timeout: section
                .parse::<Duration>("connect_timeout")
                .map_or(above.connect_timeout, |entry| entry.value.0),
            keep_connection: section
                .parse::<Duration>("keep_connection")
                .map_or(above.keep_connection, |entry| entry.value.0),
            revert_after: section
                .parse::<Duration>("revert_after")
                .map_or(above.revert_after, |entry| entry.value.0),
            reconnect_within: section
                .parse::<Duration>("reconnect_within")
                .map_or(above.reconnect_within, |entry| entry.value.0),
        };
        section.finish();
        settings
    }
}

impl Bootstrap {
    fn parse(section: Section<'_>) -> Option<Self> {
        let user = section.require_string("user");
        let password = section.parse::<Name>("password");
        let (becoming, become_password) = parse_become(&section, &SshSettings::default());
        let mut authorized_keys = Vec::new();
        for key in section.one_or_more_strings("authorized_keys") {
            if is_public_key(&key.value) {
                authorized_keys.push(key.value);
            } else {
                section.error_at(
                    &key.location,
                    "`authorized_keys` has no public key here",
                    Some("a line of a .pub file: ssh-ed25519 AAAA…".to_owned()),
                );
            }
        }
        let bootstrap = Self {
            user: user.map(|entry| entry.value).unwrap_or_default(),
            identity: section.string("identity").map(|entry| entry.value),
            password: password.map(|entry| entry.value),
            becoming,
            become_password,
            authorized_keys,
        };
        section.finish();
        Some(bootstrap)
    }
}

fn parse_port(section: &Section<'_>) -> Option<u16> {
    let port = section.integer("port", 1..=65_535)?;
    u16::try_from(port.value).ok()
}

/// A password belongs to its way: whoever goes another way than the table above has none from it.
fn parse_become(section: &Section<'_>, above: &SshSettings) -> (Become, Option<Name>) {
    let own = section.choice("become", &Become::WORDS);
    let becoming = own.unwrap_or(above.becoming);
    let Some(password) = section.parse::<Name>("become_password") else {
        let same = becoming == above.becoming;
        return (becoming, above.become_password.clone().filter(|_| same));
    };
    if becoming == Become::Never {
        section.error_at(
            &password.location,
            "`become_password` has no use with `become = \"never\"`",
            None,
        );
    }
    (becoming, Some(password.value))
}

impl Host {
    pub(crate) fn without_address(name: Name, location: Location, ssh: SshSettings) -> Self {
        Self {
            name,
            address: None,
            local: false,
            ssh,
            host_keys: Vec::new(),
            settings: serde_json::Value::Object(serde_json::Map::new()),
            volumes: BTreeMap::new(),
            location,
        }
    }

    pub(super) fn parse(
        name: Name,
        location: Location,
        section: Section<'_>,
        ssh: &SshSettings,
    ) -> Self {
        let mut host = Self::without_address(name, location, SshSettings::default());
        host.ssh = SshSettings::parse(section.section("ssh"), ssh);
        host.local = section.boolean("local").unwrap_or(false);
        host.address = section.string("address").map(|entry| entry.value);
        for key in section.one_or_more_strings("host_key") {
            if is_public_key(&key.value) {
                host.host_keys.push(key.value);
            } else {
                section.error_at(
                    &key.location,
                    "`host_key` is no public key",
                    Some("paste what `ssh-keyscan HOST` prints after the name, checked against the machine: ssh-ed25519 AAAA…".to_owned()),
                );
            }
        }
        host.settings = section.json("settings");
        if let Some(table) = section.section("volumes") {
            for key in table.keys() {
                let Some(child) = table.section(&key.value) else {
                    continue;
                };
                match key.value.parse() {
                    Ok(volume) => {
                        host.volumes.insert(volume, parse_identity(child));
                    }
                    Err(message) => section.error_at(&key.location, message, None),
                }
            }
        }
        section.finish();
        host
    }
}

fn parse_identity(section: Section<'_>) -> VolumeIdentity {
    let text = |key: &str| section.string(key).map(|entry| entry.value);
    let identity = VolumeIdentity {
        serial: text("serial"),
        device: text("device"),
        backing_file: text("backing_file"),
    };
    section.finish();
    identity
}

fn is_public_key(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let algorithm = words.next().unwrap_or("");
    let blob = words.next().unwrap_or("");
    let known = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-",
        "sk-ssh-",
        "sk-ecdsa-",
    ];
    known.iter().any(|name| algorithm.starts_with(name)) && blob.starts_with("AAAA")
}
