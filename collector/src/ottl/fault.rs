//! What can be wrong with an OTTL text, or with what it is asked to compute.
//!
//! In: a place and a message. Out: one line for a diagnostic or a log.
//! Invariant: a fault of the text is found when the configuration is read.

use std::borrow::Cow;

use crate::config::diagnostic::{Diagnostics, Position};

/// A fault of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParseFault {
    /// Where in the text, in characters from one.
    pub(super) column: usize,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: Option<String>,
}

impl ParseFault {
    pub(super) fn new(column: usize, message: impl Into<String>) -> Self {
        Self {
            column,
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Says the fault at the place of the text in the configuration.
    pub(super) fn report(self, position: Position, diagnostics: &Diagnostics) {
        let message = format!("at column {} of this OTTL: {}", self.column, self.message);
        diagnostics.error_with_help(position, message, self.help);
    }
}

/// Why something could not be computed for one item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalFault(pub(super) Cow<'static, str>);

impl EvalFault {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}
