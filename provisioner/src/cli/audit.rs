//! The audit log of an environment: JSON lines on this machine.
//!
//! Goes in: what became of the hosts of a run. Comes out: a line for each of them at the end of the
//! file that `audit_log` names. Invariant: lines are only ever added, each with one write, so that
//! runs at the same time do not mix them; no secret is in them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::document::Entry;
use crate::error::{Error, Result};
use crate::report::{HostOutcome, Outcome};
use crate::rollout::RunOptions;

/// What a new file may be read by.
const NEW_FILE_MODE: u32 = 0o600;

/// An audit log that is open.
#[derive(Debug)]
pub(super) struct AuditLog {
    file: File,
    path: PathBuf,
}

/// One host in one run.
#[derive(Serialize)]
struct Line<'a> {
    /// When the run ended.
    at: String,
    who: &'a str,
    /// The commit of the project, with `+` where files differed from it.
    commit: &'a str,
    command: &'a str,
    /// The run as the host's own history names it.
    run: &'a str,
    environment: &'a str,
    host: &'a str,
    outcome: Outcome,
    /// The number of the run in the host's own history.
    generation: Option<u64>,
    /// Kind and name of each resource that was changed, in order.
    changed: &'a [String],
    failure: Option<&'a str>,
    /// What could not be taken back when the host was rolled back.
    stays: &'a [String],
}

impl AuditLog {
    /// Opens the file that an environment names, or makes it.
    ///
    /// # Errors
    /// It cannot be written; the message says where it is named.
    pub(super) fn open(root: &Path, named: &Entry<String>) -> Result<Self> {
        let path = root.join(&named.value);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(NEW_FILE_MODE)
            .open(&path);
        let file = file.map_err(|error| {
            let shown = path.display();
            Error::controller(format!("the audit log {shown} cannot be written"))
                .caused_by(error)
                .hint(format!(
                    "`audit_log` names it at {}; nothing was changed on any host",
                    named.location
                ))
        })?;
        Ok(Self { file, path })
    }

    /// Adds a line for each host.
    ///
    /// # Errors
    /// The file takes no more; the message names it.
    pub(super) fn add(
        &self,
        (environment, command): (&str, &str),
        hosts: &[HostOutcome],
        options: &RunOptions,
    ) -> Result<()> {
        let at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        for host in hosts {
            let line = Line {
                at: at.clone(),
                who: &options.origin.who,
                commit: &options.origin.commit,
                command,
                run: &options.run,
                environment,
                host: &host.host,
                outcome: host.outcome,
                generation: host.generation,
                changed: &host.changed,
                failure: host.failure.as_deref(),
                stays: &host.stays,
            };
            let no_json = |error| Error::controller("the run is no JSON").caused_by(error);
            let mut line = serde_json::to_value(line).map_err(no_json)?;
            options.redactor.redact_json(&mut line);
            (&self.file)
                .write_all(format!("{line}\n").as_bytes())
                .map_err(|error| {
                    let shown = self.path.display();
                    Error::controller(format!("the audit log {shown} lacks this run"))
                        .caused_by(error)
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use provision_protocol::generation::Origin;
    use serde_json::{Value, json};

    use super::*;
    use crate::document::Source;
    use crate::rollout::{Confirm, Interrupt};
    use crate::secret::{Redactor, Secrets};

    const SECRET: &str = "hunter2-hunter2";

    fn options() -> RunOptions {
        let secret = ("token".parse().unwrap(), SECRET.to_owned().into());
        RunOptions {
            redactor: Redactor::new(&Secrets::of([secret])),
            environment: "production".to_owned(),
            forks: 1,
            run: "ada@controller, process 7".to_owned(),
            origin: Origin {
                who: "ada@controller".to_owned(),
                commit: "0123456789ab+".to_owned(),
            },
            peers: Vec::new(),
            keepers: BTreeSet::new(),
            rollback: true,
            lock_timeout: Duration::ZERO,
            confirm: Confirm::default(),
            interrupt: Interrupt::default(),
            events: tokio::sync::mpsc::unbounded_channel().0,
        }
    }

    fn named(path: &str) -> Entry<String> {
        Entry {
            value: path.to_owned(),
            location: Source::new("environments/production.toml".to_owned(), String::new())
                .locate(0..0),
        }
    }

    fn outcomes() -> Vec<HostOutcome> {
        let changed = HostOutcome {
            host: "a".to_owned(),
            outcome: Outcome::Changed,
            changed: vec!["file /etc/motd".to_owned(), "service answer".to_owned()],
            failure: None,
            generation: Some(3),
            stays: Vec::new(),
        };
        let failed = HostOutcome {
            host: "b".to_owned(),
            outcome: Outcome::RolledBack,
            failure: Some(format!("it said\n\"{SECRET}\"")),
            ..changed.clone()
        };
        vec![changed, failed]
    }

    #[test]
    fn each_run_adds_a_line_for_each_host_and_none_holds_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        for command in ["apply", "rollback"] {
            let log = AuditLog::open(folder.path(), &named("runs.jsonl")).unwrap();
            log.add(("production", command), &outcomes(), &options())
                .unwrap();
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let words: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {}", line["command"], line["host"]).replace('"', ""))
            .collect();
        assert_eq!(words, ["apply a", "apply b", "rollback a", "rollback b"]);
        let failure = lines[1]["failure"].as_str().unwrap();
        assert!(failure.starts_with("it said\n"), "{failure}");
        let mut first = lines.swap_remove(0);
        let at = first["at"].take();
        assert!(
            humantime::parse_rfc3339(at.as_str().unwrap()).is_ok(),
            "{at}"
        );
        assert_eq!(
            first,
            json!({
                "at": null,
                "who": "ada@controller",
                "commit": "0123456789ab+",
                "command": "apply",
                "run": "ada@controller, process 7",
                "environment": "production",
                "host": "a",
                "outcome": "changed",
                "generation": 3,
                "changed": ["file /etc/motd", "service answer"],
                "failure": null,
                "stays": [],
            })
        );
    }

    #[test]
    fn a_file_that_takes_nothing_is_said_of_by_name() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let log = AuditLog::open(Path::new("/"), &named("dev/full")).unwrap();
        let added = log.add(("production", "apply"), &outcomes(), &options());
        let error = added.unwrap_err().to_string();
        assert!(
            error.contains("the audit log /dev/full lacks this run"),
            "{error}"
        );
    }
}
