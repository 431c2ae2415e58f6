//! Runs a program.
//!
//! Goes in: a program and what tells that it was run. Comes out: that it was. Invariant: a program
//! that counts as done is not run again.

use std::time::Duration;

use provision_protocol::operation::RunCommand;

use crate::fact;
use crate::failure::Failure;
use crate::operation::Task;
use crate::process::Program;

/// How long a program may take where nothing was said.
const DEFAULT_SECONDS: u32 = 300;
/// How much of its output is passed on when it fails.
const MAX_WORDS_BYTES: usize = 4096;

/// Runs a program, unless it counts as done.
pub(crate) fn run(task: &mut Task<'_>, wanted: &RunCommand) -> Result<(), Failure> {
    let Some((name, arguments)) = wanted.arguments.split_first() else {
        return Err(Failure::refused("the command names no program"));
    };
    if let Some(done) = &wanted.done
        && fact::command::look(task.root, done)?.done
    {
        return Ok(());
    }
    let seconds = if wanted.timeout_seconds == 0 {
        DEFAULT_SECONDS
    } else {
        wanted.timeout_seconds
    };
    // Its arguments may hold secrets, so only its program names it.
    let resource = format!("command {name}");
    task.manifest
        .record_command(task.root, task.operation, (&resource, name))?;
    let outcome = Program::named(task.root, name)?
        .arguments(arguments.iter().cloned())
        .deadline(Duration::from_secs(seconds.into()))
        .watch(task.progress)
        .run()?;
    if outcome.timed_out {
        return Err(Failure::program(
            format!("{name} did not end within {seconds} s and was killed: "),
            outcome.said(MAX_WORDS_BYTES),
        ));
    }
    if !outcome.succeeded() {
        return Err(Failure::program(
            format!("{name} failed, {}: ", outcome.ending()),
            outcome.said(MAX_WORDS_BYTES),
        ));
    }
    match &wanted.done {
        Some(done) if !fact::command::look(task.root, done)?.done => {
            Err(Failure::refused(format!(
                "{name} ended well, but does not count as done afterwards: {}",
                if done.creates.is_empty() {
                    format!("`{}` still fails", done.unless.join(" "))
                } else {
                    format!("{} is still missing", done.creates)
                }
            )))
        }
        _ => Ok(()),
    }
}
