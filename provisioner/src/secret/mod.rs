//! Values that must never be seen.
//!
//! Goes in: where a secret comes from. Comes out: a [`Secret`], and a [`Redactor`] that takes
//! every form of it out of a text. Invariant: a secret has no way to be printed.

mod file;
mod identity;
mod redactor;
mod scratch;
mod spelling;
#[cfg(test)]
mod tests;

pub(crate) use file::check_value;
pub use file::{SealedValue, SecretEditor, SecretFile};
pub(crate) use identity::VALUE_LIMIT;
pub use identity::{Identities, Recipients};
pub use redactor::Redactor;
pub use scratch::ScratchFile;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::document::{Location, Name, Section};
use crate::error::{Error, Result};

/// The shortest secret that is accepted, in bytes. A shorter one could not be told from other
/// text, and so not be taken out of it.
const SECRET_MINIMUM_BYTES: usize = 6;

/// A value that must never be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for what must have it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A value with its name, which may be seen.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// The name.
    pub name: Name,
    /// The value.
    pub value: Secret,
}

/// Asks somebody for the value of a secret.
pub type Ask<'a> = &'a dyn Fn(&Name) -> Result<String>;

/// Where a secret comes from.
#[derive(Clone, Debug)]
pub struct SecretSource {
    /// How it is got.
    pub origin: SecretOrigin,
    /// Where that is described.
    pub location: Location,
}

/// How a secret is got.
#[derive(Clone, Debug)]
pub enum SecretOrigin {
    /// From an environment variable.
    Environment(String),
    /// From a file, relative to the project; one line end at its end is dropped.
    File(String),
    /// From what a program prints; one line end at its end is dropped.
    Command(Vec<String>),
    /// From whoever runs this, at the terminal.
    Terminal,
    /// From the environment's encrypted file.
    Encrypted(SealedValue),
}

impl SecretSource {
    /// Reads a `[secrets.NAME]` table.
    pub fn parse(section: Section<'_>) -> Option<Self> {
        let location = section.location();
        let variable = section
            .string("env")
            .map(|entry| SecretOrigin::Environment(entry.value));
        let file = section
            .string("file")
            .map(|entry| SecretOrigin::File(entry.value));
        let command: Vec<String> = section
            .strings("command")
            .into_iter()
            .map(|entry| entry.value)
            .collect();
        let command = (!command.is_empty()).then_some(SecretOrigin::Command(command));
        let ask = section.boolean("ask").unwrap_or(false);
        let ask = ask.then_some(SecretOrigin::Terminal);
        let mut origins: Vec<SecretOrigin> = [variable, file, command, ask]
            .into_iter()
            .flatten()
            .collect();
        let origin = if origins.len() == 1 {
            origins.pop()
        } else {
            None
        };
        if origin.is_none() {
            section.error(
                "a secret comes from exactly one of `env`, `file`, `command` and `ask = true`",
                None,
            );
        }
        section.finish();
        Some(Self {
            origin: origin?,
            location,
        })
    }

    /// Gets the value. Sources are relative to the project at `root`.
    ///
    /// # Errors
    /// It cannot be had; the message names the source, never the value.
    pub fn resolve(
        &self,
        name: &Name,
        root: &Path,
        identities: &Identities,
        ask: Ask<'_>,
    ) -> Result<Secret> {
        let wrap = |what: String| {
            Error::configuration(format!("secret `{name}` cannot be had"))
                .caused_by(what)
                .caused_by(format!("it is described at {}", self.location))
        };
        let value = match &self.origin {
            SecretOrigin::Environment(variable) => std::env::var(variable).map_err(|_| {
                wrap(format!("the environment variable {variable} is not set"))
                    .hint(format!("export {variable} before the run"))
            })?,
            SecretOrigin::File(path) => std::fs::read_to_string(root.join(path))
                .map_err(|error| wrap(format!("{path}: {error}")))?,
            SecretOrigin::Command(arguments) => {
                run(arguments, root, COMMAND_TIMEOUT).map_err(wrap)?
            }
            SecretOrigin::Terminal => ask(name)?,
            SecretOrigin::Encrypted(sealed) => return Secret::open(sealed, name, identities),
        };
        let value = value.strip_suffix('\n').map_or(value.as_str(), |value| {
            value.strip_suffix('\r').unwrap_or(value)
        });
        if value.len() < SECRET_MINIMUM_BYTES {
            return Err(
                wrap(format!("it is shorter than {SECRET_MINIMUM_BYTES} bytes")).hint(
                    "a shorter one cannot be taken out of what is printed; take a longer one",
                ),
            );
        }
        Ok(Secret(value.to_owned()))
    }
}

/// How long a program may take to print a secret; a person may have to unlock something for it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);

fn run(arguments: &[String], root: &Path, within: Duration) -> std::result::Result<String, String> {
    let (program, rest) = arguments.split_first().ok_or("no program")?;
    let child = Command::new(program)
        .args(rest)
        .current_dir(root)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let process = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = match ended.recv_timeout(within) {
        Ok(output) => output.map_err(|error| format!("{program}: {error}"))?,
        Err(_) => {
            let _ = kill_process(process, Signal::KILL);
            let within = humantime::format_duration(within);
            return Err(format!("{program} did not end within {within}"));
        }
    };
    if !output.status.success() {
        // What it printed may be the secret all the same, and it may complain with it.
        let printed = String::from_utf8_lossy(&output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        let words = Redactor::of_output("output", &printed).redact(&words);
        return Err(format!(
            "{program} ended with {}: {}",
            output.status,
            words.trim()
        ));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{program} printed no UTF-8"))
}

/// All secrets of an environment.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    values: BTreeMap<Name, Secret>,
}

impl Secrets {
    /// Gets all of them.
    ///
    /// # Errors
    /// One of them cannot be had; the message names it and its source, never its value.
    pub fn resolve(
        sources: &BTreeMap<Name, SecretSource>,
        root: &Path,
        identities: &Identities,
        ask: Ask<'_>,
    ) -> Result<Self> {
        let mut secrets = Self::default();
        let mut failures = Vec::new();
        let asked = |source: &SecretSource| matches!(source.origin, SecretOrigin::Terminal);
        let (typed, had): (Vec<_>, Vec<_>) = sources.iter().partition(|(_, one)| asked(one));
        for (name, source) in had.into_iter().chain(typed) {
            // Nobody types anything for a run that cannot be.
            if asked(source) && !failures.is_empty() {
                break;
            }
            match source.resolve(name, root, identities, ask) {
                Ok(secret) => drop(secrets.values.insert(name.clone(), secret)),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() {
            return Ok(secrets);
        }
        // What one source complains about may quote another one.
        let redactor = Redactor::new(&secrets);
        let mut all = Error::configuration("not every secret can be had, nothing was done");
        for failure in failures {
            let causes = failure.causes.join("\n");
            let cause = format!("{}\n{causes}", failure.message);
            all = all.caused_by(redactor.redact(&cause));
            for hint in failure.hints {
                if !all.hints.contains(&hint) {
                    all.hints.push(hint);
                }
            }
        }
        Err(all)
    }

    /// Values that stand for all of them, where no host is reached.
    #[must_use]
    pub fn placeholders(sources: &BTreeMap<Name, SecretSource>) -> Self {
        let value = |name: &Name| Secret(format!("secret-{name}"));
        Self {
            values: sources
                .keys()
                .map(|name| (name.clone(), value(name)))
                .collect(),
        }
    }

    /// These.
    #[cfg(test)]
    pub(crate) fn of(values: impl IntoIterator<Item = (Name, Secret)>) -> Self {
        Self {
            values: values.into_iter().collect(),
        }
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Secret> {
        self.values.get(name)
    }

    /// All names and values, for the contexts of templates.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Secret)> {
        self.values.iter()
    }
}
