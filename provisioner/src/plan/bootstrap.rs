//! The access that an operator keeps to a host: an account, its keys, and its right to be root.
//!
//! In: the account, and what is on the host of it. Out: a play with resources like any other.
//! Invariant: pure; keys that the account has stay.

use std::sync::Arc;

use crate::document::{Diagnostics, Source, with_document};
use crate::playbook::{self, Play};

/// The account that shall have access.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its name.
    pub user: String,
    /// The public keys that it is let in with.
    pub keys: Vec<String>,
}

/// What is on a host of the account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Its home, where the account exists.
    pub home: Option<String>,
    /// The text of its `authorized_keys`; empty where there is none.
    pub authorized_keys: String,
}

impl Account {
    /// Where the account keeps the keys that it is let in with.
    #[must_use]
    pub fn keys_path(home: &str) -> String {
        format!("{}/.ssh/authorized_keys", home.trim_end_matches('/'))
    }
}

impl Access {
    /// The play that makes the account what it shall be. `None` where its name is no name of an
    /// account; `diagnostics` says so.
    #[must_use]
    pub fn play(&self, account: &Account, diagnostics: &Diagnostics) -> Option<Play> {
        let text = self.playbook(account);
        let source = Arc::new(Source::new("[ssh.bootstrap]".to_owned(), text));
        let (_, plays) = with_document(&source, diagnostics, playbook::parse);
        plays.into_iter().next()
    }

    fn playbook(&self, account: &Account) -> String {
        let user = &self.user;
        let is_root = user == "root";
        let home = match &account.home {
            Some(home) => home.clone(),
            None => format!("/home/{user}"),
        };
        let mut resources = Vec::new();
        if !is_root {
            resources.push("package = { name = \"sudo\" }".to_owned());
            // A shell is for the account that is made here; another one has its own.
            let shell = match &account.home {
                Some(_) => "",
                None => ", shell = \"/bin/bash\"",
            };
            resources.push(format!("user = {{ name = {}{shell} }}", quoted(user)));
        }
        let keys_path = Account::keys_path(&home);
        let folder = keys_path.trim_end_matches("/authorized_keys");
        let owner = quoted(user);
        resources.push(format!(
            "directory = {{ path = {}, owner = {owner}, mode = \"0700\" }}",
            quoted(folder)
        ));
        resources.push(format!(
            "file = {{ path = {}, content = {}, owner = {owner}, mode = \"0600\" }}",
            quoted(&keys_path),
            quoted(&with_keys(&account.authorized_keys, &self.keys))
        ));
        if !is_root {
            resources.push(format!(
                "file = {{ path = {}, content = {}, mode = \"0440\", validate = \"visudo -cf {{}}\" }}",
                quoted(&format!("/etc/sudoers.d/provision-{user}")),
                quoted(&format!("{user} ALL=(ALL:ALL) NOPASSWD: ALL\n"))
            ));
        }
        let mut text =
            "[[play]]\nhosts = \"bootstrap\"\nserial = \"100%\"\nmax_fail = 1000000\n".to_owned();
        for resource in resources {
            text.push_str(&format!("[[play.resource]]\n{resource}\n"));
        }
        text
    }
}

/// The text with a line for each key that is not in it, whatever stands around a key there.
fn with_keys(text: &str, keys: &[String]) -> String {
    let blob = |key: &str| key.split_whitespace().nth(1).unwrap_or(key).to_owned();
    let mut all = text.to_owned();
    for key in keys {
        let (wanted, lines) = (blob(key), all.lines());
        let has = |line: &str| {
            !line.trim_start().starts_with('#')
                && line.split_whitespace().any(|word| word == wanted)
        };
        if lines.into_iter().any(has) {
            continue;
        }
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(key.trim());
        all.push('\n');
    }
    all
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAA1 me@here";

    fn access(user: &str) -> Access {
        Access {
            user: user.to_owned(),
            keys: vec![KEY.to_owned()],
        }
    }

    #[test]
    fn a_new_account_gets_a_home_a_key_and_a_rule() {
        insta::assert_snapshot!(access("deploy").playbook(&Account::default()));
    }

    #[test]
    fn root_only_gets_the_key() {
        let root = Account {
            home: Some("/root".to_owned()),
            authorized_keys: "ssh-rsa AAAA0 provider".to_owned(),
        };
        insta::assert_snapshot!(access("root").playbook(&root));
    }

    #[test]
    fn every_text_is_a_play() {
        let strange = Account {
            home: Some("/srv/it's \"here\"\\".to_owned()),
            authorized_keys: "# a \"comment\"\n\tcommand=\"x\\\"y\" ssh-rsa AAAA0\n".to_owned(),
        };
        for account in [Account::default(), strange] {
            let diagnostics = Diagnostics::default();
            let play = access("deploy").play(&account, &diagnostics);
            assert!(diagnostics.is_empty(), "{:?}", diagnostics.into_list());
            assert_eq!(play.unwrap().resources.len(), 5);
        }
        let diagnostics = Diagnostics::default();
        let _ = access("no name").play(&Account::default(), &diagnostics);
        assert!(!diagnostics.is_empty());
    }

    #[test]
    fn keys_are_added_once_and_never_taken_away() {
        let keys = [KEY.to_owned(), "ssh-rsa AAAA2".to_owned()];
        let first = with_keys("ssh-rsa AAAA0 provider", &keys);
        assert_eq!(
            first,
            "ssh-rsa AAAA0 provider\nssh-ed25519 AAAA1 me@here\nssh-rsa AAAA2\n"
        );
        assert_eq!(with_keys(&first, &keys), first);
        let restricted = "from=\"10.0.0.0/8\" ssh-ed25519 AAAA1 other\n# ssh-rsa AAAA2\n";
        assert_eq!(
            with_keys(restricted, &keys),
            format!("{restricted}ssh-rsa AAAA2\n")
        );
    }
}
