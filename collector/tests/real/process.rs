//! Starts collectors, this one and the other.
//!
//! In: a configuration. Out: a running process, killed when dropped.
//! Invariant: every wait has a deadline, and says what it waited for.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest that anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A port that nothing listens on, and that the kernel gives to no outgoing connection: those
/// begin at 32768.
pub(crate) fn port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let start = u16::try_from(std::process::id() * 101 % u32::from(COUNT)).unwrap();
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder for one test, removed afterwards.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file, and returns where.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Asks until the answer is yes.
pub(crate) async fn until(what: &str, deadline: Duration, mut check: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Which collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This one.
    Ours,
    /// The OpenTelemetry Collector.
    Otelcol,
}

impl Kind {
    /// The program; `COLLECTOR_PROGRAM` may name another build of this one.
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::Ours => match std::env::var_os("COLLECTOR_PROGRAM") {
                Some(program) => program.into(),
                None => env!("CARGO_BIN_EXE_collector").into(),
            },
            Self::Otelcol => crate::peer::folder().join("otelcol"),
        }
    }
}

/// A running program.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a collector, and waits until it listens on all of the ports.
    pub(crate) async fn start(kind: Kind, config: &Path, ports: &[u16]) -> Self {
        let mut command = Command::new(kind.program());
        command.arg("--config").arg(config);
        Self::listening(&mut command, ports).await
    }

    /// Starts any program, and waits until it listens on all of the ports.
    pub(crate) async fn listening(command: &mut Command, ports: &[u16]) -> Self {
        let mut started = Self::spawn(command);
        until("a collector to listen", DEADLINE, async || {
            let ended = started.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", started.log());
            let open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            ports.iter().all(open)
        })
        .await;
        started
    }

    /// Starts any program; both of its outputs are its log.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().unwrap(), &log);
        collect(child.stderr.take().unwrap(), &log);
        Self { child, log }
    }

    /// Everything said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, and returns the exit code.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> Option<i32> {
        let mut code = None;
        until("a program to end", deadline, async || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.and_then(|status| status.code())
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4_000);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at));
            println!("--- a program's last words:\n{}", &log[from.unwrap_or(0)..]);
        }
    }
}

fn collect(output: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}
