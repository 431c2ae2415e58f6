//! Facts of the kind that was asked for.
//!
//! Goes in: the answers of a helper. Comes out: one typed answer. Invariant: an answer of another
//! kind is an error, so that no decision rests on a default.

use provision_protocol::fact::fact_kind::Kind;
use provision_protocol::fact::{
    CommandFact, Fact, FileFact, GroupFact, PackageFact, RebootFact, SysctlFact, UnitFact,
    UserFact, VolumeFact,
};

use super::change::Refusal;

macro_rules! typed {
    ($($name:ident, $variant:ident, $type:ty;)+) => {
        $(
            pub(super) fn $name(facts: &[Fact], index: usize) -> Result<&$type, Refusal> {
                match answer(facts, index)? {
                    Kind::$variant(fact) => Ok(fact),
                    _ => Err(mismatch()),
                }
            }
        )+
    };
}

typed! {
    file, File, FileFact;
    user, User, UserFact;
    group, Group, GroupFact;
    package, Package, PackageFact;
    unit, Unit, UnitFact;
    sysctl, Sysctl, SysctlFact;
    volume, Volume, VolumeFact;
    command, Command, CommandFact;
    reboot, Reboot, RebootFact;
}

fn answer(facts: &[Fact], index: usize) -> Result<&Kind, Refusal> {
    let fact = facts.get(index).ok_or_else(mismatch)?;
    match (&fact.error, &fact.kind) {
        (Some(error), _) => Err(Refusal::new(format!("it cannot be observed: {error}"))),
        (None, Some(kind)) => Ok(kind),
        (None, None) => Err(mismatch()),
    }
}

fn mismatch() -> Refusal {
    Refusal::new("the helper answered another question than was asked")
}
