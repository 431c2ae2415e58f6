//! `provision inventory`: check and show inventories, without reaching any host.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FleetArgs, ProjectArgs};
use crate::document::{Diagnostics, Name};
use crate::error::{Error, Result};
use crate::fleet::Project;
use crate::plan::resolve;
use crate::report::{OutputFormat, print, print_json, render_table};
use crate::secret::{Redactor, Secrets};

/// The commands below `inventory`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum InventoryCommand {
    /// Read every inventory, environment, playbook and template, and name every mistake
    Check(CheckArgs),
    /// Show the hosts of an environment with their groups, sizes and settings
    Show(ShowArgs),
}

/// Arguments of `inventory check`.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// Only these inventories; all without
    names: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
}

/// Arguments of `inventory show`.
#[derive(Debug, Clone, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    fleet: FleetArgs,
}

impl InventoryCommand {
    pub(super) const fn output(&self) -> OutputFormat {
        match self {
            Self::Check(_) => OutputFormat::Text,
            Self::Show(args) => args.fleet.output.output,
        }
    }
}

pub(super) fn run(command: InventoryCommand) -> Result<ExitCode> {
    match command {
        InventoryCommand::Check(args) => check(&args),
        InventoryCommand::Show(args) => show(&args),
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let project = Project::find(args.project.project.as_deref())?;
    let diagnostics = Diagnostics::default();
    let known = project.names("inventories");
    let names = if args.names.is_empty() {
        &known
    } else {
        &args.names
    };
    let mut lines = String::new();
    for name in names {
        let name: Name = file_name(name).parse().map_err(Error::usage)?;
        if let Some(inventory) = project.inventory(&name, &diagnostics)? {
            lines.push_str(&format!(
                "inventories/{name}.toml: {} hosts in {} groups, provider {}\n",
                inventory.hosts.len(),
                inventory.groups.len(),
                inventory.provider.kind()
            ));
        }
    }
    if args.names.is_empty() {
        for name in project.names("environments") {
            let fleet = project.fleet(&name, &[], &diagnostics)?;
            // Secrets are not asked for: templates see their names.
            let redactor = Redactor::default();
            let secrets = Secrets::placeholders(&fleet.environment.secrets);
            resolve(&project, &fleet, &secrets, &redactor, &diagnostics)?;
            lines.push_str(&format!(
                "environments/{name}.toml: {} hosts\n",
                fleet.hosts.len()
            ));
        }
    }
    diagnostics.into_result()?;
    print(&Redactor::default(), &lines)?;
    Ok(ExitCode::SUCCESS)
}

/// `inventories/aws.toml` is understood as well as `aws`.
fn file_name(text: &str) -> &str {
    Path::new(text)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or(text)
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let project = Project::find(args.fleet.project.project.as_deref())?;
    let diagnostics = Diagnostics::default();
    let fleet = project.fleet(&args.fleet.env, &args.fleet.overrides, &diagnostics)?;
    diagnostics.into_result()?;
    let names = fleet.limited(&args.fleet.limit)?;
    let mut hosts = fleet.summaries();
    hosts.retain(|host| names.contains(&host.name));
    if args.fleet.output.output == OutputFormat::Json {
        print_json(&Redactor::default(), &hosts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|host| {
            let size = host
                .role
                .as_ref()
                .map(|role| format!("{} CPUs, {}", role.cpus, role.memory));
            vec![
                host.name.clone(),
                host.groups.join(","),
                host.provider.to_owned(),
                host.address.clone().unwrap_or_else(|| "-".to_owned()),
                host.instance_type.clone().unwrap_or_else(|| "-".to_owned()),
                size.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let header = ["HOST", "GROUPS", "PROVIDER", "ADDRESS", "TYPE", "SIZE"];
    print(&Redactor::default(), &render_table(&header, &rows))?;
    Ok(ExitCode::SUCCESS)
}
