//! `${env:NAME}`, `${NAME}`, `${NAME:-default}` and `$$` in a configuration's values.
//!
//! In: a tree and the environment. Out: the tree with references replaced.
//! Invariant: keys and positions stay; an unset variable without a default becomes empty, with
//! a warning, as in otelcol.

use super::diagnostic::{Diagnostics, Position};
use super::yaml::{Node, Value};

/// Looks a variable up; the process environment outside of tests.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Replaces every reference in the values below `node`.
pub fn expand(node: &mut Node, lookup: Lookup<'_>, diagnostics: &Diagnostics) {
    let position = node.position;
    match &mut node.value {
        Value::Null => {}
        Value::Sequence(items) => {
            items
                .iter_mut()
                .for_each(|item| expand(item, lookup, diagnostics));
        }
        Value::Mapping(entries) => {
            entries
                .iter_mut()
                .for_each(|(_, value)| expand(value, lookup, diagnostics));
        }
        Value::Scalar { text, quoted } => {
            if text.contains('$') {
                match replace(text, position, lookup, diagnostics) {
                    Some(expanded) if !expanded.is_empty() || *quoted => *text = expanded,
                    // Empty, or at fault already: nothing that a key's own check could add.
                    _ => node.value = Value::Null,
                }
            }
        }
    }
}

fn replace(
    text: &str,
    position: Position,
    lookup: Lookup<'_>,
    diagnostics: &Diagnostics,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(unescaped) = after.strip_prefix('$') {
            out.push('$');
            rest = unescaped;
        } else if let Some(inner) = after.strip_prefix('{') {
            let Some(end) = inner.find('}') else {
                diagnostics.error(position, "\"${\" without its \"}\"");
                return None;
            };
            out.push_str(&resolve(&inner[..end], position, lookup, diagnostics)?);
            rest = &inner[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

fn resolve(
    reference: &str,
    position: Position,
    lookup: Lookup<'_>,
    diagnostics: &Diagnostics,
) -> Option<String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let (scheme, name) = name.split_once(':').unwrap_or(("env", name));
    if scheme != "env" {
        let message =
            format!("\"${{{scheme}:…}}\" is not supported yet; only environment variables are");
        diagnostics.error(position, message);
        return None;
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        diagnostics.error(position, format!("{name:?} is not the name of a variable"));
        return None;
    }
    match (lookup(name), default) {
        (Some(value), _) => Some(value),
        (None, Some(default)) => Some(default.to_owned()),
        (None, None) => {
            let message = format!("the environment variable {name} is not set; using \"\"");
            diagnostics.warning(position, message);
            Some(String::new())
        }
    }
}
