//! `provision man`: manual pages, one for each command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};

use super::Cli;
use crate::error::{Error, Result};

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub(super) struct ManArgs {
    /// The folder to write into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &ManArgs) -> Result<ExitCode> {
    let wrap = |error: std::io::Error| {
        Error::controller(format!("{} cannot be written", args.out.display())).caused_by(error)
    };
    std::fs::create_dir_all(&args.out).map_err(wrap)?;
    clap_mangen::generate_to(Cli::command(), &args.out).map_err(wrap)?;
    Ok(ExitCode::SUCCESS)
}
