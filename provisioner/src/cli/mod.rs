//! The command line: one file per command.
//!
//! Goes in: arguments. Comes out: an exit code: 0 done or nothing to do, 1 an error, 2 changes
//! (of `plan`, and of `drift` where hosts differ). Invariant: errors are printed here and nowhere else.

mod adopt;
mod apply;
mod ask;
mod askpass;
mod audit;
mod bootstrap;
mod completions;
mod context;
mod destroy;
mod drift;
mod graph;
mod history;
mod init;
mod inventory;
mod lab;
mod man;
mod plan;
mod retire;
mod rollback;
mod saved;
mod schema;
mod secret;
mod status;
mod tls;
mod trust;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::fleet::Override;
use crate::report::{OutputFormat, RED, print_json, styled};
use crate::secret::Redactor;

/// The most open files that are asked for; programs that are run go through all that they may have.
const FILES_LIMIT: u64 = 65_536;

/// Takes a fleet described in TOML from bare machines to a running OpenTelemetry platform.
#[derive(Debug, Parser)]
#[command(name = "provision", version, arg_required_else_help = true)]
#[command(after_help = "`provision --env NAME` is the same as `provision apply --env NAME`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Options without a command are those of `apply`.
fn with_default_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let own = ["-h", "--help", "-V", "--version"];
    let is_option = arguments
        .get(1)
        .and_then(|first| first.to_str())
        .is_some_and(|first| first.starts_with('-') && !own.contains(&first));
    if is_option {
        arguments.insert(1, "apply".into());
    }
    arguments
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a project for machines that are there already, as a starting point
    Init(init::InitArgs),
    /// Make your account on new machines, with the access that their provider gave
    Bootstrap(bootstrap::BootstrapArgs),
    /// Bring every host of an environment to what its playbook says
    Apply(apply::ApplyArgs),
    /// Show what `apply` would do (exit 0: nothing, 2: changes, 1: error)
    Plan(plan::PlanArgs),
    /// Take over hosts that others have configured, and leave them as they are (exit 0: all is as
    /// described, 2: not all, 1: error)
    Adopt(adopt::AdoptArgs),
    /// Show what runs on every host
    Status(status::StatusArgs),
    /// Show who changed what on every host, and when
    History(history::HistoryArgs),
    /// Show how hosts differ from what was last applied (exit 0: not at all, 2: they do, 1: error)
    Drift(drift::DriftArgs),
    /// Bring hosts back to what they had before the last run, or at a generation
    Rollback(rollback::RollbackArgs),
    /// Remove what this tool put on a host that left the inventory
    Retire(retire::RetireArgs),
    /// Remove exactly what this tool put on the hosts of an environment
    Destroy(destroy::DestroyArgs),
    /// Check and show inventories
    #[command(subcommand)]
    Inventory(inventory::InventoryCommand),
    /// Make and remove throw-away hosts on this machine
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Show the host keys of machines, and pin them in the inventory
    Trust(trust::TrustArgs),
    /// Keep secrets in files that live in git, encrypted
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Make a certificate authority for an environment, and certificates for its hosts
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Draw the groups, hosts, ports and data paths of an environment
    Graph(graph::GraphArgs),
    /// Print the JSON Schema of a kind of file, for editors
    Schema(schema::SchemaArgs),
    /// Write manual pages
    Man(man::ManArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// What every command that reaches hosts takes.
#[derive(Debug, Clone, Args)]
struct FleetArgs {
    /// The environment: a file environments/NAME.toml
    #[arg(long, short, value_name = "NAME", env = "PROVISION_ENV")]
    env: String,
    /// Only this host or group; may be given several times
    #[arg(long, value_name = "HOST|GROUP")]
    limit: Vec<String>,
    /// Override a setting, for instance retention.logs=7d
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<Override>,
    /// How many hosts are worked on at once, and connected to at once; a host that a run changes
    /// stays connected and locked until the run ends
    #[arg(long, value_name = "N", default_value_t = default_forks(), value_parser = parse_forks)]
    forks: usize,
    #[command(flatten)]
    identities: secret::IdentityArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

/// What every command that prints takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// How the result is printed
    #[arg(long, value_name = "OUTPUT", default_value = "text", value_parser = text_or_json())]
    pub(crate) output: OutputFormat,
    /// Show every step and every line
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// What every command that reads the project takes.
#[derive(Debug, Clone, Args)]
struct ProjectArgs {
    /// The folder with inventories, environments, playbooks and templates
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

/// What every command that changes hosts takes.
#[derive(Debug, Clone, Args)]
struct LockArgs {
    /// How long to wait for another run to leave a host, for instance 5m
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    lock_timeout: Duration,
}

/// How every command but `plan` prints.
fn text_or_json() -> impl TypedValueParser<Value = OutputFormat> {
    let formats = [OutputFormat::Text, OutputFormat::Json];
    let words = formats.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(words)
        .map(|word| OutputFormat::from_str(&word, false).unwrap_or_default())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 30s or 5m".to_owned())
}

fn default_forks() -> usize {
    std::thread::available_parallelism().map_or(8, |count| (count.get() * 8).clamp(8, 64))
}

fn parse_forks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(forks @ 1..=1024) => Ok(forks),
        _ => Err("a number between 1 and 1024".to_owned()),
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = askpass::answer() {
        return code;
    }
    let cli = match Cli::try_parse_from(with_default_command(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => {
            // Exit code 2 means that there are changes, so a wrong argument is 1 here.
            let failed = error.use_stderr();
            if failed && asks_for_json(std::env::args()) {
                let text = error.render().to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                complain(&Error::usage(text.trim_end()), OutputFormat::Json);
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::from(failed));
        }
    };
    let output = cli.command.output();
    run(cli).unwrap_or_else(|error| {
        complain(&error, output);
        ExitCode::FAILURE
    })
}

/// Prints an error where whoever asked looks for it: programs read the standard output.
fn complain(error: &Error, output: OutputFormat) {
    if output == OutputFormat::Json {
        // Whoever went away hears of no error either.
        let _ = print_json(&Redactor::default(), &serde_json::json!({ "error": error }));
        return;
    }
    let mut stderr = anstream::stderr().lock();
    let text = error.to_string();
    let text = text.replacen("error:", &styled(RED, "error:"), 1);
    let _ = writeln!(stderr, "{text}");
}

/// Whether a command line that cannot be understood asks for JSON all the same.
fn asks_for_json(arguments: impl Iterator<Item = String>) -> bool {
    let arguments: Vec<String> = arguments.collect();
    let apart = arguments.windows(2).any(|two| two == ["--output", "json"]);
    apart || arguments.iter().any(|one| one == "--output=json")
}

impl Command {
    /// How its result is printed, and an error with it.
    const fn output(&self) -> OutputFormat {
        match self {
            Self::Bootstrap(args) => args.output(),
            Self::Apply(args) => args.output(),
            Self::Plan(args) => args.output(),
            Self::Adopt(args) => args.output(),
            Self::Status(args) => args.output(),
            Self::History(args) => args.output(),
            Self::Drift(args) => args.output(),
            Self::Rollback(args) => args.output(),
            Self::Retire(args) => args.output(),
            Self::Destroy(args) => args.output(),
            Self::Inventory(command) => command.output(),
            Self::Lab(command) => command.output(),
            Self::Init(args) => args.output(),
            Self::Trust(args) => args.output(),
            Self::Tls(command) => command.output(),
            Self::Secret(command) => command.output(),
            Self::Graph(_) | Self::Schema(_) | Self::Man(_) | Self::Completions(_) => {
                OutputFormat::Text
            }
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Bootstrap(args) => block_on(bootstrap::run(args)),
        Command::Apply(args) => block_on(apply::run(args)),
        Command::Plan(args) => block_on(plan::run(args)),
        Command::Adopt(args) => block_on(adopt::run(args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::History(args) => block_on(history::run(args)),
        Command::Drift(args) => block_on(drift::run(args)),
        Command::Rollback(args) => block_on(rollback::run(args)),
        Command::Retire(args) => block_on(retire::run(args)),
        Command::Destroy(args) => block_on(destroy::run(args)),
        Command::Inventory(command) => inventory::run(command),
        Command::Lab(command) => lab::run(command),
        Command::Init(args) => init::run(args),
        Command::Trust(args) => block_on(trust::run(args)),
        Command::Tls(command) => block_on(tls::run(command)),
        Command::Secret(command) => secret::run(command),
        Command::Graph(args) => graph::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Takes as many open files as the system allows, up to a limit: a host that is connected to takes
/// four, and the usual 1,024 are meant for programs that call `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit
        .maximum
        .map_or(FILES_LIMIT, |most| most.min(FILES_LIMIT));
    if limit.current.is_some_and(|current| current < most) {
        let raised = Rlimit {
            current: Some(most),
            ..limit
        };
        // With the limit as it is, a run for few hosts goes well all the same.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    raise_file_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::controller("the runtime cannot be started").caused_by(error))?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn apply_is_what_is_done_when_no_command_is_given() {
        for words in [
            &["provision", "--env", "a", "--yes"][..],
            &["provision", "apply", "-e", "a"],
        ] {
            let words = with_default_command(words.iter().map(OsString::from).collect());
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(matches!(cli.command, Command::Apply(_)));
        }
    }

    #[test]
    fn help_reads_as_it_should() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!(command.render_help());
    }
}
