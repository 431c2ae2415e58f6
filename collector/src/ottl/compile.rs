//! From grammar to something that can be computed.
//!
//! In: an [`Expr`] and its context. Out: a [`Getter`] or a [`Test`], with names, numbers of
//! arguments, patterns and enums checked. Invariant: what is constant is computed here, once.

use std::borrow::Cow;

use collector_otlp::schema::enums;

use super::evaluate::{Getter, Test};
use super::fault::ParseFault;
use super::function::Function;
use super::path::{Context, Field, Path};
use super::syntax::{Expr, Node};
use super::value::Value;
use crate::config::diagnostic::did_you_mean;
use crate::pattern;

/// The names that stand for numbers: those of OTLP, and those that only OTTL has.
const SYMBOLS: [&[(&str, i32)]; 5] = [
    enums::SPAN_KINDS,
    enums::STATUS_CODES,
    enums::TEMPORALITIES,
    enums::SEVERITIES,
    &[
        ("METRIC_DATA_TYPE_NONE", 0),
        ("METRIC_DATA_TYPE_GAUGE", 1),
        ("METRIC_DATA_TYPE_SUM", 2),
        ("METRIC_DATA_TYPE_HISTOGRAM", 3),
        ("METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM", 4),
        ("METRIC_DATA_TYPE_SUMMARY", 5),
        ("FLAG_NONE", 0),
        ("FLAG_NO_RECORDED_VALUE", 1),
    ],
];

/// Checks and compiles for one context.
pub(super) struct Compiler {
    pub(super) context: Context,
    /// Whether `=~` was seen, which deserves a warning.
    pub(super) saw_match_sign: bool,
}

impl Compiler {
    pub(super) fn of(context: Context) -> Self {
        Self {
            context,
            saw_match_sign: false,
        }
    }

    /// Compiles what must be true or false.
    pub(super) fn test(&mut self, expr: Expr) -> Result<Test, ParseFault> {
        let column = expr.column;
        Ok(match expr.node {
            Node::Or(parts) => Test::Or(self.tests(parts)?),
            Node::And(parts) => Test::And(self.tests(parts)?),
            Node::Not(inner) => Test::Not(Box::new(self.test(*inner)?)),
            Node::Bool(flag) => Test::Literal(flag),
            Node::Compare(left, comparison, right) => {
                let (left, right) = (self.getter(*left)?, self.getter(*right)?);
                Test::compare(left, comparison, right)
            }
            Node::Matches(left, right) => {
                self.saw_match_sign = true;
                let column = right.column;
                let pattern = regex(&literal_text(*right, "a pattern")?, column)?;
                let target = vec![self.getter(*left)?];
                Test::Truth(Getter::Call(Function::IsMatch(pattern), target, Vec::new()))
            }
            Node::Call(call) => match self.call(call)? {
                getter @ Getter::RootSpan => Test::Truth(getter),
                Getter::Literal(Value::Bool(flag)) => Test::Literal(flag),
                getter @ Getter::Call(..) if getter.is_condition() => Test::Truth(getter),
                _ => {
                    let message = "this function is neither true nor false: compare its result";
                    return Err(ParseFault::new(column, message));
                }
            },
            _ => {
                let message = "expected a condition, such as attributes[\"a\"] == \"b\"";
                return Err(ParseFault::new(column, message));
            }
        })
    }

    fn tests(&mut self, parts: Vec<Expr>) -> Result<Vec<Test>, ParseFault> {
        parts.into_iter().map(|part| self.test(part)).collect()
    }

    /// Compiles what has a value.
    pub(super) fn getter(&mut self, expr: Expr) -> Result<Getter, ParseFault> {
        let column = expr.column;
        let text = |text: String| Value::Text(Cow::Owned(text.into_bytes()));
        Ok(match expr.node {
            Node::Nil => Getter::Literal(Value::Nil),
            Node::Bool(flag) => Getter::Literal(Value::Bool(flag)),
            Node::Int(number) => Getter::Literal(Value::Int(number)),
            Node::Double(number) => Getter::Literal(Value::Double(number)),
            Node::Text(literal) => Getter::Literal(text(literal)),
            Node::Bytes(bytes) => Getter::Literal(Value::Bytes(Cow::Owned(bytes))),
            Node::Symbol(name) => Getter::Literal(Value::Int(symbol(&name, column)?)),
            Node::Path(segments) => Getter::Path(Path::resolve(self.context, &segments, column)?),
            Node::Negate(inner) => Getter::Negate(Box::new(self.getter(*inner)?)),
            Node::Arithmetic(left, operator, right) => {
                let (left, right) = (self.getter(*left)?, self.getter(*right)?);
                folded(
                    Getter::Arithmetic(Box::new(left), operator, Box::new(right)),
                    column,
                )?
            }
            Node::List(items) => folded(Getter::List(self.getters(items)?), column)?,
            Node::Map(pairs) => {
                let mut entries: Vec<(String, Getter)> = Vec::new();
                for (key, value) in pairs {
                    let value = self.getter(value)?;
                    // As in otelcol, the last with a key counts.
                    entries.retain(|(known, _)| *known != key);
                    entries.push((key, value));
                }
                folded(Getter::Map(entries), column)?
            }
            Node::Call(call) => self.call(call)?,
            Node::Or(_) | Node::And(_) | Node::Not(_) | Node::Compare(..) | Node::Matches(..) => {
                let message = "a condition has no value that could be used here";
                return Err(ParseFault::new(column, message));
            }
        })
    }

    /// Compiles a value where there is one.
    pub(super) fn getters(&mut self, exprs: Vec<Expr>) -> Result<Vec<Getter>, ParseFault> {
        exprs.into_iter().map(|expr| self.getter(expr)).collect()
    }
}

/// Compiles a pattern that stands in a text.
pub(super) fn regex(text: &str, column: usize) -> Result<regex::bytes::Regex, ParseFault> {
    pattern::compile(text)
        .map_err(|error| ParseFault::new(column, format!("pattern is not valid: {error}")))
}

/// The text of an argument that must be a string in quotes.
pub(super) fn literal_text(expr: Expr, what: &str) -> Result<String, ParseFault> {
    match expr.node {
        Node::Text(text) => Ok(text),
        _ => {
            let message = format!("{what} must be a string in quotes");
            Err(ParseFault::new(expr.column, message))
        }
    }
}

/// The value itself, when it depends on nothing; what cannot be computed is a fault at once.
pub(super) fn folded(getter: Getter, column: usize) -> Result<Getter, ParseFault> {
    match getter.constant() {
        None => Ok(getter),
        Some(Ok(value)) => Ok(Getter::Literal(value)),
        Some(Err(fault)) => Err(ParseFault::new(column, fault.to_string())),
    }
}

fn symbol(name: &str, column: usize) -> Result<i64, ParseFault> {
    let symbols = || SYMBOLS.into_iter().flatten();
    match symbols().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(i64::from(*number)),
        None => {
            let help = did_you_mean(name, symbols().map(|(known, _)| *known));
            let message = format!("there is no enum {name:?}; strings stand in double quotes");
            Err(ParseFault::new(column, message).with_help(help))
        }
    }
}

/// Whether a path stands for all attributes of the record that its context is about.
pub(super) fn is_own_attributes(path: &Path, context: Context) -> bool {
    path.context == context && path.field == Field::Attributes && path.keys.is_empty()
}
