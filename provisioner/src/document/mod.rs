//! TOML files with places.
//!
//! Goes in: the text of a file. Comes out: a [`Section`] to read typed values from, and
//! [`Diagnostics`] that collect every mistake with its file, line and column. Invariant: reading
//! goes on after a mistake, so that one run shows them all.

mod diagnostic;
mod replace;
mod section;
mod shape;
#[cfg(test)]
mod tests;
mod value;

pub use diagnostic::{Diagnostic, Diagnostics, Location, Source, suggestion};
pub use replace::replace_file;
pub use section::{Entry, Section};
pub use shape::Shape;
#[cfg(test)]
pub(crate) use shape::asked_of_document;
pub use value::{ByteSize, Duration, Name, to_json};

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::error::{Error, Result};

/// Reads a file of the project.
///
/// # Errors
/// The file cannot be read, or is not UTF-8.
pub fn read_source(root: &Path, relative: &Path) -> Result<Arc<Source>> {
    let path = root.join(relative);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::configuration(format!("{} cannot be read", relative.display())).caused_by(error)
    })?;
    Ok(Arc::new(Source::new(relative.display().to_string(), text)))
}

/// Parses the text of a file and hands its root to `read`; syntax errors are collected, and what
/// could be parsed is read all the same.
pub fn with_document<T>(
    source: &Arc<Source>,
    diagnostics: &Diagnostics,
    read: impl FnOnce(Section<'_>) -> T,
) -> T {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let broken = !errors.is_empty();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        diagnostics.error(source.locate(span), error.message().to_owned(), None);
    }
    let before = diagnostics.len();
    let result = read(Section::root(source, table.get_ref(), diagnostics));
    if broken {
        // What follows from a syntax error would only hide it.
        diagnostics.truncate(before);
    }
    result
}
