//! From grammar to something that can be computed.
//!
//! In: an [`Expr`] and its context. Out: a [`Getter`] or a [`Test`], with names, numbers of
//! arguments, patterns and enums checked. Invariant: what is constant is computed here, once.

use std::borrow::Cow;

use collector_otlp::schema::enums;
use collector_otlp::{AnyValue, wire};

use super::evaluate::{Getter, Test};
use super::fault::ParseFault;
use super::function::{FUNCTIONS, Function, UNSUPPORTED};
use super::path::{Context, Field, Path};
use super::syntax::{Call, Expr, Node};
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
        if name == "IsMatch" || name == "ExtractPatterns" {
            arity(&name, count, 2, 2, column)?;
            let mut arguments = arguments.into_iter();
            let (Some(target), Some(pattern)) = (arguments.next(), arguments.next()) else {
                return Err(ParseFault::new(
                    column,
                    format!("{name} takes two arguments"),
                ));
            };
            let at = pattern.column;
            let (target, mut function) = (self.getter(target)?, self.pattern(pattern, at)?);
            if name == "ExtractPatterns" {
                function = named_groups(function, at)?;
            }
            return folded(Getter::Call(function, vec![target], keys), column);
        }
        if name == "Now" {
            arity(&name, count, 0, 0, column)?;
            return Ok(Getter::Now);
        }
        if name == "ConvertCase" {
            arity(&name, count, 2, 2, column)?;
            let mut arguments = arguments.into_iter();
            let target = arguments.next().map(|target| self.getter(target));
            let function = arguments.next().map(case).transpose()?;
            let (Some(target), Some(function)) = (target, function) else {
                return Err(ParseFault::new(column, "ConvertCase takes two arguments"));
            };
            return folded(Getter::Call(function, vec![target?], keys), column);
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

/// The same pattern for its groups, of which at least one must have a name.
fn named_groups(function: Function, column: usize) -> Result<Function, ParseFault> {
    match function {
        Function::IsMatch(pattern) if pattern.capture_names().flatten().next().is_some() => {
            Ok(Function::ExtractPatterns(pattern))
        }
        _ => {
            let message = "the pattern needs a named group, such as (?P<name>\\w+)";
            Err(ParseFault::new(column, message))
        }
    }
}

/// What the second argument of `ConvertCase` stands for.
fn case(expr: Expr) -> Result<Function, ParseFault> {
    let column = expr.column;
    match literal_text(expr, "a case")?.as_str() {
        "lower" => Ok(Function::ToLowerCase),
        "upper" => Ok(Function::ToUpperCase),
        other @ ("snake" | "camel") => {
            let message = format!("the case {other:?} is not supported yet");
            Err(ParseFault::new(column, message))
        }
        other => {
            let message = format!("the case must be \"lower\" or \"upper\", not {other:?}");
            Err(ParseFault::new(column, message))
        }
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
    let help = did_you_mean(
        name,
        names.chain([
            "ConvertCase",
            "ExtractPatterns",
            "IsMatch",
            "IsRootSpan",
            "Now",
        ]),
    );
    ParseFault::new(column, format!("there is no function {name:?}")).with_help(help)
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
