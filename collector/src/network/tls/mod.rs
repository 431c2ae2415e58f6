//! TLS settings of clients and servers.
//!
//! In: a `tls` section. Out: rustls configurations, or one line that names the file at fault.
//! Invariant: a client that says neither `insecure` nor `insecure_skip_verify` verifies its
//! server; a file that cannot be read again changes nothing.
//!
//! Both sides:
//!
//! | key | default | |
//! |---|---|---|
//! | `ca_file`, `ca_pem` | the system's roots | PEM certificates that may sign a server's |
//! | `include_system_ca_certs_pool` | `false` | the system's roots beside `ca_file` |
//! | `cert_file` or `cert_pem` | none | the own certificate chain; servers need one |
//! | `key_file` or `key_pem` | none | its key |
//! | `min_version` | `1.2` | `1.0` and `1.1` mean `1.2`, the oldest that is spoken |
//! | `max_version` | `1.3` | `1.2` or `1.3` |
//! | `cipher_suites` | all | of TLS 1.2, by their usual names; those of TLS 1.3 are always on, as in Go |
//! | `curve_preferences` | all | of `X25519`, `P256`, `P384`, the preferred first |
//! | `reload_interval` | never | how old a certificate may be before its files are read again |
//!
//! Clients: `insecure` (plain text), `insecure_skip_verify`, `server_name_override`.
//! Servers: `client_ca_file` (clients must show a certificate that it signed) and
//! `client_ca_file_reload` (read it again whenever it changes).
//! Not supported yet, and refused: `tpm`. Suites and curves that this program does not speak are
//! refused by name.

mod client;
mod files;
mod reload;
mod server;

pub use client::{ClientTls, ClientTlsSource};
pub use server::{ServerTls, ServerTlsSettings};

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion};

use crate::config::Section;
use crate::config::diagnostic::did_you_mean;
use files::Pem;

const UNSUPPORTED: &[&str] = &["tpm"];

/// What clients and servers have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Material {
    ca: Option<Pem>,
    include_system: bool,
    identity: Option<(Pem, Pem)>,
    versions: Versions,
    /// The suites that are spoken; all, when none is named.
    suites: Vec<CipherSuite>,
    /// The same of key exchanges.
    groups: Vec<NamedGroup>,
    reload_interval: Option<Duration>,
}

/// The versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Versions {
    no_tls12: bool,
    no_tls13: bool,
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [(self.no_tls13, &TLS13), (self.no_tls12, &TLS12)];
        let spoken = all.into_iter().filter(|(without, _)| !without);
        spoken.map(|(_, version)| version).collect()
    }
}

impl Material {
    fn read(section: &Section<'_>) -> Self {
        section.unsupported(UNSUPPORTED);
        let cert = Pem::read(section, "cert_file", "cert_pem");
        let key = Pem::read(section, "key_file", "key_pem");
        if cert.is_some() != key.is_some() {
            let (has, lacks) = match cert.is_some() {
                true => ("cert_file", "key_file"),
                false => ("key_file", "cert_file"),
            };
            section.error(has, format!("{has} needs {lacks} beside it"));
        }
        let interval = section.duration("reload_interval");
        Self {
            ca: Pem::read(section, "ca_file", "ca_pem"),
            include_system: section
                .bool("include_system_ca_certs_pool")
                .unwrap_or(false),
            identity: cert.zip(key),
            versions: versions(section),
            suites: suites(section),
            groups: groups(section),
            reload_interval: interval.filter(|interval| !interval.is_zero()),
        }
    }
}

fn versions(section: &Section<'_>) -> Versions {
    let words = [("", 2), ("1.0", 0), ("1.1", 1), ("1.2", 2), ("1.3", 3)];
    let least = section.choice("min_version", &words).unwrap_or(2);
    let words = [("", 3), ("1.0", 0), ("1.1", 1), ("1.2", 2), ("1.3", 3)];
    let most = section.choice("max_version", &words).unwrap_or(3);
    if most < 2 {
        let message = "max_version must be 1.2 or 1.3; older TLS is not spoken";
        section.error("max_version", message);
    } else if least > most {
        section.error("min_version", "min_version is above max_version");
    }
    Versions {
        no_tls12: least == 3,
        no_tls13: most == 2,
    }
}

/// The suites of a list; a name that is not spoken is an error.
fn suites(section: &Section<'_>) -> Vec<CipherSuite> {
    let spoken = provider().cipher_suites.clone().into_iter();
    let spoken = spoken.map(|suite| {
        let suite = suite.suite();
        // Go's names of suites are IANA's, which those of TLS 1.3 have here under TLS13_.
        let name = format!("{suite:?}").replacen("TLS13_", "TLS_", 1);
        (name, suite)
    });
    named(section, "cipher_suites", &spoken.collect::<Vec<_>>())
}

/// The key exchanges of a list; a name that is not spoken is an error.
fn groups(section: &Section<'_>) -> Vec<NamedGroup> {
    let spoken = [
        ("X25519".to_owned(), NamedGroup::X25519),
        ("P256".to_owned(), NamedGroup::secp256r1),
        ("P384".to_owned(), NamedGroup::secp384r1),
    ];
    named(section, "curve_preferences", &spoken)
}

fn named<T: Copy>(section: &Section<'_>, key: &'static str, spoken: &[(String, T)]) -> Vec<T> {
    let mut found = Vec::new();
    for (text, position) in section.texts(key) {
        match spoken.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => found.push(*value),
            None => {
                let names: Vec<&str> = spoken.iter().map(|(name, _)| name.as_str()).collect();
                let help = did_you_mean(&text, names.iter().copied());
                let list = || format!("it speaks {}", names.join(", "));
                let message = format!("{key}: {text:?} is not spoken by this collector");
                let help = help.unwrap_or_else(list);
                let diagnostics = section.diagnostics();
                diagnostics.error_with_help(position, message, Some(help));
            }
        }
    }
    found
}

impl Material {
    /// What handshakes compute with.
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut chosen = rustls::crypto::ring::default_provider();
        if !self.suites.is_empty() {
            chosen.cipher_suites.retain(|suite| {
                suite.version().version == TLS13.version || self.suites.contains(&suite.suite())
            });
        }
        if !self.groups.is_empty() {
            let all = std::mem::take(&mut chosen.kx_groups);
            let wanted = self.groups.iter();
            let wanted = wanted.filter_map(|name| all.iter().find(|group| group.name() == *name));
            chosen.kx_groups = wanted.copied().collect();
        }
        Arc::new(chosen)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::{Diagnostics, Position};
    use crate::config::yaml;

    fn read(text: &str) -> (Material, Vec<String>) {
        let diagnostics = Diagnostics::default();
        let node = yaml::parse(text, &diagnostics).unwrap();
        let section = Section::of(&node, Position::default(), &diagnostics);
        let material = Material::read(&section);
        drop(section);
        let entries = diagnostics.into_sorted().into_iter();
        (material, entries.map(|entry| entry.message).collect())
    }

    #[test]
    fn named_suites_and_curves_are_spoken_and_no_others() {
        let (material, messages) = read(
            "{cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256],
              curve_preferences: [P384, X25519]}",
        );
        assert_eq!(messages, Vec::<String>::new());
        let provider = material.provider();
        let old = provider.cipher_suites.iter();
        let old = old.filter(|suite| suite.version().version == TLS12.version);
        let old: Vec<_> = old.map(|suite| suite.suite()).collect();
        assert_eq!(old, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]);
        let groups = provider.kx_groups.iter().map(|group| group.name());
        let groups: Vec<_> = groups.collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::X25519]);
        let all = Material::default().provider();
        assert_eq!((all.cipher_suites.len(), all.kx_groups.len()), (9, 3));
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name() {
        let (_, messages) =
            read("{cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA], curve_preferences: [P521]}");
        assert_eq!(
            messages,
            [
                "cipher_suites: \"TLS_RSA_WITH_AES_128_CBC_SHA\" is not spoken by this collector",
                "curve_preferences: \"P521\" is not spoken by this collector",
            ]
        );
    }
}
