//! Accounts and groups.
//!
//! Goes in: a name. Comes out: what the host knows of it. Invariant: a name that is not known is
//! an answer, not an error.

use provision_protocol::fact::{GroupFact, UserFact};

use crate::accounts::Accounts;

/// Looks at an account.
pub(crate) fn look_at_user(accounts: &Accounts, name: &str) -> UserFact {
    accounts
        .user(name)
        .map_or_else(UserFact::default, |user| UserFact {
            exists: true,
            uid: user.uid,
            primary_group: accounts.group_name(user.gid),
            groups: accounts.supplementary(name),
            home: user.home.clone(),
            shell: user.shell.clone(),
        })
}

/// Looks at a group.
pub(crate) fn look_at_group(accounts: &Accounts, name: &str) -> GroupFact {
    let found = accounts.group(name);
    found.map_or_else(GroupFact::default, |group| GroupFact {
        exists: true,
        gid: group.gid,
    })
}
