//! Templates: Tera (`*.tera`) and Handlebars (`*.hbs`).
//!
//! Goes in: the files of `templates/` and [`Variables`]. Comes out: text, or a mistake with its file,
//! line and column. Invariant: a variable that does not exist is a mistake, never an empty text.

mod conditional;
mod strict;
mod variables;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use handlebars::{Handlebars, RenderErrorReason, TemplateError, TemplateErrorReason};
use serde_json::Value;
use tera::{ErrorKind, Tera};

use crate::document::{Diagnostics, Location, Source, suggestion};
use crate::error::{Error, Result};

use strict::Strict;

pub use variables::{SharedVariables, Variables};

/// The largest template, in bytes.
const TEMPLATE_LIMIT_BYTES: u64 = 4 << 20;

/// All templates of a project, parsed.
pub struct Templates {
    sources: Vec<Arc<Source>>,
    tera: Tera,
    /// What Tera got for each of its templates.
    strict: BTreeMap<String, Strict>,
    handlebars: Handlebars<'static>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Templates({} files)", self.sources.len())
    }
}

impl Templates {
    /// Reads and parses all templates. What does not parse is a mistake, whether a play uses it
    /// or not.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn load(root: &Path, diagnostics: &Diagnostics) -> Result<Self> {
        let mut templates = Self {
            sources: Vec::new(),
            tera: Tera::default(),
            strict: BTreeMap::new(),
            handlebars: Handlebars::new(),
        };
        templates.tera.autoescape_on(Vec::<&str>::new());
        strict::register(&mut templates.tera);
        conditional::register(&mut templates.handlebars);
        templates.handlebars.set_strict_mode(true);
        templates
            .handlebars
            .register_escape_fn(handlebars::no_escape);
        templates.read_folder(root, Path::new("templates"))?;
        templates.sources.sort_by(|a, b| a.name().cmp(b.name()));
        for source in templates.sources.clone() {
            templates.register(&source, diagnostics);
        }
        Ok(templates)
    }

    /// The text of a template for a host; `name` is relative to `templates/`, and a mistake names
    /// `user`, the place that asked for it, as well.
    pub fn render(
        &self,
        name: &str,
        variables: &Variables<'_>,
        user: &Location,
        diagnostics: &Diagnostics,
    ) -> Option<String> {
        let Some(source) = self.source(name) else {
            let known = self
                .sources
                .iter()
                .filter_map(|s| s.name().strip_prefix("templates/"));
            let hint = suggestion(name, known);
            diagnostics.error(user.clone(), format!("there is no template `{name}`"), hint);
            return None;
        };
        let result = if is_handlebars(name) {
            variables.handlebars(|context| {
                let rendered = self.handlebars.render_with_context(name, context);
                rendered.map_err(|error| {
                    let line = error.line_no.unwrap_or(1);
                    let column = error.column_no.unwrap_or(1);
                    let words = handlebars_words(error.reason(), context.data());
                    (source.locate_line(line, column), words)
                })
            })
        } else {
            self.tera.render(name, variables.tera()).map_err(|error| {
                variables.handlebars(|all| self.tera_mistake(source, &error, all.data()))
            })
        };
        match result {
            Ok(text) => Some(text),
            Err((location, message)) => {
                let hint = format!("rendered for {user}");
                diagnostics.error(location, message, Some(hint));
                None
            }
        }
    }

    fn source(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources
            .iter()
            .find(|source| source.name().strip_prefix("templates/") == Some(name))
    }

    fn read_folder(&mut self, root: &Path, relative: &Path) -> Result<()> {
        let wrap = |path: &Path, error: std::io::Error| {
            Error::configuration(format!("{} cannot be read", path.display())).caused_by(error)
        };
        let entries = match std::fs::read_dir(root.join(relative)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(wrap(relative, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| wrap(relative, error))?;
            let path = relative.join(entry.file_name());
            let metadata =
                std::fs::metadata(root.join(&path)).map_err(|error| wrap(&path, error))?;
            if metadata.is_dir() {
                self.read_folder(root, &path)?;
            } else if is_template(&path) {
                if metadata.len() > TEMPLATE_LIMIT_BYTES {
                    let message =
                        format!("{} is over {TEMPLATE_LIMIT_BYTES} bytes", path.display());
                    return Err(Error::configuration(message));
                }
                self.sources
                    .push(crate::document::read_source(root, &path)?);
            }
        }
        Ok(())
    }

    fn register(&mut self, source: &Arc<Source>, diagnostics: &Diagnostics) {
        let name = source
            .name()
            .strip_prefix("templates/")
            .unwrap_or(source.name());
        if is_handlebars(name) {
            if let Err(error) = self
                .handlebars
                .register_template_string(name, source.text())
            {
                let (location, message) = handlebars_mistake(source, &error);
                diagnostics.error(location, message, None);
            }
            return;
        }
        // As it stands first, for what does not parse is to be said of that.
        let mut added = self.tera.add_raw_template(name, source.text());
        if added.is_ok() {
            let strict = Strict::of(source.text());
            if self.tera.add_raw_template(name, &strict.text).is_ok() {
                self.strict.insert(name.to_owned(), strict);
            } else {
                // Tera bounds how much one expression may hold, which the filters count for.
                added = self.tera.add_raw_template(name, source.text());
            }
        }
        if let Err(error) = added {
            let (location, message) = self.tera_mistake(source, &error, &Value::Null);
            diagnostics.error(location, message, None);
        }
    }

    fn tera_mistake(
        &self,
        source: &Arc<Source>,
        error: &tera::Error,
        variables: &Value,
    ) -> (Location, String) {
        let (ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report)) = error.kind()
        else {
            return (source.locate_line(1, 1), error.kind().to_string());
        };
        // An included template has a name of its own.
        let source = self.source(report.filename()).unwrap_or(source);
        let range = report.span().range.clone();
        let name = source.name().strip_prefix("templates/");
        let strict = name.and_then(|name| self.strict.get(name));
        match strict.map(|strict| strict.diagnosis(source.text(), &range, report.message())) {
            None => (source.locate(range), report.message().to_owned()),
            Some(Diagnosis::Other(range, words)) => (source.locate(range), words.to_owned()),
            Some(Diagnosis::Undefined(range, path)) => {
                (source.locate(range), undefined(path, variables))
            }
        }
    }
}

/// What Tera found wrong, and where in the template.
#[derive(Debug, PartialEq, Eq)]
enum Diagnosis<'t> {
    /// A path that is not defined.
    Undefined(Range<usize>, &'t str),
    /// Anything else, in Tera's words.
    Other(Range<usize>, &'t str),
}

fn is_handlebars(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "hbs")
}

fn is_template(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "hbs" || extension == "tera")
}

/// Why a Handlebars template cannot be rendered.
fn handlebars_words(reason: &RenderErrorReason, context: &Value) -> String {
    match reason {
        RenderErrorReason::MissingVariable(Some(path)) => undefined(path, context),
        other => first_line(&other.to_string()),
    }
}

/// Says that a variable is not defined, and which may be meant.
fn undefined(path: &str, variables: &Value) -> String {
    let hint = suggest_variable(path, variables);
    let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("variable `{path}` is not defined{hint}")
}

/// The variable that may be meant, where a dotted path leads to nothing.
fn suggest_variable(path: &str, context: &Value) -> Option<String> {
    let mut place = context;
    for key in path.split('.') {
        let fields = place.as_object()?;
        match fields.get(key) {
            Some(value) => place = value,
            None => return suggestion(key, fields.keys().map(String::as_str)),
        }
    }
    None
}

/// Where and why a Handlebars template does not parse. The parser itself names the end of the
/// file where a block is never closed, so the block is looked for.
fn handlebars_mistake(source: &Source, error: &TemplateError) -> (Location, String) {
    if matches!(error.reason(), TemplateErrorReason::InvalidSyntax(_)) {
        if let Some((offset, name)) = unclosed_block(source.text()) {
            let location = source.locate(offset..offset + name.len() + 3);
            let message =
                format!("`{{{{#{name}}}}}` is never closed: `{{{{/{name}}}}}` is missing");
            return (location, message);
        }
        let (line, column) = error.pos().unwrap_or((1, 1));
        return (
            source.locate_line(line, column),
            "no Handlebars expression can be read from here".to_owned(),
        );
    }
    let (line, column) = error.pos().unwrap_or((1, 1));
    (
        source.locate_line(line, column),
        first_line(&error.reason().to_string()),
    )
}

/// The offset and the name of the innermost block that is opened and not closed.
fn unclosed_block(text: &str) -> Option<(usize, &str)> {
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("{{").map(|at| from + at) {
        let tag = &text[at..];
        let end = if tag.starts_with("{{!--") {
            "--}}"
        } else {
            "}}"
        };
        let length = tag.find(end).map_or(tag.len(), |at| at + end.len());
        let body = tag[..length].trim_matches(['{', '}', '~']);
        let name = |body: &'_ str| body.split_whitespace().next().map_or(0, str::len);
        match body.split_at_checked(1) {
            Some(("#", rest)) => {
                let rest = rest.trim_start_matches(['>', '*']);
                open.push((at, &rest[..name(rest)]));
            }
            Some(("/", _)) => {
                open.pop();
            }
            _ => {}
        }
        from = at + length;
    }
    open.pop()
}

/// The first line of a message; the others draw what the location already shows.
fn first_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or("")
        .trim_end_matches(['.', ':'])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_never_closed_is_found() {
        let open = |text| unclosed_block(text).map(|(_, name)| name.to_owned());
        assert_eq!(open("a {{#if b}} c {{/if}} {{d}}"), None);
        assert_eq!(open("{{#each a}}{{#if b}}{{/if}}"), Some("each".into()));
        assert_eq!(open("{{!-- {{#if}} --}}{{~#if b~}}"), Some("if".into()));
        assert_eq!(unclosed_block("ä\n{{#if b}}").unwrap().0, 3);
        assert_eq!(open("{{"), None);
    }
}
