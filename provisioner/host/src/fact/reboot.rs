//! Whether the host waits for a reboot.
//!
//! Goes in: what is owed, and what packages have left below `/run`. Comes out: a [`RebootFact`].
//! Invariant: what a boot has made void does not count.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};

use provision_protocol::REBOOT_UNIT;
use provision_protocol::fact::RebootFact;
use provision_protocol::operation::Owed;

use crate::debt;
use crate::failure::{Doing, Failure};
use crate::root::Root;

/// What packages of Debian leave when they need a reboot.
const REQUIRED: &str = "/run/reboot-required";
/// The packages that did, a line for each.
const PACKAGES: &str = "/run/reboot-required.pkgs";
/// How much of that list is read.
const MAX_LIST_BYTES: u64 = 16 * 1024;

/// Looks at what asks for a reboot.
pub(crate) fn look(root: &Root) -> Result<RebootFact, Failure> {
    let required = fs::exists(root.at(REQUIRED)).doing(|| format!("look at {REQUIRED}"))?;
    let packages = match fs::File::open(root.at(PACKAGES)) {
        Ok(file) if required => {
            let mut text = String::new();
            file.take(MAX_LIST_BYTES)
                .read_to_string(&mut text)
                .doing(|| format!("read {PACKAGES}"))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(ToOwned::to_owned).collect()
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing(|| format!("read {PACKAGES}"));
        }
        _ => BTreeSet::new(),
    };
    Ok(RebootFact {
        owed: debt::owed(root, REBOOT_UNIT)? != Owed::Nothing,
        required,
        packages: packages.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use provision_protocol::operation::Debt;

    use super::*;

    #[test]
    fn names_the_packages_that_ask_for_it_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::create_dir_all(root.at("/run")).unwrap();
        fs::write(root.at(PACKAGES), "linux-image-amd64\ndbus\ndbus\n\n").unwrap();
        assert_eq!(look(&root).unwrap(), RebootFact::default());
        fs::write(root.at(REQUIRED), "*** System restart required ***\n").unwrap();
        let found = look(&root).unwrap();
        assert!(found.required && !found.owed);
        assert_eq!(found.packages, ["dbus", "linux-image-amd64"]);
    }

    #[test]
    fn a_reboot_that_is_owed_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let debt = Debt {
            unit: REBOOT_UNIT.to_owned(),
            owed: Owed::Restart as i32,
        };
        debt::record(&root, &[debt]).unwrap();
        let found = look(&root).unwrap();
        assert!(found.owed && !found.required);
    }
}
