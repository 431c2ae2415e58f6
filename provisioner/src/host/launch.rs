//! From a shell on the host to a helper that speaks.
//!
//! Goes in: the output of [`script`] as it runs. Comes out: nothing but the moment from which the
//! stream holds frames. Invariant: the password goes to sudo alone, and only when sudo asks.

use std::fmt::Write as _;
use std::time::Duration;

use provision_protocol::HELLO_MARKER;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::conversation::Transport;
use super::endpoint::Endpoint;
use super::helper::Helpers;
use crate::error::{Error, Result};

/// What stands before each line that [`script`] says to the controller.
const SIGN: &str = "\u{1}provision ";

/// What sudo is told to ask with, so that its question cannot be mistaken.
const PROMPT: &str = "\u{1}provision-password\u{1}";

/// The most that a host may print before the helper speaks, in bytes: banners and the like.
const PREAMBLE_LIMIT_BYTES: usize = 256 * 1024;

/// How long a host may be silent before the helper speaks.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the helper's upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// How much of what a host printed to its standard error is kept, in bytes.
const STDERR_LIMIT_BYTES: usize = 16 * 1024;

/// The shell script that finds or receives the helper and becomes it.
///
/// `head` takes exactly the bytes that belong to the helper, so that frames can follow.
pub(super) fn script(helpers: &Helpers, endpoint: &Endpoint) -> String {
    let mut cases = String::new();
    for helper in helpers.iter() {
        let (architecture, hash) = (&helper.architecture, &helper.sha256);
        let (size, sent) = (helper.size_bytes, helper.gzip.len());
        let _ = write!(cases, "{architecture}) h={hash} z={size} n={sent};; ");
    }
    let run = match (endpoint.sudo, &endpoint.sudo_password) {
        (false, _) => "exec \"$b\"".to_owned(),
        (true, None) => {
            "if [ \"$u\" = 0 ]; then exec \"$b\"; fi; exec sudo -n -- \"$b\"".to_owned()
        }
        (true, Some(_)) => format!(
            "if [ \"$u\" = 0 ]; then exec \"$b\"; fi; exec sudo -S -k -p '{PROMPT}' -- \"$b\""
        ),
    };
    format!(
        "s() {{ printf '\\001provision %s\\n' \"$*\"; }}; \
         LC_ALL=C; export LC_ALL; m=$(uname -m); u=$(id -u); \
         case \"$m\" in {cases}*) s unsupported \"$m\"; exit 0;; esac; \
         if [ \"$u\" = 0 ]; then d=/var/lib/provision/helper; \
         else d=\"${{XDG_CACHE_HOME:-$HOME/.cache}}/provision\"; fi; \
         b=\"$d/provision-host-$h\"; \
         if ! [ -x \"$b\" ] || ! [ -s \"$b\" ]; then \
         umask 077; t=\"$b.$$\"; \
         e=$(mkdir -p \"$d\" 2>&1) || {{ s failed \"$e\"; exit 0; }}; \
         set -- $(df -Pk \"$d\" 2>/dev/null | tail -n 1); f=$(( ${{4:-0}} * 1024 )); \
         if [ -n \"$6\" ] && [ \"$f\" -lt \"$z\" ]; then \
         s full \"there is no room for the helper: $z bytes needed, $f bytes free on $6\"; exit 0; fi; \
         s send \"$m\"; \
         e=$( {{ head -c \"$n\" | gzip -dc > \"$t\"; }} 2>&1 | tr '\\n' ' ' ); \
         c=$(sha256sum \"$t\" 2>/dev/null); \
         if [ \"${{c%% *}}\" != \"$h\" ]; then rm -f \"$t\"; s failed \"the helper did not arrive whole in $d: $e\"; exit 0; fi; \
         chmod 700 \"$t\" && sync \"$t\" && mv -f \"$t\" \"$b\" || {{ rm -f \"$t\"; s failed \"the helper cannot be put into $d\"; exit 0; }}; \
         fi; {run}"
    )
}

/// Holds the dialogue with [`script`] up to the marker that the helper prints first.
///
/// # Errors
/// The host has no helper, sudo refuses, or the connection ends; each named with its way out.
pub(super) async fn launch(
    mut transport: Transport,
    helpers: &Helpers,
    endpoint: &Endpoint,
) -> Result<Transport> {
    let mut dialogue = Dialogue {
        endpoint,
        helpers,
        preamble: Vec::new(),
        stderr: Vec::new(),
        password_sent: false,
    };
    dialogue.hold(&mut transport).await.map(|()| transport)
}

/// What was heard of the host.
enum Heard {
    /// A byte of its output; `None` at the end.
    Output(Option<u8>),
    /// Some bytes of its complaints; none at the end.
    Complaint(usize),
}

struct Dialogue<'a> {
    endpoint: &'a Endpoint,
    helpers: &'a Helpers,
    preamble: Vec<u8>,
    stderr: Vec<u8>,
    password_sent: bool,
}

impl Dialogue<'_> {
    async fn hold(&mut self, transport: &mut Transport) -> Result<()> {
        let mut stderr_open = true;
        let mut stderr_chunk = [0u8; 1024];
        loop {
            let listening = async {
                tokio::select! {
                    byte = read_byte(&mut transport.reader) => Heard::Output(byte),
                    read = transport.stderr.read(&mut stderr_chunk), if stderr_open => {
                        Heard::Complaint(read.unwrap_or(0))
                    }
                }
            };
            let Ok(heard) = tokio::time::timeout(SILENCE_TIMEOUT, listening).await else {
                return Err(self.error("the helper did not start in time", None));
            };
            match heard {
                Heard::Output(Some(byte)) => {
                    self.preamble.push(byte);
                    if self.preamble.ends_with(HELLO_MARKER) {
                        return Ok(());
                    }
                    if byte == b'\n' {
                        self.hear(&mut transport.writer).await?;
                    }
                    if self.preamble.len() > PREAMBLE_LIMIT_BYTES {
                        let hint = "look at the shell profile of the account";
                        return Err(self.error("the host prints without end at login", Some(hint)));
                    }
                }
                Heard::Output(None) => {
                    self.drain_stderr(transport).await;
                    return Err(self.ended());
                }
                Heard::Complaint(0) => stderr_open = false,
                Heard::Complaint(count) => {
                    self.hear_stderr(&stderr_chunk[..count], &mut transport.writer)
                        .await?;
                }
            }
        }
    }

    /// What a line of [`script`] asks for.
    async fn hear(&mut self, writer: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
        let text = String::from_utf8_lossy(&self.preamble).into_owned();
        let line = text
            .strip_suffix('\n')
            .unwrap_or(&text)
            .rsplit('\n')
            .next()
            .unwrap_or("");
        let Some(at) = line.find(SIGN) else {
            return Ok(());
        };
        let (word, rest) = line[at + SIGN.len()..].split_once(' ').unwrap_or(("", ""));
        match word {
            "send" => {
                let Some(helper) = self.helpers.get(rest) else {
                    return Ok(());
                };
                let sent = async {
                    writer.write_all(&helper.gzip).await?;
                    writer.flush().await
                };
                match tokio::time::timeout(UPLOAD_TIMEOUT, sent).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(self
                        .error("the helper could not be sent", None)
                        .caused_by(error)),
                    Err(_) => Err(self.error("the helper could not be sent in time", None)),
                }
            }
            "unsupported" => {
                let known: Vec<&str> = self
                    .helpers
                    .iter()
                    .map(|helper| helper.architecture.as_str())
                    .collect();
                Err(self.error(&format!("there is no helper for its architecture, {rest}"), None).hint(
                    format!(
                        "there is one for {}; put provision-host-{rest} beside provision: cargo build --release -p provision-host --target {rest}-unknown-linux-gnu",
                        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                    ),
                ))
            }
            "full" => Err(self.error(rest, Some("free some space there and run it again"))),
            "failed" => Err(self.error(
                rest,
                Some("is there space left, and may programs run from there?"),
            )),
            _ => Ok(()),
        }
    }

    /// Answers sudo's question, once.
    async fn hear_stderr(
        &mut self,
        bytes: &[u8],
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(STDERR_LIMIT_BYTES);
        self.stderr.drain(..excess);
        let Some(password) = &self.endpoint.sudo_password else {
            return Ok(());
        };
        let asked = String::from_utf8_lossy(&self.stderr)
            .matches(PROMPT)
            .count();
        if asked > 1 {
            return Err(self.error(
                "sudo does not accept the password",
                Some("correct the secret that `sudo_password` names"),
            ));
        }
        if asked == 1 && !self.password_sent {
            self.password_sent = true;
            let answer = format!("{}\n", password.expose());
            let sent = async {
                writer.write_all(answer.as_bytes()).await?;
                writer.flush().await
            };
            sent.await.map_err(|error| {
                self.error("sudo could not be answered", None)
                    .caused_by(error)
            })?;
        }
        Ok(())
    }

    async fn drain_stderr(&mut self, transport: &mut Transport) {
        let mut rest = Vec::new();
        let limit = STDERR_LIMIT_BYTES as u64;
        let mut stderr = (&mut transport.stderr).take(limit);
        let read = stderr.read_to_end(&mut rest);
        let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
        self.stderr.extend_from_slice(&rest);
    }

    /// Why the execution ended before the helper spoke.
    fn ended(&self) -> Error {
        let words = String::from_utf8_lossy(&self.stderr).replace(PROMPT, "");
        if words.contains("a password is required") || words.contains("a terminal is required") {
            return self.error(
                "sudo asks for a password",
                Some(
                    "name a secret: [ssh] sudo_password = \"NAME\", or allow the account NOPASSWD",
                ),
            );
        }
        if words.contains("not in the sudoers") || words.contains("not allowed to execute") {
            return self.error(
                "the account may not use sudo",
                Some("add it to the group sudo"),
            );
        }
        if words.contains("sudo: not found") {
            return self.error(
                "the account is not root and there is no sudo",
                Some("install sudo, or connect as root: [ssh] user = \"root\""),
            );
        }
        self.error("the helper ended before it spoke", None)
    }

    fn error(&self, what: &str, hint: Option<&str>) -> Error {
        let mut error = Error::host(format!("{}: {what}", self.endpoint.name));
        let words = String::from_utf8_lossy(&self.stderr).replace(PROMPT, "");
        if !words.trim().is_empty() {
            error = error.caused_by(words.trim());
        }
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

async fn read_byte(reader: &mut (dyn AsyncRead + Send + Unpin)) -> Option<u8> {
    reader.read_u8().await.ok()
}
