//! From which version of a package on something is so.
//!
//! Goes in: `since = { package, version }`, and what dpkg says. Comes out: whether the installed
//! version is that one or newer. Invariant: a package that is not installed is not new enough.

use provision_protocol::fact::{PackageFact, Query, query};

use crate::document::Section;

/// A version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Since {
    package: String,
    version: Vec<u64>,
}

impl Since {
    pub(super) fn parse(section: Section<'_>) -> Option<Self> {
        let package = section.require_string("package");
        let version = section.require_string("version");
        let numbers = version.as_ref().map(|version| numbers(&version.value));
        if let (Some(version), Some(None)) = (&version, &numbers) {
            section.error_at(
                &version.location,
                format!("`{}` is no version", version.value),
                Some("numbers and dots, without a Debian revision: \"1.25.1\"".to_owned()),
            );
        }
        section.finish();
        Some(Self {
            package: package?.value,
            version: numbers??,
        })
    }

    pub(super) fn query(&self) -> Query {
        Query {
            kind: Some(query::Kind::Package(self.package.clone())),
        }
    }

    pub(super) fn holds(&self, fact: &PackageFact) -> bool {
        let installed = fact.installed_version.as_str();
        let upstream = installed
            .split_once(':')
            .map_or(installed, |(_, rest)| rest);
        let end = upstream
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(upstream.len());
        let upstream = upstream[..end].trim_end_matches('.');
        numbers(upstream).is_some_and(|installed| installed >= self.version)
    }
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number_without_epoch_and_revision() {
        let since = Since {
            package: "nginx".to_owned(),
            version: numbers("1.25.1").unwrap(),
        };
        let holds = |installed: &str| {
            since.holds(&PackageFact {
                installed_version: installed.to_owned(),
                ..PackageFact::default()
            })
        };
        for new in [
            "1.25.1-1",
            "1.26.3-3+deb13u1",
            "1.100.0",
            "2:1.25.1~rc1",
            "2",
        ] {
            assert!(holds(new), "{new}");
        }
        for old in ["", "1.22.1-9+deb12u3", "1.25.0", "1.9.15", "none"] {
            assert!(!holds(old), "{old}");
        }
    }
}
