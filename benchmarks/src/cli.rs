//! The command line.
//!
//! In: arguments. Out: figures on standard output, results as JSON, a document and a plot.
//! Invariant: what earlier runs found stays in the results until its row is run again.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use tokio::task::LocalSet;

use crate::result::Results;
use crate::row::{ROWS, Row, Work};
use crate::runner::Suite;
use crate::subject::{Name, Programs};
use crate::wire::Protocol;
use crate::{disk, floor, report, runner};

#[derive(Debug, Parser)]
#[command(name = "collector-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs rows, all of them unless some are named, and keeps the results.
    Run(Run),
    /// Lists the rows.
    Rows,
    /// Forwards bytes and counts: the floor.
    Floor {
        /// What carries requests.
        protocol: Protocol,
        /// Where to listen.
        listen: SocketAddr,
        /// Where to send to.
        target: SocketAddr,
    },
    /// Writes results as a document and a plot.
    Report {
        /// The results of `run`.
        #[arg(long)]
        results: PathBuf,
        /// The folder that gets benchmarks.md and benchmarks.svg.
        #[arg(long)]
        documents: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The rows to run; `idle` is the memory of idle connections.
    rows: Vec<String>,
    /// Short measurements, and saturation only.
    #[arg(long)]
    quick: bool,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The subjects to run: floor, collector, otelcol, rotel; those with a path unless named.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<String>,
    /// The collector of this repository.
    #[arg(long)]
    collector: Option<PathBuf>,
    /// The OpenTelemetry Collector.
    #[arg(long)]
    otelcol: Option<PathBuf>,
    /// Rotel's agent.
    #[arg(long)]
    rotel: Option<PathBuf>,
    /// The core that subjects are pinned to.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Idle connections to open.
    #[arg(long, default_value_t = 1000)]
    idle_connections: usize,
    /// Where results are kept; rows that are not run stay as they were.
    #[arg(long)]
    results: PathBuf,
    /// A folder on a real disk, for durable queues.
    #[arg(long)]
    folder: PathBuf,
}

/// Runs the program.
pub fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            LocalSet::new().block_on(&runtime, run_rows(run))
        }
        Command::Rows => {
            for row in ROWS {
                say(row.name);
            }
            say("idle");
            Ok(())
        }
        Command::Floor {
            protocol,
            listen,
            target,
        } => floor::run(protocol, listen, target),
        Command::Report { results, documents } => {
            report::write(&Results::read(&results)?, &documents)
        }
    }
}

/// Prints a line; without standard output there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn run_rows(run: Run) -> anyhow::Result<()> {
    let (rows, idle) = chosen(&run.rows)?;
    let suite = suite(&run)?;
    std::fs::create_dir_all(&run.folder)?;
    let mut results = Results::read(&run.results)?;
    results.machine = machine(&suite.programs);
    for row in rows {
        if row.work == Work::Durable {
            let disk = disk::measure(&run.folder)?;
            say(&format!(
                "{:<18} {:.0} MB/s",
                "the disk itself",
                disk.bytes_per_second / 1e6
            ));
            results.disk = Some(disk);
        }
        let cells = runner::run_row(&suite, row, &mut |line| say(&line)).await?;
        results
            .rows
            .entry(row.name.to_owned())
            .or_default()
            .extend(cells);
        results.write(&run.results)?;
    }
    if idle {
        runner::run_idle(&suite, &mut results).await?;
        for (name, idle) in &results.idle {
            let kib = idle.kib_per_connection();
            say(&format!(
                "{:<18} {:<10} {kib:.1} KiB a connection",
                "idle",
                name.title()
            ));
        }
        results.write(&run.results)?;
    }
    Ok(())
}

/// The named rows, and whether idle connections are among them; all when none is named.
fn chosen(names: &[String]) -> anyhow::Result<(Vec<&'static Row>, bool)> {
    if names.is_empty() {
        return Ok((ROWS.iter().collect(), true));
    }
    let mut rows = Vec::new();
    for name in names.iter().filter(|name| *name != "idle") {
        match ROWS.iter().find(|row| row.name == name) {
            Some(row) => rows.push(row),
            None => bail!("there is no row {name:?}: `collector-bench rows` lists them"),
        }
    }
    Ok((rows, names.iter().any(|name| name == "idle")))
}

fn suite(run: &Run) -> anyhow::Result<Suite> {
    let mut subjects = Vec::new();
    for wanted in &run.subjects {
        match Name::ALL
            .into_iter()
            .find(|name| name.title().eq_ignore_ascii_case(wanted))
        {
            Some(name) => subjects.push(name),
            None => bail!("there is no subject {wanted:?}: floor, collector, otelcol, rotel"),
        }
    }
    if subjects.is_empty() {
        let paths = [
            (Name::Collector, &run.collector),
            (Name::Otelcol, &run.otelcol),
            (Name::Rotel, &run.rotel),
        ];
        subjects.push(Name::Floor);
        subjects.extend(
            paths
                .iter()
                .filter(|(_, path)| path.is_some())
                .map(|(name, _)| *name),
        );
    }
    let seconds = if run.quick {
        run.seconds.min(2.0)
    } else {
        run.seconds
    };
    Ok(Suite {
        programs: Programs {
            collector: run.collector.clone(),
            otelcol: run.otelcol.clone(),
            rotel: run.rotel.clone(),
            core: run.core,
            folder: std::path::absolute(&run.folder)?,
        },
        subjects,
        duration: Duration::from_secs_f64(seconds),
        quick: run.quick,
        idle_connections: run.idle_connections,
    })
}

/// What the figures depend on.
fn machine(programs: &Programs) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let field = |text: &str, name: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = read("/proc/cpuinfo");
    let cores = processor
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = field(&processor, "model name").unwrap_or_default();
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let mut lines = vec![
        format!("{cores} cores of {model}"),
        format!("{memory} of memory"),
        format!("Linux {}", kernel.trim()),
    ];
    for name in [Name::Collector, Name::Otelcol, Name::Rotel] {
        lines.extend(programs.version(name));
    }
    lines
}
