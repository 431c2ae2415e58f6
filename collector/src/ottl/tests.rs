//! Conditions over a span, a log record, a data point and what they stand in.

use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::{Record, Request, Signal};

use super::{Conditions, Context, ErrorMode, EvalFault, Setting, View, infer};
use crate::component::Failure;
use crate::config::diagnostic::{Diagnostics, Position, Severity};

/// Asks the conditions of whatever their context is.
struct Ask<'a> {
    conditions: &'a Conditions,
    context: Context,
    answer: Option<Result<bool, EvalFault>>,
}

impl Ask<'_> {
    fn ask(&mut self, context: Context, setting: Setting<'_>, record: &Record<'_>) {
        if self.context == context {
            let view = View::of(setting, record);
            self.answer = Some(self.conditions.any(&view, ErrorMode::Propagate));
        }
    }
}

impl<'a> Pass<'a> for Ask<'a> {
    type Error = Failure;

    fn level(&self) -> Level {
        Level::Event
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.ask(Context::Resource, Setting::default(), resource);
        Ok(Verdict::Keep)
    }

    fn scope(&mut self, resource: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.ask(Context::Scope, Setting::in_resource(resource), scope);
        Ok(Verdict::Keep)
    }

    fn metric(
        &mut self,
        above: &Above<'_, 'a>,
        metric: &mut Record<'a>,
    ) -> Result<Verdict, Failure> {
        self.ask(Context::Metric, Setting::of(above), metric);
        Ok(Verdict::Keep)
    }

    fn item(&mut self, above: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, Failure> {
        for context in [Context::Span, Context::Log, Context::DataPoint] {
            self.ask(context, Setting::of(above), item);
        }
        Ok(Verdict::Keep)
    }

    fn event(&mut self, above: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, Failure> {
        self.ask(Context::SpanEvent, Setting::of(above), event);
        Ok(Verdict::Keep)
    }
}

const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"lib","version":"1.2"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"GET /health","kind":2,"startTimeUnixNano":"1000000000","endTimeUnixNano":"3500000000","attributes":[{"key":"http.target","value":{"stringValue":"/health/live"}},{"key":"n","value":{"intValue":"7"}},{"key":"d","value":{"doubleValue":2.5}},{"key":"b","value":{"boolValue":true}},{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"intValue":"1"}]}}},{"key":"map","value":{"kvlistValue":{"values":[{"key":"in","value":{"stringValue":"side"}}]}}}],"events":[{"timeUnixNano":"5","name":"exception"}],"status":{"message":"bad","code":2}}]}]}]}"#;
const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","severityNumber":9,"severityText":"INFO","body":{"kvlistValue":{"values":[{"key":"user","value":{"stringValue":"ä"}}]}},"traceId":"5b8efff798038103d269b633813fc60c","flags":1}]}]}]}"#;
const POINT: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"latency","unit":"s","sum":{"dataPoints":[{"timeUnixNano":"4","asInt":"5","attributes":[{"key":"le","value":{"stringValue":"1"}}]}],"aggregationTemporality":2,"isMonotonic":true}}]}]}]}"#;

fn compile(context: Context, text: &str) -> (Conditions, Vec<String>) {
    let diagnostics = Diagnostics::default();
    let texts = [(text.to_owned(), Position::default())];
    let conditions = Conditions::compile(&texts, context, &diagnostics);
    let entries = diagnostics.into_sorted().into_iter();
    let errors = entries.filter(|entry| entry.severity == Severity::Error);
    let said = errors.map(|entry| match entry.help {
        Some(help) => format!("{} ({help})", entry.message),
        None => entry.message,
    });
    (conditions, said.collect())
}

fn answer(context: Context, text: &str) -> Result<bool, EvalFault> {
    let (conditions, errors) = compile(context, text);
    assert_eq!(errors, Vec::<String>::new(), "{text}");
    let (signal, json) = match context {
        Context::Log => (Signal::Logs, LOG),
        Context::Metric | Context::DataPoint => (Signal::Metrics, POINT),
        _ => (Signal::Traces, SPAN),
    };
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    let mut answer = None;
    let conditions = &conditions;
    request
        .apply(|signal, source| {
            let mut ask = Ask {
                conditions,
                context,
                answer: None,
            };
            let outcome = pass::run(&mut ask, signal, source);
            answer = ask.answer;
            outcome
        })
        .unwrap();
    answer.unwrap()
}

#[test]
fn conditions_of_spans() {
    for (text, expected) in [
        (r#"attributes["n"] == 7"#, true),
        (r#"attributes["n"] == 7.0 and attributes["d"] > 2"#, true),
        (r#"attributes["n"] == "7""#, false),
        (r#"attributes["n"] != "7""#, true),
        (r#"attributes["absent"] == nil"#, true),
        (
            r#"attributes["absent"] != nil or attributes["n"] < 7"#,
            false,
        ),
        (r#"not (attributes["b"] == false) and not false"#, true),
        (
            r#"name == "GET /health" and kind == SPAN_KIND_SERVER"#,
            true,
        ),
        (r#"kind.string == "Server""#, true),
        (
            r#"status.code == STATUS_CODE_ERROR and status.message == "bad""#,
            true,
        ),
        (r#"resource.attributes["service.name"] == "shop""#, true),
        (
            r#"instrumentation_scope.name == "lib" and scope.version >= "1.1""#,
            true,
        ),
        (r#"span.attributes["b"] == true"#, true),
        (
            r#"IsMatch(attributes["http.target"], "^/health|/ping")"#,
            true,
        ),
        (
            r#"attributes["http.target"] =~ "/health|/ping|/debug""#,
            true,
        ),
        (r#"IsMatch(attributes["n"], "^\\d$")"#, true),
        (r#"IsMatch(attributes["absent"], ".*")"#, false),
        (r#"IsMatch(name, "^POST")"#, false),
        (r#"end_time - start_time > Duration("1s")"#, true),
        (r#"end_time - start_time > Duration("1m")"#, false),
        (
            r#"end_time_unix_nano - start_time_unix_nano == 2500000000"#,
            true,
        ),
        (
            r#"(end_time_unix_nano - start_time_unix_nano) / 1000000 >= 2500"#,
            true,
        ),
        (
            r#"trace_id == TraceID(0x5b8efff798038103d269b633813fc60c)"#,
            true,
        ),
        (
            r#"trace_id.string == "5b8efff798038103d269b633813fc60c""#,
            true,
        ),
        (r#"span_id == SpanID(0xeee19b7ec3c1b175)"#, false),
        (r#"IsRootSpan()"#, true),
        (r#"parent_span_id == SpanID(0x0000000000000000)"#, true),
        (r#"parent_span_id.string == "0000000000000000""#, true),
        (r#"Format("%s", [parent_span_id]) == """#, true),
        (r#"Len(attributes) == 6 and Len(events) == 1"#, true),
        (
            r#"attributes["list"][0] == "x" and attributes["map"]["in"] == "side""#,
            true,
        ),
        (r#"attributes["list"] == ["x", 1]"#, true),
        (r#"ContainsValue(attributes["list"], 1)"#, true),
        (r#"HasPrefix(name, "GET") and HasSuffix(name, "lth")"#, true),
        (r#"ToUpperCase(name) == "GET /HEALTH""#, true),
        (
            r#"Concat([name, attributes["n"], true], "-") == "GET /health-7-true""#,
            true,
        ),
        (
            r#"Int("12") + 1 == 13 and Double("1.5") == 1.5 and String(7) == "7""#,
            true,
        ),
        (r#"Split(name, " ")[1] == "/health""#, true),
        (
            r#"ParseJSON("{\"a\": [1, {\"b\": \"c\"}]}")["a"][1]["b"] == "c""#,
            true,
        ),
        (r#"ParseJSON("[1]")[0] == 1.0"#, true),
        (r#"ConvertCase(name, "lower") == "get /health""#, true),
        (
            r#"SHA1("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d""#,
            true,
        ),
        (r#"HasPrefix(SHA512("abc"), "ddaf35a193617aba")"#, true),
        (
            r#"UnixSeconds(end_time) == UnixMilli(end_time) / 1000"#,
            true,
        ),
        (r#"UnixMicro(Unix(1, 2500)) == 1000002"#, true),
        (r#"Microseconds(end_time - start_time) == 2500000"#, true),
        (r#"Now() > end_time"#, true),
        (r#"Substring(name, 0, 3) == "GET""#, true),
        (r#"ParseKeyValue("a:1;b:2", ":", ";")["b"] == "2""#, true),
        (
            r#"ParseInt("-ff", 16) == -255 and ParseInt("0b11", 0) == 3"#,
            true,
        ),
        (
            r#"Index("abc", "c") == 2 and Index([1, "a"], "b") == -1"#,
            true,
        ),
        (
            r#"SHA256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#,
            true,
        ),
        (
            r#"IsString(name) and IsInt(attributes["n"]) and IsMap(attributes["map"])"#,
            true,
        ),
        (r#"IsList(attributes["list"]) and not IsBool(name)"#, true),
        (
            r#"attributes["d"] * 2 == 5 and -attributes["n"] == -7"#,
            true,
        ),
        (r#"Milliseconds(end_time - start_time) == 2500"#, true),
        (r#"true or HasPrefix(attributes["absent"], "x")"#, true),
        (r#"name=="GET /health"and kind==2"#, true),
        (r#"IsMatch(target=name, pattern="^GET")"#, true),
        (r#"IsMatch(pattern = "^GET", target = name)"#, true),
        (
            r#"ParseKeyValue("a=1;b=2", pair_delimiter=";")["b"] == "2""#,
            true,
        ),
        (
            r#"attributes["map"] == {"in": "side"} and {} != {"a": 1}"#,
            true,
        ),
        (
            r#"{"a": 1, "b": [name], "a": 2} == {"b": ["GET /health"] "a": 2}"#,
            true,
        ),
        (r#"MD5("abc") == "900150983cd24fb0d6963f7d28e17f72""#, true),
        (
            r#"IsMatch(UUID(), "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")"#,
            true,
        ),
        (r#"UUID() != UUID()"#, true),
        (
            r#"Format("%s took %.1f s: %v %s", [name, Seconds(end_time - start_time), attributes["list"], trace_id]) == "GET /health took 2.5 s: [x 1] 5b8efff798038103d269b633813fc60c""#,
            true,
        ),
        (r#"Format(format="%04d", vals=[7]) == "0007""#, true),
        (r#"Format("100%%", []) == "100%""#, true),
        (
            r#"FormatTime(end_time, "%Y-%m-%d %H:%M:%S.%L") == "1970-01-01 00:00:03.5""#,
            true,
        ),
        (
            r#"Time("1970-01-01T02:00:03.5+02:00", "%FT%T%j") == end_time"#,
            true,
        ),
        (
            r#"Hour(Time(time="1970-07-01 12", format="%F %H", location="Asia/Tokyo")) == 12"#,
            true,
        ),
        (
            r#"ConvertCase("someName", to_case="snake") == "some_name" and ToCamelCase("a_b") == "AB""#,
            true,
        ),
    ] {
        assert_eq!(answer(Context::Span, text), Ok(expected), "{text}");
    }
}

#[test]
fn conditions_of_other_contexts() {
    for (context, text) in [
        (Context::Resource, r#"attributes["service.name"] == "shop""#),
        (
            Context::Scope,
            r#"name == "lib" and resource.attributes["service.name"] == "shop""#,
        ),
        (
            Context::SpanEvent,
            r#"name == "exception" and span.name == "GET /health""#,
        ),
        (
            Context::SpanEvent,
            r#"time_unix_nano == 5 and spanevent.name != """#,
        ),
        (
            Context::Log,
            r#"severity_number >= SEVERITY_NUMBER_INFO and severity_text == "INFO""#,
        ),
        (
            Context::Log,
            r#"severity_number < SEVERITY_NUMBER_WARN and flags == 1"#,
        ),
        (Context::Log, r#"body["user"] == "ä" and IsMap(body)"#),
        (
            Context::Log,
            r#"IsMatch(body, "user") and body.string == "{\"user\":\"ä\"}""#,
        ),
        (
            Context::Metric,
            r#"name == "latency" and type == METRIC_DATA_TYPE_SUM"#,
        ),
        (Context::Metric, r#"is_monotonic == true and unit == "s""#),
        (
            Context::Metric,
            r#"aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE"#,
        ),
        (
            Context::DataPoint,
            r#"metric.name == "latency" and value_int == 5"#,
        ),
        (
            Context::DataPoint,
            r#"attributes["le"] == "1" and count == nil"#,
        ),
    ] {
        assert_eq!(answer(context, text), Ok(true), "{text}");
    }
}

#[test]
fn what_cannot_be_computed_says_why() {
    for (text, why) in [
        (
            r#"HasPrefix(attributes["absent"], "x")"#,
            "expected a string but got nil",
        ),
        (r#"attributes["n"] / 0 == 1"#, "division by zero"),
        (
            r#"attributes["absent"] + 1 == 1"#,
            "cannot compute with nil and an integer",
        ),
        (
            r#"ParseInt(name, 10) == 1"#,
            "\"GET /health\" is no number of base 10",
        ),
        (
            r#"Substring(name, 5, 100) == """#,
            "the range of Substring lies outside of its text",
        ),
        (
            r#"Time(name, "%F") > end_time"#,
            "\"GET /health\" is no time such as \"%F\"",
        ),
        (
            r#"FormatTime(name, "%F") == """#,
            "expected a time but got a string",
        ),
    ] {
        let fault = answer(Context::Span, text).unwrap_err().to_string();
        assert_eq!(fault, format!("condition {text}: {why}"));
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_column() {
    for (text, message) in [
        (
            "",
            "at column 1 of this OTTL: expected a value, found the end",
        ),
        (
            "name = \"a\"",
            "at column 6 of this OTTL: expected the end, \"and\" or \"or\", found \"=\" (equality is written ==)",
        ),
        (
            "name == \"a\" AND true",
            "at column 13 of this OTTL: expected the end, \"and\" or \"or\", found \"AND\" (write and in lower case)",
        ),
        (
            "name == \"a",
            "at column 9 of this OTTL: this string has no end",
        ),
        (
            "nam == \"a\"",
            "at column 1 of this OTTL: \"nam\" is no path of a span (did you mean \"name\"?)",
        ),
        (
            "statuscode == 1",
            "at column 1 of this OTTL: \"statuscode\" is no path of a span (did you mean \"status.code\"?)",
        ),
        (
            "IsMach(name, \"a\")",
            "at column 1 of this OTTL: there is no function \"IsMach\" (did you mean \"IsMatch\"?)",
        ),
        (
            "true and ParseXML(name) == 1",
            "at column 10 of this OTTL: the function ParseXML is not supported yet",
        ),
        (
            "IsMatch(name)",
            "at column 1 of this OTTL: IsMatch takes 2 arguments, not 1",
        ),
        (
            "IsMatch(name, patern=\"a\")",
            "at column 22 of this OTTL: IsMatch takes no argument \"patern\" (did you mean \"pattern\"?)",
        ),
        (
            "name == {\"a\" 1}",
            "at column 14 of this OTTL: expected \":\", found a number",
        ),
        (
            "name == {a: 1}",
            "at column 10 of this OTTL: expected a key in quotes, or \"}\", found \"a\"",
        ),
        (
            "{\"a\": Duration(\"1s\")} == 1",
            "at column 1 of this OTTL: a map cannot hold a duration",
        ),
        (
            "ConvertCase(name, \"title\") == \"\"",
            "at column 19 of this OTTL: a case is \"lower\", \"upper\", \"snake\" or \"camel\", not \"title\"",
        ),
        (
            "Format(\"%s\", [name, kind]) == \"\"",
            "at column 8 of this OTTL: there are 2 values, of which the format has 1",
        ),
        (
            "Format(\"%s\", name) == \"\"",
            "at column 14 of this OTTL: expected a list such as [\"a\", \"b\"]",
        ),
        (
            "Time(name, \"%Q\") == 1",
            "at column 12 of this OTTL: %Q is no part of a format of times",
        ),
        (
            "Time(name, \"%F\", \"Mars/Olympus\") == 1",
            "at column 12 of this OTTL: there is no time zone \"Mars/Olympus\" in this machine's tzdata",
        ),
        (
            "IsMatch(name, \"(\")",
            "at column 15 of this OTTL: pattern is not valid: unclosed group",
        ),
        (
            "IsMatch(name, \"\\d\")",
            "at column 15 of this OTTL: \\d is no escape in a string; write \\\\d for a pattern",
        ),
        (
            "kind == SPAN_KIND_SEVER",
            "at column 9 of this OTTL: there is no enum \"SPAN_KIND_SEVER\"; strings stand in double quotes (did you mean \"SPAN_KIND_SERVER\"?)",
        ),
        (
            "name",
            "at column 1 of this OTTL: expected a condition, such as attributes[\"a\"] == \"b\"",
        ),
        (
            "Len(name)",
            "at column 1 of this OTTL: this function is neither true nor false: compare its result",
        ),
        (
            "log.body == \"a\"",
            "at column 1 of this OTTL: a span stands in no log",
        ),
        (
            "end_time - start_time > Duration(\"1 day\")",
            "at column 25 of this OTTL: \"1 day\" is not a duration such as 1s or 300ms",
        ),
        (
            "name == 'a'",
            "at column 9 of this OTTL: '\\'' has no meaning here",
        ),
        (
            "(name == \"a\"",
            "at column 13 of this OTTL: expected \")\", found the end",
        ),
        (
            "name[\"a\"] == 1",
            "at column 1 of this OTTL: \"name\" has no such keys",
        ),
    ] {
        assert_eq!(compile(Context::Span, text).1, [message], "{text}");
    }
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    assert!(compile(Context::Span, &deep).1[0].ends_with("nested too deeply"));
    let deep = format!("{}1{} == 1", "{\"a\":".repeat(25), "}".repeat(25));
    assert!(compile(Context::Span, &deep).1[0].ends_with("deeper than 24 levels"));
}

#[test]
fn a_context_is_inferred_from_paths() {
    let infer = |text: &'static str| infer([text].into_iter());
    assert_eq!(
        infer("set(span.name, resource.attributes[\"a\"])"),
        Some(Context::Span)
    );
    assert_eq!(
        infer("set(resource.attributes[\"a\"], 1)"),
        Some(Context::Resource)
    );
    assert_eq!(infer("set(attributes[\"a\"], 1)"), None);
}

#[test]
fn mutated_texts_never_panic() {
    use super::Statements;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/otlp/fuzz/corpus/ottl");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let texts: Vec<String> = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(texts.len() >= 4);
    let pool: Vec<char> = texts
        .concat()
        .chars()
        .chain("\\\"[](){}.,'ä\0 ".chars())
        .collect();
    let mut random = fastrand::Rng::with_seed(3);
    let mut sound = 0;
    for text in &texts {
        for _ in 0..600 {
            let mut characters: Vec<char> = text.chars().collect();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..characters.len());
                match random.u8(..3) {
                    0 => drop(characters.remove(at)),
                    1 => characters.insert(at, *random.choice(&pool).unwrap()),
                    _ => characters.rotate_left(at),
                }
            }
            let texts = [(characters.iter().collect(), Position::default())];
            let diagnostics = Diagnostics::default();
            Conditions::compile(&texts, Context::Span, &diagnostics);
            let conditions = diagnostics.is_empty();
            Statements::compile(&texts, Context::Span, &diagnostics);
            sound += usize::from(conditions || diagnostics.is_empty());
        }
    }
    assert!(sound > 0);
}
