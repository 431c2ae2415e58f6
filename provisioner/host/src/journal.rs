//! What was done on this host.
//!
//! Goes in: the beginning and the end of each operation. Comes out: lines of JSON, on disk before
//! the operation begins. Invariant: the journal is bounded in bytes, and no secret enters it:
//! neither what a program printed nor what it was given.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use provision_protocol::operation::Operation;
use provision_protocol::operation::operation::Kind as Act;
use serde::Serialize;

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::Root;

const CURRENT: &str = "journal.jsonl";
const PREVIOUS: &str = "journal.1.jsonl";
/// Above this size the journal is put aside, replacing the one that was put aside before.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// How far an operation got.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// It begins now.
    Begin,
    /// It was done.
    Done,
    /// It was not.
    Failed,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    version: u32,
    unix_seconds: u64,
    run: &'a str,
    environment: &'a str,
    play: &'a str,
    resource: Cow<'a, str>,
    operation: &'a str,
    step: Step,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// Adds a line and makes it last.
pub(crate) fn note(
    root: &Root,
    run: &str,
    operation: &Operation,
    (name, step, message): (&str, Step, &str),
) -> Result<(), Failure> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let line = Line {
        version: 1,
        unix_seconds: now.as_secs(),
        run,
        environment: &operation.environment,
        play: &operation.play,
        resource: resource_of(operation),
        operation: name,
        step,
        message,
    };
    let mut text = serde_json::to_vec(&line)
        .map_err(std::io::Error::from)
        .doing(|| format!("describe {name} for the journal"))?;
    text.push(b'\n');
    let path = root.state(CURRENT);
    let doing = || format!("write {}", path.display());
    let size = fs::metadata(&path).map_or(0, |found| found.len());
    if size + text.len() as u64 > MAX_BYTES {
        fs::rename(&path, root.state(PREVIOUS)).doing(doing)?;
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .doing(doing)?;
    file.write_all(&text)
        .and_then(|()| file.sync_data())
        .doing(doing)?;
    if is_new {
        durable::sync_parent(&path)
    } else {
        Ok(())
    }
}

/// The resource that asks for an operation. That of a command is named by its arguments, which may
/// hold secrets.
fn resource_of(operation: &Operation) -> Cow<'_, str> {
    match &operation.kind {
        Some(Act::RunCommand(wanted)) => {
            let program = wanted.arguments.first().map_or("", String::as_str);
            format!("command {program}").into()
        }
        _ => operation.resource.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_in_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        durable::make_private_directory(&root.state("")).unwrap();
        let operation = Operation {
            resource: "file /x".into(),
            ..Operation::default()
        };
        note(&root, "run-1", &operation, ("write file", Step::Begin, "")).unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(root.state(CURRENT))
            .unwrap();
        file.set_len(MAX_BYTES - 10).unwrap();
        note(
            &root,
            "run-1",
            &operation,
            ("write file", Step::Failed, "no"),
        )
        .unwrap();
        let text = fs::read_to_string(root.state(CURRENT)).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["step"], "failed");
        assert_eq!(line["resource"], "file /x");
        assert_eq!(
            fs::metadata(root.state(PREVIOUS)).unwrap().len(),
            MAX_BYTES - 10
        );
    }
}
