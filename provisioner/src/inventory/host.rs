//! One host, and how it is reached.
//!
//! Goes in: a host's table and the `[ssh]` tables above it. Comes out: a [`Host`]. Invariant: how
//! a host is reached is complete once it is parsed; nothing above it is looked up later.

use std::collections::BTreeMap;

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
    /// How root's rights are got.
    pub becoming: Become,
    /// How long a connection may take to be made.
    pub connect_timeout: std::time::Duration,
    /// How long an idle connection stays for runs to come; zero ends it with the run.
    pub keep_connection: std::time::Duration,
    /// After how long a host puts back by itself what locked everybody out.
    pub revert_after: std::time::Duration,
}

/// How root's rights are got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Become {
    /// Through sudo unless the account is root already.
    Auto,
    /// Not at all: the account must be root.
    Never,
    /// Through sudo with the password that a secret holds.
    SudoWithPassword(Name),
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            identity: None,
            jump: None,
            proxy_command: None,
            becoming: Become::Auto,
            connect_timeout: std::time::Duration::from_secs(10),
            keep_connection: std::time::Duration::from_secs(60),
            revert_after: std::time::Duration::from_secs(60),
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
        let settings = Self {
            user: text("user").or_else(|| above.user.clone()),
            port: section
                .integer("port", 1..=65_535)
                .and_then(|entry| u16::try_from(entry.value).ok())
                .or(above.port),
            identity: text("identity").or_else(|| above.identity.clone()),
            jump: text("jump").or_else(|| above.jump.clone()),
            proxy_command: text("proxy_command").or_else(|| above.proxy_command.clone()),
            becoming: parse_become(&section).unwrap_or_else(|| above.becoming.clone()),
            connect_timeout: section
                .parse::<Duration>("connect_timeout")
                .map_or(above.connect_timeout, |entry| entry.value.0),
            keep_connection: section
                .parse::<Duration>("keep_connection")
                .map_or(above.keep_connection, |entry| entry.value.0),
            revert_after: section
                .parse::<Duration>("revert_after")
                .map_or(above.revert_after, |entry| entry.value.0),
        };
        section.finish();
        settings
    }
}

fn parse_become(section: &Section<'_>) -> Option<Become> {
    let how = section.choice(
        "become",
        &[("auto", Become::Auto), ("never", Become::Never)],
    );
    let password = section.parse::<Name>("sudo_password");
    match (how, password) {
        (Some(Become::Never), Some(password)) => {
            section.error_at(
                &password.location,
                "`sudo_password` has no use with `become = \"never\"`",
                None,
            );
            None
        }
        (_, Some(password)) => Some(Become::SudoWithPassword(password.value)),
        (how, None) => how,
    }
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
