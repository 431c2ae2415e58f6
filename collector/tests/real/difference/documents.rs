//! The configurations that documents quote, run by both collectors.
//!
//! In: their folder. Out: the same items from both, for the same requests. Invariant: of a
//! configuration only what `docs/compatibility.md` names is replaced.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::cases::{self, Case};
use super::{Subject, listed, only};
use crate::document_index::{Row, folder, rows};
use crate::process::{DEADLINE, Kind};
use crate::sender::Sender;

/// Components that both collectors have; receivers and exporters of other kinds become `otlp`.
const PROCESSORS: &[&str] = &[
    "memory_limiter",
    "batch",
    "resource",
    "attributes",
    "filter",
    "transform",
    "probabilistic_sampler",
];

/// For so long nothing more may come out once both have brought out the same.
const QUIET: Duration = Duration::from_millis(300);

pub(super) async fn do_the_same() {
    // Requests that end differently in any case say nothing about a configuration.
    let known = listed("What comes out");
    let is_known = |case: &Case| {
        known
            .iter()
            .any(|row| row.starts_with(&format!("{} |", case.name)))
    };
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| !is_known(case))
        .collect();
    let rows = rows(&folder().unwrap());
    let mut different = Vec::new();
    let (mut compared, mut items) = (0, 0);
    for row in rows
        .iter()
        .filter(|row| row.verdict.starts_with("accepted"))
    {
        match compare(row, &cases).await {
            Ok(count) => items += count,
            Err(difference) => different.push(format!("{}: {difference}", row.name)),
        }
        compared += 1;
    }
    println!(
        "{items} items under {compared} of {} configurations",
        rows.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// How many items came out of both, or what is different.
async fn compare(row: &Row, cases: &[Case]) -> Result<usize, String> {
    let folder = crate::process::folder();
    let yaml = runnable(printed(row)).to_string();
    let ours = Subject::start(Kind::Ours, folder.path(), &yaml).await;
    let theirs = Subject::start(Kind::Otelcol, folder.path(), &in_ottl(&yaml)).await;
    let (one, other) = tokio::join!(answers(&ours, cases), answers(&theirs, cases));
    if one != other {
        return Err(format!("answers {one:?} and {other:?}"));
    }
    let is_same = || {
        let items = ours.items();
        !items.is_empty() && items == theirs.items()
    };
    let started = Instant::now();
    while !is_same() && started.elapsed() < DEADLINE / 4 {
        tokio::time::sleep(QUIET / 10).await;
    }
    tokio::time::sleep(QUIET).await;
    if is_same() {
        return Ok(ours.items().len());
    }
    let (a, b) = (
        ("0".to_owned(), ours.items()),
        ("0".to_owned(), theirs.items()),
    );
    let (here, there) = (only(&a, &b), only(&b, &a));
    Err(format!("\n  ours   {here}\n  theirs {there}"))
}

/// What is answered to each case in turn.
async fn answers(subject: &Subject, cases: &[Case]) -> Vec<String> {
    let sender = Sender::grpc(subject.grpc);
    let mut answers = Vec::new();
    for case in cases {
        answers.push(subject.send(&sender, case).await);
    }
    answers
}

/// The configuration with its variables replaced.
fn printed(row: &Row) -> Value {
    let arguments = [
        "print-config",
        "--validate=false",
        "--mode=unredacted",
        "--format=json",
    ];
    let output = Command::new(Kind::Ours.program())
        .args(arguments)
        .arg("--config")
        .arg(&row.path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {text}", row.name))
}

/// What OTTL has in place of the sign that people write.
fn in_ottl(yaml: &str) -> String {
    let sign = regex::Regex::new(r#"([a-z.]+\[\\"[^"]*"\]) =~ (\\"[^"]*")"#).unwrap();
    sign.replace_all(yaml, "IsMatch($1, $2)").into_owned()
}

/// What both can run, on loopback.
fn runnable(mut config: Value) -> Value {
    let receivers = json!({"otlp": receiver(&config["receivers"]["otlp"])});
    let processors = processors(&config["processors"]);
    let exporters = entries(&config["exporters"]).into_iter();
    let connectors = entries(&config["connectors"]).into_iter();
    let exporters: Map<String, Value> = exporters
        .chain(connectors)
        .map(|(id, settings)| (exporter_id(&id), exporter(&id, &settings)))
        .collect();
    let extensions = extensions(&config["extensions"]);
    for pipeline in config["service"]["pipelines"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        pipeline["receivers"] = json!(["otlp"]);
        let kept = |id: &String| processors.contains_key(id);
        pipeline["processors"] = texts(&pipeline["processors"])
            .into_iter()
            .filter(kept)
            .collect();
        let renamed = texts(&pipeline["exporters"])
            .into_iter()
            .map(|id| exporter_id(&id));
        pipeline["exporters"] = renamed.collect();
    }
    json!({
        "receivers": receivers,
        "processors": processors,
        "exporters": exporters,
        "service": {
            "pipelines": config["service"]["pipelines"],
            "extensions": extensions.keys().collect::<Vec<_>>(),
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": extensions,
    })
}

fn receiver(settings: &Value) -> Value {
    let mut protocols = json!({});
    for (protocol, endpoint) in [("grpc", "127.0.0.1:GRPC"), ("http", "127.0.0.1:HTTP")] {
        let mut settings = object(&settings["protocols"][protocol]);
        for connection in ["tls", "auth"] {
            settings.remove(connection);
        }
        settings.insert("endpoint".to_owned(), endpoint.into());
        protocols[protocol] = settings.into();
    }
    json!({"protocols": protocols})
}

fn processors(all: &Value) -> Map<String, Value> {
    let known = |id: &str| PROCESSORS.contains(&id.split('/').next().unwrap());
    let kept = entries(all).into_iter().filter(|(id, _)| known(id));
    kept.map(|(id, settings)| {
        let mut settings = object(&settings);
        match id.split('/').next() {
            Some("batch") => drop(settings.insert("timeout".to_owned(), "100ms".into())),
            Some("memory_limiter") if !settings.contains_key("check_interval") => {
                settings.insert("check_interval".to_owned(), "1s".into());
            }
            _ => {}
        }
        (id, settings.into())
    })
    .collect()
}

/// An exporter that stays under its name, or one of the kind `otlp`.
fn exporter_id(id: &str) -> String {
    match id.split('/').next() {
        Some("otlp" | "otlphttp") => id.to_owned(),
        _ => format!("otlp/{}", id.replace('/', "-")),
    }
}

fn exporter(id: &str, settings: &Value) -> Value {
    let mut settings = object(settings);
    match id.split('/').next() {
        Some("otlp" | "otlphttp") => drop(settings.remove("auth")),
        _ => settings.retain(|key, _| {
            ["sending_queue", "retry_on_failure", "timeout"].contains(&key.as_str())
        }),
    }
    let endpoint = match id.starts_with("otlphttp") {
        true => "http://127.0.0.1:TARGET",
        false => "127.0.0.1:TARGET",
    };
    settings.insert("endpoint".to_owned(), endpoint.into());
    settings.insert("tls".to_owned(), json!({"insecure": true}));
    settings.into()
}

fn extensions(all: &Value) -> Map<String, Value> {
    let settings = |(id, settings): (String, Value)| {
        let mut settings = object(&settings);
        match id.split('/').next()? {
            "file_storage" => {
                settings.insert("directory".to_owned(), "FOLDER".into());
                settings.insert("create_directory".to_owned(), true.into());
                if let Some(compaction) = settings.get_mut("compaction") {
                    compaction["directory"] = "FOLDER".into();
                }
            }
            "health_check" => drop(settings.insert("endpoint".to_owned(), "127.0.0.1:0".into())),
            _ => return None,
        }
        Some((id, settings.into()))
    };
    entries(all).into_iter().filter_map(settings).collect()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn entries(value: &Value) -> Vec<(String, Value)> {
    object(value).into_iter().collect()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
