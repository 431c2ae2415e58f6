//! From grammar to something that can be computed.
//!
//! In: an [`Expr`] and its context. Out: a [`Getter`] or a [`Test`], with names, numbers of
//! arguments, patterns and enums checked. Invariant: what is constant is computed here, once.

use std::borrow::Cow;

use collector_otlp::{AnyValue, wire};

use super::evaluate::{Getter, Test};
use super::fault::ParseFault;
use super::function::{FUNCTIONS, Function, UNSUPPORTED};
use super::path::{Context, Field, Path};
use super::syntax::{Call, Expr, Node};
use super::value::Value;
use crate::config::diagnostic::did_you_mean;
use crate::pattern;

/// The names that stand for numbers, apart from severities.
const SYMBOLS: &[(&str, i64)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
    ("METRIC_DATA_TYPE_NONE", 0),
    ("METRIC_DATA_TYPE_GAUGE", 1),
    ("METRIC_DATA_TYPE_SUM", 2),
    ("METRIC_DATA_TYPE_HISTOGRAM", 3),
    ("METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM", 4),
    ("METRIC_DATA_TYPE_SUMMARY", 5),
    ("FLAG_NONE", 0),
    ("FLAG_NO_RECORDED_VALUE", 1),
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
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
                let pattern = self.pattern(*right, column)?;
                Test::Truth(Getter::Call(pattern, vec![self.getter(*left)?], Vec::new()))
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
            Node::List(items) => {
                let items: Result<Vec<_>, _> =
                    items.into_iter().map(|item| self.getter(item)).collect();
                folded(Getter::List(items?), column)?
            }
            Node::Call(call) => self.call(call)?,
            Node::Or(_) | Node::And(_) | Node::Not(_) | Node::Compare(..) | Node::Matches(..) => {
                let message = "a condition has no value that could be used here";
                return Err(ParseFault::new(column, message));
            }
        })
    }

    fn call(&mut self, call: Call) -> Result<Getter, ParseFault> {
        let Call {
            column,
            name,
            arguments,
            keys,
        } = call;
        let count = arguments.len();
        if name == "IsRootSpan" && self.context == Context::Span {
            arity(&name, count, 0, 0, column)?;
            return Ok(Getter::RootSpan);
        }
        if name == "IsMatch" {
            arity(&name, count, 2, 2, column)?;
            let mut arguments = arguments.into_iter();
            let (Some(target), Some(pattern)) = (arguments.next(), arguments.next()) else {
                return Err(ParseFault::new(column, "IsMatch takes two arguments"));
            };
            let at = pattern.column;
            let (target, function) = (self.getter(target)?, self.pattern(pattern, at)?);
            return folded(Getter::Call(function, vec![target], keys), column);
        }
        let found = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let Some((_, function, least, most)) = found else {
            return Err(unknown(&name, column));
        };
        arity(&name, count, *least, *most, column)?;
        let arguments: Result<Vec<_>, _> = arguments
            .into_iter()
            .map(|argument| self.getter(argument))
            .collect();
        folded(Getter::Call(function.clone(), arguments?, keys), column)
    }

    fn pattern(&mut self, expr: Expr, column: usize) -> Result<Function, ParseFault> {
        let text = literal_text(expr, "a pattern")?;
        regex(&text, column).map(Function::IsMatch)
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
fn folded(getter: Getter, column: usize) -> Result<Getter, ParseFault> {
    match getter.constant() {
        None => Ok(getter),
        Some(Ok(value)) => Ok(Getter::Literal(value)),
        Some(Err(fault)) => Err(ParseFault::new(column, fault.to_string())),
    }
}

fn arity(
    name: &str,
    count: usize,
    least: usize,
    most: usize,
    column: usize,
) -> Result<(), ParseFault> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let wanted = match least == most {
        true => least.to_string(),
        false => format!("{least} to {most}"),
    };
    let plural = if wanted == "1" { "" } else { "s" };
    let message = format!("{name} takes {wanted} argument{plural}, not {count}");
    Err(ParseFault::new(column, message))
}

fn unknown(name: &str, column: usize) -> ParseFault {
    if UNSUPPORTED.contains(&name) {
        return ParseFault::new(column, format!("the function {name} is not supported yet"));
    }
    if name == "IsRootSpan" {
        return ParseFault::new(column, "IsRootSpan applies to spans only");
    }
    let names = FUNCTIONS.iter().map(|(known, ..)| *known);
    let help = did_you_mean(name, names.chain(["IsMatch", "IsRootSpan"]));
    ParseFault::new(column, format!("there is no function {name:?}")).with_help(help)
}

fn symbol(name: &str, column: usize) -> Result<i64, ParseFault> {
    match SYMBOLS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => {
            let help = did_you_mean(name, SYMBOLS.iter().map(|(known, _)| *known));
            let message = format!("there is no enum {name:?}; strings stand in double quotes");
            Err(ParseFault::new(column, message).with_help(help))
        }
    }
}

/// The values of a list as the bytes of an `ArrayValue`; what no attribute can hold is nil there.
pub(super) fn list_of<'v>(values: impl Iterator<Item = Value<'v>>) -> Value<'static> {
    let mut list = Vec::new();
    for value in values {
        let mut element = Vec::new();
        value
            .any_value()
            .unwrap_or(AnyValue::Empty)
            .write(&mut element);
        wire::write_bytes(&mut list, 1, &element);
    }
    Value::List(Cow::Owned(list))
}

/// Whether a path stands for all attributes of the record that its context is about.
pub(super) fn is_own_attributes(path: &Path, context: Context) -> bool {
    path.context == context && path.field == Field::Attributes && path.keys.is_empty()
}
