//! What a function is given.
//!
//! In: expressions. Out: what a function needs of them, one by one.
//! Invariant: what does not fit is refused at its column.

use regex::bytes::Regex;

use super::compile::{is_own_attributes, literal_text, regex};
use super::fault::ParseFault;
use super::merge::Strategy;
use super::parameters::Parameters;
use super::path::{Context, Field, Path};
use super::syntax::{Argument, Expr, Node};
use super::text::glob;

/// The arguments of a function, taken one by one.
pub(super) struct Arguments {
    pub(super) name: String,
    pub(super) column: usize,
    pub(super) context: Context,
    /// One for each parameter.
    pub(super) rest: std::vec::IntoIter<Option<Expr>>,
}

impl Arguments {
    /// The arguments in the order of the parameters.
    pub(super) fn of(
        name: &str,
        column: usize,
        context: Context,
        arguments: Vec<Argument>,
        parameters: Parameters,
    ) -> Result<Self, ParseFault> {
        Ok(Self {
            name: name.to_owned(),
            column,
            context,
            rest: parameters.arrange(name, column, arguments)?.into_iter(),
        })
    }

    pub(super) fn next(&mut self) -> Result<Expr, ParseFault> {
        match self.optional() {
            Some(expr) => Ok(expr),
            None => {
                let message = format!("{} takes more arguments", self.name);
                Err(ParseFault::new(self.column, message))
            }
        }
    }

    /// The next argument, which may be left out.
    pub(super) fn optional(&mut self) -> Option<Expr> {
        self.rest.next().flatten()
    }

    pub(super) fn text(&mut self, what: &str) -> Result<String, ParseFault> {
        literal_text(self.next()?, what)
    }

    pub(super) fn pattern(&mut self) -> Result<Regex, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        regex(&literal_text(expr, "a pattern")?, column)
    }

    /// A pattern with groups, of which at least one must have a name.
    pub(super) fn groups(&mut self) -> Result<Regex, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        let pattern = regex(&literal_text(expr, "a pattern")?, column)?;
        match pattern.capture_names().flatten().next() {
            Some(_) => Ok(pattern),
            None => {
                let message = "the pattern needs a named group, such as (?P<name>\\w+)";
                Err(ParseFault::new(column, message))
            }
        }
    }

    pub(super) fn glob(&mut self) -> Result<Regex, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        regex(&glob(&literal_text(expr, "a pattern")?), column)
    }

    pub(super) fn count(&mut self) -> Result<usize, ParseFault> {
        count(self.next()?)
    }

    pub(super) fn strategy(&mut self) -> Result<Strategy, ParseFault> {
        let expr = self.next()?;
        let column = expr.column;
        match literal_text(expr, "a strategy")?.as_str() {
            "insert" => Ok(Strategy::Insert),
            "update" => Ok(Strategy::Update),
            "upsert" => Ok(Strategy::Upsert),
            other => {
                let message =
                    format!("a strategy is \"insert\", \"update\" or \"upsert\", not {other:?}");
                Err(ParseFault::new(column, message))
            }
        }
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, ParseFault> {
        let items = items(self.next()?)?.into_iter();
        items.map(|item| literal_text(item, "a key")).collect()
    }

    fn path(&mut self) -> Result<(Path, usize), ParseFault> {
        let expr = self.next()?;
        let Node::Path(segments) = &expr.node else {
            return Err(ParseFault::new(
                expr.column,
                "expected a path such as attributes",
            ));
        };
        let path = Path::resolve(self.context, segments, expr.column)?;
        if path.context != self.context {
            let (own, other) = (self.context.name(), path.context.name());
            let message = format!("a statement about a {own} cannot change the {other} above it");
            let help = Some(format!("write this statement with context: {other}"));
            return Err(ParseFault::new(expr.column, message).with_help(help));
        }
        Ok((path, expr.column))
    }

    pub(super) fn attributes(&mut self) -> Result<(), ParseFault> {
        let (path, column) = self.path()?;
        match is_own_attributes(&path, self.context) {
            true => Ok(()),
            false => {
                let message = format!("{} works on attributes only, yet", self.name);
                Err(ParseFault::new(column, message))
            }
        }
    }

    /// A map: one that stands at a path, or all attributes, which have none.
    pub(super) fn map(&mut self) -> Result<Option<Path>, ParseFault> {
        let (path, column) = self.path()?;
        if is_own_attributes(&path, self.context) {
            return Ok(None);
        }
        match path.field {
            Field::Attributes | Field::Body | Field::Cache => Ok(Some(path)),
            _ => Err(ParseFault::new(
                column,
                format!("{} works on maps only", self.name),
            )),
        }
    }

    pub(super) fn settable(&mut self) -> Result<Path, ParseFault> {
        let (path, column) = self.path()?;
        let is_fixed = matches!(
            path.field,
            Field::Messages(_)
                | Field::KindName
                | Field::MetricType
                | Field::Temporality
                | Field::Monotonic
                | Field::Flags
                | Field::Count
                | Field::Sum
        );
        match is_fixed {
            false => Ok(path),
            true => Err(ParseFault::new(column, "this path cannot be changed yet")),
        }
    }
}

/// A number that is written out, of which there are none below zero.
pub(super) fn count(expr: Expr) -> Result<usize, ParseFault> {
    match expr.node {
        Node::Int(number) if number >= 0 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        _ => {
            let message = "expected a whole number of zero or more";
            Err(ParseFault::new(expr.column, message))
        }
    }
}

/// What stands in a list that is written out.
pub(super) fn items(expr: Expr) -> Result<Vec<Expr>, ParseFault> {
    match expr.node {
        Node::List(items) => Ok(items),
        _ => {
            let message = "expected a list such as [\"a\", \"b\"]";
            Err(ParseFault::new(expr.column, message))
        }
    }
}
