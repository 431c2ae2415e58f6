//! OTTL's grammar.
//!
//! In: tokens. Out: an [`Expr`] or a [`Call`], not yet checked against any context.
//! Invariant: expressions nest at most [`MAX_DEPTH`] deep.

use super::fault::ParseFault;
use super::lexer::{Token, Word, tokens};

/// How deep expressions may nest.
const MAX_DEPTH: usize = 64;

/// An expression, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expr {
    pub(super) column: usize,
    pub(super) node: Node,
}

/// What an [`Expr`] is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Box<Expr>, Comparison, Box<Expr>),
    /// `a =~ "pattern"`, which OTTL does not have and people write.
    Matches(Box<Expr>, Box<Expr>),
    Arithmetic(Box<Expr>, Operator, Box<Expr>),
    Negate(Box<Expr>),
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Expr>),
    /// Keys and values in braces.
    Map(Vec<(String, Expr)>),
    /// A name in capitals, such as `SPAN_KIND_SERVER`.
    Symbol(String),
    Path(Vec<Segment>),
    Call(Call),
}

/// A function with its arguments, and perhaps keys into its result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) column: usize,
    pub(super) name: String,
    pub(super) arguments: Vec<Argument>,
    pub(super) keys: Vec<Key>,
}

/// What a function is given, perhaps with the name of the parameter that it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Argument {
    pub(super) name: Option<String>,
    pub(super) value: Expr,
}

/// One name of a path, with keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) keys: Vec<Key>,
}

/// A key into a map or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Into a map.
    Name(String),
    /// Into a list.
    Index(usize),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it asks for no more than whether two values are the same.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

const COMPARISONS: &[(&str, Comparison)] = &[
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Reads a condition.
pub(super) fn condition(text: &str) -> Result<Expr, ParseFault> {
    let mut parser = Parser::of(text)?;
    let expr = parser.or()?;
    parser.end()?;
    Ok(expr)
}

/// Reads a statement: an editor's call, and perhaps `where` and a condition.
pub(super) fn statement(text: &str) -> Result<(Call, Option<Expr>), ParseFault> {
    let mut parser = Parser::of(text)?;
    let column = parser.column();
    let Node::Call(call) = parser.primary()?.node else {
        let message = "a statement is a function, such as set(attributes[\"a\"], 1)";
        return Err(ParseFault::new(column, message));
    };
    let condition = match parser.take_name("where") {
        true => Some(parser.or()?),
        false => None,
    };
    parser.end()?;
    Ok((call, condition))
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
    depth: usize,
    end: usize,
}

impl Parser {
    fn of(text: &str) -> Result<Self, ParseFault> {
        Ok(Self {
            tokens: tokens(text)?,
            position: 0,
            depth: 0,
            end: text.chars().count() + 1,
        })
    }

    fn column(&self) -> usize {
        self.tokens
            .get(self.position)
            .map_or(self.end, |token| token.column)
    }

    fn peek(&self) -> Option<&Word> {
        self.tokens.get(self.position).map(|token| &token.word)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Word::Sign(found)) if *found == sign);
        self.position += usize::from(found);
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Some(Word::Name(found)) if found == name);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ParseFault> {
        match self.take_sign(sign) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("{sign:?}"))),
        }
    }

    fn end(&self) -> Result<(), ParseFault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end, \"and\" or \"or\"")),
        }
    }

    fn unexpected(&self, expected: &str) -> ParseFault {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Word::Name(name)) => format!("{name:?}"),
            Some(Word::Sign(sign)) => format!("{sign:?}"),
            Some(Word::Text(_)) => "a string".to_owned(),
            Some(Word::Bytes(_)) => "bytes".to_owned(),
            Some(Word::Int(_) | Word::Double(_)) => "a number".to_owned(),
        };
        let help = match self.peek() {
            Some(Word::Sign("=")) => Some("equality is written ==".to_owned()),
            Some(Word::Name(name)) if name == "AND" || name == "OR" || name == "NOT" => {
                Some(format!("write {} in lower case", name.to_lowercase()))
            }
            _ => None,
        };
        ParseFault::new(self.column(), format!("expected {expected}, found {found}"))
            .with_help(help)
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ParseFault>,
    ) -> Result<T, ParseFault> {
        if self.depth >= MAX_DEPTH {
            return Err(ParseFault::new(self.column(), "this is nested too deeply"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expr, ParseFault> {
        self.chain("or", Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Expr, ParseFault> {
        self.chain("and", Self::not, Node::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: impl Fn(&mut Self) -> Result<Expr, ParseFault>,
        join: impl FnOnce(Vec<Expr>) -> Node,
    ) -> Result<Expr, ParseFault> {
        let column = self.column();
        let first = part(self)?;
        let mut parts = vec![first];
        while self.take_name(word) {
            parts.push(part(self)?);
        }
        if parts.len() == 1
            && let Some(only) = parts.pop()
        {
            return Ok(only);
        }
        Ok(Expr {
            column,
            node: join(parts),
        })
    }

    fn not(&mut self) -> Result<Expr, ParseFault> {
        let column = self.column();
        if self.take_name("not") {
            let node = Node::Not(Box::new(self.deeper(Self::not)?));
            return Ok(Expr { column, node });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, ParseFault> {
        let column = self.column();
        let left = self.sum()?;
        if self.take_sign("=~") {
            let node = Node::Matches(Box::new(left), Box::new(self.sum()?));
            return Ok(Expr { column, node });
        }
        let found = COMPARISONS.iter().find(|(sign, _)| self.take_sign(sign));
        let Some((_, comparison)) = found else {
            return Ok(left);
        };
        let node = Node::Compare(Box::new(left), *comparison, Box::new(self.sum()?));
        Ok(Expr { column, node })
    }

    fn sum(&mut self) -> Result<Expr, ParseFault> {
        let signs = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.arithmetic(&signs, Self::product)
    }

    fn product(&mut self) -> Result<Expr, ParseFault> {
        let signs = [("*", Operator::Multiply), ("/", Operator::Divide)];
        self.arithmetic(&signs, Self::primary)
    }

    fn arithmetic(
        &mut self,
        signs: &[(&str, Operator)],
        part: impl Fn(&mut Self) -> Result<Expr, ParseFault>,
    ) -> Result<Expr, ParseFault> {
        let column = self.column();
        let mut left = part(self)?;
        while let Some((_, operator)) = signs.iter().find(|(sign, _)| self.take_sign(sign)) {
            let right = part(self)?;
            let node = Node::Arithmetic(Box::new(left), *operator, Box::new(right));
            left = Expr { column, node };
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expr, ParseFault> {
        let column = self.column();
        let Some(word) = self.peek().cloned() else {
            return Err(self.unexpected("a value"));
        };
        let node = match word {
            Word::Sign("(") => {
                self.position += 1;
                let inner = self.deeper(Self::or)?;
                self.expect(")")?;
                return Ok(inner);
            }
            Word::Sign("[") => {
                self.position += 1;
                Node::List(self.deeper(|parser| parser.listed("]", Self::sum))?)
            }
            Word::Sign("{") => {
                self.position += 1;
                Node::Map(self.deeper(Self::map)?)
            }
            Word::Sign("-") => {
                self.position += 1;
                match self.deeper(Self::primary)?.node {
                    Node::Int(number) => Node::Int(number.wrapping_neg()),
                    Node::Double(number) => Node::Double(-number),
                    node => Node::Negate(Box::new(Expr { column, node })),
                }
            }
            Word::Sign("+") => {
                self.position += 1;
                return self.deeper(Self::primary);
            }
            Word::Sign(_) => return Err(self.unexpected("a value")),
            Word::Text(text) => self.literal(Node::Text(text)),
            Word::Bytes(bytes) => self.literal(Node::Bytes(bytes)),
            Word::Int(number) => self.literal(Node::Int(number)),
            Word::Double(number) => self.literal(Node::Double(number)),
            Word::Name(name) => return self.name(column, name),
        };
        Ok(Expr { column, node })
    }

    fn literal(&mut self, node: Node) -> Node {
        self.position += 1;
        node
    }

    fn name(&mut self, column: usize, name: String) -> Result<Expr, ParseFault> {
        let node = match name.as_str() {
            "nil" => Node::Nil,
            "true" => Node::Bool(true),
            "false" => Node::Bool(false),
            "and" | "or" | "not" | "where" => return Err(self.unexpected("a value")),
            _ => {
                self.position += 1;
                return self.name_continued(column, name);
            }
        };
        self.position += 1;
        Ok(Expr { column, node })
    }

    fn name_continued(&mut self, column: usize, name: String) -> Result<Expr, ParseFault> {
        if self.take_sign("(") {
            let arguments = self.deeper(|parser| parser.listed(")", Self::argument))?;
            let keys = self.keys()?;
            let node = Node::Call(Call {
                column,
                name,
                arguments,
                keys,
            });
            return Ok(Expr { column, node });
        }
        if name.starts_with(|c: char| c.is_ascii_uppercase()) {
            let node = Node::Symbol(name);
            return Ok(Expr { column, node });
        }
        let mut segments = Vec::new();
        let mut name = name;
        loop {
            let keys = self.keys()?;
            segments.push(Segment { name, keys });
            if !self.take_sign(".") {
                let node = Node::Path(segments);
                return Ok(Expr { column, node });
            }
            name = match self.peek() {
                Some(Word::Name(next)) => next.clone(),
                _ => return Err(self.unexpected("a name after the dot")),
            };
            self.position += 1;
        }
    }

    fn keys(&mut self) -> Result<Vec<Key>, ParseFault> {
        let mut keys = Vec::new();
        while self.take_sign("[") {
            keys.push(match self.peek() {
                Some(Word::Text(name)) => Key::Name(name.clone()),
                Some(Word::Int(index)) => Key::Index(usize::try_from(*index).unwrap_or(usize::MAX)),
                _ => return Err(self.unexpected("a key in quotes, or a number")),
            });
            self.position += 1;
            self.expect("]")?;
        }
        Ok(keys)
    }

    fn listed<T>(
        &mut self,
        end: &str,
        item: impl Fn(&mut Self) -> Result<T, ParseFault>,
    ) -> Result<Vec<T>, ParseFault> {
        let mut items = Vec::new();
        if self.take_sign(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take_sign(end) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn argument(&mut self) -> Result<Argument, ParseFault> {
        let word = |ahead: usize| Some(&self.tokens.get(self.position + ahead)?.word);
        let name = match (word(0), word(1)) {
            (Some(Word::Name(name)), Some(Word::Sign("="))) => Some(name.clone()),
            _ => None,
        };
        if name.is_some() {
            self.position += 2;
        }
        Ok(Argument {
            name,
            value: self.sum()?,
        })
    }

    /// What follows an opening brace. The comma after a pair may be missing, as in otelcol.
    fn map(&mut self) -> Result<Vec<(String, Expr)>, ParseFault> {
        let mut pairs = Vec::new();
        while !self.take_sign("}") {
            let Some(Word::Text(key)) = self.peek().cloned() else {
                return Err(self.unexpected("a key in quotes, or \"}\""));
            };
            self.position += 1;
            self.expect(":")?;
            pairs.push((key, self.sum()?));
            self.take_sign(",");
        }
        Ok(pairs)
    }
}
