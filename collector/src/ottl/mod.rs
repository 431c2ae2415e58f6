//! The part of OTTL, otelcol's transformation language, that this collector understands.
//!
//! In: texts from the configuration. Out: [`Conditions`] and [`Statements`] that are compiled
//! once and computed on the bytes. Invariant: a text that cannot work is refused when the
//! configuration is read, at its column, with a suggestion.
//!
//! - [`lexer`], [`syntax`]: text to grammar
//! - [`path`], [`value`], [`function`], [`case`], [`json`], [`text`]: what there is to compute with
//! - [`format`], [`number`], [`quote`]: values in a text
//! - [`calendar`], [`zone`], [`layout`], [`timestamp`]: times, and how they are written
//! - [`parameters`], [`arguments`]: what a function is given
//! - [`compile`], [`converter`], [`evaluate`]: checked once, computed for every item
//! - [`editor`], [`assign`], [`merge`]: functions that change an item
//!
//! Patterns must be constant. `a =~ "pattern"` is taken for `IsMatch(a, "pattern")`, with a
//! warning. A statement changes only what its context is about.

mod arguments;
mod assign;
mod calendar;
mod case;
mod compile;
mod converter;
mod editor;
mod evaluate;
mod fault;
mod format;
mod function;
mod json;
mod layout;
mod lexer;
mod merge;
mod number;
mod parameters;
mod path;
mod quote;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod timestamp;
mod value;
mod zone;

use collector_otlp::Record;

use crate::config::diagnostic::{Diagnostics, Position};
use assign::Cache;
use compile::Compiler;
use editor::Editor;
use evaluate::Test;
pub use fault::EvalFault;
use fault::ParseFault;
pub use path::{Context, Setting, View};

/// What to do when something cannot be computed for an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// The batch is refused.
    #[default]
    Propagate,
    /// It is logged, and the next condition or statement is tried.
    Ignore,
    /// The next condition or statement is tried.
    Silent,
}

/// The words for [`ErrorMode`].
pub const ERROR_MODES: &[(&str, ErrorMode)] = &[
    ("propagate", ErrorMode::Propagate),
    ("ignore", ErrorMode::Ignore),
    ("silent", ErrorMode::Silent),
];

/// Conditions of which one must hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    tests: Vec<(String, Test)>,
}

impl Conditions {
    /// Compiles texts; faults go to `diagnostics`.
    pub fn compile(
        texts: &[(String, Position)],
        context: Context,
        diagnostics: &Diagnostics,
    ) -> Self {
        let mut tests = Vec::new();
        for (text, position) in texts {
            let mut compiler = Compiler::of(context);
            match syntax::condition(text).and_then(|expr| compiler.test(expr)) {
                Ok(test) => tests.push((text.clone(), test)),
                Err(fault) => fault.report(*position, diagnostics),
            }
            warn(&compiler, *position, diagnostics);
        }
        Self { tests }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// Whether one of the conditions holds.
    pub fn any(&self, view: &View<'_>, mode: ErrorMode) -> Result<bool, EvalFault> {
        for (text, test) in &self.tests {
            match test.holds(view) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(fault) => excuse("condition", text, fault, mode)?,
            }
        }
        Ok(false)
    }
}

/// Statements, each done in turn.
#[derive(Clone, Debug, Default)]
pub struct Statements {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Statement {
    text: String,
    editor: Editor,
    condition: Option<Test>,
}

impl Statements {
    /// Compiles texts; faults go to `diagnostics`.
    pub fn compile(
        texts: &[(String, Position)],
        context: Context,
        diagnostics: &Diagnostics,
    ) -> Self {
        let mut statements = Vec::new();
        for (text, position) in texts {
            let mut compiler = Compiler::of(context);
            match statement(text, &mut compiler) {
                Ok(statement) => statements.push(statement),
                Err(fault) => fault.report(*position, diagnostics),
            }
            warn(&compiler, *position, diagnostics);
        }
        Self { statements }
    }

    /// Does the statements to a record.
    pub fn run<'a>(
        &'a self,
        record: &mut Record<'a>,
        setting: Setting<'_>,
        mode: ErrorMode,
    ) -> Result<(), EvalFault> {
        let mut cache = Cache::default();
        for statement in &self.statements {
            let wanted = match &statement.condition {
                Some(condition) => condition.holds(&View::of(setting.with(&cache.0), record)),
                None => Ok(true),
            };
            let done = match wanted {
                Ok(true) => statement.editor.apply(record, setting, &mut cache),
                Ok(false) => Ok(()),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = done {
                excuse("statement", &statement.text, fault, mode)?;
            }
        }
        Ok(())
    }
}

/// The context that texts without one are about: the most specific that their paths name.
pub fn infer<'t>(texts: impl Iterator<Item = &'t str>) -> Option<Context> {
    let names = |text: &'t str| {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.[\"".contains(c)));
        words.filter_map(|word| path::named(word.split_once('.')?.0))
    };
    texts.flat_map(names).max()
}

fn statement(text: &str, compiler: &mut Compiler) -> Result<Statement, ParseFault> {
    let (call, condition) = syntax::statement(text)?;
    Ok(Statement {
        text: text.to_owned(),
        editor: Editor::compile(compiler, call)?,
        condition: condition.map(|expr| compiler.test(expr)).transpose()?,
    })
}

fn warn(compiler: &Compiler, position: Position, diagnostics: &Diagnostics) {
    if compiler.saw_match_sign {
        let message = "=~ is not OTTL: it is taken for IsMatch(value, \"pattern\")";
        diagnostics.warning(position, message);
    }
}

/// Says a fault as the mode has it, or passes it on.
fn excuse(what: &str, text: &str, fault: EvalFault, mode: ErrorMode) -> Result<(), EvalFault> {
    match mode {
        ErrorMode::Propagate => Err(EvalFault::new(format!("{what} {text}: {fault}"))),
        ErrorMode::Ignore => {
            tracing::warn!("{what} {text} could not be computed: {fault}");
            Ok(())
        }
        ErrorMode::Silent => Ok(()),
    }
}
