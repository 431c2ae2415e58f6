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
//! | `reload_interval` | never | how old a certificate may be before its files are read again |
//!
//! Clients: `insecure` (plain text), `insecure_skip_verify`, `server_name_override`.
//! Servers: `client_ca_file` (clients must show a certificate that it signed) and
//! `client_ca_file_reload` (read it again whenever it changes).
//! Not supported yet, and refused: `cipher_suites`, `curve_preferences`, `tpm`.

mod client;
mod files;
mod reload;
mod server;

pub use client::{ClientTls, ClientTlsSource};
pub use server::{ServerTls, ServerTlsSettings};

use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::config::Section;
use files::Pem;

const UNSUPPORTED: &[&str] = &["cipher_suites", "curve_preferences", "tpm"];

/// What clients and servers have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Material {
    ca: Option<Pem>,
    include_system: bool,
    identity: Option<(Pem, Pem)>,
    versions: Versions,
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

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
