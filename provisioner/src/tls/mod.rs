//! Certificates of an environment.
//!
//! Goes in: names and addresses of hosts, and the key of the environment's authority. Comes out:
//! certificates in `tls/ENVIRONMENT/`, which may live in git, and private keys, which go into the
//! encrypted secrets. Invariant: no private key is written in clear.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;

use crate::document::Name;
use crate::error::{Error, Result};

/// The folder of the project that holds certificates.
const FOLDER: &str = "tls";

/// How long an authority is valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How far the clock of a host may be behind.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// The certificates of an environment, as templates see them: `tls.ca` and `tls.hosts`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Certificates {
    /// That of the authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// That of each host.
    pub hosts: BTreeMap<String, String>,
    /// Those of programs outside, which send to the platform.
    pub clients: BTreeMap<String, String>,
}

/// A certificate with its private key, both as PEM.
#[derive(Debug)]
pub struct Issued {
    /// What may be seen.
    pub certificate: String,
    /// What must not.
    pub key: crate::secret::Secret,
}

impl Certificates {
    /// Reads those that are there.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn load(root: &Path, environment: &Name) -> Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                Error::configuration(format!("{} cannot be read", path.display())).caused_by(error)
            })
        };
        let mut found = Self::default();
        let authority = root.join(authority_path(environment));
        if authority.exists() {
            found.ca = Some(read(&authority)?);
        }
        for (folder, into) in [("hosts", &mut found.hosts), ("clients", &mut found.clients)] {
            let folder = root.join(FOLDER).join(environment.as_str()).join(folder);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let name = path.file_stem().and_then(|name| name.to_str());
                let end = path.extension().and_then(|end| end.to_str());
                if let (Some(name), Some("pem")) = (name, end) {
                    into.insert(name.to_owned(), read(&path)?);
                }
            }
        }
        Ok(found)
    }
}

/// Where the authority's certificate stands in the project.
#[must_use]
pub fn authority_path(environment: &Name) -> PathBuf {
    Path::new(FOLDER).join(environment.as_str()).join("ca.pem")
}

/// Where a host's certificate stands in the project.
#[must_use]
pub fn host_path(environment: &Name, host: &str) -> PathBuf {
    let folder = Path::new(FOLDER).join(environment.as_str()).join("hosts");
    folder.join(format!("{host}.pem"))
}

/// Where the certificate of a program outside stands in the project.
#[must_use]
pub fn client_path(environment: &Name, client: &str) -> PathBuf {
    let folder = Path::new(FOLDER).join(environment.as_str()).join("clients");
    folder.join(format!("{client}.pem"))
}

/// The certificates of a text, one after the other.
pub fn certificates_in(text: &str) -> impl Iterator<Item = String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = text.split_inclusive(END);
    parts
        .filter(|part| part.ends_with(END))
        .map(|part| format!("{}\n", part.trim_start()))
}

/// Whether a certificate names the key of this authority as the one that signed it.
#[must_use]
pub fn is_issued_by(certificate: &str, authority: &str) -> bool {
    let of = |text: &str, signer: bool| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).ok()?;
        let parsed = pem.parse_x509().ok()?;
        parsed
            .extensions()
            .iter()
            .find_map(|one| match (one.parsed_extension(), signer) {
                (ParsedExtension::AuthorityKeyIdentifier(key), true) => {
                    key.key_identifier.as_ref().map(|key| key.0.to_vec())
                }
                (ParsedExtension::SubjectKeyIdentifier(key), false) => Some(key.0.to_vec()),
                _ => None,
            })
    };
    let signer = of(certificate, true);
    signer.is_some() && signer == of(authority, false)
}

/// Makes an authority for an environment.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn make_authority(environment: &Name) -> Result<Issued> {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).map_err(wrap)?;
    let name = format!("provision authority of {environment}");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut parameters, AUTHORITY_LIFETIME);
    let key = KeyPair::generate().map_err(wrap)?;
    let certificate = parameters.self_signed(&key).map_err(wrap)?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem().into(),
    })
}

/// Makes a certificate for a host, for both ends of a connection.
///
/// # Errors
/// The authority's certificate and key do not fit, or a name is none.
pub fn issue(
    authority: &Issued,
    host: &str,
    names: &[String],
    lifetime: Duration,
) -> Result<Issued> {
    let mut parameters = CertificateParams::new(names.to_vec()).map_err(wrap)?;
    parameters.distinguished_name.push(DnType::CommonName, host);
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    valid_for(&mut parameters, lifetime);
    let signer = KeyPair::from_pem(authority.key.expose()).map_err(wrap)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer).map_err(wrap)?;
    let key = KeyPair::generate().map_err(wrap)?;
    let certificate = parameters.signed_by(&key, &issuer).map_err(wrap)?;
    Ok(Issued {
        certificate: certificate.pem(),
        key: key.serialize_pem().into(),
    })
}

/// When a certificate ends; `None` where the text is none.
#[must_use]
pub fn valid_until(certificate: &str) -> Option<SystemTime> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    let seconds = u64::try_from(end).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn valid_for(parameters: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::from(SystemTime::now());
    parameters.not_before = now - CLOCK_TOLERANCE;
    parameters.not_after = now + lifetime;
}

fn wrap(error: rcgen::Error) -> Error {
    Error::controller("the certificate cannot be made").caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// OpenSSL, which knows nothing of this program, accepts the chain and the names.
    #[test]
    fn a_chain_is_accepted_by_openssl() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = make_authority(&"production".parse().unwrap()).unwrap();
        let names = ["collector-1".to_owned(), "10.0.0.1".to_owned()];
        let lifetime = Duration::from_secs(90 * 86_400);
        let host = issue(&authority, "collector-1", &names, lifetime).unwrap();
        std::fs::write(path("ca.pem"), &authority.certificate).unwrap();
        std::fs::write(path("host.pem"), &host.certificate).unwrap();
        for (option, name, good) in [
            ("-verify_hostname", "collector-1", true),
            ("-verify_ip", "10.0.0.1", true),
            ("-verify_ip", "10.0.0.2", false),
        ] {
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
                .arg(path("ca.pem"))
                .args([option, name])
                .arg(path("host.pem"))
                .output()
                .unwrap();
            assert_eq!(output.status.success(), good, "{name}: {output:?}");
        }
        assert!(is_issued_by(&host.certificate, &authority.certificate));
        let other = make_authority(&"production".parse().unwrap()).unwrap();
        assert!(!is_issued_by(&host.certificate, &other.certificate));
        let both = format!("{}\n{}", other.certificate, authority.certificate);
        let both: Vec<String> = certificates_in(&both).collect();
        assert_eq!(both.len(), 2);
        assert!(is_issued_by(&host.certificate, &both[1]));
        let left = valid_until(&host.certificate).unwrap();
        let left = left.duration_since(SystemTime::now()).unwrap();
        assert!(left <= lifetime && left > lifetime - Duration::from_secs(60));
        assert!(host.key.expose().contains("PRIVATE KEY"));
        assert_eq!(valid_until("nonsense"), None);
    }
}
