//! Takes what others have put on the host into the manifest.
//!
//! Goes in: the kind and the name of a thing. Comes out: an entry that says how it stands, as what
//! was there before and as what was applied. Invariant: the thing itself is only read; what it was
//! is kept to be put back.

use provision_protocol::operation::{Adopt, ManifestKind};

use crate::accounts::Accounts;
use crate::content;
use crate::fact::file::{self, metadata};
use crate::fact::unit::{is_unit_name, look_at_one};
use crate::fact::{package, sysctl};
use crate::failure::{Doing, Failure};
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::{Task, describe_attributes};
use crate::root::check_absolute;

/// Writes down how a thing stands.
pub(crate) fn adopt(task: &mut Task<'_>, wanted: &Adopt) -> Result<(), Failure> {
    let kind = Kind::from(ManifestKind::try_from(wanted.kind).unwrap_or(ManifestKind::Unspecified));
    let name = wanted.name.as_str();
    if task.manifest.get(kind, name).is_some() {
        return Ok(());
    }
    let Some(standing) = look(task, kind, wanted)? else {
        return Ok(());
    };
    let (before, sha256) = standing;
    task.record(Wanted {
        kind,
        name,
        sha256: sha256.as_deref(),
        attributes: (!before.attributes.is_empty()).then(|| before.attributes.clone()),
        value: match kind {
            Kind::Unit => Some(steady(&before.value)),
            _ => (!before.value.is_empty()).then(|| before.value.clone()),
        },
        before,
        secret: wanted.secret,
        debts: wanted.debts.iter().map(Into::into).collect(),
        adopted: true,
        ..Wanted::default()
    })
}

/// How it stands, and the hash of its content where it has one; nothing where it is not there.
fn look(
    task: &Task<'_>,
    kind: Kind,
    wanted: &Adopt,
) -> Result<Option<(Before, Option<String>)>, Failure> {
    let (root, name) = (task.root, wanted.name.as_str());
    let mut before = Before {
        existed: true,
        ..Before::default()
    };
    let mut sha256 = None;
    let is_there = match kind {
        Kind::File | Kind::Directory => {
            let path = root.at(check_absolute(name)?);
            let found = metadata(&path).doing(|| format!("look at {name}"))?;
            let found = found.filter(|found| match kind {
                Kind::File => found.is_file(),
                _ => found.is_dir(),
            });
            let Some(found) = found else { return Ok(None) };
            before.attributes = describe_attributes(&Accounts::read(root), &found);
            if kind == Kind::File && wanted.secret {
                let hash = file::open(&path).and_then(|mut file| content::hash(&mut file));
                sha256 = Some(hash.doing(|| format!("read {name}"))?);
            } else if kind == Kind::File {
                before.sha256 = content::keep(root, &path)?;
                sha256 = Some(before.sha256.clone());
            }
            true
        }
        Kind::User => Accounts::read(root).user(name).is_some(),
        Kind::Group => Accounts::read(root).group(name).is_some(),
        Kind::Package => {
            before.value = package::read(root)?.look(name).installed_version;
            !before.value.is_empty()
        }
        Kind::Sysctl => {
            let found = sysctl::look(root, name)?;
            before.value = found.value;
            found.exists
        }
        Kind::Unit if is_unit_name(name) => {
            let found = look_at_one(root, name)?;
            before.value = format!("{},{}", found.unit_file_state, found.active_state);
            found.load_state != "not-found"
        }
        _ => {
            return Err(Failure::refused(format!(
                "{name} is nothing that can be taken over"
            )));
        }
    };
    Ok(is_there.then_some((before, sha256)))
}

/// `enabled,active` as it shall stay: what cannot be switched is empty, and so is what is on its
/// way.
fn steady(value: &str) -> String {
    let (enabled, active) = value.split_once(',').unwrap_or_default();
    let one_of = |word, words: &[&'static str]| {
        let known = words.iter().find(|known| **known == word);
        known.copied().unwrap_or_default()
    };
    format!(
        "{},{}",
        one_of(enabled, &["enabled", "disabled"]),
        one_of(active, &["active", "inactive"])
    )
}
