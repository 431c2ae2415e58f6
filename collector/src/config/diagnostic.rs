//! What is wrong with a configuration, as data.
//!
//! In: errors and warnings from every stage of reading. Out: all of them, in file order, each
//! with `file:line:column`, the line and a caret. Invariant: reading never stops at the first.

use std::cell::RefCell;
use std::fmt::Write as _;

use super::source::Source;
use crate::component::{ComponentId, Offer};

/// A place in the configuration; line and column count from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which of the texts, counted from zero.
    pub source: usize,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// How many characters to underline.
    pub width: usize,
}

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration works, and its author should know this.
    Warning,
}

/// One thing to say about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands; `None` when it concerns the whole configuration.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// An extension that a component works with.
#[derive(Clone, Debug)]
pub struct Need {
    /// The extension.
    pub id: ComponentId,
    /// What it is for.
    pub wanted: Offer,
    /// Where the component names it.
    pub position: Position,
}

/// Collects diagnostics while a configuration is read.
#[derive(Debug, Default)]
pub struct Diagnostics {
    entries: RefCell<Vec<Diagnostic>>,
    /// Extensions that components name, to be checked when all sections have been read.
    extensions: RefCell<Vec<Need>>,
}

impl Diagnostics {
    /// Adds an error.
    pub fn error(&self, position: Position, message: impl Into<String>) {
        self.add(Severity::Error, Some(position), message.into(), None);
    }

    /// Adds an error with advice.
    pub fn error_with_help(
        &self,
        position: Position,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.add(Severity::Error, Some(position), message.into(), help);
    }

    /// Adds a warning.
    pub fn warning(&self, position: Position, message: impl Into<String>) {
        self.add(Severity::Warning, Some(position), message.into(), None);
    }

    /// Adds an error about the whole configuration.
    pub fn file_error(&self, message: impl Into<String>) {
        self.add(Severity::Error, None, message.into(), None);
    }

    /// Adds a warning about the whole configuration.
    pub fn file_warning(&self, message: impl Into<String>) {
        self.add(Severity::Warning, None, message.into(), None);
    }

    /// Adds everything that was collected elsewhere; what has no place of its own stands at `at`.
    pub fn adopt(&self, others: Self, at: Option<Position>) {
        for mut entry in others.entries.into_inner() {
            entry.position = at.or(entry.position);
            self.entries.borrow_mut().push(entry);
        }
    }

    /// Notes that a component works with an extension, which must then be there.
    pub fn needs_extension(&self, need: Need) {
        self.extensions.borrow_mut().push(need);
    }

    /// The extensions that components work with.
    pub fn needed_extensions(&self) -> Vec<Need> {
        self.extensions.borrow().clone()
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Whether an error was added.
    pub fn has_error(&self) -> bool {
        let entries = self.entries.borrow();
        entries.iter().any(|e| e.severity == Severity::Error)
    }

    /// Everything that was added, in the order of the texts.
    pub fn into_sorted(self) -> Vec<Diagnostic> {
        let mut entries = self.entries.into_inner();
        entries.sort_by_key(|entry| entry.position);
        entries
    }

    fn add(
        &self,
        severity: Severity,
        position: Option<Position>,
        message: String,
        help: Option<String>,
    ) {
        let entry = Diagnostic {
            severity,
            position,
            message,
            help,
        };
        let mut entries = self.entries.borrow_mut();
        // An alias is read at each place that uses it; its faults are said once.
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
}

/// The diagnostics as text for a terminal, with the lines that they concern.
pub fn render(diagnostics: &[Diagnostic], sources: &[Source]) -> String {
    let mut out = String::new();
    let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    let everything = match names.len() {
        0 => String::new(),
        _ => format!("{}: ", names.join(" + ")),
    };
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let source = diagnostic
            .position
            .and_then(|position| Some((position, sources.get(position.source)?)));
        let message = &diagnostic.message;
        // Writing to a string cannot fail.
        let _ = match source {
            Some((Position { line, column, .. }, source)) => {
                let file = &source.name;
                writeln!(out, "{file}:{line}:{column}: {severity}: {message}")
            }
            None => writeln!(out, "{everything}{severity}: {message}"),
        };
        if let Some((position, source)) = source {
            quote(&mut out, position, &source.text);
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(out, "  help: {help}");
        }
    }
    out
}

fn quote(out: &mut String, position: Position, source: &str) {
    let Some(text) = source.lines().nth(position.line.saturating_sub(1)) else {
        return;
    };
    let text = text.trim_end();
    let before = position.column.saturating_sub(1);
    let width = position
        .width
        .clamp(1, text.chars().count().saturating_sub(before).max(1));
    let number = position.line;
    let gutter = " ".repeat(number.to_string().len());
    let pad: String = text
        .chars()
        .take(before)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let _ = writeln!(
        out,
        "  {number} | {text}\n  {gutter} | {pad}{}",
        "^".repeat(width)
    );
}

/// The candidate that `word` was probably meant to be.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(word, candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.55)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?` for the closest candidate, if one is close.
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    closest(word, candidates).map(|found| format!("did you mean {found:?}?"))
}
