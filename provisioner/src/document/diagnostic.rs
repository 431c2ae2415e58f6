//! A mistake in a file, with its place.
//!
//! Goes in: byte ranges of a [`Source`]. Comes out: `file:line:column`, the offending line with a
//! mark below it, and a hint. Invariant: places are counted as editors do, from 1, in characters.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

/// How far a name may be from a known one to be suggested.
const SUGGESTION_SIMILARITY: f64 = 0.7;

/// The most mistakes that are kept; more help nobody.
const DIAGNOSTICS_LIMIT: usize = 200;

/// The text of a file and its name.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// A text under the name that messages shall give it.
    #[must_use]
    pub const fn new(name: String, text: String) -> Self {
        Self { name, text }
    }

    /// The name of the file, relative to the project.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of a byte range.
    #[must_use]
    pub fn locate(&self, span: Range<usize>) -> Location {
        let start = floor_boundary(&self.text, span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_text = self.text[line_start..].lines().next().unwrap_or("");
        let end = floor_boundary(&self.text, span.end.max(start));
        let line_end = line_start + line_text.len();
        Location {
            file: self.name.clone(),
            line: self.text[..start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: self.text[start..end.min(line_end).max(start)]
                .chars()
                .count()
                .max(1),
            line_text: line_text.to_owned(),
        }
    }

    /// The place of a line and column, both from 1.
    #[must_use]
    pub fn locate_line(&self, line: usize, column: usize) -> Location {
        Location {
            file: self.name.clone(),
            line,
            column,
            width: 1,
            line_text: self
                .text
                .lines()
                .nth(line.saturating_sub(1))
                .unwrap_or("")
                .to_owned(),
        }
    }
}

fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The file's name, relative to the project.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant.
    #[serde(skip)]
    pub width: usize,
    /// The text of the line.
    #[serde(skip)]
    pub line_text: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Where it is.
    pub location: Location,
    /// What is wrong, without a period.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location {
            line,
            column,
            width,
            line_text,
            ..
        } = &self.location;
        let margin = line.to_string().len();
        write!(f, "{}: {}", self.location, self.message)?;
        if !line_text.is_empty() {
            // Tabs keep their width, so that the mark stands below what it means.
            let before: String = line_text
                .chars()
                .take(column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(
                f,
                "\n {line} | {line_text}\n {:margin$} | {before}{}",
                "",
                "^".repeat(*width)
            )?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n {:margin$} = {hint}", "")?;
        }
        Ok(())
    }
}

/// Mistakes as they are found; shared by all readers of one run.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    /// Adds a mistake, once.
    pub fn error(&self, location: Location, message: impl Into<String>, hint: Option<String>) {
        let diagnostic = Diagnostic {
            location,
            message: message.into(),
            hint,
        };
        let mut list = self.list.borrow_mut();
        if list.len() < DIAGNOSTICS_LIMIT && !list.contains(&diagnostic) {
            list.push(diagnostic);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(super) fn truncate(&self, length: usize) {
        self.list.borrow_mut().truncate(length);
    }

    /// All of them in the order of the files and places.
    #[must_use]
    pub fn into_list(self) -> Vec<Diagnostic> {
        let mut list = self.list.into_inner();
        list.sort_by(|a, b| {
            let key =
                |d: &Diagnostic| (d.location.file.clone(), d.location.line, d.location.column);
            key(a).cmp(&key(b))
        });
        list
    }

    /// An error when there is any mistake.
    ///
    /// # Errors
    /// All of them as one.
    pub fn into_result(self) -> crate::error::Result<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(crate::error::Error::from_diagnostics(self))
        }
    }
}

/// `did you mean …`, or the list of what there is.
#[must_use]
pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    if best.0 >= SUGGESTION_SIMILARITY {
        return Some(format!("did you mean `{}`?", best.1));
    }
    Some(format!("there is {}", known.join(", ")))
}

/// Lets a reader of several files keep the text that places point into.
pub(crate) type SharedSource = Arc<Source>;
