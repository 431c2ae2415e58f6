//! A plan for people.
//!
//! Goes in: [`HostPlan`]s. Comes out: a text, with the lines that differ. Invariant: hosts whose
//! changes are word for word the same are shown once.

use std::fmt::Write as _;

use super::{BOLD, DIM, GREEN, RED, YELLOW, styled};
use crate::plan::{HostPlan, ResourceChange, ResourceRefusal};
use crate::resource::{Action, Detail};

/// The most lines of one text that are shown without `--verbose`.
const TEXT_LINES_LIMIT: usize = 60;

/// The text of all plans that change something, and a last line that counts.
#[must_use]
pub fn render_plans(plans: &[HostPlan], verbose: bool) -> String {
    let mut text = String::new();
    let mut bodies: Vec<(String, Vec<&str>)> = Vec::new();
    for plan in plans.iter().filter(|plan| !plan.is_empty()) {
        let body = render_body(plan, verbose);
        match bodies.iter_mut().find(|(known, _)| *known == body) {
            Some((_, hosts)) => hosts.push(&plan.host),
            None => bodies.push((body, vec![&plan.host])),
        }
    }
    for (body, hosts) in &bodies {
        let _ = write!(text, "{}\n{body}\n", styled(BOLD, &hosts.join(", ")));
    }
    text.push_str(&summary(plans));
    text
}

fn summary(plans: &[HostPlan]) -> String {
    let changes: usize = plans.iter().map(|plan| plan.changes.len()).sum();
    let refusals: usize = plans.iter().map(|plan| plan.refusals.len()).sum();
    let hosts = plans.iter().filter(|plan| !plan.is_empty()).count();
    let total = plans.len();
    if changes == 0 && refusals == 0 {
        return format!(
            "nothing to do: {total} {} as described\n",
            if total == 1 { "host is" } else { "hosts are" }
        );
    }
    let mut words = format!(
        "{changes} {} on {hosts} of {total} hosts",
        if changes == 1 { "change" } else { "changes" }
    );
    if refusals > 0 {
        let _ = write!(words, ", {refusals} refused");
    }
    words.push('\n');
    words
}

fn render_body(plan: &HostPlan, verbose: bool) -> String {
    let mut text = String::new();
    let mut play = "";
    for change in &plan.changes {
        if change.play != play {
            play = &change.play;
            let _ = writeln!(text, "  {}", styled(DIM, &format!("play {play}")));
        }
        render_change(&mut text, change, verbose);
    }
    for undecided in &plan.undecided {
        let ResourceRefusal {
            resource, refusal, ..
        } = undecided;
        let sign = styled(YELLOW, "? undecided");
        let _ = writeln!(
            text,
            "    {sign} {resource} (looked at again): now {}",
            refusal.message
        );
    }
    for stays in plan.stays.iter().filter(|_| verbose || !plan.is_empty()) {
        let _ = writeln!(text, "    {} {stays}", styled(DIM, "  stays:"));
    }
    for refused in &plan.refusals {
        let _ = writeln!(
            text,
            "  {} {}: {}",
            styled(RED, "!"),
            refused.resource,
            refused.refusal.message
        );
        if let Some(hint) = &refused.refusal.hint {
            let _ = writeln!(text, "      hint: {hint}");
        }
    }
    text
}

fn render_change(text: &mut String, entry: &ResourceChange, verbose: bool) {
    let change = &entry.change;
    let style = match change.action {
        Action::Remove => RED,
        Action::Create | Action::Install | Action::Format => GREEN,
        _ => YELLOW,
    };
    let mut remarks = Vec::new();
    if let Some(after) = &entry.unknown_after {
        remarks.push(format!("looked at again after {after}"));
    }
    if entry.left_playbook {
        remarks.push("left the playbook".to_owned());
    }
    if change.irreversible {
        remarks.push("cannot be rolled back".to_owned());
    }
    let remarks = match remarks.is_empty() {
        true => String::new(),
        false => styled(DIM, &format!(" ({})", remarks.join("; "))),
    };
    let sign = styled(
        style,
        &format!("{} {}", change.action.sign(), change.action.word()),
    );
    let _ = writeln!(text, "    {sign} {}{remarks}", entry.resource);
    render_details(
        text,
        &change.details,
        change.action == Action::Create,
        verbose,
    );
}

/// What is different, a line or more for each detail.
pub(crate) fn render_details(text: &mut String, details: &[Detail], new: bool, verbose: bool) {
    for detail in details {
        match detail {
            Detail::Field {
                name,
                from: Some(from),
                to,
            } => {
                let _ = writeln!(text, "        {name}: {from} → {to}");
            }
            Detail::Field {
                name,
                from: None,
                to,
            } => {
                let _ = writeln!(text, "        {name}: {to}");
            }
            Detail::Note(note) => {
                let _ = writeln!(text, "        {note}");
            }
            Detail::Text(diff) => render_text(text, diff, new, verbose),
        }
    }
}

fn render_text(text: &mut String, diff: &str, new: bool, verbose: bool) {
    let lines: Vec<&str> = diff.lines().collect();
    if new && !verbose {
        let count = lines.iter().filter(|line| line.starts_with('+')).count();
        let _ = writeln!(text, "        text: {count} lines (--verbose shows them)");
        return;
    }
    let shown = if verbose {
        lines.len()
    } else {
        lines.len().min(TEXT_LINES_LIMIT)
    };
    for line in &lines[..shown] {
        let style = match line.chars().next() {
            Some('+') => GREEN,
            Some('-') => RED,
            Some('@') => DIM,
            _ => {
                let _ = writeln!(text, "        {line}");
                continue;
            }
        };
        let _ = writeln!(text, "        {}", styled(style, line));
    }
    if shown < lines.len() {
        let _ = writeln!(
            text,
            "        … {} more lines (--verbose shows them)",
            lines.len() - shown
        );
    }
}
