//! Debian packages.
//!
//! Goes in: dpkg's status file. Comes out: what is installed, held or broken. Invariant: a
//! package counts as installed only when it is configured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use provision_protocol::fact::PackageFact;

use crate::failure::{Doing, Failure};
use crate::root::Root;

const STATUS: &str = "/var/lib/dpkg/status";

/// Every package that dpkg knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packages {
    /// By name, and again by `name:architecture`.
    known: BTreeMap<String, PackageFact>,
    /// Those that are installed, or were and left their configuration behind; also both ways.
    traces: BTreeSet<String>,
    native: String,
}

/// Reads dpkg's status file.
pub(crate) fn read(root: &Root) -> Result<Packages, Failure> {
    let path = root.at(STATUS);
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::refused(
                "this host has no dpkg: packages can be managed on Debian and its relatives only",
            ));
        }
        Err(error) => return Err(error).doing(|| format!("read {STATUS}")),
    };
    Ok(Packages::parse(&String::from_utf8_lossy(&text)))
}

impl Packages {
    fn parse(text: &str) -> Self {
        let mut packages = Self::default();
        for paragraph in text.split("\n\n") {
            let field = |key: &str| {
                let line = paragraph.lines().find_map(|line| line.strip_prefix(key));
                line.and_then(|rest| rest.strip_prefix(':'))
                    .unwrap_or_default()
                    .trim()
            };
            let name = field("Package");
            if name.is_empty() {
                continue;
            }
            let fact = fact(field("Status"), field("Version"));
            let architecture = field("Architecture");
            if !field("Status").ends_with(" not-installed") {
                packages.traces.insert(format!("{name}:{architecture}"));
                packages.traces.insert(name.to_owned());
            }
            if name == "dpkg" {
                architecture.clone_into(&mut packages.native);
            }
            packages
                .known
                .insert(format!("{name}:{architecture}"), fact.clone());
            // Of several architectures, the one that is installed stands for the name.
            let known = packages.known.entry(name.to_owned()).or_default();
            if known.installed_version.is_empty() || known.broken {
                *known = fact;
            }
        }
        packages
    }

    /// A package, by `name` or `name:architecture`.
    pub(crate) fn look(&self, name: &str) -> PackageFact {
        self.known.get(name).cloned().unwrap_or_default()
    }

    /// Something of a package is on the host, be it only its configuration.
    pub(crate) fn leaves_traces(&self, name: &str) -> bool {
        self.traces.contains(name)
    }

    /// dpkg was interrupted over a package.
    pub(crate) fn any_broken(&self) -> bool {
        self.known.values().any(|fact| fact.broken)
    }

    /// What is installed, as apt names it: with an architecture only where that is a foreign one.
    pub(crate) fn installed(&self) -> BTreeMap<&str, &str> {
        self.known
            .iter()
            .filter(|(_, fact)| !fact.installed_version.is_empty())
            .filter_map(|(name, fact)| {
                let (plain, architecture) = name.split_once(':')?;
                let foreign = architecture != "all" && architecture != self.native;
                Some((
                    if foreign { name } else { plain },
                    fact.installed_version.as_str(),
                ))
            })
            .collect()
    }
}

fn fact(status: &str, version: &str) -> PackageFact {
    let mut words = status.split_whitespace();
    let (want, error, state) = (words.next(), words.next(), words.next());
    let configured = matches!(
        state,
        Some("installed" | "triggers-pending" | "triggers-awaited")
    );
    PackageFact {
        installed_version: if configured {
            version.to_owned()
        } else {
            String::new()
        },
        held: want == Some("hold"),
        broken: error.is_some_and(|error| error != "ok")
            || matches!(
                state,
                Some("half-installed" | "unpacked" | "half-configured")
            ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n
Package: haproxy\nStatus: hold ok installed\nPriority: optional\nArchitecture: amd64\nVersion: 2.6.12-1\nDescription: x\n Package: not-a-field\n
Package: nginx\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1.22\n
Package: kafka\nStatus: install ok half-configured\nArchitecture: all\nVersion: 3.0\n
Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n
Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36\n
Status: install ok installed\nVersion: 1\n";

    #[test]
    fn tells_installed_held_and_broken_apart() {
        let packages = Packages::parse(TEXT);
        let haproxy = packages.look("haproxy");
        assert_eq!(haproxy.installed_version, "2.6.12-1");
        assert!(haproxy.held && !haproxy.broken);
        assert_eq!(packages.look("nginx"), PackageFact::default());
        assert!(packages.leaves_traces("nginx") && packages.leaves_traces("kafka:all"));
        assert!(!packages.leaves_traces("postfix"));
        assert!(packages.look("kafka").broken && packages.any_broken());
        assert_eq!(packages.look("kafka").installed_version, "");
        assert_eq!(packages.look("not-a-field"), PackageFact::default());
    }

    #[test]
    fn a_foreign_architecture_is_part_of_the_name() {
        let packages = Packages::parse(TEXT);
        let installed: Vec<_> = packages.installed().into_keys().collect();
        assert_eq!(installed, ["dpkg", "haproxy", "libc6", "libc6:i386"]);
    }

    #[test]
    fn whatever_the_text_is_it_is_only_read() {
        for cut in 0..TEXT.len() {
            Packages::parse(&TEXT[..cut]);
            Packages::parse(&TEXT[cut..]);
        }
    }
}
