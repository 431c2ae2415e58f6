//! Every error that a person sees.
//!
//! Goes in: what went wrong, where, and the way out. Comes out: one rendering for people, one for
//! programs, and one exit code.
//! Invariant: a message is printed by `main` alone, once.

use std::fmt::{self, Display, Write as _};

use serde::Serialize;

use crate::document::{Diagnostic, Diagnostics};

/// Whose turn it is to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The command line, or a refusal that another command line would lift.
    Usage,
    /// A file of the project: inventory, environment, playbook or template.
    Configuration,
    /// A host, or the way to it.
    Host,
    /// A host that does not answer at all.
    Unreachable,
    /// A host whose connection ended in the middle.
    Lost,
    /// A host that does not let the account in, or does not make it root: trying again is no use,
    /// and may lock the account.
    Denied,
    /// This machine: a missing program, a full disk.
    Controller,
    /// The person interrupted or declined.
    Cancelled,
}

/// One error: its cause in one sentence, what was found in which file, and the way out.
#[derive(Debug, Serialize)]
pub struct Error {
    /// Whose turn it is.
    pub kind: ErrorKind,
    /// One sentence without a period.
    pub message: String,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// Mistakes in files, each with its place.
    pub diagnostics: Vec<Diagnostic>,
    /// What to do.
    pub hints: Vec<String>,
}

/// The result of everything that can end in an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            diagnostics: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// See [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// See [`ErrorKind::Configuration`].
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// See [`ErrorKind::Host`].
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message)
    }

    /// See [`ErrorKind::Controller`].
    pub fn controller(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Controller, message)
    }

    /// The same with one more cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// The same with one more way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// All mistakes that were collected, as one error.
    #[must_use]
    pub fn from_diagnostics(diagnostics: Diagnostics) -> Self {
        let list = diagnostics.into_list();
        let count = list.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        let mut error = Self::configuration(format!("{count} {noun} found, nothing was done"));
        error.diagnostics = list;
        error
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  cause: {}", indent(cause))?;
        }
        for hint in &self.hints {
            write!(f, "\n  hint: {}", indent(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

fn indent(text: &str) -> String {
    let mut indented = String::with_capacity(text.len());
    for (index, line) in text.trim_end().lines().enumerate() {
        if index > 0 {
            indented.push_str("\n         ");
        }
        let _ = write!(indented, "{line}");
    }
    indented
}
