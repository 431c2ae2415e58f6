//! Certificates and keys in PEM, from files or from the configuration itself.
//!
//! In: a path or a text. Out: certificates and keys, or one line that names the place.
//! Invariant: a place that holds nothing of use is an error.

use std::io;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Section;

/// The most that is read of a PEM file, in bytes.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Where PEM text is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Pem {
    File(String),
    /// The configuration's key, and the text under it.
    Inline(&'static str, String),
}

impl std::fmt::Debug for Pem {
    /// Without the text, which may be a key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.place())
    }
}

impl Pem {
    /// Reads a pair of keys of which at most one may be there.
    pub(super) fn read(
        section: &Section<'_>,
        file: &'static str,
        inline: &'static str,
    ) -> Option<Self> {
        let texts = [section.text(file), section.text(inline)];
        match texts.map(|text| text.filter(|text| !text.is_empty())) {
            [Some(_), Some(_)] => {
                section.error(inline, format!("{inline} and {file} exclude each other"));
                None
            }
            [Some(path), None] => Some(Self::File(path)),
            [None, Some(text)] => Some(Self::Inline(inline, text)),
            [None, None] => None,
        }
    }

    fn place(&self) -> &str {
        match self {
            Self::File(path) => path,
            Self::Inline(key, _) => key,
        }
    }

    fn text(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Inline(_, text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                let read = || {
                    let mut text = Vec::new();
                    let file = std::fs::File::open(path)?;
                    io::Read::read_to_end(&mut io::Read::take(file, MAX_PEM_BYTES), &mut text)?;
                    Ok(text)
                };
                read().map_err(|error: io::Error| format!("cannot read {path}: {error}"))
            }
        }
    }

    /// Every certificate there.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let place = self.place();
        let text = self.text()?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = read.map_err(|error| format!("cannot read {place}: {error}"))?;
        match found.is_empty() {
            true => Err(format!("{place} holds no PEM certificate")),
            false => Ok(found),
        }
    }

    /// The key there.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let place = self.place();
        PrivateKeyDer::from_pem_slice(&self.text()?)
            .map_err(|error| format!("cannot read {place}: {error}"))
    }

    /// Adds every certificate there to the roots.
    pub(super) fn add_to(&self, roots: &mut RootCertStore) -> Result<(), String> {
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|error| format!("{}: {error}", self.place()))?;
        }
        Ok(())
    }

    /// When the file was changed last.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        match self {
            Self::Inline(..) => None,
            Self::File(path) => std::fs::metadata(path).ok()?.modified().ok(),
        }
    }
}
