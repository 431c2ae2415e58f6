//! The hosts that an environment had when something was last changed here.
//!
//! Goes in: names, and how each is reached, in the controller's words. Comes out: `peers.json`.
//! Invariant: bounded in bytes; the words are kept as they came, and hold no secret.

use std::collections::BTreeMap;
use std::fs;

use provision_protocol::generation::Peer;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::Root;

const FILE: &str = "peers.json";
const VERSION: u32 = 1;
/// The most bytes that the file may have.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Peers {
    version: u32,
    /// By environment, then by name.
    environments: BTreeMap<String, BTreeMap<String, String>>,
}

/// The hosts of an environment.
pub(crate) fn read(root: &Root, environment: &str) -> Result<Vec<Peer>, Failure> {
    let mut peers = read_all(root)?;
    let own = peers.environments.remove(environment).unwrap_or_default();
    Ok(own
        .into_iter()
        .map(|(name, reached)| Peer { name, reached })
        .collect())
}

/// Replaces the hosts of an environment.
pub(crate) fn write(root: &Root, environment: &str, peers: &[Peer]) -> Result<(), Failure> {
    let mut all = read_all(root)?;
    let own = peers
        .iter()
        .map(|peer| (peer.name.clone(), peer.reached.clone()))
        .collect();
    if all.environments.get(environment) == Some(&own) {
        return Ok(());
    }
    all.environments.insert(environment.to_owned(), own);
    let path = root.state(FILE);
    let text = serde_json::to_vec(&all)
        .map_err(std::io::Error::from)
        .doing(|| format!("describe {}", path.display()))?;
    if text.len() > MAX_BYTES {
        return Err(Failure::refused(format!(
            "the hosts of {environment} take more than {MAX_BYTES} bytes to write down"
        )));
    }
    durable::write(&path, &text)
}

fn read_all(root: &Root) -> Result<Peers, Failure> {
    let path = root.state(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Peers {
                version: VERSION,
                environments: BTreeMap::new(),
            });
        }
        read => read.doing(|| format!("read {}", path.display()))?,
    };
    let peers: Peers = serde_json::from_slice(&text).map_err(|error| {
        Failure::refused(format!("{} cannot be understood: {error}", path.display()))
    })?;
    if peers.version == VERSION {
        return Ok(peers);
    }
    Err(Failure::refused(format!(
        "{} has version {}, and this program knows version {VERSION}: use a newer provision",
        path.display(),
        peers.version
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        durable::make_private_directory(&root.state("")).unwrap();
        let peer = |name: &str| Peer {
            name: name.to_owned(),
            reached: "words".to_owned(),
        };
        assert_eq!(read(&root, "a").unwrap(), []);
        write(&root, "a", &[peer("one"), peer("two")]).unwrap();
        write(&root, "b", &[peer("three")]).unwrap();
        write(&root, "a", &[peer("two")]).unwrap();
        assert_eq!(read(&root, "a").unwrap(), [peer("two")]);
        assert_eq!(read(&root, "b").unwrap(), [peer("three")]);
    }
}
