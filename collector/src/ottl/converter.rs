//! OTTL's converters by name, and how each is made of its arguments.
//!
//! In: a call. Out: a [`Getter`], with everything that is constant computed. Invariant: a name and
//! the arguments are checked when the configuration is read.

use std::sync::Arc;

use super::arguments::{Arguments, items};
use super::calendar::Part;
use super::compile::{Compiler, folded, literal_text};
use super::evaluate::Getter;
use super::fault::ParseFault;
use super::format::Format;
use super::function::Function;
use super::layout::Layout;
use super::parameters::Parameters;
use super::path::Context;
use super::syntax::{Call, Expr};
use super::timestamp::Reader;
use super::value::Value;
use crate::config::diagnostic::did_you_mean;

/// How a converter is made.
#[derive(Clone, Debug)]
enum Make {
    /// Of the values of its arguments.
    Of(Function),
    /// Of a value and a constant pattern.
    IsMatch,
    ExtractPatterns,
    /// Of a value and the name of a case.
    ConvertCase,
    /// Of a text, a constant format, and perhaps the name of a time zone.
    Time,
    /// Of a time and a constant format.
    FormatTime,
    /// Of a constant format and a list of values that is written out.
    Format,
    /// Of nothing.
    RootSpan,
    Now,
    Uuid,
}

const NONE: Parameters = Parameters::all(&[]);
const TARGET: Parameters = Parameters::all(&["target"]);
const TIME: Parameters = Parameters::all(&["time"]);
const DURATION: Parameters = Parameters::all(&["duration"]);
const PREFIX: Parameters = Parameters::all(&["target", "prefix"]);
const SUFFIX: Parameters = Parameters::all(&["target", "suffix"]);
const PATTERN: Parameters = Parameters::all(&["target", "pattern"]);

/// The converters, with the names that otelcol has for their parameters.
const CONVERTERS: &[(&str, Parameters, Make)] = &[
    ("Bool", TARGET, Make::Of(Function::Bool)),
    (
        "Concat",
        Parameters::all(&["vals", "delimiter"]),
        Make::Of(Function::Concat),
    ),
    (
        "ContainsValue",
        Parameters::all(&["target", "item"]),
        Make::Of(Function::ContainsValue),
    ),
    (
        "ConvertCase",
        Parameters::all(&["target", "to_case"]),
        Make::ConvertCase,
    ),
    ("Day", TIME, Make::Of(Function::Part(Part::Day))),
    ("Double", TARGET, Make::Of(Function::Double)),
    ("Duration", DURATION, Make::Of(Function::Duration)),
    ("ExtractPatterns", PATTERN, Make::ExtractPatterns),
    ("FNV", TARGET, Make::Of(Function::Fnv)),
    ("HasPrefix", PREFIX, Make::Of(Function::HasPrefix)),
    ("HasSuffix", SUFFIX, Make::Of(Function::HasSuffix)),
    ("Format", Parameters::all(&["format", "vals"]), Make::Format),
    (
        "FormatTime",
        Parameters::all(&["time", "format"]),
        Make::FormatTime,
    ),
    ("Hex", TARGET, Make::Of(Function::Hex)),
    ("Hour", TIME, Make::Of(Function::Part(Part::Hour))),
    ("Hours", DURATION, Make::Of(Function::Hours)),
    (
        "Index",
        Parameters::all(&["target", "value"]),
        Make::Of(Function::Index),
    ),
    ("Int", TARGET, Make::Of(Function::Int)),
    ("IsBool", TARGET, Make::Of(Function::IsBool)),
    ("IsDouble", TARGET, Make::Of(Function::IsDouble)),
    ("IsInt", TARGET, Make::Of(Function::IsInt)),
    ("IsList", TARGET, Make::Of(Function::IsList)),
    ("IsMap", TARGET, Make::Of(Function::IsMap)),
    ("IsMatch", PATTERN, Make::IsMatch),
    ("IsRootSpan", NONE, Make::RootSpan),
    ("IsString", TARGET, Make::Of(Function::IsString)),
    ("Len", TARGET, Make::Of(Function::Len)),
    ("MD5", TARGET, Make::Of(Function::Md5)),
    ("Microseconds", DURATION, Make::Of(Function::Microseconds)),
    ("Milliseconds", DURATION, Make::Of(Function::Milliseconds)),
    ("Minute", TIME, Make::Of(Function::Part(Part::Minute))),
    ("Minutes", DURATION, Make::Of(Function::Minutes)),
    ("Month", TIME, Make::Of(Function::Part(Part::Month))),
    (
        "Nanosecond",
        TIME,
        Make::Of(Function::Part(Part::Nanosecond)),
    ),
    ("Nanoseconds", DURATION, Make::Of(Function::Nanoseconds)),
    ("Now", NONE, Make::Now),
    (
        "ParseInt",
        Parameters::all(&["target", "base"]),
        Make::Of(Function::ParseInt),
    ),
    ("ParseJSON", TARGET, Make::Of(Function::ParseJson)),
    (
        "ParseKeyValue",
        Parameters::first(1, &["target", "delimiter", "pair_delimiter"]),
        Make::Of(Function::ParseKeyValue),
    ),
    ("SHA1", TARGET, Make::Of(Function::Sha1)),
    ("SHA256", TARGET, Make::Of(Function::Sha256)),
    ("SHA512", TARGET, Make::Of(Function::Sha512)),
    ("Second", TIME, Make::Of(Function::Part(Part::Second))),
    ("Seconds", DURATION, Make::Of(Function::Seconds)),
    ("SpanID", TARGET, Make::Of(Function::Id(8))),
    (
        "Split",
        Parameters::all(&["target", "delimiter"]),
        Make::Of(Function::Split),
    ),
    ("String", TARGET, Make::Of(Function::Text)),
    (
        "Substring",
        Parameters::all(&["target", "start", "length"]),
        Make::Of(Function::Substring),
    ),
    (
        "Time",
        Parameters::first(2, &["time", "format", "location"]),
        Make::Time,
    ),
    ("ToCamelCase", TARGET, Make::Of(Function::ToCamelCase)),
    ("ToLowerCase", TARGET, Make::Of(Function::ToLowerCase)),
    ("ToSnakeCase", TARGET, Make::Of(Function::ToSnakeCase)),
    ("ToUpperCase", TARGET, Make::Of(Function::ToUpperCase)),
    ("TraceID", TARGET, Make::Of(Function::Id(16))),
    (
        "Trim",
        Parameters::first(1, &["target", "replacement"]),
        Make::Of(Function::Trim),
    ),
    ("TrimPrefix", PREFIX, Make::Of(Function::TrimPrefix)),
    ("TrimSuffix", SUFFIX, Make::Of(Function::TrimSuffix)),
    (
        "TruncateTime",
        Parameters::all(&["time", "duration"]),
        Make::Of(Function::TruncateTime),
    ),
    ("UUID", NONE, Make::Uuid),
    (
        "Unix",
        Parameters::first(1, &["seconds", "nanoseconds"]),
        Make::Of(Function::OfUnix),
    ),
    ("UnixMicro", TIME, Make::Of(Function::Unix(1_000))),
    ("UnixMilli", TIME, Make::Of(Function::Unix(1_000_000))),
    ("UnixNano", TIME, Make::Of(Function::Unix(1))),
    ("UnixSeconds", TIME, Make::Of(Function::Unix(1_000_000_000))),
    ("Weekday", TIME, Make::Of(Function::Part(Part::Weekday))),
    ("Year", TIME, Make::Of(Function::Part(Part::Year))),
];

/// Converters that otelcol has and this collector does not.
const UNSUPPORTED: &[&str] = &[
    "Base64Decode",
    "CommunityID",
    "ConvertAttributesToElementsXML",
    "ConvertTextToElementsXML",
    "Decode",
    "ExtractGrokPatterns",
    "GetXML",
    "HasAttrKeyOnDatapoint",
    "HasAttrOnDatapoint",
    "InsertXML",
    "IsValidLuhn",
    "Keys",
    "Log",
    "Murmur3Hash",
    "Murmur3Hash128",
    "ParseCSV",
    "ParseSeverity",
    "ParseSimplifiedXML",
    "ParseXML",
    "ProfileID",
    "RemoveXML",
    "SliceToMap",
    "Sort",
    "ToKeyValueString",
    "URL",
    "UUIDv7",
    "UserAgent",
    "Values",
    "XXH128",
    "XXH3",
];

impl Compiler {
    /// Compiles a call of a converter.
    pub(super) fn call(&mut self, call: Call) -> Result<Getter, ParseFault> {
        let Call {
            column,
            name,
            arguments,
            keys,
        } = call;
        let known = CONVERTERS.iter().find(|(known, ..)| *known == name);
        let Some((_, parameters, make)) = known else {
            return Err(unknown(&name, column));
        };
        let mut arguments = Arguments::of(&name, column, self.context, arguments, *parameters)?;
        let (function, values) = match make {
            Make::RootSpan if self.context != Context::Span => {
                return Err(ParseFault::new(column, "IsRootSpan applies to spans only"));
            }
            Make::RootSpan => return Ok(Getter::RootSpan),
            Make::Now => return Ok(Getter::Now),
            Make::Uuid => return Ok(Getter::Uuid),
            Make::Of(function) => (function.clone(), self.values(arguments)?),
            Make::IsMatch => {
                let target = self.getter(arguments.next()?)?;
                (Function::IsMatch(arguments.pattern()?), vec![target])
            }
            Make::ExtractPatterns => {
                let target = self.getter(arguments.next()?)?;
                (Function::ExtractPatterns(arguments.groups()?), vec![target])
            }
            Make::Time => {
                let target = self.getter(arguments.next()?)?;
                (time(arguments)?, vec![target])
            }
            Make::Format => {
                let format = arguments.next()?;
                let column = format.column;
                let format = literal_text(format, "a format")?;
                let values = self.getters(items(arguments.next()?)?)?;
                let format = Format::of(&format, values.len());
                let format = format.map_err(|fault| ParseFault::new(column, fault.to_string()))?;
                let values = values.into_iter().map(Getter::with_shown_id);
                (Function::Format(Arc::new(format)), values.collect())
            }
            Make::FormatTime => {
                let target = self.getter(arguments.next()?)?;
                let format = arguments.next()?;
                let column = format.column;
                let layout = Layout::of(&literal_text(format, "a format")?);
                let layout = layout.map_err(|fault| ParseFault::new(column, fault.to_string()))?;
                (Function::FormatTime(Arc::new(layout)), vec![target])
            }
            Make::ConvertCase => {
                let target = self.getter(arguments.next()?)?;
                (case(arguments.next()?)?, vec![target])
            }
        };
        folded(Getter::Call(function, values, keys), column)
    }

    /// The values of all arguments, up to the last that is given; nil for one that is not.
    fn values(&mut self, arguments: Arguments) -> Result<Vec<Getter>, ParseFault> {
        let mut arguments: Vec<Option<Expr>> = arguments.rest.collect();
        while arguments.pop_if(|last| last.is_none()).is_some() {}
        let values = arguments.into_iter().map(|argument| match argument {
            Some(expr) => self.getter(expr),
            None => Ok(Getter::Literal(Value::Nil)),
        });
        values.collect()
    }
}

/// What the arguments of `Time` after the first stand for.
fn time(mut arguments: Arguments) -> Result<Function, ParseFault> {
    let format = arguments.next()?;
    let column = format.column;
    let format = literal_text(format, "a format")?;
    let location = arguments.optional();
    let location = location
        .map(|name| literal_text(name, "a time zone"))
        .transpose()?;
    let reader = Reader::of(&format, location.as_deref());
    let reader = reader.map_err(|fault| ParseFault::new(column, fault.to_string()))?;
    Ok(Function::Time(Arc::new(reader)))
}

/// What the second argument of `ConvertCase` stands for.
fn case(expr: Expr) -> Result<Function, ParseFault> {
    let column = expr.column;
    match literal_text(expr, "a case")?.as_str() {
        "lower" => Ok(Function::ToLowerCase),
        "upper" => Ok(Function::ToUpperCase),
        "snake" => Ok(Function::ToSnakeCase),
        "camel" => Ok(Function::ToCamelCase),
        other => {
            let message =
                format!("a case is \"lower\", \"upper\", \"snake\" or \"camel\", not {other:?}");
            Err(ParseFault::new(column, message))
        }
    }
}

fn unknown(name: &str, column: usize) -> ParseFault {
    if UNSUPPORTED.contains(&name) {
        return ParseFault::new(column, format!("the function {name} is not supported yet"));
    }
    let help = did_you_mean(name, CONVERTERS.iter().map(|(known, ..)| *known));
    ParseFault::new(column, format!("there is no function {name:?}")).with_help(help)
}
