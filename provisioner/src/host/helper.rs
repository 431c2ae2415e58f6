//! The helper programs, one per architecture.
//!
//! Goes in: the folder that `provision` runs from. Comes out: their bytes and hashes. Invariant:
//! a helper is found on a host by its hash, so that two versions never meet.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::resource::{architecture_of, shipped_programs};

/// The program's name.
const PROGRAM: &str = "provision-host";

/// The helper for one architecture.
#[derive(Debug)]
pub struct Helper {
    /// The machine, as `uname -m` names it.
    pub architecture: String,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// How many bytes it has.
    pub size_bytes: usize,
    /// Its bytes.
    bytes: Vec<u8>,
    /// The same compressed, once a host lacks it.
    gzip: OnceLock<Arc<[u8]>>,
    /// Where it stands on this machine.
    pub path: PathBuf,
}

impl Helper {
    /// Its bytes, compressed: the first time that takes a moment, and most runs need none.
    fn gzip(&self) -> Arc<[u8]> {
        let gzip = self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let written = encoder.write_all(&self.bytes);
            // A Vec grows as needed, so writing into it cannot fail.
            let gzip = written.and_then(|()| encoder.finish());
            gzip.unwrap_or_default().into()
        });
        Arc::clone(gzip)
    }
}

/// All helpers that are shipped beside `provision`.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    list: Arc<Vec<Helper>>,
}

impl Helpers {
    /// Reads them.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn load() -> Result<Self> {
        let mut list: Vec<Helper> = Vec::new();
        for (architecture, path) in shipped_programs(PROGRAM) {
            let unreadable = |error: std::io::Error| {
                Error::controller(format!("the helper {} cannot be read", path.display()))
                    .caused_by(error)
                    .hint("`cargo build --release` builds it beside provision; a package ships it there")
            };
            let found = architecture_of(&path).map_err(unreadable)?;
            let Some(architecture) = architecture.or(found) else {
                continue;
            };
            if list
                .iter()
                .all(|helper| helper.architecture != architecture)
            {
                list.push(read(&path, architecture).map_err(unreadable)?);
            }
        }
        Ok(Self {
            list: Arc::new(list),
        })
    }

    /// None at all, for hosts that need none.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// One for this machine.
    #[cfg(test)]
    pub(super) fn example(path: &Path) -> Self {
        let helper = read(path, std::env::consts::ARCH.to_owned()).expect("a helper");
        Self {
            list: Arc::new(vec![helper]),
        }
    }

    /// The helper for a machine.
    #[must_use]
    pub fn get(&self, architecture: &str) -> Option<&Helper> {
        self.list
            .iter()
            .find(|helper| helper.architecture == architecture)
    }

    /// The helper for a machine as it is sent, which `gzip -d` reads.
    pub(super) async fn compressed(&self, architecture: &str) -> Option<Arc<[u8]>> {
        let index = self
            .list
            .iter()
            .position(|helper| helper.architecture == architecture)?;
        let list = Arc::clone(&self.list);
        let compressed = tokio::task::spawn_blocking(move || list[index].gzip());
        compressed.await.ok()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Helper> {
        self.list.iter()
    }
}

fn read(path: &Path, architecture: String) -> std::io::Result<Helper> {
    let bytes = std::fs::read(path)?;
    let digest = Sha256::digest(&bytes);
    Ok(Helper {
        architecture,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        size_bytes: bytes.len(),
        bytes,
        gzip: OnceLock::new(),
        path: path.to_owned(),
    })
}
