//! What units are owed because an input of theirs changed.
//!
//! Goes in: a unit and what it is owed. Comes out: a file per unit in the state directory.
//! Invariant: a debt is on disk before the file that causes it has its name, and a greater debt
//! is never replaced by a smaller one; what cannot be read is not taken for none.

use std::fs;
use std::io;

use provision_protocol::operation::{Debt, Owed};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::{Root, check_component};

const DIRECTORY: &str = "debts";

/// What a unit is owed.
pub(crate) fn owed(root: &Root, unit: &str) -> Result<Owed, Failure> {
    let path = root.state(DIRECTORY).join(unit);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owed::Nothing),
        read => read.doing(|| format!("read what {unit} is owed"))?,
    };
    match text.trim() {
        "restart" => Ok(Owed::Restart),
        "reload" => Ok(Owed::Reload),
        _ => Err(Failure::refused(format!(
            "{} says neither `restart` nor `reload`: restart {unit} by hand, then remove that file",
            path.display()
        ))),
    }
}

/// Writes debts down.
pub(crate) fn record(root: &Root, debts: &[Debt]) -> Result<(), Failure> {
    for debt in debts {
        let unit = check_component(&debt.unit)?;
        let wanted = debt.owed();
        if wanted <= owed(root, unit)? {
            continue;
        }
        let directory = root.state(DIRECTORY);
        durable::make_private_directory(&directory)?;
        let word: &[u8] = if wanted == Owed::Restart {
            b"restart\n"
        } else {
            b"reload\n"
        };
        durable::write(&directory.join(unit), word)?;
    }
    Ok(())
}

/// Crosses out what `settled` is enough for.
pub(crate) fn settle(root: &Root, unit: &str, settled: Owed) -> Result<(), Failure> {
    let due = owed(root, check_component(unit)?)?;
    if due == Owed::Nothing || due > settled {
        return Ok(());
    }
    let path = root.state(DIRECTORY).join(unit);
    durable::remove_if_there(&path)?;
    durable::sync_parent(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_outranks_a_reload() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let debt = |owed: Owed| {
            [Debt {
                unit: "a.service".into(),
                owed: owed as i32,
            }]
        };
        record(&root, &debt(Owed::Reload)).unwrap();
        assert_eq!(owed(&root, "a.service").unwrap(), Owed::Reload);
        record(&root, &debt(Owed::Restart)).unwrap();
        record(&root, &debt(Owed::Reload)).unwrap();
        assert_eq!(owed(&root, "a.service").unwrap(), Owed::Restart);
        settle(&root, "a.service", Owed::Reload).unwrap();
        assert_eq!(
            owed(&root, "a.service").unwrap(),
            Owed::Restart,
            "a reload does not settle a restart"
        );
        settle(&root, "a.service", Owed::Restart).unwrap();
        assert_eq!(owed(&root, "a.service").unwrap(), Owed::Nothing);
    }

    #[test]
    fn refuses_a_unit_that_is_a_path() {
        let root = Root::below("/nonexistent".into());
        let debt = [Debt {
            unit: "../x".into(),
            owed: Owed::Restart as i32,
        }];
        assert!(record(&root, &debt).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let debts = root.state(DIRECTORY);
        fs::create_dir_all(debts.join("directory.service")).unwrap();
        fs::write(debts.join("torn.service"), "").unwrap();
        for unit in ["directory.service", "torn.service"] {
            assert!(owed(&root, unit).is_err(), "{unit}");
            assert!(settle(&root, unit, Owed::Restart).is_err(), "{unit}");
        }
    }
}
