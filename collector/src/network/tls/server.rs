//! A server's TLS.
//!
//! In: a `tls` section of a receiver. Out: what each handshake uses.
//! Invariant: a renewed certificate counts from the next handshake on, without a restart.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::files::Pem;
use super::reload::Reloading;
use super::{Material, provider};
use crate::config::Section;

/// A server's `tls` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    material: Material,
    client_ca: Option<Pem>,
    client_ca_reload: bool,
}

/// What a listener's handshakes use.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Reloading<ServerConfig>>);

impl ServerTlsSettings {
    /// Reads the section, if it is there.
    pub fn read(parent: &Section<'_>) -> Option<Self> {
        if !parent.has("tls") {
            return None;
        }
        let section = parent.section("tls");
        let material = Material::read(&section);
        if material.identity.is_none() {
            section.error("cert_file", "tls needs cert_file and key_file");
        }
        let file = section.text("client_ca_file");
        Some(Self {
            material,
            client_ca: file.filter(|file| !file.is_empty()).map(Pem::File),
            client_ca_reload: section.bool("client_ca_file_reload").unwrap_or(false),
        })
    }

    /// Reads the files; `alpn` lists the protocols to offer.
    pub fn start(&self, alpn: &[&str]) -> Result<ServerTls, String> {
        let settings = self.clone();
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let watched = self.client_ca.clone().filter(|_| self.client_ca_reload);
        let make = move || settings.make(alpn.clone());
        let reloading = Reloading::start(make, self.material.reload_interval, watched)?;
        Ok(ServerTls(Arc::new(reloading)))
    }

    fn make(&self, alpn: Vec<Vec<u8>>) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(self.material.provider())
            .with_protocol_versions(&self.material.versions.list())
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                ca.add_to(&mut roots)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| format!("client_ca_file: {error}"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let Some((cert, key)) = &self.material.identity else {
            return Err("tls needs cert_file and key_file".to_owned());
        };
        let mut config = builder
            .with_single_cert(cert.certificates()?, key.key()?)
            .map_err(|error| format!("{cert:?}: {error}"))?;
        config.alpn_protocols = alpn;
        Ok(Arc::new(config))
    }
}

impl ServerTls {
    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}
