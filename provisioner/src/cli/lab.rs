//! `provision lab`: throw-away hosts on this machine.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};

use super::{OutputArgs, ProjectArgs};
use crate::document::{Diagnostics, Name, suggestion};
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Project};
use crate::inventory::{Inventory, LabSettings, Provider};
use crate::lab::{
    self as provider, HostName, LabError, LabEvent, LabHost, LabName, LabSpec, LabState, LabVolume,
    Network, Power, Sudo,
};
use crate::report::{OutputFormat, print, print_json, render_table};
use crate::secret::Redactor;

/// The commands below `lab`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum LabCommand {
    /// Make the hosts of an inventory whose provider is `lab`, or start those that are off
    Up(LabArgs),
    /// Remove them with all that belongs to them
    Down(LabArgs),
    /// Show them
    List(ListArgs),
    /// A shell on one of them, or a command
    Ssh(SshArgs),
    /// Run a program of this machine inside the lab's network
    Exec(ExecArgs),
    /// Cut a host's power: all its processes end at once
    PowerOff(HostArgs),
    /// Start a host that is off
    Start(HostArgs),
    /// Cut a host off the network while it runs on
    Cut(HostArgs),
    /// Connect a host again that was cut off
    Restore(HostArgs),
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub(super) struct LabArgs {
    /// The inventory: a file inventories/NAME.toml
    #[arg(long, value_name = "NAME", default_value = "lab")]
    inventory: String,
    #[command(flatten)]
    project: ProjectArgs,
}

/// Arguments of `lab list`.
#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    lab: LabArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `lab ssh`.
#[derive(Debug, Clone, Args)]
pub(super) struct SshArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// The account
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The host
    host: String,
    /// A command and its arguments; a shell without
    #[arg(last = true)]
    command: Vec<String>,
}

/// Which host of which lab.
#[derive(Debug, Clone, Args)]
pub(super) struct HostArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// The host
    host: String,
}

/// Arguments of `lab exec`.
#[derive(Debug, Clone, Args)]
pub(super) struct ExecArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl LabCommand {
    pub(super) const fn output(&self) -> OutputFormat {
        match self {
            Self::List(args) => args.output.output,
            _ => OutputFormat::Text,
        }
    }
}

pub(super) fn run(command: LabCommand) -> Result<ExitCode> {
    let print_line = |text: String| {
        let _ = print(&Redactor::default(), &format!("{text}\n"));
    };
    match command {
        LabCommand::Up(args) => {
            let (inventory, settings) = lab_of(&args)?;
            bring_up(&inventory, &settings, &print_line)?;
            print(&Redactor::default(), &listing(&state_of(&settings)?))?;
        }
        LabCommand::Down(args) => {
            let (_, settings) = lab_of(&args)?;
            let name = lab_name(&settings)?;
            provider::down(&name, &mut |event| print_line(event.to_string())).map_err(explain)?;
        }
        LabCommand::List(args) => {
            let (_, settings) = lab_of(&args.lab)?;
            let state = state_of(&settings)?;
            match args.output.output {
                OutputFormat::Json => print_json(&Redactor::default(), &state)?,
                OutputFormat::Text | OutputFormat::Html => {
                    print(&Redactor::default(), &listing(&state))?
                }
            }
        }
        LabCommand::Ssh(args) => {
            let (name, host) = host_of(&args.lab, &args.host)?;
            let command = provider::ssh_command(&name, &host, args.user.as_deref(), &args.command);
            return Err(become_program(command.map_err(explain)?));
        }
        LabCommand::Exec(args) => {
            let (_, settings) = lab_of(&args.lab)?;
            let command = provider::exec_command(&lab_name(&settings)?, &args.command);
            return Err(become_program(command.map_err(explain)?));
        }
        LabCommand::PowerOff(args) => act_on(&args, provider::power_off)?,
        LabCommand::Start(args) => act_on(&args, |lab, host, events| {
            provider::start(lab, host, events).map(drop)
        })?,
        LabCommand::Cut(args) => act_on(&args, provider::cut_network)?,
        LabCommand::Restore(args) => act_on(&args, provider::restore_network)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Does something to a host, and shows how the lab is then.
fn act_on(
    args: &HostArgs,
    act: impl FnOnce(&LabName, &HostName, provider::Events<'_>) -> Result<(), LabError>,
) -> Result<()> {
    let (lab, host) = host_of(&args.lab, &args.host)?;
    let mut say = |event: LabEvent| {
        let _ = print(&Redactor::default(), &format!("{event}\n"));
    };
    act(&lab, &host, &mut say).map_err(explain)?;
    let state = provider::state(&lab).map_err(explain)?;
    print(
        &Redactor::default(),
        &state.as_ref().map(listing).unwrap_or_default(),
    )
}

/// A host and its lab.
fn host_of(lab: &LabArgs, host: &str) -> Result<(LabName, HostName)> {
    let (_, settings) = lab_of(lab)?;
    let host = host
        .parse()
        .map_err(|error| Error::usage(format!("{error}")))?;
    Ok((lab_name(&settings)?, host))
}

/// Replaces this process, so that signals, the terminal and the exit code are the program's.
fn become_program(mut command: Command) -> Error {
    let error = command.exec();
    let program = command.get_program().to_string_lossy().into_owned();
    Error::controller(format!("{program} cannot be run")).caused_by(error)
}

/// Brings the labs' hosts into the fleet: their keys, their proxy and what their volumes are
/// known by. With `up`, the lab is made first.
pub(super) fn attach(
    fleet: &mut Fleet,
    inventory: &Name,
    up: bool,
    say: &dyn Fn(String),
) -> Result<()> {
    let Some(Provider::Lab(settings)) = fleet.providers.get(inventory).cloned() else {
        return Ok(());
    };
    if up {
        let spec = spec_of_fleet(fleet, inventory, &settings)?;
        ensure(&spec, say)?;
    }
    let state = state_of(&settings)?;
    for host in fleet
        .hosts
        .iter_mut()
        .filter(|host| host.inventory == *inventory)
    {
        let Some(found) = state.host(host.name()) else {
            continue;
        };
        if !up && matches!(found.power, Power::Off) {
            return Err(Error::host(format!("lab host {} is off", host.name()))
                .hint("`provision lab up` starts it"));
        }
        host.host.address = Some(found.address.to_string());
        host.host.host_keys = vec![found.host_key.clone()];
        let ssh = &mut host.host.ssh;
        ssh.user.get_or_insert_with(|| "root".to_owned());
        ssh.identity = Some(state.identity.display().to_string());
        ssh.proxy_command = Some(state.proxy_command.clone());
        for (name, (_, identity)) in &mut host.volumes {
            let volume = found
                .volumes
                .iter()
                .find(|volume| volume.name.as_str() == name.as_str());
            identity.backing_file = volume.map(|volume| volume.backing_file.display().to_string());
        }
    }
    Ok(())
}

/// Where to send telemetry, and how to look, once a lab's fleet runs.
pub(super) fn where_to_look(fleet: &Fleet, settings: &LabSettings) -> String {
    let Some(balancer) = fleet.group_hosts("balancers").next() else {
        return String::new();
    };
    let address = balancer.host.address.clone().unwrap_or_default();
    let name = &settings.name;
    format!(
        "\nSend OTLP to {address}:4317 (gRPC) or http://{address}:4318 (HTTP). The lab `{name}` has a network of its own:\n  \
         provision lab exec -- PROGRAM …           runs a program of this machine inside it\n  \
         provision lab exec -- curl -s http://{address}:8404/stats   shows the balancer\n  \
         provision lab ssh storage-1 -- tail -f /mnt/data/otel/telemetry.jsonl   shows what arrives\n  \
         provision status --env {}           shows what runs\n  \
         provision lab down           removes all of it\n",
        fleet.environment.name
    )
}

fn lab_of(args: &LabArgs) -> Result<(Inventory, LabSettings)> {
    let project = Project::find(args.project.project.as_deref())?;
    let known = project.names("inventories");
    if !known.contains(&args.inventory) {
        let error = Error::usage(format!("there is no inventory `{}`", args.inventory));
        return Err(
            match suggestion(&args.inventory, known.iter().map(String::as_str)) {
                Some(hint) => error.hint(hint),
                None => error,
            },
        );
    }
    let diagnostics = Diagnostics::default();
    let name: Name = args.inventory.parse().map_err(Error::usage)?;
    let inventory = project.inventory(&name, &diagnostics)?;
    diagnostics.into_result()?;
    match inventory {
        Some(inventory) => match inventory.provider.clone() {
            Provider::Lab(settings) => Ok((inventory, settings)),
            other => Err(Error::usage(format!(
                "inventory `{name}` has provider {}, not lab",
                other.kind()
            ))),
        },
        None => Err(Error::configuration(format!(
            "inventory `{name}` cannot be used"
        ))),
    }
}

fn bring_up(inventory: &Inventory, settings: &LabSettings, say: &dyn Fn(String)) -> Result<()> {
    let mut spec = empty_spec(settings)?;
    for host in inventory.hosts.values() {
        let volumes = inventory
            .groups
            .values()
            .filter(|group| group.members.iter().any(|(name, _)| *name == host.name))
            .flat_map(|group| group.volumes.values())
            .map(|volume| {
                (
                    volume,
                    host.volumes
                        .get(&volume.name)
                        .and_then(|v| v.device.as_deref()),
                )
            });
        let address = host.address.as_deref();
        spec.hosts
            .push(lab_host(settings, host.name.as_str(), address, volumes)?);
    }
    ensure(&spec, say)
}

fn spec_of_fleet(fleet: &Fleet, inventory: &Name, settings: &LabSettings) -> Result<LabSpec> {
    let mut spec = empty_spec(settings)?;
    for host in fleet
        .hosts
        .iter()
        .filter(|host| host.inventory == *inventory)
    {
        let volumes = host
            .volumes
            .values()
            .map(|(v, identity)| (v, identity.device.as_deref()));
        let address = host.host.address.as_deref();
        spec.hosts
            .push(lab_host(settings, host.name(), address, volumes)?);
    }
    Ok(spec)
}

fn empty_spec(settings: &LabSettings) -> Result<LabSpec> {
    Ok(LabSpec {
        name: lab_name(settings)?,
        subnet: checked(&format!("{}/24", settings.subnet))?,
        packages: settings
            .packages
            .iter()
            .map(|name| checked(name))
            .collect::<Result<_>>()?,
        hosts: Vec::new(),
    })
}

fn lab_host<'a>(
    settings: &LabSettings,
    name: &str,
    address: Option<&str>,
    volumes: impl Iterator<Item = (&'a crate::inventory::Volume, Option<&'a str>)>,
) -> Result<LabHost> {
    let mut host = LabHost::named(checked(name)?);
    if let Some(address) = address {
        let parsed = address.parse().map_err(|_| {
            Error::configuration(format!("lab host {name}: `{address}` is no IPv4 address"))
        })?;
        host.address = Some(parsed);
    }
    for user in &settings.users {
        let sudo = match (user.sudo, &user.password) {
            (false, _) => Sudo::None,
            (true, None) => Sudo::NoPassword,
            (true, Some(password)) => Sudo::Password(password.clone()),
        };
        host.users.push(provider::LabUser {
            name: checked(&user.name)?,
            sudo,
        });
    }
    for (volume, device) in volumes {
        let device = device.or(volume.device.as_deref()).unwrap_or("/dev/sdf");
        host.volumes.push(LabVolume {
            name: checked(volume.name.as_str())?,
            size_bytes: volume.size.0,
            device: checked(device)?,
        });
    }
    Ok(host)
}

fn ensure(spec: &LabSpec, say: &dyn Fn(String)) -> Result<()> {
    let mut events = |event: LabEvent| say(event.to_string());
    if provider::requirements().is_err() {
        provider::install_requirements(&mut events).map_err(explain)?;
    }
    provider::up(spec, &mut events).map(drop).map_err(explain)
}

fn state_of(settings: &LabSettings) -> Result<LabState> {
    provider::state(&lab_name(settings)?)
        .map_err(explain)?
        .ok_or_else(|| {
            Error::host(format!("lab `{}` is not up", settings.name))
                .hint("`provision lab up` makes it")
        })
}

fn lab_name(settings: &LabSettings) -> Result<LabName> {
    checked(settings.name.as_str())
}

fn checked<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|error: T::Err| Error::configuration(error.to_string()))
}

fn explain(error: LabError) -> Error {
    Error::controller(error.to_string())
}

fn listing(state: &LabState) -> String {
    let rows: Vec<Vec<String>> = state
        .hosts
        .iter()
        .map(|host| {
            let power = match host.power {
                Power::On { .. } if host.network == Network::Cut => "on, cut off",
                Power::On { .. } => "on",
                Power::Off => "off",
            };
            let volumes: Vec<String> = host.volumes.iter().map(|v| v.device.to_string()).collect();
            vec![
                host.name.to_string(),
                host.address.to_string(),
                power.to_owned(),
                volumes.join(","),
            ]
        })
        .collect();
    render_table(&["HOST", "ADDRESS", "POWER", "VOLUMES"], &rows)
}
