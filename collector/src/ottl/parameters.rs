//! Which argument is for which parameter of a function.
//!
//! In: arguments as they are written, by place and then by name. Out: one for each parameter.
//! Invariant: a parameter that a function cannot do without has an argument.

use super::case::camel;
use super::fault::ParseFault;
use super::syntax::{Argument, Expr};
use crate::config::diagnostic::did_you_mean;

/// The parameters of a function, by their names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    pub(super) names: &'static [&'static str],
    /// How many of them, from the first, must be given.
    pub(super) least: usize,
}

impl Parameters {
    /// Parameters that must all be given.
    pub(super) const fn all(names: &'static [&'static str]) -> Self {
        let least = names.len();
        Self { names, least }
    }

    /// Parameters of which the first ones must be given.
    pub(super) const fn first(least: usize, names: &'static [&'static str]) -> Self {
        Self { names, least }
    }

    /// The argument for each parameter.
    pub(super) fn arrange(
        self,
        function: &str,
        column: usize,
        arguments: Vec<Argument>,
    ) -> Result<Vec<Option<Expr>>, ParseFault> {
        let count = arguments.len();
        if !(self.least..=self.names.len()).contains(&count) {
            return Err(self.miscounted(function, column, count));
        }
        let mut arranged: Vec<Option<Expr>> = self.names.iter().map(|_| None).collect();
        let mut is_named = false;
        for (place, Argument { name, value }) in arguments.into_iter().enumerate() {
            let place = match &name {
                Some(name) => self.place(function, name, value.column)?,
                None if is_named => {
                    let message = "an argument without a name cannot follow one with a name";
                    return Err(ParseFault::new(value.column, message));
                }
                None => place,
            };
            is_named |= name.is_some();
            if arranged[place].is_some() {
                let message = format!("{function} is given {} twice", self.names[place]);
                return Err(ParseFault::new(value.column, message));
            }
            arranged[place] = Some(value);
        }
        let missing = arranged.iter().position(Option::is_none);
        match missing.filter(|place| *place < self.least) {
            None => Ok(arranged),
            Some(place) => {
                let message = format!("{function} takes the argument {}", self.names[place]);
                Err(ParseFault::new(column, message))
            }
        }
    }

    /// The place of a parameter. As in otelcol, `to_case` and `toCase` are the same.
    fn place(self, function: &str, name: &str, column: usize) -> Result<usize, ParseFault> {
        let wanted = camel(name);
        let same = |known: &&str| camel(known) == wanted;
        self.names.iter().position(same).ok_or_else(|| {
            let names = || self.names.iter().copied();
            let help = did_you_mean(name, names()).or_else(|| match self.names {
                [] => None,
                _ => Some(format!("arguments: {}", self.names.join(", "))),
            });
            let message = format!("{function} takes no argument {name:?}");
            ParseFault::new(column, message).with_help(help)
        })
    }

    fn miscounted(self, function: &str, column: usize, count: usize) -> ParseFault {
        let (least, most) = (self.least, self.names.len());
        let wanted = match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        let plural = if wanted == "1" { "" } else { "s" };
        let message = format!("{function} takes {wanted} argument{plural}, not {count}");
        ParseFault::new(column, message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::{Node, condition};
    use super::*;

    /// The arguments of a call, in order; `-` for none.
    fn arranged(parameters: Parameters, text: &str) -> Result<Vec<String>, String> {
        let Node::Call(call) = condition(text).unwrap().node else {
            panic!("a call");
        };
        let arranged = parameters.arrange(&call.name, call.column, call.arguments);
        let arranged = arranged.map_err(|fault| fault.message)?;
        let shown = arranged.into_iter().map(|argument| match argument {
            None => "-".to_owned(),
            Some(Expr {
                node: Node::Int(number),
                ..
            }) => number.to_string(),
            Some(other) => panic!("{other:?}"),
        });
        Ok(shown.collect())
    }

    #[test]
    fn arguments_have_places_or_names() {
        const PARAMETERS: Parameters =
            Parameters::first(2, &["target", "to_case", "pair_delimiter"]);
        for (text, expected) in [
            ("F(1, 2)", ["1", "2", "-"]),
            ("F(1, 2, 3)", ["1", "2", "3"]),
            ("F(1, to_case=2)", ["1", "2", "-"]),
            ("F(toCase = 2, target = 1)", ["1", "2", "-"]),
            ("F(1, pairDelimiter=3, to_case=2)", ["1", "2", "3"]),
        ] {
            assert_eq!(arranged(PARAMETERS, text).unwrap(), expected, "{text}");
        }
        for (text, message) in [
            ("F(1)", "F takes 2 to 3 arguments, not 1"),
            ("F(1, 2, 3, 4)", "F takes 2 to 3 arguments, not 4"),
            ("F(1, pair_delimiter=3)", "F takes the argument to_case"),
            ("F(1, target=1)", "F is given target twice"),
            ("F(1, nothing=2)", "F takes no argument \"nothing\""),
            (
                "F(target=1, 2)",
                "an argument without a name cannot follow one with a name",
            ),
        ] {
            assert_eq!(arranged(PARAMETERS, text).unwrap_err(), message, "{text}");
        }
    }
}
