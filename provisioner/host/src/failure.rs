//! Why something was not done.
//!
//! Goes in: an error of the system, or a refusal in words. Comes out: a [`Failure`] whose text is
//! read by a person. Invariant: a failed guard is never mistaken for any other failure.

use std::io;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The host is no longer what the plan was made for.
    #[error("{0}")]
    Guard(String),
    /// The request cannot or must not be carried out.
    #[error("{0}")]
    Refused(String),
    /// A program did not do what it was run for.
    #[error("{what}{words}")]
    Program {
        /// What it did not do, without a word of what it printed or was given.
        what: String,
        /// What it printed. That may be anything, also a secret out of a file that it read.
        words: String,
    },
    /// The system did not let it happen.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried, for instance `write /etc/hosts`.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// A refusal in words.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    /// What a program did not do, and what it printed.
    pub(crate) fn program(what: impl Into<String>, words: impl Into<String>) -> Self {
        Self::Program {
            what: what.into(),
            words: words.into(),
        }
    }

    /// What kind of failure it is, for what stays on the host. A refusal may quote anything, so
    /// nothing of it is told.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Guard(_) => "guard".to_owned(),
            Self::Refused(_) => "refused".to_owned(),
            Self::Program { what, .. } => what.trim_end_matches([':', '\n', ' ']).to_owned(),
            Self::System { doing, source } => format!("cannot {doing}: {}", source.kind()),
        }
    }

    /// A refusal that was made before.
    pub(crate) fn refused_from(message: &str) -> Self {
        Self::Refused(message.to_owned())
    }

    /// The file system is full.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, Self::System { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}

/// Gives an error of the system the words for what was tried.
pub(crate) trait Doing<T> {
    /// Adds what was tried, for instance `write /etc/hosts`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::System {
            doing: what(),
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_failure_quotes_nothing() {
        let secret = "the secret";
        let system = Failure::System {
            doing: "write /etc/key".into(),
            source: io::Error::new(io::ErrorKind::InvalidData, secret),
        };
        for (failure, kind) in [
            (Failure::Guard(secret.into()), "guard"),
            (Failure::refused(secret), "refused"),
            (Failure::program("app failed: ", secret), "app failed"),
            (system, "cannot write /etc/key: invalid data"),
        ] {
            assert!(failure.to_string().contains(secret));
            assert_eq!(failure.kind(), kind);
        }
    }
}
