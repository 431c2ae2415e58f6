//! What a person, or a program, sees of a run.
//!
//! Goes in: [`Event`]s while it works, plans and outcomes. Comes out: progress on the standard
//! error, results on the standard output. Invariant: everything passes the [`Redactor`] first.

mod event;
mod html;
mod plan;
mod progress;
mod table;

pub use event::{Event, Events, HostOutcome, Outcome, Report};
pub use html::{Page, render_page};
pub(crate) use plan::render_details;
pub use plan::render_plans;
pub use progress::Progress;
pub use table::render_table;

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::error::{Error, Result};
use crate::secret::Redactor;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document on the standard output.
    Json,
    /// One page that needs neither other files nor a script, of `plan` alone.
    Html,
}

pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// Text in a style; the stream drops it where colours are off.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints to the standard output. That its reader went away is no error.
///
/// # Errors
/// The standard output cannot be written for another reason.
pub fn print(redactor: &Redactor, text: &str) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    let redacted = redactor.redact(text);
    match stdout
        .write_all(redacted.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::controller("the standard output cannot be written").caused_by(error))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON document to the standard output.
///
/// # Errors
/// See [`print`].
pub fn print_json<T: serde::Serialize>(redactor: &Redactor, value: &T) -> Result<()> {
    let no_json = |error| Error::controller("the result is no JSON").caused_by(error);
    let mut value = serde_json::to_value(value).map_err(no_json)?;
    redactor.redact_json(&mut value);
    let text = serde_json::to_string_pretty(&value).map_err(no_json)?;
    print(&Redactor::default(), &format!("{text}\n"))
}
