//! Connections of OpenSSH, one per destination, which executions share and later runs find again.
//!
//! Goes in: where to, and everything that decides how. Comes out: a control socket that answers.
//! Invariant: a connection that was kept serves only where all that led to it is the same, and
//! one that is dead is waited for no longer than a new one may take.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use openssh::Session;
use rustix::process::getuid;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// How long the handshake may take beside the connection itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection that is not kept stays idle before it ends by itself.
const UNKEPT_LIMIT: Duration = Duration::from_secs(5);

/// How often a connection that is silent is asked for a sign of life, and how often in vain.
const ALIVE_INTERVAL_SECONDS: u32 = 15;
const ALIVE_TRIES: u32 = 3;

/// How long the process behind a control socket may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses before a connection that was refused or cut off at once is tried again: an sshd
/// that starts, or one that has too many at its door, is there a moment later.
const RETRY_PAUSES: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// What OpenSSH says of a connection that another try may mend.
const TRANSIENT_WORDS: &[&str] = &[
    "Connection refused",
    "Connection reset",
    "Connection closed by",
    "kex_exchange_identification",
    "Broken pipe",
];

/// What it says where another try is of no use, and may lock the account.
pub(super) const DENYING_WORDS: &[&str] =
    &["Permission denied", "Too many authentication failures"];

/// What tells `provision` itself, run by OpenSSH to ask for a password, whose that may be.
pub const ASKPASS_VARIABLE: &str = "PROVISION_ASKPASS";

/// The longest folder whose sockets OpenSSH can name: of 108 bytes, 17 are for its own suffix.
const FOLDER_LIMIT_BYTES: usize = 56;

/// The folder of this account's control sockets, which nobody else can enter.
///
/// # Errors
/// Somebody else has made the folder, or it cannot be made.
pub(super) fn folder() -> Result<PathBuf> {
    let own = getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let fits = |path: &PathBuf| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let text = path.to_str().unwrap_or_default();
        path.is_absolute() && text.len() <= FOLDER_LIMIT_BYTES - 10 && text.chars().all(plain)
    };
    let folder = match runtime.filter(|path| fits(path) && path.is_dir()) {
        Some(runtime) => runtime.join("provision"),
        None => PathBuf::from(format!("/tmp/provision-{own}")),
    };
    let refuse = |why: &str| {
        Error::controller(format!("{} cannot hold connections", folder.display()))
            .caused_by(why)
            .hint("remove it, or let XDG_RUNTIME_DIR name a folder of your own")
    };
    let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(refuse(&error.to_string()));
    }
    let found = std::fs::symlink_metadata(&folder).map_err(|error| refuse(&error.to_string()))?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(refuse(
            "it is not a folder that only this account can enter",
        ));
    }
    Ok(folder)
}

/// A short name for everything that decides where a connection leads and who it is there.
pub(super) fn short_name(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One destination, and where its control socket stands.
#[derive(Clone, Debug)]
pub(super) struct Master {
    /// What `ssh` is told to connect to.
    pub(super) destination: String,
    /// The generated configuration.
    pub(super) config: PathBuf,
    /// Where runs find the connection.
    pub(super) socket: PathBuf,
    /// How long a connection may take to be made.
    pub(super) connect_timeout: Duration,
    /// How long an idle connection stays for runs to come; zero ends it with the run.
    pub(super) keep: Duration,
    /// What the account is let in with, where that is a password.
    pub(super) password: Option<Password>,
}

/// The password of an account.
#[derive(Clone, Debug)]
pub(super) struct Password {
    /// What OpenSSH may call the account, a line for each name.
    pub(super) accounts: String,
    pub(super) value: Secret,
}

impl Master {
    /// Whether runs to come shall find the connection.
    pub(super) const fn is_kept(&self) -> bool {
        self.keep.as_secs() > 0
    }

    /// Where executions find the connection.
    pub(super) fn socket(&self) -> PathBuf {
        if self.is_kept() {
            self.socket.clone()
        } else {
            self.socket.with_extension(std::process::id().to_string())
        }
    }

    /// The connection that an earlier run left, if there is one. It may be dead.
    pub(super) fn found(&self) -> Option<Session> {
        (self.is_kept() && self.socket.exists()).then(|| self.session())
    }

    /// The connection, which must have been made.
    pub(super) fn session(&self) -> Session {
        Session::resume_mux(self.socket().into(), None)
    }

    /// Whether an earlier run left a connection whose process answers.
    pub(super) async fn answers(&self) -> bool {
        let Some(session) = self.found() else {
            return false;
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, session.check()).await;
        matches!(answer, Ok(Ok(())))
    }

    /// Leaves a connection to itself: it takes nothing new, and ends with what still uses it.
    pub(super) async fn retire(&self, session: Session) {
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, session.close()).await;
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Makes a connection, and has it answer at the socket.
    ///
    /// # Errors
    /// OpenSSH's own words.
    pub(super) async fn make(&self) -> std::result::Result<Session, String> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let words = match self.try_make().await {
                Ok(session) => return Ok(session),
                Err(words) => words,
            };
            let says = |all: &[&str]| all.iter().any(|known| words.contains(known));
            let transient = says(TRANSIENT_WORDS) && !says(DENYING_WORDS);
            match pauses.next() {
                Some(pause) if transient => tokio::time::sleep(*pause).await,
                _ => return Err(words),
            }
        }
    }

    async fn try_make(&self) -> std::result::Result<Session, String> {
        // Each run makes its own socket and then gives it the name that others look for: of two
        // runs that connect at once the later one's is found, and the other ends when it is idle.
        let own = format!("new{}", std::process::id());
        let own = self.socket.with_extension(own);
        let _ = std::fs::remove_file(&own);
        let words = tempfile::tempfile().map_err(|error| error.to_string())?;
        let log = words.try_clone().map_err(|error| error.to_string())?;
        let limit = self.connect_timeout + HANDSHAKE_TIMEOUT;
        match tokio::time::timeout(limit, self.run(&own, log)).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(_)) => return Err(read_words(words)),
            Ok(Err(error)) => return Err(format!("ssh cannot be run: {error}")),
            Err(_) => return Err("the handshake did not end in time".to_owned()),
        }
        std::fs::rename(&own, self.socket()).map_err(|error| error.to_string())?;
        Ok(self.session())
    }

    /// Runs OpenSSH until the connection stands in the background. Where it asks for a password,
    /// it runs this program, which reads the password from the standard input that they share.
    async fn run(&self, socket: &Path, log: File) -> std::io::Result<ExitStatus> {
        let mut command = self.command(socket, log);
        let Some(Password { accounts, value }) = &self.password else {
            return command.status().await;
        };
        let mut child = command
            .stdin(Stdio::piped())
            .env("SSH_ASKPASS", std::env::current_exe()?)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env(ASKPASS_VARIABLE, accounts)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            let line = format!("{}\n", value.expose());
            // It is not read where nothing is asked.
            let _ = input.write_all(line.as_bytes()).await;
        }
        child.wait().await
    }

    fn command(&self, socket: &Path, log: File) -> Command {
        let persist = if self.is_kept() {
            self.keep
        } else {
            UNKEPT_LIMIT
        };
        let mut command = Command::new("ssh");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            // What the terminal sends to this program is not meant for connections, nor for the
            // programs behind ProxyCommand.
            .process_group(0)
            .args(["-M", "-f", "-N"])
            .arg("-F")
            .arg(&self.config)
            .arg("-S")
            .arg(socket);
        for option in [
            format!("ControlPersist={}", persist.as_secs()),
            format!("ConnectTimeout={}", self.connect_timeout.as_secs().max(1)),
            format!("ServerAliveInterval={ALIVE_INTERVAL_SECONDS}"),
            format!("ServerAliveCountMax={ALIVE_TRIES}"),
            "StrictHostKeyChecking=yes".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let asking: &[&str] = match self.password {
            None => &["BatchMode=yes"],
            Some(_) => &[
                "BatchMode=no",
                "PreferredAuthentications=password,keyboard-interactive",
                "NumberOfPasswordPrompts=1",
            ],
        };
        for option in asking {
            command.args(["-o", option]);
        }
        command.args(["--", &self.destination]);
        command
    }
}

/// How much of what OpenSSH says is read, in bytes.
const WORDS_LIMIT_BYTES: u64 = 16 * 1024;

/// What OpenSSH, and the programs of its proxies, said.
fn read_words(mut file: File) -> String {
    let mut words = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(WORDS_LIMIT_BYTES).read_to_end(&mut words));
    match read {
        Ok(_) => String::from_utf8_lossy(&words).trim().to_owned(),
        Err(error) => format!("what ssh said cannot be read: {error}"),
    }
}
