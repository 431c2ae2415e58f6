//! TLS settings of clients and servers.
//!
//! In: a `tls` section. Out: rustls configurations, or one line that names the file at fault.
//! Invariant: a client that does not say `insecure` verifies its server.
//!
//! Clients (`tls` of an exporter):
//!
//! | key | default | |
//! |---|---|---|
//! | `insecure` | `false` | plain text |
//! | `ca_file` | the system's roots | PEM certificates that may sign the server's |
//! | `cert_file`, `key_file` | none | this client's own certificate, both or neither |
//!
//! Servers (`tls` of a receiver's protocol): `cert_file` and `key_file`, both required.
//! All other keys of otelcol are refused as not supported yet.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::Section;

/// A client's `tls` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether to speak plain text to an endpoint without a scheme.
    pub insecure: bool,
    /// Who may sign the server's certificate.
    pub ca_file: Option<String>,
    /// This client's own certificate and key.
    pub identity: Option<Identity>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain.
    pub cert_file: String,
    /// The private key.
    pub key_file: String,
}

const UNSUPPORTED: &[&str] = &[
    "ca_pem",
    "cert_pem",
    "key_pem",
    "cipher_suites",
    "curve_preferences",
    "include_system_ca_certs_pool",
    "insecure_skip_verify",
    "max_version",
    "min_version",
    "reload_interval",
    "server_name_override",
    "tpm",
];

impl ClientTls {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        section.unsupported(UNSUPPORTED);
        Self {
            insecure: section.bool("insecure").unwrap_or(false),
            ca_file: section.text("ca_file"),
            identity: identity(section),
        }
    }

    /// The configuration for rustls.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("{file}: {error}"))?;
                }
            }
            // Plain text needs no roots, and a minimal system may have none.
            None if self.insecure => {}
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some(own) => builder
                .with_client_auth_cert(certificates(&own.cert_file)?, key(&own.key_file)?)
                .map_err(|error| format!("{}: {error}", own.cert_file)),
        }
    }
}

/// Reads a server's section.
pub fn read_server(section: &Section<'_>) -> Option<Identity> {
    section.unsupported(UNSUPPORTED);
    section.unsupported(&[
        "ca_file",
        "client_ca_file",
        "client_ca_file_reload",
        "insecure",
    ]);
    let identity = identity(section);
    if identity.is_none() {
        section.error("cert_file", "tls needs cert_file and key_file");
    }
    identity
}

/// A server's configuration for rustls; `alpn` lists the protocols to offer.
pub fn server_config(own: &Identity, alpn: &[&str]) -> Result<Arc<ServerConfig>, String> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates(&own.cert_file)?, key(&own.key_file)?)
        .map_err(|error| format!("{}: {error}", own.cert_file))?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn identity(section: &Section<'_>) -> Option<Identity> {
    match (section.text("cert_file"), section.text("key_file")) {
        (Some(cert_file), Some(key_file)) => Some(Identity {
            cert_file,
            key_file,
        }),
        (None, None) => None,
        (Some(_), None) => {
            section.error("cert_file", "cert_file needs key_file beside it");
            None
        }
        (None, Some(_)) => {
            section.error("key_file", "key_file needs cert_file beside it");
            None
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let explain = |error: rustls::pki_types::pem::Error| format!("cannot read {file}: {error}");
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(Path::new(file))
        .map_err(explain)?
        .collect();
    let found = read.map_err(explain)?;
    if found.is_empty() {
        return Err(format!("{file} holds no PEM certificate"));
    }
    Ok(found)
}

fn key(file: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(Path::new(file))
        .map_err(|error| format!("cannot read {file}: {error}"))
}
