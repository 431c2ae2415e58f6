//! Accounts and groups.
//!
//! Goes in: `/etc/passwd` and `/etc/group`. Comes out: names and numbers for each other.
//! Invariant: a line that is not well-formed is passed over, never half read.

use std::fs;

use crate::durable::Attributes;
use crate::failure::Failure;
use crate::root::Root;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The name.
    pub(crate) name: String,
    /// The numeric id.
    pub(crate) uid: u32,
    /// The primary group's id.
    pub(crate) gid: u32,
    /// The home directory.
    pub(crate) home: String,
    /// The login shell.
    pub(crate) shell: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The name.
    pub(crate) name: String,
    /// The numeric id.
    pub(crate) gid: u32,
    /// Accounts whose supplementary group it is.
    pub(crate) members: Vec<String>,
}

/// Every account and group of the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Accounts {
    /// Reads both files; one that is missing has no entries.
    pub(crate) fn read(root: &Root) -> Self {
        let text = |path| {
            fs::read(root.at(path))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        Self::parse(&text("/etc/passwd"), &text("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().filter_map(parse_user).collect(),
            groups: group.lines().filter_map(parse_group).collect(),
        }
    }

    /// The account of a name.
    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The group of a name.
    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The names of the groups that an account was added to, sorted.
    pub(crate) fn supplementary(&self, user: &str) -> Vec<String> {
        let has = |group: &&Group| group.members.iter().any(|member| member == user);
        let mut names: Vec<_> = self
            .groups
            .iter()
            .filter(has)
            .map(|group| group.name.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The name of an account, or its number.
    pub(crate) fn user_name(&self, uid: u32) -> String {
        let found = self.users.iter().find(|user| user.uid == uid);
        found.map_or_else(|| uid.to_string(), |user| user.name.clone())
    }

    /// The name of a group, or its number.
    pub(crate) fn group_name(&self, gid: u32) -> String {
        let found = self.groups.iter().find(|group| group.gid == gid);
        found.map_or_else(|| gid.to_string(), |group| group.name.clone())
    }

    /// Owner and group by name or number, with a mode.
    pub(crate) fn attributes(
        &self,
        owner: &str,
        group: &str,
        mode: u32,
    ) -> Result<Attributes, Failure> {
        let uid = self
            .user(owner)
            .map(|user| user.uid)
            .or_else(|| owner.parse().ok());
        let uid = uid.ok_or_else(|| {
            Failure::refused(format!("there is no account `{owner}` on this host"))
        })?;
        let gid = self
            .group(group)
            .map(|group| group.gid)
            .or_else(|| group.parse().ok());
        let gid = gid
            .ok_or_else(|| Failure::refused(format!("there is no group `{group}` on this host")))?;
        Ok(Attributes { uid, gid, mode })
    }
}

fn parse_user(line: &str) -> Option<User> {
    let [name, _, uid, gid, _, home, shell] = fields(line)?;
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let [name, _, gid, members] = fields(line)?;
    let members = members.split(',').filter(|member| !member.is_empty());
    Some(Group {
        name: name.to_owned(),
        gid: gid.parse().ok()?,
        members: members.map(str::to_owned).collect(),
    })
}

/// The fields of a line that has exactly so many and begins with a name.
fn fields<const COUNT: usize>(line: &str) -> Option<[&str; COUNT]> {
    let all: Vec<&str> = line.split(':').collect();
    let fields: [&str; COUNT] = all.try_into().ok()?;
    (!fields[0].is_empty() && !fields[0].starts_with('#')).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0:root:/root:/bin/bash\notel:x:990:991::/var/lib/otel:/usr/sbin/nologin\n\
             broken:x:1\n#comment:x:1:1:::\n",
            "root:x:0:\notel:x:991:\nadm:x:4:syslog,otel\nssl-cert:x:110:otel\nbad:x:no:\n",
        )
    }

    #[test]
    fn names_and_numbers_find_each_other() {
        let accounts = accounts();
        assert_eq!(accounts.user("otel").unwrap().home, "/var/lib/otel");
        assert_eq!(accounts.user_name(990), "otel");
        assert_eq!(accounts.group_name(991), "otel");
        assert_eq!(accounts.user_name(12345), "12345");
        assert_eq!(accounts.supplementary("otel"), ["adm", "ssl-cert"]);
    }

    #[test]
    fn passes_over_lines_that_are_not_well_formed() {
        let accounts = accounts();
        assert_eq!(accounts.user("broken"), None);
        assert_eq!(accounts.user("#comment"), None);
        assert_eq!(accounts.group("bad"), None);
    }

    #[test]
    fn an_owner_may_be_a_number_but_not_a_stranger() {
        let accounts = accounts();
        let found = accounts.attributes("otel", "4", 0o640).unwrap();
        assert_eq!(
            found,
            Attributes {
                uid: 990,
                gid: 4,
                mode: 0o640
            }
        );
        let error = accounts.attributes("nobody-here", "root", 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no account `nobody-here` on this host"
        );
    }
}
