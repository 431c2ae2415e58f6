//! What OpenSSH says, for people.
//!
//! In: a host, and OpenSSH's words about it. Out: an error with a way out. Invariant: a host that
//! does not let an account in is told from one that does not answer.

use super::Endpoint;
use super::master::DENYING_WORDS;
use crate::error::{Error, ErrorKind};

/// OpenSSH's words as an error with a way out.
pub(super) fn explain(endpoint: &Endpoint, words: &str) -> Error {
    let Endpoint {
        name,
        address,
        described_at,
        ..
    } = endpoint;
    let at = format!("{name} ({address})");
    let has = |text: &str| words.contains(text);
    let (what, hint) = if has("IDENTIFICATION HAS CHANGED") {
        (
            "shows another host key than the one that is pinned",
            format!(
                "someone may stand in between; if the machine was rebuilt, put its new key in at {described_at}: hosts.{name} = {{ host_key = \"…\" }}"
            ),
        )
    } else if has("host key is known") || has("Host key verification failed") {
        (
            "shows a host key that is not known",
            format!(
                "`provision trust {name} --env …` shows it and pins it at {described_at}, once you have compared it on the machine"
            ),
        )
    } else if DENYING_WORDS.iter().any(|text| has(text)) {
        ("does not let this account in", way_in(endpoint))
    } else if has("Could not resolve") {
        (
            "has an address that does not resolve",
            format!("correct `address` at {described_at}"),
        )
    } else {
        (
            "cannot be reached",
            format!(
                "is it up, and its sshd? `ssh {address}` by hand shows more; --limit leaves hosts out; it is described at {described_at}"
            ),
        )
    };
    let kind = match what {
        "cannot be reached" => ErrorKind::Unreachable,
        "does not let this account in" => ErrorKind::Denied,
        _ => ErrorKind::Host,
    };
    Error::new(kind, format!("{at} {what}"))
        .caused_by(last_words(words))
        .hint(hint)
}

/// What to do about an account that is not let in.
fn way_in(endpoint: &Endpoint) -> String {
    let Endpoint {
        password,
        bootstraps,
        ..
    } = endpoint;
    match password {
        Some(password) => format!(
            "is the user right, and does sshd take passwords? correct the secret `{}` that `password` of [ssh.bootstrap] names",
            password.name
        ),
        None if *bootstraps => {
            "`provision bootstrap --env …` makes this account, with the access of [ssh.bootstrap]"
                .to_owned()
        }
        None => "is the key in its authorized_keys, and the user right? [ssh] user, identity; of a new machine, [ssh.bootstrap] says what its provider gave"
            .to_owned(),
    }
}

/// What OpenSSH says that helps nobody: a banner, advice about files of this run alone, and the
/// name that it has for the other end of a proxy.
const EMPTY_WORDS: &[&str] = &[
    "@",
    "remove with:",
    "ssh-keygen -f",
    "Offending ",
    "Add correct host key in ",
    "Please contact your system administrator",
    "Connection to UNKNOWN port",
];

/// The last lines that say something.
fn last_words(words: &str) -> String {
    let empty = |line: &str| EMPTY_WORDS.iter().any(|words| line.starts_with(words));
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !empty(line))
        .collect();
    lines[lines.len().saturating_sub(4)..].join("\n")
}
