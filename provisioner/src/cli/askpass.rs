//! What OpenSSH runs when it asks for the password of an account.
//!
//! In: OpenSSH's question as the only argument, and the password on the standard input, which is
//! that of the `ssh` that asks. Out: the password on the standard output. Invariant: it answers for
//! the account that `provision` meant, and no other, such as one of a jump host.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use crate::host::ASKPASS_VARIABLE;

/// Answers, where this process was run for that.
pub(super) fn answer() -> Option<ExitCode> {
    let accounts = std::env::var(ASKPASS_VARIABLE).ok()?;
    let question = std::env::args().nth(1).unwrap_or_default();
    if !is_meant(&accounts, &question) {
        return Some(ExitCode::FAILURE);
    }
    let mut password = String::new();
    let read = std::io::stdin().lock().read_line(&mut password);
    if read.is_err() || password.is_empty() {
        return Some(ExitCode::FAILURE);
    }
    let written = std::io::stdout().lock().write_all(password.as_bytes());
    Some(ExitCode::from(u8::from(written.is_err())))
}

/// OpenSSH asks `me@host's password: ` or, in PAM's words, `(me@host) Password: `.
fn is_meant(accounts: &str, question: &str) -> bool {
    accounts.lines().any(|account| {
        let plain = question.starts_with(&format!("{account}'s password:"));
        plain || question.starts_with(&format!("({account}) "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_account_that_was_meant_is_answered_for() {
        let accounts = "root@new\nroot@10.0.0.1";
        assert!(is_meant(accounts, "root@10.0.0.1's password: "));
        assert!(is_meant(accounts, "(root@new) Password: "));
        for question in [
            "root@10.0.0.11's password: ",
            "root@bastion's password: ",
            "Enter passphrase for key '/root/.ssh/id': ",
            "(root@bastion) Password: ",
            "",
        ] {
            assert!(!is_meant(accounts, question), "{question}");
        }
    }
}
