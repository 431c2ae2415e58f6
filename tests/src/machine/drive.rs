//! A disk of a whole machine, with a cache that loses its content when the power is cut.
//!
//! Goes in: a file. Comes out: a socket at which QEMU finds the disk. Invariant: what a machine
//! wrote reaches the file when it asks for a flush, and not before.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// A file that is served as a disk until this is dropped.
#[derive(Debug)]
pub(super) struct Drive {
    server: Child,
    socket: PathBuf,
}

impl Drive {
    /// Serves a file at a socket.
    ///
    /// # Panics
    /// It cannot be served.
    pub(super) fn serve(file: &Path, socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nbdkit", "--foreground", "--unix"]);
        command.arg(socket);
        command.args(["--filter=cache", "file"]).arg(file);
        command.arg("cache=writeback");
        // The cache is a file without a name, beside the disk.
        command.env("TMPDIR", file.parent().expect("a folder"));
        // It complains of every probe whether it listens.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let drive = Self {
            server: command.spawn().expect("nbdkit"),
            socket: socket.to_owned(),
        };
        let begun = Instant::now();
        while !drive.listens() {
            assert!(begun.elapsed() < LISTENS_WITHIN, "nbdkit does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        drive
    }

    fn listens(&self) -> bool {
        let mut greeting = [0; 8];
        let stream = UnixStream::connect(&self.socket);
        stream.is_ok_and(|mut stream| stream.read_exact(&mut greeting).is_ok())
    }

    /// Where QEMU finds it, as the options of a block device.
    pub(super) fn options(&self, node: &str) -> serde_json::Value {
        serde_json::json!({
            "driver": "nbd",
            "node-name": node,
            "server": { "type": "unix", "path": self.socket },
        })
    }
}

impl Drop for Drive {
    /// A signal that nobody can catch: what is in the cache is gone.
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
