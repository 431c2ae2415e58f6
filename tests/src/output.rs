//! What a program printed, and how it ended.
//!
//! Goes in: a command. Comes out: an [`Output`]. Invariant: a failed expectation shows everything
//! that the program printed.

use std::process::{Child, Command, Stdio};

/// What a program printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command without an input.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self::new(format!("{command:?}"), &output)
    }

    /// What a program printed that was started before; waits for its end.
    ///
    /// # Panics
    /// It cannot be waited for.
    #[must_use]
    pub fn ended(child: Child) -> Self {
        let command = format!("process {}", child.id());
        let output = child.wait_with_output();
        let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
        Self::new(command, &output)
    }

    fn new(command: String, output: &std::process::Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it ended with this code.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.describe());
        self
    }

    /// The same, if it ended well.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        self.expect_code(0)
    }

    /// The same, if it printed all of these somewhere.
    ///
    /// # Panics
    /// One of them is missing.
    #[must_use]
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            let found = self.stdout.contains(text) || self.stderr.contains(text);
            assert!(found, "`{text}` is missing:\n{}", self.describe());
        }
        self
    }

    /// Everything that is known, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{}\nexit code {}\n--- standard output\n{}\n--- standard error\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}
