//! A block device, formatted once and mounted.
//!
//! Goes in: `volume = { name }`, and what the inventory says of that volume. Comes out: a file
//! system at its mount point. Invariant: a device is formatted only when it is blank and is the
//! one that the inventory identifies; everything else is refused untouched.

use provision_protocol::fact::{Fact, Query, VolumeFact, VolumeQuery, query};
use provision_protocol::operation::{InstallPackages, PrepareVolume, operation};
use sha2::{Digest, Sha256};

use super::change::{Action, Change, Detail, Refusal};
use super::package::LOCK_TIMEOUT_SECONDS;
use super::{HostContext, Kind, Observed, Resource, Spec, fact};
use crate::document::{Entry, Location, Section, suggestion};
use crate::inventory::{Volume as VolumeSettings, VolumeIdentity};

/// How far a device may be from the size of the inventory: clouds and disks round.
const SIZE_TOLERANCE_PERCENT: u64 = 2;

pub(super) const KIND: Kind = Kind {
    name: "volume",
    summary: "a block device of the inventory, formatted once and mounted",
    parse: |section| Some(Box::new(VolumeSpec::parse(section)?)),
};

#[derive(Debug)]
struct VolumeSpec {
    name: Entry<String>,
}

impl VolumeSpec {
    fn parse(section: &Section<'_>) -> Option<Self> {
        Some(Self {
            name: section.require_string("name")?,
        })
    }
}

impl Spec for VolumeSpec {
    fn resolve(&self, _: &Location, context: &HostContext<'_>) -> Option<Box<dyn Resource>> {
        let volumes = &context.host.volumes;
        let Some((settings, identity)) = volumes
            .iter()
            .find(|(name, _)| name.as_str() == self.name.value)
            .map(|(_, v)| v)
        else {
            let message = format!(
                "host `{}` has no volume `{}`",
                context.host.name(),
                self.name.value
            );
            let hint = suggestion(
                &self.name.value,
                volumes.keys().map(crate::document::Name::as_str),
            );
            let hint = hint.filter(|_| !volumes.is_empty()).unwrap_or_else(|| {
                format!(
                    "describe it for its group in the inventory: [groups.….volumes.{}]",
                    self.name.value
                )
            });
            context
                .diagnostics
                .error(self.name.location.clone(), message, Some(hint));
            return None;
        };
        let wanted = match (&identity.serial, &identity.backing_file) {
            (Some(serial), _) => format!("serial:{serial}"),
            (None, Some(file)) => format!("file:{file}"),
            (None, None) => String::new(),
        };
        Some(Box::new(Volume {
            id: format!("volume {}", self.name.value),
            uuid: derive_uuid(&wanted),
            settings: settings.clone(),
            identity: identity.clone(),
            wanted,
        }))
    }
}

/// The UUID of a file system that this tool makes: it follows from what identifies the device
/// and nothing else, so that the device is known again after the host was rebuilt or the device
/// has grown.
fn derive_uuid(identity: &str) -> String {
    let digest = Sha256::digest(format!("provision volume\n{identity}"));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    // RFC 9562, section 5.8: version 8 is for values that an application derives.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[derive(Debug)]
struct Volume {
    id: String,
    settings: VolumeSettings,
    identity: VolumeIdentity,
    wanted: String,
    uuid: String,
}

impl Volume {
    /// What must hold before the device may be mounted, let alone formatted.
    fn check(&self, fact: &VolumeFact) -> Result<(), Refusal> {
        let described = &self.settings.location;
        if !fact.exists {
            let how = if self.wanted.is_empty() {
                let device = self.identity.device.as_deref().unwrap_or("…");
                format!("no block device at {device}")
            } else {
                format!("no block device is {}", self.wanted)
            };
            return Err(
                Refusal::new(format!("{how} (described at {described})")).hint(
                    "is it attached? `lsblk -o NAME,SIZE,SERIAL` on the host shows what there is",
                ),
            );
        }
        self.check_device(fact).map_err(|refusal| Refusal {
            message: format!("{} (described at {described})", refusal.message),
            ..refusal.lasting()
        })
    }

    /// The same for a device that is there. What stands on it, and which one it is, changes with
    /// nothing that a plan can do.
    fn check_device(&self, fact: &VolumeFact) -> Result<(), Refusal> {
        let settings = &self.settings;
        let device = &fact.device;
        if self.wanted.is_empty() {
            let shown = if fact.identity.is_empty() {
                "no serial"
            } else {
                &fact.identity
            };
            return Err(Refusal::new(
                "the inventory does not say which disk it is, and device names move",
            )
            .hint(format!(
                "{device} shows {shown}: write its serial for this host"
            )));
        }
        if fact.identity != self.wanted {
            let found = &fact.identity;
            let wanted = &self.wanted;
            return Err(Refusal::new(format!("{device} is {found}, not {wanted}")));
        }
        let (size, wanted) = (fact.size_bytes, settings.size.0);
        if size.abs_diff(wanted) > self.size_tolerance_bytes() {
            return Err(Refusal::new(format!(
                "{device} has {size} bytes, the inventory says {} ({wanted} bytes)",
                settings.size
            ))
            .hint("correct `size`, or the serial: this may be another disk"));
        }
        self.check_mount_point(fact)?;
        let ours = fact.uuid == self.uuid;
        if !ours && !fact.blank && !fact.unfinished_intent {
            return Err(Refusal::new(format!(
                "{device} is not blank: {}",
                fact.occupied_by
            ))
            .hint(
                "it was not touched; is the serial right? what nobody needs is cleared by hand, on \
                 the host",
            ));
        }
        if ours && fact.filesystem != settings.filesystem {
            return Err(Refusal::new(format!(
                "{device} holds {}, the inventory says {}",
                fact.filesystem, settings.filesystem
            ))
            .hint("correct `filesystem`: what holds data is never formatted"));
        }
        Ok(())
    }

    /// What must hold of the place where it is mounted.
    fn check_mount_point(&self, fact: &VolumeFact) -> Result<(), Refusal> {
        let settings = &self.settings;
        let device = &fact.device;
        if !fact.mount_point_taken_by.is_empty() {
            let (mount, taken_by) = (&settings.mount, &fact.mount_point_taken_by);
            return Err(Refusal::new(format!("{mount} is taken by {taken_by}")));
        }
        let elsewhere = fact.mounted_at.iter().find(|at| **at != settings.mount);
        if let Some(elsewhere) = elsewhere {
            let mount = &settings.mount;
            return Err(Refusal::new(format!(
                "{device} is mounted at {elsewhere}, not at {mount}"
            ))
            .hint("unmount it by hand once nothing uses it there"));
        }
        if fact.mount_point_not_empty {
            let mount = &settings.mount;
            return Err(Refusal::new(format!(
                "{mount} is not empty, and a mount would hide what is there"
            ))
            .hint("move it away by hand, or mount the volume elsewhere"));
        }
        if !fact.foreign_fstab_line.is_empty() {
            let line = &fact.foreign_fstab_line;
            return Err(Refusal::new(format!(
                "/etc/fstab already mounts something else there: {line}"
            ))
            .hint("take that line out by hand, or mount the volume elsewhere"));
        }
        Ok(())
    }

    /// The words of its line in `/etc/fstab`.
    fn fstab_words(&self) -> impl Iterator<Item = String> {
        let settings = &self.settings;
        let mut options = vec!["defaults".to_owned(), "nofail".to_owned()];
        options.extend(settings.options.iter().cloned());
        [
            format!("UUID={}", self.uuid),
            settings.mount.clone(),
            settings.filesystem.clone(),
            options.join(","),
            "0".to_owned(),
            "2".to_owned(),
        ]
        .into_iter()
    }

    /// The Debian package that makes its file system.
    fn tools(&self) -> &'static str {
        match self.settings.filesystem.as_str() {
            "xfs" => "xfsprogs",
            _ => "e2fsprogs",
        }
    }

    const fn size_tolerance_bytes(&self) -> u64 {
        self.settings.size.0 / 100 * SIZE_TOLERANCE_PERCENT
    }
}

impl Resource for Volume {
    fn id(&self) -> &str {
        &self.id
    }

    fn queries(&self) -> Vec<Query> {
        let identity = &self.identity;
        let by_device = identity.serial.is_none() && identity.backing_file.is_none();
        vec![Query {
            kind: Some(query::Kind::Volume(VolumeQuery {
                device: identity
                    .device
                    .clone()
                    .filter(|_| by_device)
                    .unwrap_or_default(),
                serial: identity.serial.clone().unwrap_or_default(),
                backing_file: identity
                    .backing_file
                    .clone()
                    .filter(|_| identity.serial.is_none())
                    .unwrap_or_default(),
                mount_point: self.settings.mount.clone(),
                uuid: self.uuid.clone(),
                filesystem: self.settings.filesystem.clone(),
            })),
        }]
    }

    fn diff(&self, facts: &[Fact], _: &Observed<'_>) -> Result<Option<Change>, Refusal> {
        let fact = fact::volume(facts, 0)?;
        self.check(fact)?;
        let settings = &self.settings;
        // A file system that an interrupted run has begun may have to be made again.
        let formatted = fact.uuid == self.uuid && !fact.unfinished_intent;
        let mounted = fact.mounted_at.contains(&settings.mount);
        let in_fstab = fact.fstab_line.split_whitespace().eq(self.fstab_words());
        if formatted && mounted && in_fstab {
            return Ok(None);
        }
        let mut change = Change::new(match (formatted, mounted) {
            (false, _) => Action::Format,
            (true, false) => Action::Mount,
            (true, true) => Action::Update,
        });
        // What stands below the mount point is seen only once it is mounted.
        change.opaque = !mounted;
        let mut detail = |name: &str, value: String| change.details.push(Detail::set(name, value));
        detail("device", format!("{} ({})", fact.device, fact.identity));
        if !formatted {
            detail(
                "filesystem",
                format!("{}, {}", settings.filesystem, settings.size),
            );
        }
        if !fact.missing_program.is_empty() {
            detail("installs", self.tools().to_owned());
        }
        if !mounted {
            detail("mount", settings.mount.clone());
        }
        if !in_fstab {
            detail("fstab", self.fstab_words().collect::<Vec<_>>().join(" "));
        }
        change.irreversible = !formatted;
        if !fact.missing_program.is_empty() {
            change.step(operation::Kind::InstallPackages(InstallPackages {
                packages: vec![self.tools().to_owned()],
                lock_timeout_seconds: LOCK_TIMEOUT_SECONDS,
            }));
        }
        change.step(operation::Kind::PrepareVolume(PrepareVolume {
            device: fact.device.clone(),
            identity: self.wanted.clone(),
            size_bytes: settings.size.0,
            filesystem: settings.filesystem.clone(),
            uuid: self.uuid.clone(),
            mount_point: settings.mount.clone(),
            options: settings.options.clone(),
            format: !formatted,
            size_tolerance_bytes: self.size_tolerance_bytes(),
        }));
        Ok(Some(change))
    }
}
