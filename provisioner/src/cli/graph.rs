//! `provision graph`: groups, hosts, ports and data paths of an environment, as a picture.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::ProjectArgs;
use crate::document::{Diagnostics, replace_file};
use crate::error::{Error, Result};
use crate::fleet::Project;
use crate::graph::Graph;
use crate::plan::resolve;
use crate::report::{print, print_json};
use crate::secret::{Redactor, Secrets};

/// Arguments of `graph`.
#[derive(Debug, Clone, Args)]
pub(super) struct GraphArgs {
    /// The environment: a file environments/NAME.toml
    #[arg(long, short, value_name = "NAME", env = "PROVISION_ENV")]
    env: String,
    /// What is drawn
    #[arg(long, value_enum, default_value_t)]
    format: GraphFormat,
    /// Write it into this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    project: ProjectArgs,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// An image that needs no other file
    #[default]
    Svg,
    /// Text that GitHub, GitLab and most wikis draw
    Mermaid,
    /// For programs
    Json,
}

pub(super) fn run(args: &GraphArgs) -> Result<ExitCode> {
    let project = Project::find(args.project.project.as_deref())?;
    let diagnostics = Diagnostics::default();
    let fleet = project.fleet(&args.env, &[], &diagnostics)?;
    // No secret is asked for, and none is in a picture.
    let secrets = Secrets::placeholders(&fleet.environment.secrets);
    let redactor = Redactor::default();
    let desired = resolve(&project, &fleet, &secrets, &redactor, &diagnostics)?;
    diagnostics.into_result()?;
    let graph = Graph::of(&fleet, &desired);
    let text = match args.format {
        GraphFormat::Svg => graph.to_svg(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Json if args.out.is_none() => {
            print_json(&redactor, &graph)?;
            return Ok(ExitCode::SUCCESS);
        }
        GraphFormat::Json => serde_json::to_string_pretty(&graph)
            .map_err(|error| Error::controller("the graph is no JSON").caused_by(error))?,
    };
    match &args.out {
        Some(path) => replace_file(path, &text).map_err(|error| {
            Error::controller(format!("{} cannot be written", path.display())).caused_by(error)
        })?,
        None => print(&redactor, &text)?,
    }
    Ok(ExitCode::SUCCESS)
}
