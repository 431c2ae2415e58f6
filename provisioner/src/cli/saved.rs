//! Plans in files: `provision plan --out FILE`, `provision apply FILE`.
//!
//! Goes in: a path. Comes out: the plan that is in it, or a file with one. Invariant: the file is
//! replaced as a whole, and no secret can be read or guessed from it.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::FleetArgs;
use super::context::RunContext;
use crate::document::replace_file;
use crate::error::{Error, Result};
use crate::fleet::Override;
use crate::plan::HostPlan;
use crate::plan::saved::{Circumstances, FORMAT, SavedPlan, VERSION};
use crate::playbook::Play;
use crate::rollout::RunOptions;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;
/// How many differences are told of.
const DIFFERENCES_LIMIT: usize = 20;

/// Writes a plan.
///
/// # Errors
/// The file cannot be written, or `--set` gives a secret away.
pub(super) fn write(
    path: &Path,
    context: &RunContext,
    args: &FleetArgs,
    options: &RunOptions,
    plans: &[HostPlan],
    plays: &[(Play, Vec<String>)],
) -> Result<()> {
    let overrides = overrides_of(args);
    if overrides.iter().any(|text| context.redactor.finds(text)) {
        return Err(
            Error::usage("--set gives a secret, which would stand in the plan's file")
                .hint("settings are no secrets: use {{ secrets.NAME }} in the template"),
        );
    }
    let mut salt = [0; 16];
    let filled = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(salt.len()) {
        return Err(Error::controller("the kernel gives no random bytes"));
    }
    let with = circumstances(context, args, &overrides, options);
    let saved = SavedPlan::new(plans, plays, salt, &with);
    let no_json = |error| Error::controller("the plan is no JSON").caused_by(error);
    let text = serde_json::to_string_pretty(&saved).map_err(no_json)? + "\n";
    replace_file(path, &text).map_err(|error| {
        Error::controller(format!("{} cannot be written", path.display())).caused_by(error)
    })
}

/// Reads a plan.
///
/// # Errors
/// It cannot be read, or is none of this version.
pub(super) fn read(path: &Path) -> Result<SavedPlan> {
    let shown = path.display();
    let unreadable = |error| Error::usage(format!("{shown} cannot be read")).caused_by(error);
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let hint = "`provision plan --out FILE` makes one";
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        let error = Error::usage(format!("{shown} is no plan")).caused_by(error);
        error.hint(hint)
    })?;
    if value["format"] != FORMAT {
        return Err(Error::usage(format!("{shown} is no plan")).hint(hint));
    }
    if value["version"] != VERSION {
        let message = format!("{shown} was made by another version of provision");
        return Err(Error::usage(message).hint("make the plan anew with this one"));
    }
    serde_json::from_value(value).map_err(|error| {
        let error = Error::usage(format!("{shown} is damaged")).caused_by(error);
        error.hint(hint)
    })
}

/// Has a run be about what a plan is about.
///
/// # Errors
/// The command line asks for something else.
pub(super) fn adopt_arguments(args: &mut FleetArgs, saved: &SavedPlan) -> Result<()> {
    if !args.limit.is_empty() || !args.overrides.is_empty() {
        return Err(Error::usage("a plan is applied as it is")
            .hint("give --limit and --set to `provision plan --out FILE`"));
    }
    if !args.env.is_empty() && args.env != saved.environment {
        return Err(Error::usage(format!(
            "the plan is for environment `{}`, not `{}`",
            saved.environment, args.env
        )));
    }
    args.env.clone_from(&saved.environment);
    args.limit.clone_from(&saved.limit);
    let overrides = saved.overrides.iter().map(|text| text.parse::<Override>());
    args.overrides = overrides.collect::<Result<_, _>>().map_err(Error::usage)?;
    Ok(())
}

/// Refuses a plan that is not exactly what would be done now.
///
/// # Errors
/// It names each host, resource and what differs.
pub(super) fn check(
    saved: &SavedPlan,
    context: &RunContext,
    args: &FleetArgs,
    options: &RunOptions,
    plans: &[HostPlan],
    plays: &[(Play, Vec<String>)],
) -> Result<()> {
    let overrides = overrides_of(args);
    let with = circumstances(context, args, &overrides, options);
    let differences = saved.differences(plans, plays, &with);
    if differences.is_empty() {
        return Ok(());
    }
    let message = "the plan does not hold any more; nothing was changed on any host";
    let mut error = Error::host(message);
    for difference in differences.iter().take(DIFFERENCES_LIMIT) {
        error = error.caused_by(difference);
    }
    if differences.len() > DIFFERENCES_LIMIT {
        let more = differences.len() - DIFFERENCES_LIMIT;
        error = error.caused_by(format!("{more} more"));
    }
    let made = match saved.commit.as_str() {
        "" => format!("at {}", saved.made_at),
        commit => format!("at {} from commit {commit}", saved.made_at),
    };
    Err(error.hint(format!(
        "it was made by {} {made}: a host changed since, or the project gives something else; \
         look at a new plan",
        saved.made_by
    )))
}

fn overrides_of(args: &FleetArgs) -> Vec<String> {
    let overrides = args.overrides.iter();
    overrides.map(|one| one.text().to_owned()).collect()
}

fn circumstances<'a>(
    context: &'a RunContext,
    args: &'a FleetArgs,
    overrides: &'a [String],
    options: &'a RunOptions,
) -> Circumstances<'a> {
    Circumstances {
        environment: context.fleet.environment.name.as_str(),
        limit: &args.limit,
        overrides,
        made_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        origin: &options.origin,
        secrets: &context.secrets,
        redactor: &context.redactor,
    }
}
