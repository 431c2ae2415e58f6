//! JSON over a socket of QEMU: its monitor, and the agent inside the machine.
//!
//! Goes in: a command. Comes out: what it returned. Invariant: an answer belongs to the command
//! that was sent last; events and answers to earlier ones are passed over.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::output::Output;

/// How long one answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How long a script may run inside a machine.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// A connection on which a command and its answer are a line each.
#[derive(Debug)]
struct Wire {
    stream: BufReader<UnixStream>,
}

impl Wire {
    fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    fn send(&mut self, command: &str, arguments: &Value) -> std::io::Result<()> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{line}")
    }

    /// The next line; `Null` for one that is no JSON, as a machine that starts may send.
    fn next(&mut self) -> std::io::Result<Value> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line).unwrap_or_default())
    }

    /// What a command returned, or the error that it ended with.
    fn ask(&mut self, command: &str, arguments: &Value) -> std::io::Result<Value> {
        self.send(command, arguments)?;
        loop {
            let mut answer = self.next()?;
            if let Some(error) = answer.get("error") {
                return Err(std::io::Error::other(format!("{command}: {error}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }
}

/// QEMU's monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    wire: Wire,
}

impl Monitor {
    /// Connects to the monitor of a QEMU that has just been started.
    pub(super) fn connect(socket: &Path) -> std::io::Result<Self> {
        let mut wire = Wire::connect(socket)?;
        wire.ask("qmp_capabilities", &json!({}))?;
        Ok(Self { wire })
    }

    /// Has QEMU do something.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        let answer = self.wire.ask(command, arguments);
        answer.unwrap_or_else(|error| panic!("QEMU: {error}"))
    }
}

/// The agent inside a machine, which needs neither its network nor its sshd.
#[derive(Debug)]
pub(super) struct Agent {
    wire: Wire,
    /// Tells answers of this connection from those of earlier ones.
    synchronised: i64,
}

impl Agent {
    /// Connects to the port at which the agent listens once it runs.
    ///
    /// # Panics
    /// QEMU has no such port.
    pub(super) fn connect(socket: &Path) -> Self {
        let wire = Wire::connect(socket).expect("the agent's port");
        Self {
            wire,
            synchronised: 0,
        }
    }

    /// Whether the agent runs and answers within this time.
    pub(super) fn answers(&mut self, within: Duration) -> bool {
        self.synchronised += 1;
        let id = self.synchronised;
        let stream = self.wire.stream.get_ref();
        stream
            .set_read_timeout(Some(within))
            .expect("a read timeout");
        let mut answers = self.wire.send("guest-sync", &json!({ "id": id })).is_ok();
        while answers {
            match self.wire.next() {
                Ok(answer) if answer["return"] == id => break,
                Ok(_) => {}
                Err(_) => answers = false,
            }
        }
        let stream = self.wire.stream.get_ref();
        stream
            .set_read_timeout(Some(ANSWERS_WITHIN))
            .expect("a read timeout");
        answers
    }

    /// Runs a script of `sh` as root.
    pub(super) fn run(&mut self, script: &str) -> std::io::Result<Output> {
        let begun = Instant::now();
        let arguments = json!({
            "path": "/bin/sh",
            "arg": ["-c", script],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "capture-output": true,
        });
        let started = self.wire.ask("guest-exec", &arguments)?;
        loop {
            let status = self.wire.ask("guest-exec-status", &started)?;
            if status["exited"] == true {
                let text = |key: &str| {
                    let encoded = status[key].as_str().unwrap_or_default();
                    let bytes = STANDARD.decode(encoded).unwrap_or_default();
                    String::from_utf8_lossy(&bytes).into_owned()
                };
                let code = status["exitcode"].as_i64();
                return Ok(Output {
                    command: script.to_owned(),
                    code: code.and_then(|code| code.try_into().ok()).unwrap_or(-1),
                    stdout: text("out-data"),
                    stderr: text("err-data"),
                });
            }
            assert!(begun.elapsed() < ENDS_WITHIN, "it does not end: {script}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
