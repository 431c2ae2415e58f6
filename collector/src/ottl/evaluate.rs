//! Computing values and conditions for one item.
//!
//! In: a [`View`] of the item. Out: a value, a truth, or why there is none.
//! Invariant: nothing is allocated unless a function makes new text.

use collector_otlp::AnyValue;
use rustix::rand::GetRandomFlags;

use super::assign::levels;
use super::calendar::Moment;
use super::fault::EvalFault;
use super::function::Function;
use super::json::DEPTH;
use super::merge::Pairs;
use super::path::{Field, Path, View, hexadecimal};
use super::syntax::{Comparison, Key, Operator};
use super::value::Value;

/// Something that has a value.
#[derive(Clone, Debug)]
pub(super) enum Getter {
    Literal(Value<'static>),
    Path(Path),
    Call(Function, Vec<Self>, Vec<Key>),
    Arithmetic(Box<Self>, Operator, Box<Self>),
    Negate(Box<Self>),
    List(Vec<Self>),
    /// Keys, each once, with their values.
    Map(Vec<(String, Self)>),
    RootSpan,
    Now,
    /// A random one, in the usual form.
    Uuid,
}

/// Something that is true or false.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Literal(bool),
    Truth(Getter),
    Compare(Getter, Comparison, Getter),
    /// The most frequent comparison: whether a path is this text, or is not.
    IsText(Path, Vec<u8>, bool),
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

/// The number of a span's field that holds its parent's id.
const PARENT: u32 = 4;

impl Getter {
    /// The value for one item.
    pub(super) fn read<'v>(&'v self, view: &View<'v>) -> Result<Value<'v>, EvalFault> {
        match self {
            Self::Literal(value) => Ok(borrowed(value)),
            Self::Path(path) => Ok(path.read(view)),
            Self::Call(function, arguments, keys) => {
                let value = match arguments.as_slice() {
                    [only] => function.one(only.read(view)?)?,
                    several => {
                        let values: Result<Vec<_>, _> =
                            several.iter().map(|getter| getter.read(view)).collect();
                        function.several(values?)?
                    }
                };
                Ok(value.at(keys))
            }
            Self::Arithmetic(left, operator, right) => {
                compute(&left.read(view)?, *operator, &right.read(view)?)
            }
            Self::Negate(inner) => match inner.read(view)? {
                Value::Int(number) => Ok(Value::Int(number.wrapping_neg())),
                Value::Double(number) => Ok(Value::Double(-number)),
                value => Err(EvalFault::new(format!("cannot negate {}", value.kind()))),
            },
            Self::List(items) => {
                let values: Result<Vec<_>, _> =
                    items.iter().map(|getter| getter.read(view)).collect();
                Ok(Value::of_list(values?.into_iter()))
            }
            Self::Map(entries) => {
                let values = entries.iter().map(|(_, getter)| getter.read(view));
                let values: Vec<Value<'v>> = values.collect::<Result<_, _>>()?;
                map(entries, values.into_iter())
            }
            Self::Uuid => uuid(),
            Self::Now => Ok(Value::Time(Moment::now())),
            Self::RootSpan => Ok(Value::Bool(view.is_root_span(PARENT))),
        }
    }

    /// The same, but in place of an id its text, as which Go shows it.
    pub(super) fn with_shown_id(self) -> Self {
        match self {
            Self::Path(Path {
                context,
                field: Field::Id(number),
                keys,
            }) => Self::Path(Path {
                context,
                field: Field::IdShown(number),
                keys,
            }),
            other => other,
        }
    }

    /// Whether the value is a boolean.
    pub(super) fn is_condition(&self) -> bool {
        matches!(self, Self::Call(function, _, keys) if function.is_condition() && keys.is_empty())
    }

    /// The value, if all that it depends on is constant.
    pub(super) fn constant(&self) -> Option<Result<Value<'static>, EvalFault>> {
        let literals = |getters: &[Self]| -> Option<Vec<Value<'static>>> {
            getters.iter().map(Self::literal).collect()
        };
        Some(match self {
            Self::Call(function, arguments, keys) => {
                let mut values = literals(arguments)?;
                let value = match values.len() {
                    1 => function.one(values.pop()?),
                    _ => function.several(values),
                };
                value.map(|value| value.at(keys))
            }
            Self::Arithmetic(left, operator, right) => {
                compute(&left.literal()?, *operator, &right.literal()?)
            }
            Self::List(items) => Ok(Value::of_list(literals(items)?.into_iter())),
            Self::Map(entries) => {
                let values = entries.iter().map(|(_, getter)| getter.literal());
                let values: Vec<Value<'static>> = values.collect::<Option<_>>()?;
                map(entries, values.into_iter())
            }
            _ => return None,
        })
    }

    fn literal(&self) -> Option<Value<'static>> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl Test {
    /// Compares two values.
    pub(super) fn compare(left: Getter, comparison: Comparison, right: Getter) -> Self {
        match (left, right) {
            (Getter::Path(path), Getter::Literal(Value::Text(text)))
                if comparison.is_equality() && path.is_textual() =>
            {
                Self::IsText(path, text.into_owned(), comparison == Comparison::Equal)
            }
            (left, right) => Self::Compare(left, comparison, right),
        }
    }

    /// Whether it is true for one item; `and` and `or` look no further than they must.
    pub(super) fn holds(&self, view: &View<'_>) -> Result<bool, EvalFault> {
        match self {
            Self::Literal(flag) => Ok(*flag),
            Self::Truth(getter) => match getter.read(view)? {
                Value::Bool(flag) => Ok(flag),
                value => Err(EvalFault::new(format!(
                    "expected a boolean but got {}",
                    value.kind()
                ))),
            },
            Self::Compare(left, comparison, right) => {
                let (left, right) = (left.read(view)?, right.read(view)?);
                Ok(left.compares(*comparison, &right))
            }
            Self::IsText(path, text, wanted) => Ok((path.text(view) == Some(text)) == *wanted),
            Self::And(parts) => {
                for part in parts {
                    if !part.holds(view)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Or(parts) => {
                for part in parts {
                    if part.holds(view)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(inner) => Ok(!inner.holds(view)?),
        }
    }
}

/// The same value, borrowed from the text that was compiled.
fn borrowed<'v>(value: &'v Value<'static>) -> Value<'v> {
    match value {
        Value::Text(text) => Value::Text(text.as_ref().into()),
        Value::Bytes(bytes) => Value::Bytes(bytes.as_ref().into()),
        Value::List(list) => Value::List(list.as_ref().into()),
        Value::Map(list) => Value::Map(list.as_ref().into()),
        other => other.clone(),
    }
}

/// The map of keys with values, which must be such that an attribute can hold them.
fn map<'v>(
    entries: &[(String, Getter)],
    values: impl Iterator<Item = Value<'v>>,
) -> Result<Value<'static>, EvalFault> {
    let mut pairs = Pairs::new();
    for ((key, _), value) in entries.iter().zip(values) {
        let bytes = value
            .any_bytes()
            .ok_or_else(|| EvalFault::new(format!("a map cannot hold {}", value.kind())))?;
        if levels(AnyValue::of(&bytes)) >= DEPTH {
            let message = format!("a map would be nested deeper than {DEPTH} levels");
            return Err(EvalFault::new(message));
        }
        pairs.push((key.clone().into_bytes(), bytes));
    }
    Ok(Value::of_pairs(&pairs))
}

/// A random UUID: version 4 of RFC 9562.
fn uuid() -> Result<Value<'static>, EvalFault> {
    let mut bytes = [0; 16];
    // The kernel gives up to 256 bytes at once.
    if rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(bytes.len()) {
        return Err(EvalFault::new(
            "the system gives no random bytes for a UUID",
        ));
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hexadecimal(&bytes);
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Ok(Value::Text(parts.join(&b'-').into()))
}

fn compute(
    left: &Value<'_>,
    operator: Operator,
    right: &Value<'_>,
) -> Result<Value<'static>, EvalFault> {
    let value = match (left, operator, right) {
        (Value::Int(a), _, Value::Int(b)) => whole(*a, operator, *b)?,
        (Value::Double(a), _, Value::Double(b)) => Value::Double(fractional(*a, operator, *b)),
        (Value::Int(a), _, Value::Double(b)) => Value::Double(fractional(*a as f64, operator, *b)),
        (Value::Double(a), _, Value::Int(b)) => Value::Double(fractional(*a, operator, *b as f64)),
        (Value::Time(a), Operator::Subtract, Value::Time(b)) => {
            Value::Duration(a.nanoseconds - b.nanoseconds)
        }
        (Value::Time(a), Operator::Subtract, Value::Duration(b)) => Value::Time(a.later(-b)),
        (Value::Time(a), Operator::Add, Value::Duration(b))
        | (Value::Duration(b), Operator::Add, Value::Time(a)) => Value::Time(a.later(*b)),
        (Value::Duration(a), Operator::Add, Value::Duration(b)) => Value::Duration(a + b),
        (Value::Duration(a), Operator::Subtract, Value::Duration(b)) => Value::Duration(a - b),
        _ => {
            let message = format!("cannot compute with {} and {}", left.kind(), right.kind());
            return Err(EvalFault::new(message));
        }
    };
    Ok(value)
}

fn whole(a: i64, operator: Operator, b: i64) -> Result<Value<'static>, EvalFault> {
    Ok(Value::Int(match operator {
        Operator::Add => a.wrapping_add(b),
        Operator::Subtract => a.wrapping_sub(b),
        Operator::Multiply => a.wrapping_mul(b),
        Operator::Divide if b == 0 => return Err(EvalFault::new("division by zero")),
        Operator::Divide => a.wrapping_div(b),
    }))
}

fn fractional(a: f64, operator: Operator, b: f64) -> f64 {
    match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
    }
}
