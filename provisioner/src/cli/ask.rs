//! Questions on the terminal.
//!
//! In: a question. Out: what was typed. Invariant: what is secret is not shown while it is typed,
//! and asked for once, however many runs a command makes.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::document::Name;
use crate::error::{Error, Result};

/// What was typed already.
static TYPED: Mutex<BTreeMap<Name, String>> = Mutex::new(BTreeMap::new());

/// The value of a secret that is asked for.
pub(super) fn ask_secret(name: &Name) -> Result<String> {
    let mut typed = TYPED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = typed.get(name) {
        return Ok(value.clone());
    }
    if !std::io::stdin().is_terminal() {
        let message = format!("secret `{name}` is asked for at a terminal, and here is none");
        return Err(Error::configuration(message).hint(format!(
            "for runs without one, [secrets.{name}] has `env`, `file` or `command`"
        )));
    }
    let value = hidden(&format!("value of {name}: "))?;
    typed.insert(name.clone(), value.clone());
    Ok(value)
}

/// Asks on the terminal, without showing what is typed.
pub(super) fn hidden(question: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let wrap =
        |error: std::io::Error| Error::controller("the terminal cannot be read").caused_by(error);
    let shown = tcgetattr(&stdin).map_err(|error| wrap(error.into()))?;
    let mut hidden: Termios = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    // Whoever sees the question may type.
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| wrap(error.into()))?;
    let _ = write!(std::io::stderr().lock(), "{question}");
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &shown);
    read.map_err(wrap)?;
    restored.map_err(|error| wrap(error.into()))?;
    Ok(line)
}
