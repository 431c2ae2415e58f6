//! The command line.
//!
//! In: arguments. Out: an exit code; text on stdout only for what was asked.
//! Invariant: 0 is success, 1 a configuration or start that failed, 2 wrong usage.

mod queue;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::component::{CONNECTORS, EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};
use crate::config::source::{Surroundings, read_file};
use crate::config::{self, Reading, print};
use crate::service;
use crate::telemetry::logs;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Receives, processes and exports OpenTelemetry data.
#[derive(Debug, Parser)]
#[command(name = "collector", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A configuration in the format of the OpenTelemetry Collector: a file, file:PATH, env:NAME
    /// or yaml:TEXT. Several are laid over each other, mapping by mapping.
    #[arg(long, global = true, value_name = "LOCATION")]
    config: Vec<String>,
    /// Sets one value over all configurations: processors.batch.timeout=2s.
    #[arg(long, global = true, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Taken for the sake of existing command lines; there are no feature gates here.
    #[arg(long, global = true, hide = true, value_name = "GATES")]
    feature_gates: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a configuration and says everything that is wrong with it.
    Validate,
    /// Prints the configuration, merged and expanded.
    #[command(alias = "print-initial-config")]
    PrintConfig {
        /// Whether secrets are shown.
        #[arg(long, value_enum, default_value_t)]
        mode: print::Mode,
        /// How it is written.
        #[arg(long, value_enum, default_value_t)]
        format: print::Format,
        /// Whether a configuration with errors is refused.
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        validate: bool,
    },
    /// Lists the components in this binary.
    Components,
    Queue(queue::Arguments),
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no configuration: use --config FILE")]
    NoConfig,
    /// The text has been rendered already.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Queue(#[from] queue::Failure),
    #[error(transparent)]
    Service(#[from] service::Failure),
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
    if let Some(Command::Queue(command)) = &arguments.command {
        return Ok(queue::run(command, &mut io::stdout())?);
    }
    if arguments.config.is_empty() {
        return Err(Failure::NoConfig);
    }
    let reading = load(arguments);
    let said = reading.render();
    if let Some(Command::PrintConfig {
        mode,
        format,
        validate,
    }) = arguments.command
    {
        let tree = reading
            .tree
            .filter(|_| reading.config.is_some() || !validate);
        let Some(tree) = tree else {
            return Err(Failure::Invalid(said));
        };
        return Ok(write!(
            io::stdout(),
            "{}",
            print::print(&tree, mode, format)
        )?);
    }
    let (Some(config), Some(tree)) = (reading.config, reading.tree) else {
        return Err(Failure::Invalid(said));
    };
    if arguments.command.is_some() {
        // Without stderr there is nobody to warn.
        let _ = write!(io::stderr(), "{said}");
        return Ok(());
    }
    logs::start(&config.service.telemetry)?;
    said.lines().for_each(|line| tracing::warn!("{line}"));
    if !arguments.feature_gates.is_empty() {
        tracing::warn!("--feature-gates has no effect: there are no feature gates here");
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(service::run(config, tree, &|| load(arguments)))?;
    Ok(())
}

/// Takes as many open files, and so connections, as the system allows, like programs in Go do: the
/// usual 1,024 are meant for programs that call `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, highest) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Reads the configuration that the arguments name.
fn load(arguments: &Arguments) -> Reading {
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        file: &read_file,
    };
    config::read_all(&arguments.config, &arguments.set, surroundings)
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
        "connectors",
        CONNECTORS
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
