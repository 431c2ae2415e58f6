//! What an environment is made of.
//!
//! Goes in: `environments/NAME.toml`. Comes out: an [`Environment`]. Invariant: it names things
//! (inventories, a tier, a playbook, artifacts, secrets); none of them is opened here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::{Diagnostics, Entry, Location, Name, Section, Source, with_document};
use crate::secret::SecretSource;

/// The most inventories that one environment spans.
const INVENTORIES_LIMIT: usize = 64;

/// One environment file.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The file's name without its extension.
    pub name: Name,
    /// The inventories that it spans.
    pub inventories: Vec<Entry<Name>>,
    /// The tier that sizes it; absent only where that is a mistake that was found.
    pub tier: Option<Entry<String>>,
    /// The playbooks that say what each group shall be, in order.
    pub playbooks: Vec<Entry<String>>,
    /// Playbooks that are read in the place of others, by the name of the other.
    pub instead: BTreeMap<Name, Entry<String>>,
    /// How OTLP goes between its hosts; in the clear where nothing is said.
    pub tls: Option<Entry<TlsMode>>,
    /// The file that `apply`, `rollback` and `bootstrap` add a JSON line to for each host, relative to
    /// the project.
    pub audit_log: Option<Entry<String>>,
    /// Variables for all its hosts.
    pub settings: serde_json::Value,
    /// Programs and archives by name.
    pub artifacts: BTreeMap<Name, ArtifactSource>,
    /// Where secrets come from, by name.
    pub secrets: BTreeMap<Name, SecretSource>,
    /// The file with encrypted secrets, relative to the project.
    pub secret_file: Option<Entry<String>>,
}

/// How OTLP goes between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// In the clear.
    Off,
    /// Encrypted, to servers that show a certificate.
    Server,
    /// Encrypted, between two that both show one.
    Mutual,
}

impl TlsMode {
    const WORDS: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("server", Self::Server),
        ("mutual", Self::Mutual),
    ];

    /// The word that an environment has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let known = Self::WORDS.iter().find(|(_, mode)| *mode == self);
        known.map_or("off", |(word, _)| word)
    }
}

/// Where the bytes of an artifact come from. `{arch}` in a path or address stands for the
/// host's machine as `uname -m` names it.
#[derive(Clone, Debug)]
pub struct ArtifactSource {
    /// How the bytes are got.
    pub origin: ArtifactOrigin,
    /// SHA-256 in lower-case hex, by architecture; the key `*` stands for all.
    pub sha256: BTreeMap<String, Entry<String>>,
    /// Where it is described.
    pub location: Location,
}

/// How the bytes of an artifact are got.
#[derive(Clone, Debug)]
pub enum ArtifactOrigin {
    /// A program that is shipped beside `provision`.
    Program(String),
    /// A file, relative to the project.
    Path(String),
    /// An address that is fetched once and kept by its hash.
    Url(String),
}

impl Environment {
    /// Reads an environment; mistakes go to `diagnostics`, and what is right is returned all the
    /// same, so that what it names can be checked too.
    pub fn parse(name: &Name, source: &Arc<Source>, diagnostics: &Diagnostics) -> Self {
        with_document(source, diagnostics, |section| {
            Self::from_section(name.clone(), section)
        })
    }

    pub(crate) fn from_section(name: Name, section: Section<'_>) -> Self {
        let start = section.location();
        let inventories = parse_inventories(&section);
        let tier = section.require_string("tier");
        let mut playbooks = section.one_or_more_strings("playbook");
        if playbooks.is_empty() {
            playbooks.push(Entry {
                value: "site".to_owned(),
                location: start,
            });
        }
        let instead = parse_instead(&section);
        let place = section.string("tls").map(|entry| entry.location);
        let tls = place.and_then(|location| {
            let value = section.choice("tls", &TlsMode::WORDS)?;
            Some(Entry { value, location })
        });
        let audit_log = section.string("audit_log");
        let settings = section.json("settings");
        let artifacts = parse_named(&section, "artifacts", parse_artifact);
        let (secret_file, secrets) = parse_secrets(&section);
        section.finish();
        Self {
            name,
            inventories,
            tier,
            playbooks,
            instead,
            tls,
            audit_log,
            settings,
            artifacts,
            secrets,
            secret_file,
        }
    }
}

fn parse_inventories(section: &Section<'_>) -> Vec<Entry<Name>> {
    section.require(
        "inventories",
        Some("inventories = [\"on-prem\"] reads inventories/on-prem.toml"),
    );
    let mut inventories: Vec<Entry<Name>> = Vec::new();
    for entry in section
        .strings("inventories")
        .into_iter()
        .take(INVENTORIES_LIMIT)
    {
        match entry.value.parse::<Name>() {
            Ok(name) if inventories.iter().any(|known| known.value == name) => {
                section.error_at(
                    &entry.location,
                    format!("inventory `{name}` is named twice"),
                    None,
                );
            }
            Ok(value) => inventories.push(Entry {
                value,
                location: entry.location,
            }),
            Err(message) => section.error_at(&entry.location, message, None),
        }
    }
    inventories
}

fn parse_instead(section: &Section<'_>) -> BTreeMap<Name, Entry<String>> {
    let Some(table) = section.section("instead") else {
        return BTreeMap::new();
    };
    let mut map = BTreeMap::new();
    for key in table.keys() {
        let Some(other) = table.string(&key.value) else {
            continue;
        };
        match key.value.parse::<Name>() {
            Ok(name) => drop(map.insert(name, other)),
            Err(message) => table.error_at(&key.location, message, None),
        }
    }
    map
}

/// The encrypted file, and the secrets that come from elsewhere. A table `file` is a secret of that
/// name.
fn parse_secrets(section: &Section<'_>) -> (Option<Entry<String>>, BTreeMap<Name, SecretSource>) {
    let Some(table) = section.section("secrets") else {
        return (None, BTreeMap::new());
    };
    let file = (!table.is_table("file"))
        .then(|| table.string("file"))
        .flatten();
    let keys = table.keys();
    let keys = keys
        .into_iter()
        .filter(|key| table.is_table("file") || key.value != "file");
    (file, parse_entries(&table, keys, SecretSource::parse))
}

fn parse_named<T>(
    section: &Section<'_>,
    key: &str,
    parse: fn(Section<'_>) -> Option<T>,
) -> BTreeMap<Name, T> {
    let Some(table) = section.section(key) else {
        return BTreeMap::new();
    };
    let keys = table.keys().into_iter();
    parse_entries(&table, keys, parse)
}

fn parse_entries<T>(
    table: &Section<'_>,
    keys: impl Iterator<Item = Entry<String>>,
    parse: fn(Section<'_>) -> Option<T>,
) -> BTreeMap<Name, T> {
    let mut map = BTreeMap::new();
    for key in keys {
        let Some(child) = table.section(&key.value) else {
            continue;
        };
        match key.value.parse::<Name>() {
            Ok(name) => map.extend(parse(child).map(|value| (name, value))),
            Err(message) => table.error_at(&key.location, message, None),
        }
    }
    map
}

fn parse_artifact(section: Section<'_>) -> Option<ArtifactSource> {
    let location = section.location();
    let program = section
        .string("program")
        .map(|entry| ArtifactOrigin::Program(entry.value));
    let path = section
        .string("path")
        .map(|entry| ArtifactOrigin::Path(entry.value));
    let url = section
        .string("url")
        .map(|entry| ArtifactOrigin::Url(entry.value));
    let sha256 = parse_sha256(&section);
    let mut origins: Vec<ArtifactOrigin> = [program, path, url].into_iter().flatten().collect();
    let origin = if origins.len() == 1 {
        origins.pop()
    } else {
        None
    };
    if origin.is_none() {
        section.error(
            "an artifact comes from exactly one of `program`, `path` and `url`",
            Some("program = \"collector\" is the one that is shipped beside provision".to_owned()),
        );
    }
    if matches!(origin, Some(ArtifactOrigin::Url(_))) && sha256.is_empty() {
        section.error(
            "`sha256` is missing: what is fetched from an address is checked",
            Some("sha256 = { x86_64 = \"…\", aarch64 = \"…\" }, or one string".to_owned()),
        );
    }
    section.finish();
    Some(ArtifactSource {
        origin: origin?,
        sha256,
        location,
    })
}

fn parse_sha256(section: &Section<'_>) -> BTreeMap<String, Entry<String>> {
    let mut hashes = BTreeMap::new();
    let mut add = |architecture: String, mut entry: Entry<String>| {
        let valid = entry.value.len() == 64 && entry.value.bytes().all(|b| b.is_ascii_hexdigit());
        if valid {
            entry.value.make_ascii_lowercase();
            hashes.insert(architecture, entry);
        } else {
            section.error_at(
                &entry.location,
                "`sha256` must be 64 hexadecimal digits",
                None,
            );
        }
    };
    if section.is_table("sha256") {
        if let Some(table) = section.section("sha256") {
            for key in table.keys() {
                if let Some(entry) = table.string(&key.value) {
                    add(key.value, entry);
                }
            }
        }
    } else if let Some(entry) = section.string("sha256") {
        add("*".to_owned(), entry);
    }
    hashes
}
