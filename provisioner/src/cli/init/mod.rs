//! `provision init`: a project for machines that are there already.
//!
//! Goes in: addresses, an account and a key. Comes out: inventories, environments, playbooks and
//! templates, with comments. Invariant: no file that exists is touched, and what is written passes
//! `provision inventory check`.

mod content;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::content::Answers;
use super::OutputArgs;
use crate::document::Name;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{OutputFormat, print, print_json};
use crate::secret::Redactor;

/// The most hosts of a new project; more are added to its inventory later.
const HOSTS_LIMIT: usize = 1000;

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub(super) struct InitArgs {
    /// The hosts' addresses, two or more: the last one stores, those before receive; of four or
    /// more, the first one balances. Asked for without
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// The account to log in with: root, or one that may use sudo; `provision bootstrap` makes it
    #[arg(long)]
    user: Option<String>,
    /// The private key to log in with; without, the keys and the agent of your ssh
    #[arg(long, value_name = "FILE")]
    identity: Option<String>,
    /// A host to jump through
    #[arg(long, value_name = "HOST")]
    jump: Option<String>,
    /// The serial of the disk for telemetry on the last host (`lsblk -o NAME,SIZE,SERIAL`);
    /// without, it is kept on the root disk
    #[arg(long, value_name = "SERIAL", requires = "data_size")]
    data_disk: Option<String>,
    /// The size of that disk, for instance 500GiB
    #[arg(long, value_name = "SIZE", requires = "data_disk")]
    data_size: Option<crate::document::ByteSize>,
    /// The name of the environment
    #[arg(long, short, value_name = "NAME", default_value = "production")]
    env: Name,
    /// The folder to write into
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl InitArgs {
    pub(super) const fn output(&self) -> OutputFormat {
        self.output.output
    }
}

pub(super) fn run(mut args: InitArgs) -> Result<ExitCode> {
    if args.addresses.is_empty() {
        ask(&mut args)?;
    }
    let answers = answers(&args)?;
    let files = content::files(&answers);
    refuse_to_overwrite(&args.project, files.iter().map(|(path, _)| path.as_str()))?;
    for (path, text) in &files {
        write_new(&args.project.join(path), text)?;
    }
    if args.output.output == OutputFormat::Json {
        #[derive(Serialize)]
        struct Written<'a> {
            files: Vec<&'a str>,
        }
        let files = files.iter().map(|(path, _)| path.as_str()).collect();
        print_json(&Redactor::default(), &Written { files })?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&Redactor::default(), &summary(&answers, files.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn answers(args: &InitArgs) -> Result<Answers> {
    let count = args.addresses.len();
    if !(2..=HOSTS_LIMIT).contains(&count) {
        return Err(Error::usage(format!("{count} addresses were given, and it takes 2 to {HOSTS_LIMIT}"))
            .hint("one host receives and another one stores; `provision lab up` makes throw-away hosts to try it on"));
    }
    for (index, address) in args.addresses.iter().enumerate() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if address.is_empty() || address.starts_with('-') || !address.chars().all(allowed) {
            return Err(Error::usage(format!("`{address}` is no address"))
                .hint("an IP address or a DNS name; --user and --identity say how to log in"));
        }
        if args.addresses[..index].contains(address) {
            return Err(Error::usage(format!("{address} is given twice"))
                .hint("each host has a role of its own"));
        }
    }
    Ok(Answers {
        environment: args.env.clone(),
        addresses: args.addresses.clone(),
        user: args.user.clone(),
        identity: args.identity.clone(),
        jump: args.jump.clone(),
        data_disk: args.data_disk.clone().zip(args.data_size),
    })
}

/// Asks for what was not given.
fn ask(args: &mut InitArgs) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage("the addresses of the hosts are missing").hint(
            "provision init 192.0.2.11 192.0.2.31 --user deploy --identity ~/.ssh/id_ed25519",
        ));
    }
    let hosts = question("Addresses of the hosts, two or more, with blanks between them: ")?;
    args.addresses = hosts.split_whitespace().map(ToOwned::to_owned).collect();
    for (text, answer) in [
        (
            "Account to log in with (empty: as your ssh does): ",
            &mut args.user,
        ),
        (
            "Private key (empty: as your ssh does): ",
            &mut args.identity,
        ),
        ("Host to jump through (empty: none): ", &mut args.jump),
    ] {
        if answer.is_none() {
            let given = question(text)?;
            *answer = (!given.is_empty()).then_some(given);
        }
    }
    Ok(())
}

fn question(text: &str) -> Result<String> {
    let _ = write!(std::io::stderr().lock(), "{text}");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    match read {
        Ok(1..) => Ok(line.trim().to_owned()),
        _ => Err(Error::new(ErrorKind::Cancelled, "nothing was written")),
    }
}

fn refuse_to_overwrite<'a>(root: &Path, files: impl Iterator<Item = &'a str>) -> Result<()> {
    let there: Vec<&str> = files
        .filter(|file| root.join(file).symlink_metadata().is_ok())
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    let some: Vec<&str> = there.iter().take(5).copied().collect();
    Err(Error::usage("there are files already, nothing was written")
        .caused_by(format!("{} of them: {}", there.len(), some.join(", ")))
        .hint("change into an empty folder, or name one with --project DIR"))
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let wrap = |error: std::io::Error| {
        Error::controller(format!("{} cannot be written", path.display())).caused_by(error)
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrap)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(wrap)?;
    file.write_all(text.as_bytes()).map_err(wrap)
}

fn summary(answers: &Answers, count: usize) -> String {
    let mut text = format!("wrote {count} files:\n");
    for (group, name, address) in answers.hosts() {
        text.push_str(&format!("  {name:<12} {address:<20} {group}\n"));
    }
    let env = &answers.environment;
    text.push_str(&format!(
        "\nNext:\n  \
         provision trust --env {env}      # shows the hosts' keys; compare and pin them\n  \
         provision plan --env {env}       # shows what would be done\n  \
         provision --env {env}            # asks, then does it\n  \
         provision graph --env {env}      # draws it\n"
    ));
    text
}
