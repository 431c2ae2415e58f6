//! A client's TLS.
//!
//! In: a `tls` section of an exporter. Out: what each handshake uses.
//! Invariant: a server is verified unless the configuration says otherwise.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::reload::Reloading;
use super::{Material, provider};
use crate::config::Section;

/// A client's `tls` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether to speak plain text to an endpoint without a scheme.
    pub insecure: bool,
    /// Whether any certificate of the server will do.
    pub insecure_skip_verify: bool,
    /// The name that the server's certificate must bear, in place of the endpoint's.
    pub server_name_override: Option<String>,
    material: Material,
}

/// What a client's handshakes use.
#[derive(Clone, Debug)]
pub struct ClientTlsSource {
    /// The name to verify, in place of the endpoint's.
    pub server_name: Option<String>,
    reloading: Arc<Reloading<ClientConfig>>,
}

impl ClientTls {
    /// A client that speaks plain text.
    pub fn plain() -> Self {
        Self {
            insecure: true,
            ..Self::default()
        }
    }

    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let name = section.text("server_name_override");
        Self {
            insecure: section.bool("insecure").unwrap_or(false),
            insecure_skip_verify: section.bool("insecure_skip_verify").unwrap_or(false),
            server_name_override: name.filter(|name| !name.is_empty()),
            material: Material::read(section),
        }
    }

    /// Reads the files.
    pub fn start(&self) -> Result<ClientTlsSource, String> {
        let settings = self.clone();
        let make = move || settings.make();
        let reloading = Reloading::start(make, self.material.reload_interval, None)?;
        Ok(ClientTlsSource {
            server_name: self.server_name_override.clone(),
            reloading: Arc::new(reloading),
        })
    }

    fn make(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        if let Some(ca) = &self.material.ca {
            ca.add_to(&mut roots)?;
        }
        // Plain text needs no roots, and a minimal system may have none.
        let system = self.material.include_system || self.material.ca.is_none() && !self.insecure;
        if system {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let builder = ClientConfig::builder_with_provider(self.material.provider())
            .with_protocol_versions(&self.material.versions.list())
            .map_err(|error| error.to_string())?;
        let builder = match self.insecure_skip_verify {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))),
            false => builder.with_root_certificates(roots),
        };
        let config = match &self.material.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(cert.certificates()?, key.key()?)
                .map_err(|error| format!("{cert:?}: {error}"))?,
        };
        Ok(Arc::new(config))
    }
}

impl ClientTlsSource {
    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.reloading.current()
    }
}

/// `insecure_skip_verify`: the handshake's signatures count, whoever signed the certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
