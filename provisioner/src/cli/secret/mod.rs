//! `provision secret`: values in files that live in git, encrypted.
//!
//! Goes in: an environment and the name of a secret. Comes out: its value, where it was asked
//! for, or the file with it changed. Invariant: a value is read from the terminal, the standard
//! input or a file, never from an argument, and printed by `get` alone.

mod edit;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::ask::{ask_secret, hidden};
use super::{OutputArgs, ProjectArgs};
use crate::document::{Diagnostics, Name, Source, read_source, replace_file, suggestion};
use crate::error::{Error, Result};
use crate::fleet::{Environment, Project};
use crate::report::{OutputFormat, print, print_json, render_table};
use crate::secret::{
    Identities, Recipients, Redactor, SecretEditor, SecretFile, SecretOrigin, SecretSource,
    VALUE_LIMIT, check_value,
};

/// How many characters a generated secret has, unless told.
const GENERATED_CHARACTERS: &str = "32";

/// The commands below `secret`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum SecretCommand {
    /// Set a secret: from the terminal, the standard input or a file, or a generated one
    Set(SetArgs),
    /// Print the value of a secret on the standard output
    Get(GetArgs),
    /// Edit one secret, or all of them, with $EDITOR
    Edit(EditArgs),
    /// Encrypt every secret again, to the recipients as they are now
    Rotate(RotateArgs),
    /// Show the names of all secrets and where they come from, never a value
    List(ListArgs),
}

/// What every command below `secret` takes.
#[derive(Debug, Clone, Args)]
pub(super) struct SecretArgs {
    /// The environment: a file environments/NAME.toml
    #[arg(long, short, value_name = "NAME", env = "PROVISION_ENV")]
    env: String,
    #[command(flatten)]
    identities: IdentityArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

impl SecretArgs {
    /// Those of a command that reaches hosts.
    pub(super) fn of(fleet: &super::FleetArgs) -> Self {
        Self {
            env: fleet.env.clone(),
            identities: fleet.identities.clone(),
            project: fleet.project.clone(),
        }
    }
}

/// What every command that decrypts takes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct IdentityArgs {
    /// A file with a private key for encrypted secrets; without: PROVISION_AGE_IDENTITY(_FILE),
    /// ~/.config/provision/identity, ~/.ssh/id_ed25519, ~/.ssh/id_rsa
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

impl IdentityArgs {
    pub(super) fn identities(&self) -> Identities {
        Identities::new(self.identity.clone())
    }
}

/// Arguments of `secret set`.
#[derive(Debug, Clone, Args)]
pub(super) struct SetArgs {
    /// The secret
    name: Name,
    /// Take the value from a file; `-` is the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    from: Option<PathBuf>,
    /// Make a random value of this many letters and digits
    #[arg(long, value_name = "LENGTH", num_args = 0..=1, default_missing_value = GENERATED_CHARACTERS, value_parser = clap::value_parser!(u16).range(16..=4096))]
    generate: Option<u16>,
    /// Whom a new file is encrypted to, beside you: age1… or a line of a .pub file
    #[arg(long, value_name = "PUBLIC-KEY")]
    recipient: Vec<String>,
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `secret get`.
#[derive(Debug, Clone, Args)]
pub(super) struct GetArgs {
    /// The secret
    name: Name,
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `secret edit`.
#[derive(Debug, Clone, Args)]
pub(super) struct EditArgs {
    /// The secret; all of the file without
    name: Option<Name>,
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `secret rotate`.
#[derive(Debug, Clone, Args)]
pub(super) struct RotateArgs {
    /// A recipient to add: age1… or a line of a .pub file
    #[arg(long, value_name = "PUBLIC-KEY")]
    add: Vec<String>,
    /// A recipient to take away: its public key, or the comment behind it
    #[arg(long, value_name = "RECIPIENT")]
    remove: Vec<String>,
    #[command(flatten)]
    common: SecretArgs,
}

/// Arguments of `secret list`.
#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    common: SecretArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl SecretCommand {
    pub(super) const fn output(&self) -> OutputFormat {
        match self {
            Self::List(args) => args.output.output,
            Self::Set(_) | Self::Get(_) | Self::Edit(_) | Self::Rotate(_) => OutputFormat::Text,
        }
    }
}

pub(super) fn run(command: SecretCommand) -> Result<ExitCode> {
    match command {
        SecretCommand::Set(args) => set(&args),
        SecretCommand::Get(args) => get(&args),
        SecretCommand::Edit(args) => edit::run(&args),
        SecretCommand::Rotate(args) => rotate(&args),
        SecretCommand::List(args) => list(&args),
    }
}

/// An environment with its encrypted file, where it has one.
pub(super) struct Store {
    pub(super) project: Project,
    pub(super) environment: Environment,
    environment_source: Arc<Source>,
    identities: Identities,
    /// Relative to the project.
    path: String,
    source: Option<Arc<Source>>,
}

impl Store {
    pub(super) fn open(args: &SecretArgs) -> Result<Self> {
        let project = Project::find(args.project.project.as_deref())?;
        let diagnostics = Diagnostics::default();
        let (environment, environment_source) = project.environment(&args.env, &diagnostics)?;
        diagnostics.into_result()?;
        let path = match &environment.secret_file {
            Some(named) => named.value.clone(),
            None => format!("environments/{}.secrets.toml", environment.name),
        };
        let source = if project.root().join(&path).exists() {
            Some(read_source(project.root(), path.as_ref())?)
        } else {
            None
        };
        Ok(Self {
            project,
            environment,
            environment_source,
            identities: args.identities.identities(),
            path,
            source,
        })
    }

    /// What the file holds; nothing where there is no file.
    pub(super) fn file(&self) -> Result<Option<SecretFile>> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let diagnostics = Diagnostics::default();
        let file = SecretFile::parse(source, &diagnostics);
        diagnostics.into_result()?;
        Ok(Some(file))
    }

    fn existing(&self) -> Result<(SecretFile, SecretEditor)> {
        let (Some(file), Some(source)) = (self.file()?, &self.source) else {
            let env = &self.environment.name;
            let error = Error::usage(format!("environment `{env}` has no encrypted secrets yet"));
            return Err(error.hint(format!("`provision secret set NAME --env {env}` makes one")));
        };
        Ok((file, SecretEditor::open(source)?))
    }

    fn save(&self, editor: &SecretEditor) -> Result<()> {
        editor.save(&self.project.root().join(&self.path))
    }

    /// Sets values; makes the file where there is none, and names it in the environment.
    pub(super) fn put(
        &mut self,
        values: &[(Name, String)],
        recipients: &[String],
    ) -> Result<SecretFile> {
        let made = self.source.is_none();
        if made {
            let recipients = first_recipients(&self.identities, recipients)?;
            let text = SecretEditor::new_text(&recipients);
            self.source = Some(Arc::new(Source::new(self.path.clone(), text)));
        }
        let (file, mut editor) = self.existing()?;
        for (name, value) in values {
            editor.set(name, value)?;
        }
        self.save(&editor)?;
        if made {
            name_in_environment(self)?;
        }
        Ok(file)
    }

    pub(super) fn decrypt(&self, file: &SecretFile, name: &Name) -> Result<String> {
        let sealed = file
            .values
            .get(name)
            .ok_or_else(|| self.unknown(name, file.values.keys()))?;
        let source = SecretSource {
            origin: SecretOrigin::Encrypted(sealed.clone()),
            location: sealed.location.clone(),
        };
        let value = source.resolve(name, self.project.root(), &self.identities, &ask_secret)?;
        Ok(value.expose().to_owned())
    }

    fn unknown<'a>(&self, name: &Name, known: impl Iterator<Item = &'a Name>) -> Error {
        let env = &self.environment.name;
        let error = Error::usage(format!("environment `{env}` has no secret `{name}`"));
        match suggestion(name.as_str(), known.map(Name::as_str)) {
            Some(hint) => error.hint(hint),
            None => error.hint(format!(
                "`provision secret set {name} --env {env}` makes it"
            )),
        }
    }
}

pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

fn set(args: &SetArgs) -> Result<ExitCode> {
    let mut store = Store::open(&args.common)?;
    if let Some(other) = store.environment.secrets.get(&args.name) {
        let message = format!("secret `{}` comes from elsewhere", args.name);
        return Err(Error::usage(message)
            .caused_by(format!("it is described at {}", other.location))
            .hint("take it out there first"));
    }
    if store.source.is_some() && !args.recipient.is_empty() {
        return Err(
            Error::usage(format!("{} has recipients already", store.path)).hint(
                "`provision secret rotate --add PUBLIC-KEY` adds one, and encrypts all again",
            ),
        );
    }
    let value = value_of(args)?;
    check_value(&args.name, &value)?;
    let file = store.put(&[(args.name.clone(), value)], &args.recipient)?;
    let count = file.recipients.len();
    let noun = if count == 1 {
        "recipient"
    } else {
        "recipients"
    };
    say(&format!(
        "{} is set in {}, for {count} {noun}",
        args.name, store.path
    ));
    let stale = file
        .values
        .iter()
        .filter(|(name, value)| **name != args.name && !file.is_current(value));
    let stale: Vec<&str> = stale.map(|(name, _)| name.as_str()).collect();
    if !stale.is_empty() {
        say(&format!(
            "encrypted to other recipients than listed: {}; `provision secret rotate` mends that",
            stale.join(", ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever makes the file, and those that were named.
fn first_recipients(identities: &Identities, named: &[String]) -> Result<Vec<String>> {
    for line in named {
        Recipients::check(line)?;
    }
    let own = identities.public_keys()?;
    let own = match own.into_iter().next() {
        Some(own) => Some(own),
        None if named.is_empty() => {
            let (path, public) = Identities::make_own()?;
            say(&format!(
                "made an identity at {}; keep a copy of it in a safe place: without it nobody can read the secrets\nits public key is {public}",
                path.display()
            ));
            Some(public)
        }
        None => None,
    };
    let mut all: Vec<String> = own.into_iter().collect();
    for line in named {
        if !all.iter().any(|known| line.starts_with(known.as_str())) {
            all.push(line.trim().to_owned());
        }
    }
    Ok(all)
}

/// Writes `[secrets] file = …` into the environment, where it is not.
fn name_in_environment(store: &Store) -> Result<()> {
    if store.environment.secret_file.is_some() {
        return Ok(());
    }
    let file = format!("environments/{}.toml", store.environment.name);
    let text = store.environment_source.text();
    let changed = with_secret_file(text, &store.path).ok_or_else(|| {
        Error::configuration(format!("{file} cannot be changed")).hint(format!(
            "write into it: [secrets] file = \"{}\"",
            store.path
        ))
    })?;
    let path = store.project.root().join(&file);
    replace_file(&path, &changed)
        .map_err(|error| Error::controller(format!("{file} cannot be written")).caused_by(error))?;
    say(&format!(
        "{file} names it now: [secrets] file = \"{}\"",
        store.path
    ));
    Ok(())
}

fn with_secret_file(text: &str, path: &str) -> Option<String> {
    let mut document = text.parse::<toml_edit::DocumentMut>().ok()?;
    let made = !document.contains_key("secrets");
    let secrets = document.entry("secrets").or_insert_with(toml_edit::table);
    if let Some(table) = secrets.as_table_mut() {
        table.set_implicit(false);
        if made {
            table.decor_mut().set_prefix("\n");
        }
    }
    secrets
        .as_table_like_mut()?
        .insert("file", toml_edit::value(path));
    Some(document.to_string())
}

fn value_of(args: &SetArgs) -> Result<String> {
    if let Some(length) = args.generate {
        return generate(length);
    }
    let text = match &args.from {
        Some(path) if path.as_os_str() != "-" => {
            let wrap = |error: std::io::Error| {
                Error::usage(format!("{} cannot be read", path.display())).caused_by(error)
            };
            read_bounded(std::fs::File::open(path).map_err(wrap)?).map_err(wrap)?
        }
        _ if std::io::stdin().is_terminal() => hidden(&format!("value of {}: ", args.name))?,
        _ => read_bounded(std::io::stdin().lock()).map_err(|error| {
            Error::usage("the standard input cannot be read as text").caused_by(error)
        })?,
    };
    Ok(without_line_end(&text).to_owned())
}

fn read_bounded(reader: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    reader.take(VALUE_LIMIT + 2).read_to_string(&mut text)?;
    Ok(text)
}

fn without_line_end(text: &str) -> &str {
    text.strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

/// Letters and digits, each as likely as any other.
fn generate(length: u16) -> Result<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // Above this, some letters would be more likely than others.
    const BELOW: u8 = 248;
    let mut text = String::new();
    while text.len() < usize::from(length) {
        let mut bytes = [0u8; 256];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let filled = filled.map_err(|error| {
            Error::controller("the kernel gives no random bytes").caused_by(error)
        })?;
        let letters = bytes[..filled].iter().filter(|byte| **byte < BELOW);
        let letters = letters.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        text.extend(letters.take(usize::from(length) - text.len()));
    }
    Ok(text)
}

fn get(args: &GetArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let value = match store.environment.secrets.get(&args.name) {
        Some(source) => source
            .resolve(
                &args.name,
                store.project.root(),
                &store.identities,
                &ask_secret,
            )?
            .expose()
            .to_owned(),
        None => match store.file()? {
            Some(file) => store.decrypt(&file, &args.name)?,
            None => return Err(store.unknown(&args.name, store.environment.secrets.keys())),
        },
    };
    // This is the one place where a secret is printed: it was asked for by name.
    print(&Redactor::default(), &format!("{value}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn rotate(args: &RotateArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let (file, mut editor) = store.existing()?;
    // All are decrypted before anything is changed.
    let mut values = Vec::new();
    for name in file.values.keys() {
        values.push((name, store.decrypt(&file, name)?));
    }
    editor.change_recipients(&args.add, &args.remove)?;
    for (name, value) in &values {
        editor.seal(name, value)?;
    }
    store.save(&editor)?;
    say(&format!(
        "{} secrets in {} are encrypted again",
        values.len(),
        store.path
    ));
    if !args.remove.is_empty() {
        say(
            "whoever was removed knows the values so far, also from the history of the repository: change them where they are in use",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What is shown of a secret.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `encrypted`, `env`, `file` or `command`.
    source: &'static str,
    /// The file, the variable or the program.
    from: String,
    changed: Option<String>,
    /// Whether it is encrypted to the recipients that are listed now.
    current: Option<bool>,
}

fn list(args: &ListArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let mut rows: Vec<Row> = Vec::new();
    if let Some(file) = store.file()? {
        rows.extend(file.values.iter().map(|(name, value)| Row {
            name: name.to_string(),
            source: "encrypted",
            from: store.path.clone(),
            changed: value.changed.clone(),
            current: Some(file.is_current(value)),
        }));
    }
    for (name, source) in &store.environment.secrets {
        let (source, from) = match &source.origin {
            SecretOrigin::Environment(variable) => ("env", variable.clone()),
            SecretOrigin::File(path) => ("file", path.clone()),
            SecretOrigin::Command(words) => ("command", words.first().cloned().unwrap_or_default()),
            SecretOrigin::Terminal => ("ask", String::new()),
            SecretOrigin::Encrypted(_) => continue,
        };
        rows.push(Row {
            name: name.to_string(),
            source,
            from,
            changed: None,
            current: None,
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if args.output.output == OutputFormat::Json {
        print_json(&Redactor::default(), &rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells = |row: &Row| {
        let dash = || "-".to_owned();
        let note = if row.current == Some(false) {
            "encrypted to other recipients: rotate"
        } else {
            ""
        };
        let changed = row.changed.clone().unwrap_or_else(dash);
        vec![
            row.name.clone(),
            row.source.to_owned(),
            row.from.clone(),
            changed,
            note.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let header = ["SECRET", "SOURCE", "FROM", "CHANGED", ""];
    print(&Redactor::default(), &render_table(&header, &rows))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_has_the_length_that_was_asked_for() {
        let (one, other) = (generate(300).unwrap(), generate(300).unwrap());
        assert_eq!((one.len(), other.len()), (300, 300));
        assert_ne!(one, other);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()));
    }

    #[test]
    fn an_environment_keeps_its_layout_when_it_gets_a_file() {
        let plain = "# top\ntier = \"small\" # why\n";
        let expected = "# top\ntier = \"small\" # why\n\n[secrets]\nfile = \"a.toml\"\n";
        assert_eq!(with_secret_file(plain, "a.toml").unwrap(), expected);
        let with = "tier = \"small\"\n\n# its source\n[secrets.token]\nenv = \"TOKEN\"\n";
        insta::assert_snapshot!(with_secret_file(with, "a.toml").unwrap());
    }
}
