//! What a test needs of the machine.
//!
//! In: a [`Peer`]. Out: where it is, or why it is missing.
//! Invariant: looking for a peer starts nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Python,
    Go,
    Java,
    Node,
    /// The OpenTelemetry Collector.
    Otelcol,
    /// What `go tool pprof` runs.
    Pprof,
    /// Traces system calls.
    Strace,
    /// Root, for loop devices and mounts.
    Root,
    /// Configurations that documents quote.
    Documents,
}

impl Peer {
    /// Whether nobody can install it where it is missing.
    pub(crate) fn is_private(&self) -> bool {
        *self == Self::Documents
    }
}

/// The folder that `scripts/peers` fills: `COLLECTOR_PEERS`, or beside what cargo builds.
pub(crate) fn folder() -> PathBuf {
    match std::env::var_os("COLLECTOR_PEERS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR"))
            .ancestors()
            .map(|folder| folder.join("peers"))
            .find(|folder| folder.is_dir())
            .unwrap_or_default(),
    }
}

/// Why a peer is missing; `None` when it is there.
pub(crate) fn missing(peer: Peer) -> Option<String> {
    let built = |file: &str| {
        let path = folder().join(file);
        (!path.exists()).then(|| format!("{peer:?} is not built: run scripts/peers"))
    };
    let installed = |name: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).any(|folder| folder.join(name).exists());
        (!found).then(|| format!("there is no {name}"))
    };
    match peer {
        Peer::Python => built("python/bin/python"),
        Peer::Go => built("go-client"),
        Peer::Java => built("java/client.jar").or_else(|| installed("java")),
        Peer::Node => built("node/node_modules").or_else(|| installed("node")),
        Peer::Otelcol => built("otelcol"),
        Peer::Pprof => built("pprof"),
        Peer::Strace => installed("strace"),
        Peer::Documents => {
            let is_there = crate::document_index::folder().is_some();
            (!is_there).then(|| "COLLECTOR_DOCUMENTS names no folder".to_owned())
        }
        Peer::Root => {
            let id = Command::new("id").arg("-u").output().ok()?;
            (id.stdout.trim_ascii() != b"0").then(|| "it needs root".to_owned())
        }
    }
}

/// The command of a client, without its arguments.
pub(crate) fn client(peer: Peer) -> Command {
    let folder = folder();
    match peer {
        Peer::Python => {
            let mut command = Command::new(folder.join("python/bin/python"));
            let script = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/clients/python/client.py"
            );
            command.arg(script);
            command
        }
        Peer::Go => Command::new(folder.join("go-client")),
        Peer::Java => {
            let mut command = Command::new("java");
            let java = folder.join("java");
            let path = format!("{0}/client.jar:{0}/lib/*", java.display());
            command.args(["-cp", &path, "Client"]);
            command
        }
        Peer::Node => {
            let mut command = Command::new("node");
            command.arg(folder.join("node/client.js"));
            command
        }
        other => panic!("{other:?} is no client"),
    }
}
