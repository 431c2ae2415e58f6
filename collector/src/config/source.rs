//! The texts that a configuration is made of, and where they come from.
//!
//! In: `--config` locations, `--set` arguments and the world outside. Out: numbered texts, each
//! with the tree that it holds. Invariant: every node's position names its text; no text is
//! longer than [`MAX_SOURCE_BYTES`].
//!
//! | location | |
//! |---|---|
//! | `PATH`, `file:PATH` | a file |
//! | `env:NAME` | the value of an environment variable |
//! | `yaml:TEXT` | the text itself; `::` in a key goes one level down |

use std::cell::RefCell;
use std::io::{self, Read as _};

use super::diagnostic::{Diagnostics, Position};
use super::yaml::{self, Key, Node, Value};

/// How long one text may be.
pub const MAX_SOURCE_BYTES: u64 = 16 << 20;

/// How many texts a configuration may have, the files that it refers to included.
pub const MAX_SOURCES: usize = 1000;

/// Looks a variable up; the process environment outside of tests.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// What a configuration may take from the world outside.
#[derive(Clone, Copy)]
pub struct Surroundings<'s> {
    /// Finds environment variables.
    pub variable: Lookup<'s>,
    /// Reads files.
    pub file: &'s dyn Fn(&str) -> io::Result<String>,
}

/// One text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What diagnostics call it.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Every text of one configuration.
#[derive(Debug, Default)]
pub struct Sources(RefCell<Vec<Source>>);

impl Sources {
    /// Adds a text and returns its number; `None` when there are too many.
    pub fn add(&self, name: impl Into<String>, text: impl Into<String>) -> Option<usize> {
        let mut sources = self.0.borrow_mut();
        let (name, text) = (name.into(), text.into());
        (sources.len() < MAX_SOURCES).then(|| {
            sources.push(Source { name, text });
            sources.len() - 1
        })
    }

    /// All of them, by number.
    pub fn into_inner(self) -> Vec<Source> {
        self.0.into_inner()
    }
}

/// Reads a file as the program does outside of tests.
pub fn read_file(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_SOURCE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SOURCE_BYTES {
        let message = format!("longer than {} MiB", MAX_SOURCE_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Reads the tree at a `--config` location; `None` when there is none, which may be an error.
pub fn load(
    location: &str,
    surroundings: Surroundings<'_>,
    sources: &Sources,
    diagnostics: &Diagnostics,
) -> Option<Node> {
    let (scheme, rest) = location.split_once(':').unwrap_or(("file", location));
    let (name, text) = match scheme {
        "file" => match (surroundings.file)(rest) {
            Ok(text) => (rest.to_owned(), text),
            Err(error) => {
                diagnostics.file_error(format!("cannot read {rest}: {error}"));
                return None;
            }
        },
        "env" => match (surroundings.variable)(rest) {
            Some(text) => (location.to_owned(), text),
            None => {
                diagnostics.file_warning(format!("the environment variable {rest} is not set"));
                return None;
            }
        },
        "yaml" => ("yaml".to_owned(), rest.to_owned()),
        _ => {
            let message = format!(
                "cannot read {location}: a location is PATH, file:PATH, env:NAME or yaml:TEXT"
            );
            diagnostics.file_error(message);
            return None;
        }
    };
    let Some(number) = sources.add(name, text.clone()) else {
        diagnostics.file_error(format!("more than {MAX_SOURCES} texts"));
        return None;
    };
    let node = yaml::parse_source(&text, number, diagnostics)?;
    match node.value {
        Value::Mapping(entries) => Some(Node {
            position: node.position,
            value: Value::Mapping(unfold(entries)),
        }),
        _ => {
            let message = format!("expected a mapping, found {}", node.describe());
            diagnostics.error(node.position, message);
            None
        }
    }
}

/// Reads a `--set` argument, `key.path=value`.
pub fn set(argument: &str, sources: &Sources, diagnostics: &Diagnostics) -> Option<Node> {
    let number = sources.add("--set", argument)?;
    let position = Position {
        source: number,
        line: 1,
        column: 1,
        width: argument.find('=').unwrap_or(argument.len()),
    };
    let Some((path, value)) = argument.split_once('=') else {
        diagnostics.error(position, "expected key.path=value, found no \"=\"");
        return None;
    };
    // The value keeps its place, so that what is wrong with it is pointed at.
    let padded = format!("{}{value}", " ".repeat(path.chars().count() + 1));
    let node = yaml::parse_source(&padded, number, diagnostics).unwrap_or(Node {
        position,
        value: Value::Null,
    });
    let key = Key {
        text: path.trim().replace('.', "::"),
        position,
    };
    Some(Node {
        position,
        value: Value::Mapping(unfold(vec![(key, node)])),
    })
}

/// Turns `a::b: value` into `a: {b: value}`, as otelcol does for the keys at the top.
fn unfold(entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
    let mut unfolded = Vec::new();
    for (key, mut node) in entries {
        let mut parts = key.text.rsplit("::").peekable();
        let mut first = String::new();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                first = part.to_owned();
                break;
            }
            let inner = Key {
                text: part.to_owned(),
                position: key.position,
            };
            node = Node {
                position: key.position,
                value: Value::Mapping(vec![(inner, node)]),
            };
        }
        let key = Key {
            text: first,
            position: key.position,
        };
        merge_entry(&mut unfolded, key, node);
    }
    unfolded
}

/// Lays `above` over `below`: mappings are joined, everything else is replaced.
pub fn merge(below: &mut Node, above: Node) {
    match (&mut below.value, above.value) {
        (Value::Mapping(entries), Value::Mapping(others)) => {
            for (key, node) in others {
                merge_entry(entries, key, node);
            }
        }
        (_, value) => {
            *below = Node {
                position: above.position,
                value,
            }
        }
    }
}

fn merge_entry(entries: &mut Vec<(Key, Node)>, key: Key, node: Node) {
    let found = entries
        .iter_mut()
        .find(|(existing, _)| existing.text == key.text);
    let Some((existing, value)) = found else {
        entries.push((key, node));
        return;
    };
    let joined = matches!(
        (&value.value, &node.value),
        (Value::Mapping(_), Value::Mapping(_))
    );
    if !joined {
        existing.position = key.position;
    }
    merge(value, node);
}
