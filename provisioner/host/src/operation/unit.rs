//! Acts on systemd units.
//!
//! Goes in: a unit and a verb. Comes out: the unit in that state, or why it is not. Invariant: a
//! debt is settled only after the verb that settles it has succeeded.

use std::time::{Duration, Instant};

use provision_protocol::fact::UnitFact;
use provision_protocol::operation::{Owed, UnitAction, UnitVerb};

use crate::debt;
use crate::fact::unit::{is_unit_name, look_at_one};
use crate::failure::Failure;
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::Task;
use crate::process::{LOOK_DEADLINE, Program};
use crate::root::Root;

/// How long systemctl may take, and a unit to start or stop at the least.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long a unit may take to start, and to stop, that says itself that it may take for ever.
const FOR_EVER: Duration = Duration::from_secs(15 * 60);
/// The longest time that is waited for a unit, whatever it says itself.
const LONGEST: Duration = Duration::from_secs(3600);
/// How much longer than the unit's own time is waited, so that systemd gives up first.
const MARGIN: Duration = Duration::from_secs(15);
/// How many lines of a unit's log are passed on when it fails.
const LOG_LINES: &str = "10";
/// How much of systemctl's words and of a log is passed on.
const MAX_WORDS_BYTES: usize = 4000;

/// Acts on a unit.
pub(crate) fn act(task: &mut Task<'_>, wanted: &UnitAction) -> Result<(), Failure> {
    let verb = wanted.verb();
    if verb == UnitVerb::DaemonReload {
        return systemctl(task.root, &[word(verb)]).map_err(|words| {
            Failure::refused(format!("systemd did not read its units again: {words}"))
        });
    }
    let unit = wanted.unit.as_str();
    if !is_unit_name(unit) {
        return Err(Failure::refused(format!(
            "`{unit}` is not the full name of a unit"
        )));
    }
    let before = look_at_one(task.root, unit)?;
    let own_file = has_own_file(task, unit);
    let known = task.manifest.get(Kind::Unit, unit);
    let applied = known.map_or("", |entry| entry.applied.value.as_str());
    let value = applied_value(applied, verb);
    task.record(Wanted {
        kind: Kind::Unit,
        name: unit,
        before: Before {
            existed: before.load_state != "not-found" && !own_file,
            value: format!("{},{}", before.unit_file_state, before.active_state),
            ..Before::default()
        },
        value: Some(value),
        ..Wanted::default()
    })?;
    if let Err(words) = act_on(task, verb, unit) {
        let reason = why(task.root, unit, verb);
        return Err(Failure::program(
            format!("cannot {} {unit}: ", word(verb)),
            format!("{words}{reason}"),
        ));
    }
    debt::settle(task.root, unit, settled(verb, &before))
}

/// `enabled,active` after a verb; what this tool has never set stays empty.
fn applied_value(before: &str, verb: UnitVerb) -> String {
    let (enabled, active) = before.split_once(',').unwrap_or_default();
    match verb {
        UnitVerb::Enable => format!("enabled,{active}"),
        UnitVerb::Disable => format!("disabled,{active}"),
        UnitVerb::Start | UnitVerb::Reload | UnitVerb::Restart => format!("{enabled},active"),
        UnitVerb::Stop => format!("{enabled},inactive"),
        UnitVerb::DaemonReload => before.to_owned(),
    }
}

/// The word that systemctl has for a verb.
pub(crate) fn word(verb: UnitVerb) -> &'static str {
    match verb {
        UnitVerb::DaemonReload => "daemon-reload",
        UnitVerb::Enable => "enable",
        UnitVerb::Disable => "disable",
        UnitVerb::Start => "start",
        UnitVerb::Stop => "stop",
        UnitVerb::Reload => "reload",
        UnitVerb::Restart => "restart",
    }
}

/// Runs systemctl; a failure is what it said.
pub(crate) fn systemctl(root: &Root, arguments: &[&str]) -> Result<(), String> {
    run_systemctl(root, arguments, DEADLINE, &mut |_| {})
}

/// Acts on a unit, and waits for as long as the unit itself allows; a failure is what systemctl
/// said.
pub(crate) fn act_on(task: &mut Task<'_>, verb: UnitVerb, unit: &str) -> Result<(), String> {
    let deadline = if changes_state(verb) {
        patience(task.root, unit)
    } else {
        DEADLINE
    };
    let started = Instant::now();
    let progress = &mut task.progress;
    let mut watch = |_: &str| {
        progress(&format!(
            "{} {unit}: {} s of at most {} s",
            word(verb),
            started.elapsed().as_secs(),
            deadline.as_secs()
        ));
    };
    run_systemctl(task.root, &[word(verb), "--", unit], deadline, &mut watch)
}

fn run_systemctl(
    root: &Root,
    arguments: &[&str],
    deadline: Duration,
    watch: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let outcome = Program::named(root, "systemctl")
        .and_then(|program| {
            program
                .arguments(arguments.iter().copied())
                .deadline(deadline)
                .watch(watch)
                .run()
        })
        .map_err(|failure| failure.to_string())?;
    if outcome.succeeded() {
        Ok(())
    } else if outcome.timed_out {
        Err(format!("it did not end within {} s", deadline.as_secs()))
    } else {
        Err(outcome.said(MAX_WORDS_BYTES))
    }
}

/// How long a unit may take: to stop and to start, as systemd has it.
fn patience(root: &Root, unit: &str) -> Duration {
    let properties = "--property=TimeoutStartUSec,TimeoutStopUSec";
    let shown = Program::named(root, "systemctl")
        .and_then(|program| program.arguments(["show", properties, "--", unit]).run());
    // Whatever keeps systemctl from answering is told by the verb itself.
    let text = shown.map_or_else(|_| String::new(), |outcome| outcome.stdout);
    let spans = text.lines().filter_map(|line| line.split_once('='));
    let own: Duration = spans
        .filter(|(name, _)| matches!(*name, "TimeoutStartUSec" | "TimeoutStopUSec"))
        .filter_map(|(_, span)| parse_span(span.trim()))
        .fold(Duration::ZERO, Duration::saturating_add);
    own.saturating_add(MARGIN).clamp(DEADLINE, LONGEST)
}

/// A span of time as systemctl shows it, for instance `1min 30s`.
fn parse_span(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(FOR_EVER);
    }
    let mut span = Duration::ZERO;
    for word in text.split_whitespace() {
        let unit_at = word.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, unit) = word.split_at(unit_at?);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            // systemd's month and year are mean ones.
            "month" => 2_629_800.0,
            "y" => 31_557_600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        span = span.saturating_add(part);
    }
    (!text.trim().is_empty()).then_some(span)
}

const fn changes_state(verb: UnitVerb) -> bool {
    matches!(
        verb,
        UnitVerb::Start | UnitVerb::Stop | UnitVerb::Reload | UnitVerb::Restart
    )
}

/// What a verb settles. A start settles nothing for a unit that was running, because it did
/// nothing then.
fn settled(verb: UnitVerb, before: &UnitFact) -> Owed {
    let ran = matches!(before.active_state.as_str(), "active" | "reloading");
    match verb {
        UnitVerb::Restart => Owed::Restart,
        UnitVerb::Start if !ran => Owed::Restart,
        UnitVerb::Reload => Owed::Reload,
        _ => Owed::Nothing,
    }
}

/// The unit's file is one that was put there by this tool.
fn has_own_file(task: &Task<'_>, unit: &str) -> bool {
    [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]
    .iter()
    .any(|place| {
        let entry = task.manifest.get(Kind::File, &format!("{place}/{unit}"));
        entry.is_some_and(|entry| !entry.existed)
    })
}

/// Why a unit failed: its result, its exit code and the end of its log.
fn why(root: &Root, unit: &str, verb: UnitVerb) -> String {
    if !changes_state(verb) {
        return String::new();
    }
    let run = |name: &str, arguments: &[&str]| {
        let program = Program::named(root, name).ok()?;
        let outcome = program
            .arguments(arguments.iter().copied())
            .deadline(LOOK_DEADLINE)
            .run();
        outcome.ok().map(|outcome| outcome.stdout)
    };
    let properties = "--property=Result,ExecMainCode,ExecMainStatus,ActiveState,SubState";
    let state = run("systemctl", &["show", properties, "--", unit]).unwrap_or_default();
    let state: Vec<&str> = state
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let arguments = ["-u", unit, "-n", LOG_LINES, "--no-pager", "-o", "cat"];
    let log = run("journalctl", &arguments).unwrap_or_default();
    let mut text = String::new();
    if !state.is_empty() {
        text.push_str(&format!("\nstate: {}", state.join(" ")));
    }
    if !log.trim().is_empty() {
        let log = crate::process::shorten(log.trim(), MAX_WORDS_BYTES);
        text.push_str(&format!("\nthe end of its log:\n{log}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::install_script;

    #[test]
    fn reads_spans_as_systemctl_shows_them() {
        let span = |text| parse_span(text).map(|span| span.as_millis());
        assert_eq!(span("1min 30s"), Some(90_000));
        assert_eq!(span("500ms"), Some(500));
        assert_eq!(span("1.500s"), Some(1500));
        assert_eq!(span("1h 2min 3s 4ms 500us"), Some(3_723_004));
        assert_eq!(span("infinity"), Some(FOR_EVER.as_millis()));
        for bad in ["", "soon", "12", "1 parsec", "s"] {
            assert_eq!(span(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn waits_for_as_long_as_the_unit_allows() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        assert_eq!(patience(&root, "a.service"), DEADLINE, "without an answer");
        let seconds = |start: &str, stop: &str| {
            let text = format!("printf 'TimeoutStartUSec={start}\nTimeoutStopUSec={stop}\n'");
            install_script(&root, "/usr/bin/systemctl", &text);
            patience(&root, "a.service").as_secs()
        };
        assert_eq!(seconds("1min 30s", "1min"), 165);
        assert_eq!(seconds("5s", "5s"), 90);
        assert_eq!(seconds("infinity", "1min 30s"), 1005);
        assert_eq!(seconds("1y", "infinity"), 3600);
    }
}
