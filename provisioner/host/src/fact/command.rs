//! Whether a command has been done.
//!
//! Goes in: a path or a program. Comes out: done or not. Invariant: a program that is not on the
//! host has not been run, which is an answer and not an error.

use provision_protocol::fact::{CommandFact, CommandQuery};

use crate::fact::file;
use crate::failure::{Doing, Failure};
use crate::process::Program;
use crate::root::{Root, check_absolute};

/// Looks whether a command has been done.
pub(crate) fn look(root: &Root, wanted: &CommandQuery) -> Result<CommandFact, Failure> {
    if !wanted.creates.is_empty() {
        let path = root.at(check_absolute(&wanted.creates)?);
        let found = file::metadata(&path).doing(|| format!("look at {}", wanted.creates))?;
        return Ok(CommandFact {
            done: found.is_some(),
        });
    }
    let Some((name, arguments)) = wanted.unless.split_first() else {
        return Ok(CommandFact { done: false });
    };
    let Some(program) = root.program(name) else {
        return Ok(CommandFact { done: false });
    };
    let outcome = Program::at(root, program)
        .arguments(arguments.iter().cloned())
        .run()?;
    if outcome.timed_out {
        return Err(Failure::refused(format!(
            "`{}` did not end in time",
            wanted.unless.join(" ")
        )));
    }
    Ok(CommandFact {
        done: outcome.succeeded(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::install_script;

    #[test]
    fn a_path_or_a_program_tells() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        install_script(&root, "/usr/bin/has", "test \"$1\" = topic");
        let done = |creates: &str, unless: &[&str]| {
            let unless = unless.iter().map(|&word| word.to_owned()).collect();
            look(
                &root,
                &CommandQuery {
                    creates: creates.into(),
                    unless,
                },
            )
            .unwrap()
            .done
        };
        assert!(done("/usr/bin/has", &[]));
        assert!(!done("/usr/bin/none", &[]));
        assert!(done("", &["has", "topic"]));
        assert!(!done("", &["has", "other"]));
        assert!(!done("", &["none"]));
        assert!(!done("", &[]));
    }
}
