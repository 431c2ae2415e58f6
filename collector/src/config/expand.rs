//! `${env:NAME}`, `${NAME}`, `${NAME:-default}`, `${file:PATH}`, `${yaml:TEXT}` and `$$`.
//!
//! In: a tree and the world outside. Out: the tree with references replaced.
//! Invariant: keys stay; what is expanded is looked at again, at most [`MAX_EXPANSIONS`] times in
//! one configuration.
//!
//! A value that is one reference and nothing else becomes what the text behind it is in YAML: a
//! number, `true`, a list, a mapping; anything else is put into the text around it. A variable
//! that is not set and has no default is empty, with a warning, as in otelcol. The last line
//! break of a file that holds one string is not part of it.

use std::cell::Cell;

use super::diagnostic::{Diagnostics, Position};
pub use super::source::Lookup;
use super::source::{Sources, Surroundings};
use super::yaml::{self, Node, Value};

/// How many references are followed in one configuration.
pub const MAX_EXPANSIONS: usize = 10_000;

/// How deep files may refer to files.
const MAX_NESTING: usize = 32;

/// Replaces every reference in the values below `node`.
pub fn expand(
    node: &mut Node,
    surroundings: Surroundings<'_>,
    sources: &Sources,
    diagnostics: &Diagnostics,
) {
    let expansion = Expansion {
        surroundings,
        sources,
        diagnostics,
        left: Cell::new(MAX_EXPANSIONS),
    };
    expansion.node(node, 0);
}

struct Expansion<'e> {
    surroundings: Surroundings<'e>,
    sources: &'e Sources,
    diagnostics: &'e Diagnostics,
    left: Cell<usize>,
}

/// What stands behind a reference.
struct Retrieved {
    text: String,
    /// The file that it comes from.
    file: Option<String>,
}

impl Expansion<'_> {
    fn node(&self, node: &mut Node, nesting: usize) {
        match &mut node.value {
            Value::Null => {}
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.node(item, nesting)),
            Value::Mapping(entries) => entries
                .iter_mut()
                .for_each(|(_, value)| self.node(value, nesting)),
            Value::Scalar { text, quoted } => {
                if text.contains('$') {
                    let (text, quoted) = (std::mem::take(text), *quoted);
                    *node = self.scalar(text, quoted, node.position, nesting);
                }
            }
        }
    }

    fn scalar(&self, text: String, quoted: bool, position: Position, nesting: usize) -> Node {
        let null = Node {
            position,
            value: Value::Null,
        };
        let mut text = text;
        let mut from = 0;
        while let Some(found) = find(&text[from..]) {
            let (start, end) = (from + found.start, from + found.end);
            if found.is_escaped {
                from = end;
                continue;
            }
            let reference = text[start + 2..end - 1].to_owned();
            let whole = start == 0 && end == text.len();
            let Some(retrieved) = self.retrieve(&reference, position) else {
                return null;
            };
            if !whole {
                text.replace_range(start..end, &retrieved.text);
                continue;
            }
            match self.typed(retrieved, position) {
                Node {
                    value:
                        Value::Scalar {
                            text: inner,
                            quoted,
                        },
                    ..
                } if !quoted || !inner.contains("${") => {
                    let text = unescape(inner);
                    let value = Value::Scalar { text, quoted };
                    return Node { position, value };
                }
                Node {
                    value: Value::Scalar { text: inner, .. },
                    ..
                } => (text, from) = (inner, 0),
                mut tree => {
                    if nesting >= MAX_NESTING {
                        let message = format!("references nested deeper than {MAX_NESTING} levels");
                        self.diagnostics.error(position, message);
                        return null;
                    }
                    self.node(&mut tree, nesting + 1);
                    return tree;
                }
            }
        }
        if text.is_empty() && !quoted {
            return null;
        }
        let value = Value::Scalar {
            text: unescape(text),
            quoted: true,
        };
        Node { position, value }
    }

    /// What a text is when it is a value of its own.
    fn typed(&self, retrieved: Retrieved, position: Position) -> Node {
        let Retrieved { text, file } = retrieved;
        let scratch = Diagnostics::default();
        let parsed = match &file {
            None => yaml::parse(&text, &scratch).map(|node| relocate(node, position)),
            Some(path) => match self.sources.add(path, text.clone()) {
                Some(number) => yaml::parse_source(&text, number, &scratch),
                None => None,
            },
        };
        let at = file.is_none().then_some(position);
        match parsed {
            Some(tree) if matches!(tree.value, Value::Sequence(_) | Value::Mapping(_)) => {
                self.diagnostics.adopt(scratch, at);
                tree
            }
            Some(Node {
                value:
                    Value::Scalar {
                        text,
                        quoted: false,
                    },
                ..
            }) if yaml::is_typed(&text) => Node {
                position,
                value: Value::Scalar {
                    text,
                    quoted: false,
                },
            },
            None if !text.trim().is_empty() => string(text, position),
            Some(Node {
                value: Value::Scalar { .. },
                ..
            }) => string(text, position),
            _ => Node {
                position,
                value: Value::Null,
            },
        }
    }

    fn retrieve(&self, reference: &str, position: Position) -> Option<Retrieved> {
        let refuse = |message: String| {
            self.diagnostics.error(position, message);
            None
        };
        let Some(left) = self.left.get().checked_sub(1) else {
            return refuse(format!(
                "more than {MAX_EXPANSIONS} references were followed; one leads to itself"
            ));
        };
        self.left.set(left);
        let (scheme, rest) = match reference.split_once(':') {
            Some((scheme, rest)) if !rest.starts_with('-') => (scheme, rest),
            _ => ("env", reference),
        };
        match scheme {
            "env" => self.variable(rest, position),
            "yaml" => Some(Retrieved {
                text: rest.to_owned(),
                file: None,
            }),
            "file" => match (self.surroundings.file)(rest) {
                Ok(text) => {
                    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
                    let text = trimmed.strip_suffix('\r').unwrap_or(trimmed).to_owned();
                    let file = Some(rest.to_owned());
                    Some(Retrieved { text, file })
                }
                Err(error) => refuse(format!("cannot read {rest}: {error}")),
            },
            "http" | "https" => refuse(format!(
                "\"${{{scheme}:…}}\" is not supported yet; fetch it first, and use ${{file:PATH}}"
            )),
            _ => refuse(format!(
                "\"${{{scheme}:…}}\" is neither ${{env:NAME}} nor ${{file:PATH}}; write $$ for a $"
            )),
        }
    }

    fn variable(&self, reference: &str, position: Position) -> Option<Retrieved> {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("{name:?} is not the name of a variable");
            self.diagnostics.error(position, message);
            return None;
        }
        let found = (self.surroundings.variable)(name).or_else(|| default.map(str::to_owned));
        let text = found.unwrap_or_else(|| {
            let message = format!("the environment variable {name} is not set; using \"\"");
            self.diagnostics.warning(position, message);
            String::new()
        });
        Some(Retrieved { text, file: None })
    }
}

/// A `${…}` in a text, without another inside.
struct Found {
    start: usize,
    end: usize,
    /// Whether the dollar signs in front say that it is meant as it stands.
    is_escaped: bool,
}

fn find(text: &str) -> Option<Found> {
    let mut from = 0;
    loop {
        let close = from + text[from..].find('}')?;
        if let Some(open) = text[from..close].rfind("${") {
            let start = from + open;
            let before = text[..start].bytes().rev();
            let dollars = before.take_while(|byte| *byte == b'$').count();
            return Some(Found {
                start,
                end: close + 1,
                is_escaped: dollars % 2 == 1,
            });
        }
        from = close + 1;
    }
}

fn unescape(text: String) -> String {
    if text.contains("$$") {
        text.replace("$$", "$")
    } else {
        text
    }
}

fn string(text: String, position: Position) -> Node {
    let value = Value::Scalar { text, quoted: true };
    Node { position, value }
}

/// Gives everything in a tree the place of the reference that brought it.
fn relocate(mut node: Node, position: Position) -> Node {
    move_to(&mut node, position);
    node
}

fn move_to(node: &mut Node, position: Position) {
    node.position = position;
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| move_to(item, position)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                key.position = position;
                move_to(value, position);
            }
        }
        _ => {}
    }
}
