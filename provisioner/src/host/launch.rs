//! From a shell on the host to a helper that speaks.
//!
//! Goes in: the output of [`script`] as it runs, and what the helper is asked first. Comes out:
//! nothing but the moment from which the stream holds frames. Invariant: a password goes to sudo,
//! doas or su alone, only when it asks, and once; nobody else reads what the helper is asked.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use provision_protocol::{AT_TERMINAL, HELLO_MARKER};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::conversation::Transport;
use super::endpoint::Endpoint;
use super::helper::Helpers;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Become;

/// What stands before each line that [`script`] says to the controller.
const SIGN: &str = "\u{1}provision ";

/// What sudo is told to ask with, and what the helper says when doas asks, so that the question
/// cannot be mistaken.
const PROMPT: &str = "\u{1}provision-password\u{1}";

/// What stands before whatever su says, which cannot be told what to ask with.
const SU_SPEAKS: &str = "\u{1}provision-su\u{1}";

/// The most that a host may print before the helper speaks, in bytes: banners and the like.
const PREAMBLE_LIMIT_BYTES: usize = 256 * 1024;

/// How long a host may be silent before the helper speaks.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long everything before the helper speaks may take, beside the helper's upload.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(3 * 60);

/// How long the helper's upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// How much of what a host printed to its standard error is kept, in bytes.
const STDERR_LIMIT_BYTES: usize = 16 * 1024;

/// What is said before the helper speaks, so that its answers come with the first words it says.
/// Whoever may ask for a password would take it for one.
pub(super) fn said_early<'a>(endpoint: &Endpoint, opening: &'a [u8]) -> &'a [u8] {
    match (endpoint.becoming, &endpoint.become_password) {
        (Become::Su, _) | (_, Some(_)) => &[],
        (Become::Sudo | Become::Doas | Become::Never, None) => opening,
    }
}

/// The shell script that finds or receives the helper and becomes it.
///
/// Where the helper is missing, what was said to it early is thrown away; then come a line with
/// the number of bytes of the compressed helper, these, and what was said again. `read` and `head`
/// take exactly what is theirs, so that frames can follow.
pub(super) fn script(helpers: &Helpers, endpoint: &Endpoint, opening: &[u8]) -> String {
    let early = said_early(endpoint, opening).len();
    let mut cases = String::new();
    for helper in helpers.iter() {
        let (architecture, hash) = (&helper.architecture, &helper.sha256);
        let size = helper.size_bytes;
        let _ = write!(cases, "{architecture}) h={hash} z={size};; ");
    }
    let run = ascend(endpoint.becoming, endpoint.become_password.is_some());
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
         head -c {early} > /dev/null; read -r n; \
         e=$( {{ head -c \"$n\" | gzip -dc > \"$t\"; }} 2>&1 | tr '\\n' ' ' ); \
         c=$(sha256sum \"$t\" 2>/dev/null); \
         if [ \"${{c%% *}}\" != \"$h\" ]; then rm -f \"$t\"; s failed \"the helper did not arrive whole in $d: $e\"; exit 0; fi; \
         chmod 700 \"$t\" && sync \"$t\" && mv -f \"$t\" \"$b\" || {{ rm -f \"$t\"; s failed \"the helper cannot be put into $d\"; exit 0; }}; \
         fi; {run}"
    )
}

/// The end of the script, where root's rights are got and the helper is run. Where no password is
/// known, nothing that asks for one waits for it.
fn ascend(becoming: Become, with_password: bool) -> String {
    let ascend = match (becoming, with_password) {
        (Become::Never, _) => return "exec \"$b\"".to_owned(),
        (Become::Sudo, false) => "exec sudo -n -- \"$b\"".to_owned(),
        (Become::Sudo, true) => format!("exec sudo -S -k -p '{PROMPT}' -- \"$b\""),
        (Become::Doas, false) => "exec doas -n -- \"$b\"".to_owned(),
        // It asks at a terminal and nowhere else, which the helper gives it.
        (Become::Doas, true) => {
            format!("exec \"$b\" {AT_TERMINAL} '{PROMPT}' doas -- \"$b\"")
        }
        (Become::Su, _) => {
            format!("printf '{SU_SPEAKS}' >&2; exec su -s /bin/sh -c 'exec \"$0\"' root -- \"$b\"")
        }
    };
    format!("if [ \"$u\" = 0 ]; then exec \"$b\"; fi; {ascend}")
}

/// Holds the dialogue with [`script`] up to the marker that the helper prints first, and says the
/// opening to it.
///
/// # Errors
/// The host has no helper, sudo refuses, or the connection ends; each named with its way out.
pub(super) async fn launch(
    mut transport: Transport,
    helpers: &Helpers,
    endpoint: &Endpoint,
    opening: &[u8],
) -> Result<Transport> {
    let mut dialogue = Dialogue {
        endpoint,
        helpers,
        opening,
        said: 0,
        preamble: Vec::new(),
        stderr: Vec::new(),
        password_sent: false,
        until: Instant::now() + LAUNCH_TIMEOUT,
    };
    dialogue.hold(&mut transport).await.map(|()| transport)
}

/// What was heard of the host.
enum Heard {
    /// A byte of its output; `None` at the end.
    Output(Option<u8>),
    /// Some bytes of its complaints; none at the end.
    Complaint(usize),
    /// It took some bytes of what is said early.
    Took(usize),
}

struct Dialogue<'a> {
    endpoint: &'a Endpoint,
    helpers: &'a Helpers,
    opening: &'a [u8],
    /// How much of the opening was said, in bytes.
    said: usize,
    preamble: Vec<u8>,
    stderr: Vec<u8>,
    password_sent: bool,
    /// When the helper must have spoken.
    until: Instant,
}

impl Dialogue<'_> {
    async fn hold(&mut self, transport: &mut Transport) -> Result<()> {
        let mut stderr_open = true;
        let mut stderr_chunk = [0u8; 1024];
        let early = said_early(self.endpoint, self.opening);
        loop {
            let unsaid = early.get(self.said..).unwrap_or_default();
            let listening = async {
                tokio::select! {
                    biased;
                    // Whoever hears nothing more says why, or ends.
                    took = transport.writer.write(unsaid), if !unsaid.is_empty() => {
                        Heard::Took(took.ok().filter(|took| *took > 0).unwrap_or(unsaid.len()))
                    }
                    byte = read_byte(&mut transport.reader) => Heard::Output(byte),
                    read = transport.stderr.read(&mut stderr_chunk), if stderr_open => {
                        Heard::Complaint(read.unwrap_or(0))
                    }
                }
            };
            let silence = self.until.saturating_duration_since(Instant::now());
            let silence = silence.min(SILENCE_TIMEOUT);
            let Ok(heard) = tokio::time::timeout(silence, listening).await else {
                return Err(self.error("the helper did not start in time", None));
            };
            match heard {
                Heard::Output(Some(byte)) => {
                    self.preamble.push(byte);
                    if self.preamble.ends_with(HELLO_MARKER) {
                        self.say_rest(&mut transport.writer).await;
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
                Heard::Took(count) => self.said += count,
                Heard::Complaint(0) => stderr_open = false,
                Heard::Complaint(count) => {
                    self.hear_stderr(&stderr_chunk[..count], &mut transport.writer)
                        .await?;
                }
            }
        }
    }

    /// Says what the helper has not heard of the opening. That it hears nothing is noticed when
    /// no answer comes.
    async fn say_rest(&self, writer: &mut (dyn AsyncWrite + Send + Unpin)) {
        let rest = self.opening.get(self.said..).unwrap_or_default();
        let _ = self
            .tell(writer, rest, "the request", SILENCE_TIMEOUT)
            .await;
    }

    async fn tell(
        &self,
        writer: &mut (dyn AsyncWrite + Send + Unpin),
        bytes: &[u8],
        what: &str,
        within: Duration,
    ) -> Result<()> {
        let sent = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        let failed = |how: &str| self.error(&format!("{what} could not be sent{how}"), None);
        match tokio::time::timeout(within, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed("").caused_by(error)),
            Err(_) => Err(failed(" in time")),
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
                let Some(gzip) = self.helpers.compressed(rest).await else {
                    return Ok(());
                };
                let begun = Instant::now();
                let early = said_early(self.endpoint, self.opening);
                let unsaid = early.get(self.said..).unwrap_or_default();
                let length = format!("{}\n", gzip.len());
                let sent = [unsaid, length.as_bytes(), &gzip].concat();
                self.tell(writer, &sent, "the helper", UPLOAD_TIMEOUT)
                    .await?;
                self.said = 0;
                self.until += begun.elapsed();
                Ok(())
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

    /// Answers the question for a password, once.
    async fn hear_stderr(
        &mut self,
        bytes: &[u8],
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(STDERR_LIMIT_BYTES);
        self.stderr.drain(..excess);
        let asked = questions(&String::from_utf8_lossy(&self.stderr));
        if asked == 0 || (asked == 1 && self.password_sent) {
            return Ok(());
        }
        let Some(password) = &self.endpoint.become_password else {
            return Err(self.asks());
        };
        if self.password_sent {
            return Err(self.refuses());
        }
        self.password_sent = true;
        let answer = format!("{}\n", password.value.expose());
        let what = format!("the password for {}", self.endpoint.becoming.word());
        self.tell(writer, answer.as_bytes(), &what, SILENCE_TIMEOUT)
            .await
    }

    /// There is no password where one is asked for.
    fn asks(&self) -> Error {
        let word = self.endpoint.becoming.word();
        let without = match self.endpoint.becoming {
            Become::Sudo => ", or allow the account NOPASSWD in sudoers",
            Become::Doas => ", or write `permit nopass` for the account into /etc/doas.conf",
            Become::Su | Become::Never => "",
        };
        let hint = format!(
            "name a secret: [ssh] become_password = \"NAME\", which [secrets.NAME] ask = true of \
             the environment asks for{without}"
        );
        self.denied(&format!("{word} asks for a password"), &hint)
    }

    /// The password is a wrong one. It is not tried again: an account may be locked by that.
    fn refuses(&self) -> Error {
        let word = self.endpoint.becoming.word();
        let secret = self.endpoint.become_password.as_ref();
        let secret = secret.map_or("", |password| password.name.as_str());
        let of_whom = match self.endpoint.becoming {
            Become::Su => "; su takes that of root",
            _ => "",
        };
        let hint = format!("correct the secret `{secret}` that `become_password` names{of_whom}");
        self.denied(&format!("{word} does not accept the password"), &hint)
    }

    fn denied(&self, what: &str, hint: &str) -> Error {
        let mut error = self.error(what, Some(hint));
        error.kind = ErrorKind::Denied;
        error
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
        let words = without_signs(&self.stderr);
        let has = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
        let word = self.endpoint.becoming.word();
        if self.password_sent && has(WRONG_PASSWORD) {
            return self.refuses();
        }
        if has(&["Password change required", "password has expired"]) {
            let hint = format!(
                "`ssh {}` by hand asks for a new one; then write it where the secret comes from",
                self.endpoint.address
            );
            return self.denied("the account's password has expired", &hint);
        }
        if has(&["a password is required", "a terminal is required"])
            || (!self.password_sent && has(&["doas: Authentication required"]))
        {
            return self.asks();
        }
        if has(&["not in the sudoers", "not allowed to execute"]) {
            return self.denied("the account may not use sudo", "add it to the group sudo");
        }
        if has(&["doas: Operation not permitted", "su: Permission denied"]) {
            let hint = match self.endpoint.becoming {
                Become::Doas => "write `permit` for it into /etc/doas.conf",
                _ => "is it in the group that /etc/pam.d/su asks for?",
            };
            return self.denied(&format!("the account may not use {word}"), hint);
        }
        if has(&[&format!("{word}: not found")]) {
            let what = format!("the account is not root and there is no {word}");
            let hint = "[ssh] become names what there is: sudo, doas or su; or connect as root: [ssh] user = \"root\"";
            return self.denied(&what, hint);
        }
        let mut error = self.error("the helper ended before it spoke", None);
        // An sshd that stops, or a host that goes down, ends what it has just let in.
        error.kind = ErrorKind::Lost;
        error
    }

    fn error(&self, what: &str, hint: Option<&str>) -> Error {
        let mut error = Error::host(format!("{}: {what}", self.endpoint.name));
        let words = without_signs(&self.stderr);
        if !words.trim().is_empty() {
            error = error.caused_by(words.trim());
        }
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What sudo, doas and su say of a wrong password when they do not ask again.
const WRONG_PASSWORD: &[&str] = &[
    "incorrect password attempt",
    "doas: Authentication failed",
    "su: Authentication failure",
];

/// How often a password was asked for.
fn questions(stderr: &str) -> usize {
    let su = stderr.rfind(SU_SPEAKS);
    let by_su = su.map(|at| stderr[at + SU_SPEAKS.len()..].to_ascii_lowercase());
    let by_su = by_su.is_some_and(|said| {
        let asks = |line: &str| line.contains("password") && line.trim_end().ends_with(':');
        said.lines().any(asks)
    });
    stderr.matches(PROMPT).count() + usize::from(by_su)
}

/// What was complained about, in the words of whoever did.
fn without_signs(stderr: &[u8]) -> String {
    let words = String::from_utf8_lossy(stderr);
    words.replace(PROMPT, "").replace(SU_SPEAKS, "")
}

async fn read_byte(reader: &mut (dyn AsyncRead + Send + Unpin)) -> Option<u8> {
    reader.read_u8().await.ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;
    use crate::secret::{NamedSecret, Secret};

    #[test]
    fn a_question_is_heard_from_whoever_was_asked_to_put_it() {
        assert_eq!(questions("Password: "), 0, "a profile may say anything");
        assert_eq!(questions(&format!("{SU_SPEAKS}Password: ")), 1);
        assert_eq!(
            questions(&format!("{SU_SPEAKS}su: Authentication failure\n")),
            0
        );
        assert_eq!(questions(&format!("Password: {PROMPT}")), 1);
        assert_eq!(
            questions(&format!("{PROMPT}Sorry, try again.\n{PROMPT}")),
            2
        );
    }

    /// A host that is a shell of this machine, whose accounts have no rights.
    fn shell(script: &str, home: &Path) -> Transport {
        let mut child = Command::new("sh")
            .args(["-c", &format!("id() {{ echo 1000; }}; {script}")])
            .env("XDG_CACHE_HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        Transport {
            writer: Box::new(child.stdin.take().expect("its input")),
            reader: Box::new(child.stdout.take().expect("its output")),
            stderr: Box::new(child.stderr.take().expect("its errors")),
            closer: Box::new(move || {
                Box::pin(async move {
                    let _ = child.wait().await;
                })
            }),
        }
    }

    #[tokio::test]
    async fn a_helper_hears_all_of_the_opening_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("echo");
        // It says what it has heard at the end.
        let marker = "printf '\\n\\0provision-host\\0\\n'";
        let heard = "cat > \"$0.heard\"; cat \"$0.heard\"";
        let padding = "#".repeat(100_000);
        std::fs::write(&path, format!("#!/bin/sh\n{marker}; {heard}\n{padding}\n")).unwrap();
        let helpers = Helpers::example(&path);
        let password = NamedSecret {
            name: "password".parse().unwrap(),
            value: Secret::from("never asked for".to_owned()),
        };
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for become_password in [None, Some(password)] {
            let home = tempfile::tempdir().unwrap();
            let endpoint = Endpoint {
                become_password,
                ..Endpoint::example("a")
            };
            // The helper is missing first, and there afterwards.
            for opening in [&bytes[..], &bytes, &bytes[..5], &[]] {
                let script = script(&helpers, &endpoint, opening);
                let transport = shell(&script, home.path());
                let mut transport = launch(transport, &helpers, &endpoint, opening)
                    .await
                    .unwrap();
                transport.writer.write_all(b"end").await.unwrap();
                drop(transport.writer);
                let mut heard = Vec::new();
                transport.reader.read_to_end(&mut heard).await.unwrap();
                assert!(heard == [opening, b"end"].concat(), "{}", heard.len());
                (transport.closer)().await;
            }
        }
    }

    #[test]
    fn who_may_ask_for_a_password_is_told_nothing_early() {
        let early = |becoming| {
            let endpoint = Endpoint {
                becoming,
                ..Endpoint::example("a")
            };
            said_early(&endpoint, b"frames").len()
        };
        assert_eq!(early(Become::Su), 0);
        assert_eq!([early(Become::Sudo), early(Become::Never)], [6, 6]);
    }

    #[test]
    fn an_account_that_is_root_asks_nobody() {
        for becoming in [Become::Sudo, Become::Doas, Become::Su] {
            for with_password in [false, true] {
                let script = ascend(becoming, with_password);
                let root = "if [ \"$u\" = 0 ]; then exec \"$b\"; fi; ";
                assert!(script.starts_with(root), "{script}");
                assert!(script.contains(becoming.word()), "{script}");
            }
        }
        assert_eq!(ascend(Become::Never, false), "exec \"$b\"");
    }
}
