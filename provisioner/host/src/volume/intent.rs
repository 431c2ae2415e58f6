//! What was going to be done to a device.
//!
//! Goes in: a device about to be formatted. Comes out: a file that says so, on disk before the
//! first byte of the device changes. Invariant: an intent counts only for the identity and the
//! size that it was written for.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::Root;
use crate::volume::Device;

const DIRECTORY: &str = "intents";

/// What was going to be done to a device.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    version: u32,
    identity: String,
    size_bytes: u64,
    uuid: String,
    state: State,
}

/// How far it got.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Begun,
    Done,
}

impl Intent {
    /// To make a file system with this UUID.
    pub(crate) fn to_format(device: &Device, uuid: &str) -> Self {
        Self {
            version: 1,
            identity: device.identity.clone(),
            size_bytes: device.size_bytes,
            uuid: uuid.to_owned(),
            state: State::Begun,
        }
    }

    /// Writes it down.
    pub(crate) fn write(&self, root: &Root) -> Result<(), Failure> {
        let directory = root.state(DIRECTORY);
        durable::make_private_directory(&directory)?;
        let text = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .doing(|| format!("describe the intent {}", self.uuid))?;
        durable::write(&directory.join(&self.uuid), &text)
    }

    /// Writes down that it was done.
    pub(crate) fn done(mut self, root: &Root) -> Result<(), Failure> {
        self.state = State::Done;
        self.write(root)
    }
}

/// Making the file system was begun on this very device and not ended. A device without an
/// identity cannot be told from another one.
pub(crate) fn is_unfinished(root: &Root, device: &Device, uuid: &str) -> bool {
    if uuid.is_empty() || uuid.contains('/') || device.identity.is_empty() {
        return false;
    }
    let found = fs::read(root.state(DIRECTORY).join(uuid))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Intent>(&bytes).ok());
    found.is_some_and(|found| found == Intent::to_format(device, uuid))
}

/// Forgets an intent.
pub(crate) fn forget(root: &Root, uuid: &str) -> Result<(), Failure> {
    durable::remove_if_there(&root.state(DIRECTORY).join(uuid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Number;

    #[test]
    fn counts_only_for_the_device_it_was_written_for() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let device = Device {
            number: Number { major: 7, minor: 1 },
            node: "/dev/loop1".into(),
            sys: "/sys/block/loop1".into(),
            identity: "file:/disk".into(),
            size_bytes: 100,
        };
        let intent = Intent::to_format(&device, "u");
        intent.write(&root).unwrap();
        assert!(is_unfinished(&root, &device, "u"));
        assert!(!is_unfinished(&root, &device, "v"));
        let other = Device {
            identity: "file:/other".into(),
            ..device.clone()
        };
        assert!(!is_unfinished(&root, &other, "u"));
        let grown = Device {
            size_bytes: 200,
            ..device.clone()
        };
        assert!(!is_unfinished(&root, &grown, "u"));
        intent.done(&root).unwrap();
        assert!(!is_unfinished(&root, &device, "u"));

        let nameless = Device {
            identity: String::new(),
            ..device
        };
        Intent::to_format(&nameless, "u").write(&root).unwrap();
        assert!(!is_unfinished(&root, &nameless, "u"));
    }
}
