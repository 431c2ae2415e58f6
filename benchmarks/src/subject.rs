//! The programs that are measured: how each is started, and what the kernel knows of it.
//!
//! In: a row and ports. Out: a [`Running`] process pinned to its core, or why it cannot run.
//! Invariant: a process ends before its [`Running`] is gone, and nothing else is ended.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::row::{Row, Work};
use crate::wire::{Encoding, Protocol};

const START_DEADLINE: Duration = Duration::from_secs(10);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// The forwarder that only moves bytes and counts.
    Floor,
    /// The collector of this repository.
    Collector,
    /// The OpenTelemetry Collector.
    Otelcol,
    /// Rotel.
    Rotel,
}

impl Name {
    /// In the order of the tables.
    pub const ALL: [Self; 4] = [Self::Floor, Self::Collector, Self::Otelcol, Self::Rotel];

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Collector => "collector",
            Self::Otelcol => "otelcol",
            Self::Rotel => "Rotel",
        }
    }
}

/// Where the programs are, and where subjects run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Each program's path, if there is one.
    pub collector: Option<PathBuf>,
    /// The OpenTelemetry Collector.
    pub otelcol: Option<PathBuf>,
    /// Rotel's agent.
    pub rotel: Option<PathBuf>,
    /// The core that subjects are pinned to.
    pub core: usize,
    /// Where configurations, logs and queues are written.
    pub folder: PathBuf,
}

/// Where one subject listens, and where it sends to.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Where it takes requests.
    pub listen: SocketAddr,
    /// Where it shows its metrics.
    pub metrics: SocketAddr,
    /// The sink.
    pub target: SocketAddr,
}

/// Why a row cannot be run.
#[derive(Debug)]
pub struct CannotRun(pub String);

impl Programs {
    fn path(&self, name: Name) -> Result<PathBuf, CannotRun> {
        let path = match name {
            Name::Floor => std::env::current_exe().ok(),
            Name::Collector => self.collector.clone(),
            Name::Otelcol => self.otelcol.clone(),
            Name::Rotel => self.rotel.clone(),
        };
        path.ok_or_else(|| CannotRun("not installed".to_owned()))
    }

    /// What a program says that it is.
    pub fn version(&self, name: Name) -> Option<String> {
        let output = Command::new(self.path(name).ok()?)
            .arg("--version")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    }

    /// The command that runs a row, after the subject has said that it can.
    pub fn command(
        &self,
        name: Name,
        row: &Row,
        addresses: Addresses,
    ) -> anyhow::Result<Result<Command, CannotRun>> {
        let path = match self.path(name) {
            Ok(path) => path,
            Err(why) => return Ok(Err(why)),
        };
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", &self.core.to_string()])
            .arg(&path);
        let Addresses { listen, target, .. } = addresses;
        match name {
            Name::Floor if row.processed() => {
                return Ok(Err(CannotRun(
                    "the floor changes and keeps nothing".to_owned(),
                )));
            }
            Name::Floor => {
                let protocol = match row.protocol {
                    Protocol::Grpc => "grpc",
                    Protocol::Http => "http",
                };
                command.args(["floor", protocol, &listen.to_string(), &target.to_string()]);
            }
            Name::Collector | Name::Otelcol => {
                let config = self.folder.join(format!("{}.yaml", name.title()));
                fs::write(&config, row.configuration(addresses, &self.queue_folder()))?;
                if let Err(why) = validate(&path, &config)? {
                    return Ok(Err(why));
                }
                command.arg("--config").arg(config);
            }
            Name::Rotel => {
                if let Some(why) = rotel_cannot(row) {
                    return Ok(Err(CannotRun(why.to_owned())));
                }
                command.args(rotel_arguments(row, addresses, &self.folder));
            }
        }
        Ok(Ok(command))
    }

    /// Where durable queues are kept.
    pub fn queue_folder(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Starts a row's subject, or says why it cannot run.
    pub fn start(
        &self,
        name: Name,
        row: &Row,
        target: SocketAddr,
    ) -> anyhow::Result<Result<Running, CannotRun>> {
        let queue = self.queue_folder();
        if queue.exists() {
            fs::remove_dir_all(&queue)?;
        }
        fs::create_dir_all(&queue)?;
        let addresses = Addresses {
            listen: free_address()?,
            metrics: free_address()?,
            target,
        };
        let mut command = match self.command(name, row, addresses)? {
            Ok(command) => command,
            Err(why) => return Ok(Err(why)),
        };
        let log = self.folder.join(format!("{}.log", name.title()));
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut running = Running {
            child,
            address: addresses.listen,
        };
        running
            .wait_until_ready()
            .with_context(|| format!("{}: see {}", name.title(), log.display()))?;
        Ok(Ok(running))
    }
}

/// Asks a program whether it can run a configuration.
fn validate(program: &Path, config: &Path) -> anyhow::Result<Result<(), CannotRun>> {
    let output = Command::new(program)
        .arg("validate")
        .arg("--config")
        .arg(config)
        .output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().find(|line| !line.trim().is_empty());
    let said = first.unwrap_or("it refuses the configuration");
    let said = said.split_once("rror: ").map_or(said, |(_, after)| after);
    Ok(Err(CannotRun(said.to_owned())))
}

fn rotel_cannot(row: &Row) -> Option<&'static str> {
    match row.work {
        _ if row.encoding == Encoding::Zstd => Some("it has no zstd"),
        Work::Forward => None,
        Work::Edit => Some("it has none of these processors"),
        Work::Direct => Some("it answers before delivery"),
        Work::Durable => Some("it has no durable queue"),
    }
}

fn rotel_arguments(row: &Row, addresses: Addresses, folder: &Path) -> Vec<String> {
    let Addresses { listen, target, .. } = addresses;
    let protocol = match row.protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    };
    let compression = match row.encoding {
        Encoding::Gzip => "gzip",
        Encoding::None | Encoding::Zstd => "none",
    };
    let file = |name: &str| folder.join(name).display().to_string();
    let mut arguments = vec!["start".to_owned()];
    let mut option = |name: &str, value: String| {
        arguments.push(format!("--{name}"));
        arguments.push(value);
    };
    option("pid-file", file("rotel.pid"));
    option("log-file", file("rotel.log"));
    let (mut grpc, mut http) = (listen, listen);
    let unused = addresses.metrics;
    match row.protocol {
        Protocol::Grpc => http = unused,
        Protocol::Http => grpc = unused,
    }
    option("otlp-grpc-endpoint", grpc.to_string());
    option("otlp-http-endpoint", http.to_string());
    option("exporter", "otlp".to_owned());
    option("otlp-exporter-endpoint", format!("http://{target}"));
    option("otlp-exporter-protocol", protocol.to_owned());
    option("otlp-exporter-compression", compression.to_owned());
    option("batch-max-size", "8192".to_owned());
    option("batch-timeout", "5s".to_owned());
    arguments
}

/// An address of the loopback interface that nobody listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A subject at work.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended by itself: {status}");
            }
            if Instant::now() > deadline {
                bail!("it does not listen on {}", self.address);
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Processor time since it started, of all its threads.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let ticks: u64 = self
            .stat()?
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap_or(0))
            .sum();
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(
            ticks as f64 / ticks_per_second as f64,
        ))
    }

    /// What the kernel says after the program's name: its state, then numbers.
    fn stat(&self) -> anyhow::Result<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, after_name) = stat.rsplit_once(')').context("an unknown format")?;
        Ok(after_name.trim_start().to_owned())
    }

    /// Asks it to end, which sends what it holds, and reads its processor time when it has.
    pub async fn finish(self) -> anyhow::Result<Duration> {
        self.terminate();
        let deadline = Instant::now() + STOP_DEADLINE;
        // Until it is waited for, the kernel keeps the times of a process that has ended.
        while !self.stat()?.starts_with('Z') {
            if Instant::now() > deadline {
                bail!("it does not end within {STOP_DEADLINE:?} of SIGTERM");
            }
            tokio::time::sleep(POLL).await;
        }
        self.cpu()
    }

    fn terminate(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The resident set in KiB: as it is (`VmRSS`) or at its largest (`VmHWM`).
    pub fn memory_kib(&self, line: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let found = status
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let number = found.and_then(|text| text.split_whitespace().next());
        Ok(number.context("the kernel does not say")?.parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            sleep(POLL);
        }
    }
}
