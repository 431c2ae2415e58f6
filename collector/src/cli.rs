//! The command line.
//!
//! In: arguments. Out: an exit code; text on stdout only for what was asked.
//! Invariant: 0 is success, 1 a configuration or start that failed, 2 wrong usage.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::component::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};
use crate::config::{self, Config};
use crate::pipeline;
use crate::telemetry::{logs, notify};

/// Receives, processes and exports OpenTelemetry data.
#[derive(Debug, Parser)]
#[command(name = "collector", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file, in the format of the OpenTelemetry Collector.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a configuration file and says everything that is wrong with it.
    Validate,
    /// Lists the components in this binary.
    Components,
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no configuration: use --config FILE")]
    NoConfig,
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    /// The text has been rendered already.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Start(#[from] crate::component::StartError),
    #[error("the runtime failed: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs the program; this is the one place that prints.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            // Without stderr there is nobody to tell.
            let _ = match failure {
                Failure::Invalid(_) => write!(io::stderr(), "{text}"),
                _ => writeln!(io::stderr(), "error: {text}"),
            };
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<(), Failure> {
    if matches!(arguments.command, Some(Command::Components)) {
        return Ok(list_components(&mut io::stdout())?);
    }
    let path = arguments.config.as_deref().ok_or(Failure::NoConfig)?;
    let path = Path::new(path.strip_prefix("file:").unwrap_or(path));
    let (config, warnings) = load(path)?;
    match arguments.command {
        Some(_) => {
            // Without stderr there is nobody to warn.
            let _ = write!(io::stderr(), "{warnings}");
            Ok(())
        }
        None => {
            logs::start(config.service.logs);
            warnings.lines().for_each(|line| tracing::warn!("{line}"));
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(serve(config))
        }
    }
}

/// Reads a configuration; the text that comes with it holds the warnings.
fn load(path: &Path) -> Result<(Config, String), Failure> {
    let source = std::fs::read_to_string(path).map_err(|error| Failure::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let reading = config::read(&source, &|name| std::env::var(name).ok());
    let text =
        config::diagnostic::render(&reading.diagnostics, &path.display().to_string(), &source);
    match reading.config {
        Some(config) => Ok((config, text)),
        None => Err(Failure::Invalid(text)),
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = pipeline::start(config).await?;
    let watchdog = notify::watchdog();
    notify::ready();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "ready: everything is running"
    );
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    notify::stopping();
    running.stop().await;
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

fn list_components(out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "version: {}", env!("CARGO_PKG_VERSION"))?;
    let mut family = |name: &str, rows: Vec<(&str, &[&str])>| -> io::Result<()> {
        writeln!(out, "{name}:")?;
        for (kind, aliases) in rows {
            writeln!(out, "  - name: {kind}")?;
            if !aliases.is_empty() {
                writeln!(out, "    aliases: [{}]", aliases.join(", "))?;
            }
        }
        Ok(())
    };
    family(
        "receivers",
        RECEIVERS
            .iter()
            .map(|kind| (kind.name, kind.aliases))
            .collect(),
    )?;
    family(
        "processors",
        PROCESSORS
            .iter()
            .map(|kind| (kind.name, kind.aliases))
            .collect(),
    )?;
    family(
        "exporters",
        EXPORTERS
            .iter()
            .map(|kind| (kind.name, kind.aliases))
            .collect(),
    )?;
    family(
        "extensions",
        EXTENSIONS
            .iter()
            .map(|kind| (kind.name, kind.aliases))
            .collect(),
    )
}
