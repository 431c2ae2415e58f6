//! YAML text to a tree that knows where everything stands.
//!
//! In: the text of one document. Out: a [`Node`] tree, with aliases and merge keys resolved.
//! Invariant: the keys of a mapping are unique, and the tree has at most [`MAX_NODES`] nodes.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Diagnostics, Position};

/// How many nodes a configuration may have once its aliases are resolved.
pub const MAX_NODES: usize = 100_000;

/// How deep collections may nest.
pub const MAX_DEPTH: usize = 64;

/// A value in the configuration.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the value stands.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// Anything that is neither a list nor a mapping, as text.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// Whether quotes say that it is a string.
        quoted: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in file order.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it stands.
    pub position: Position,
}

impl Node {
    /// What the node is, for error texts.
    pub fn describe(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Parses one document; `None` when the text is not YAML or is empty.
pub fn parse(source: &str, diagnostics: &Diagnostics) -> Option<Node> {
    parse_source(source, 0, diagnostics)
}

/// Parses one document of several, whose positions bear its number.
pub fn parse_source(source: &str, number: usize, diagnostics: &Diagnostics) -> Option<Node> {
    let mut reader = Reader {
        parser: Parser::new_from_str(source),
        source: number,
        anchors: HashMap::new(),
        nodes: 0,
        diagnostics,
    };
    match reader.document() {
        Ok(node) => node,
        Err(Stop { position, message }) => {
            diagnostics.error(position, message);
            None
        }
    }
}

/// A fault after which the rest of the text cannot be understood.
struct Stop {
    position: Position,
    message: String,
}

struct Reader<'s> {
    parser: Parser<'s, saphyr_parser::StrInput<'s>>,
    source: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    diagnostics: &'s Diagnostics,
}

impl<'s> Reader<'s> {
    fn next(&mut self) -> Result<(Event<'s>, Position), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span, self.source))),
            Some(Err(error)) => {
                let marker = error.marker();
                let position = Position {
                    source: self.source,
                    line: marker.line(),
                    column: marker.col() + 1,
                    width: 1,
                };
                Err(Stop {
                    position,
                    message: format!("not valid YAML: {}", error.info()),
                })
            }
            None => Ok((Event::StreamEnd, Position::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (event, position) => {
                    let node = self.node(event, position, 0)?;
                    while let (event, position) = self.next()?
                        && event != Event::StreamEnd
                    {
                        if matches!(event, Event::DocumentStart(_)) {
                            let message = "a second YAML document; only one is read".to_owned();
                            return Err(Stop { position, message });
                        }
                    }
                    return Ok(Some(node));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'s>, position: Position, depth: usize) -> Result<Node, Stop> {
        self.spend(1, position)?;
        if depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Stop { position, message });
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(text.into_owned(), style)),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth)?),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let message = "this alias names no anchor above it".to_owned();
                    return Err(Stop { position, message });
                };
                self.spend(size(&node), position)?;
                return Ok(node);
            }
            _ => (0, Value::Null),
        };
        let node = Node { position, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn spend(&mut self, nodes: usize, position: Position) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, aliases resolved");
            return Err(Stop { position, message });
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, position) => items.push(self.node(event, position, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, position) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = match self.node(event, position, depth + 1)?.value {
                Value::Scalar { text, .. } => Key { text, position },
                Value::Null => Key {
                    text: String::new(),
                    position,
                },
                _ => {
                    let message = "a key must be a single value".to_owned();
                    return Err(Stop { position, message });
                }
            };
            let (event, position) = self.next()?;
            let node = self.node(event, position, depth + 1)?;
            if key.text == "<<" {
                merged.push(node);
            } else if let Some((first, _)) = entries.iter().find(|(seen, _)| seen.text == key.text)
            {
                let message = format!(
                    "duplicate key {:?}: it stands on line {} already, and only one of the two \
                     could count",
                    key.text, first.position.line
                );
                self.diagnostics.error(key.position, message);
            } else {
                entries.push((key, node));
            }
        }
        merged
            .into_iter()
            .for_each(|node| merge(&mut entries, node));
        Ok(Value::Mapping(entries))
    }
}

/// Adds what a `<<` key brings; keys that stand in the mapping itself win.
fn merge(entries: &mut Vec<(Key, Node)>, node: Node) {
    match node.value {
        Value::Mapping(inherited) => {
            for (key, value) in inherited {
                if !entries.iter().any(|(seen, _)| seen.text == key.text) {
                    entries.push((key, value));
                }
            }
        }
        Value::Sequence(nodes) => nodes.into_iter().for_each(|node| merge(entries, node)),
        _ => {}
    }
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    let quoted = style != ScalarStyle::Plain;
    if !quoted && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text, quoted }
}

/// Whether a text without quotes is a number or a truth value rather than a string.
pub fn is_typed(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    let hexadecimal = |prefix, radix| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|digits| i64::from_str_radix(&digits.replace('_', ""), radix).is_ok())
    };
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
        || (numeric && text.replace('_', "").parse::<f64>().is_ok())
        || hexadecimal("0x", 16)
        || hexadecimal("0o", 8)
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Sequence(items) => items.iter().map(size).sum(),
        Value::Mapping(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
        _ => 0,
    }
}

fn position(span: &Span, source: usize) -> Position {
    let (start, end) = (span.start, span.end);
    let width = if end.line() == start.line() {
        end.col().saturating_sub(start.col())
    } else {
        1
    };
    Position {
        source,
        line: start.line(),
        column: start.col() + 1,
        width,
    }
}
