//! Runs the programs of the operating system that a lab is made with.
//!
//! In: a program and its arguments. Out: what it wrote, or an error with the end of what it wrote.
//!
//! Invariant: a program ends with its caller, even when the caller is killed. One started by
//! [`isolated`] also takes its own children and mounts along.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::error::LabError;

/// The programs of an administrator are often missing from the path of `su`.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a failed program's output an error shows.
const OUTPUT_LINES: usize = 15;

/// What stands before a program so that it is killed when its caller ends.
const TIE: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// What stands before a program, and before its bound, to give it processes and mounts of its own.
const ISOLATE: [&str; 7] = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "timeout",
];

/// A program with a known search path, English messages and no input.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(TIE[0]);
    command.args(&TIE[1..]).arg(name);
    command
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    command
}

/// A program with its own processes and mounts, killed with its caller and after `bound`.
pub(super) fn isolated(name: &str, bound: Duration) -> Command {
    let mut command = program("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "timeout",
    ]);
    command.arg(bound.as_secs().to_string()).arg(name);
    command
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(super) fn run(command: &mut Command) -> Result<String, LabError> {
    let output = command
        .output()
        .map_err(|source| spawn_error(command, source))?;
    check(command, output)
}

/// Runs a program to its end with this input.
pub(super) fn run_with_input(command: &mut Command, input: &str) -> Result<String, LabError> {
    let failed = |source, command: &Command| spawn_error(command, source);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| failed(source, command))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read all says why by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|source| failed(source, command))?;
    check(command, output)
}

fn check(command: &Command, output: Output) -> Result<String, LabError> {
    let standard = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(standard);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = if errors.trim().is_empty() {
        standard.as_str()
    } else {
        &*errors
    };
    Err(LabError::Command {
        command: display(command),
        status: output.status.to_string(),
        output: last_lines(said, OUTPUT_LINES),
    })
}

fn spawn_error(command: &Command, source: std::io::Error) -> LabError {
    LabError::Spawn {
        program: display(command),
        source,
    }
}

/// The command as a user would type it, without what ties it to its caller and isolates it.
fn display(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let words = words
        .strip_prefix(&TIE.map(Into::into)[1..])
        .unwrap_or(&words);
    let isolated =
        words.len() > ISOLATE.len() && words.iter().zip(ISOLATE).all(|(word, other)| word == other);
    // The bound of `timeout` follows.
    words[if isolated { ISOLATE.len() + 1 } else { 0 }..].join(" ")
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_command_and_the_end_of_its_output() {
        let mut command = program("sh");
        command.args(["-c", "echo first >&2; echo second >&2; exit 3"]);
        let message = run(&mut command).unwrap_err().to_string();
        assert!(message.starts_with("`sh -c echo first"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.ends_with("first\nsecond"), "{message}");
    }

    #[test]
    fn an_error_shows_an_isolated_command_without_its_isolation() {
        let mut command = isolated("apt-get", Duration::from_secs(60));
        assert_eq!(display(command.arg("update")), "apt-get update");
    }

    #[test]
    fn keeps_only_the_last_lines() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
