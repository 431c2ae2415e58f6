//! What units are owed because an input of theirs changed.
//!
//! Goes in: a unit and what it is owed. Comes out: a file per unit in the state directory.
//! Invariant: a debt is on disk before the file that causes it has its name, and a greater debt
//! is never replaced by a smaller one; what cannot be read is not taken for none. A reboot that is
//! owed is written down with the boot that it is to end, so that every other boot makes it void.

use std::fs;
use std::io;

use provision_protocol::REBOOT_UNIT;
use provision_protocol::operation::{Debt, Owed};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::greeting::boot_id;
use crate::root::{Root, check_component};

const DIRECTORY: &str = "debts";
/// What stands before the id of the boot that a reboot is to end.
const ENDS_BOOT: &str = "ends boot ";

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
        words if words.strip_prefix(ENDS_BOOT) == Some(&boot_id()) => Ok(Owed::Restart),
        words if words.starts_with(ENDS_BOOT) => Ok(Owed::Nothing),
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
        let words = match wanted {
            _ if unit == REBOOT_UNIT => format!("{ENDS_BOOT}{}\n", boot_id()),
            Owed::Restart => "restart\n".to_owned(),
            _ => "reload\n".to_owned(),
        };
        durable::write(&directory.join(unit), words.as_bytes())?;
    }
    Ok(())
}

/// Crosses out a reboot that a boot has made void.
pub(crate) fn forget_reboot(root: &Root) -> Result<(), Failure> {
    let path = root.state(DIRECTORY).join(REBOOT_UNIT);
    if !path.exists() || owed(root, REBOOT_UNIT)? != Owed::Nothing {
        return Ok(());
    }
    durable::remove_if_there(&path)?;
    durable::sync_parent(&path)
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
    fn another_boot_makes_a_reboot_void() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let debt = [Debt {
            unit: REBOOT_UNIT.into(),
            owed: Owed::Restart as i32,
        }];
        record(&root, &debt).unwrap();
        forget_reboot(&root).unwrap();
        assert_eq!(owed(&root, REBOOT_UNIT).unwrap(), Owed::Restart);
        let path = root.state(DIRECTORY).join(REBOOT_UNIT);
        fs::write(&path, "ends boot of-last-week\n").unwrap();
        assert_eq!(owed(&root, REBOOT_UNIT).unwrap(), Owed::Nothing);
        // What changes now takes effect with the next boot again.
        record(&root, &debt).unwrap();
        assert_eq!(owed(&root, REBOOT_UNIT).unwrap(), Owed::Restart);
        fs::write(&path, "ends boot of-last-week\n").unwrap();
        forget_reboot(&root).unwrap();
        assert!(!path.exists());
        forget_reboot(&root).unwrap();
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
