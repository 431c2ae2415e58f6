//! `cargo fuzz run ottl`: no text makes the compiler of OTTL panic or recurse without end.

#![no_main]

use collector::config::diagnostic::{Diagnostics, Position};
use collector::ottl::{Conditions, Context, Statements};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let texts = [(text.to_owned(), Position::default())];
    let diagnostics = Diagnostics::default();
    for context in [Context::Span, Context::Log, Context::DataPoint] {
        Conditions::compile(&texts, context, &diagnostics);
        Statements::compile(&texts, context, &diagnostics);
    }
});
