//! What the controller may have done on a host.
//!
//! Goes in: an [`Operation`] with the [`Guard`]s it relies on. Comes out: the host changed by
//! exactly that, a line in the journal, and an entry in the manifest. Invariant: an operation
//! that is repeated after an interruption ends in the same state.

use crate::generation::Standing;

/// One step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Operation {
    /// The resource that asks for it, for instance `file /etc/otel-collector/config.yaml`.
    #[prost(string, tag = "1")]
    pub resource: String,
    /// The environment that the resource belongs to.
    #[prost(string, tag = "2")]
    pub environment: String,
    /// The play that the resource belongs to.
    #[prost(string, tag = "3")]
    pub play: String,
    /// What must still be so.
    #[prost(message, repeated, tag = "4")]
    pub guards: Vec<Guard>,
    /// What to do.
    #[prost(
        oneof = "operation::Kind",
        tags = "5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"
    )]
    pub kind: Option<operation::Kind>,
}

/// The kinds of [`Operation`].
#[expect(
    clippy::module_inception,
    reason = "prost names the module of a oneof after its message"
)]
pub mod operation {
    use super::{
        Adopt, ExtractArchive, InstallPackages, MakeDirectory, MakeGroup, MakeUser, PrepareVolume,
        Reboot, Remove, RunCommand, SetAttributes, SetSysctl, UnitAction, WriteFile,
    };

    /// One step.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// See [`WriteFile`].
        #[prost(message, tag = "5")]
        WriteFile(WriteFile),
        /// See [`MakeDirectory`].
        #[prost(message, tag = "6")]
        MakeDirectory(MakeDirectory),
        /// See [`SetAttributes`].
        #[prost(message, tag = "7")]
        SetAttributes(SetAttributes),
        /// See [`MakeGroup`].
        #[prost(message, tag = "8")]
        MakeGroup(MakeGroup),
        /// See [`MakeUser`].
        #[prost(message, tag = "9")]
        MakeUser(MakeUser),
        /// See [`InstallPackages`].
        #[prost(message, tag = "10")]
        InstallPackages(InstallPackages),
        /// See [`UnitAction`].
        #[prost(message, tag = "11")]
        UnitAction(UnitAction),
        /// See [`SetSysctl`].
        #[prost(message, tag = "12")]
        SetSysctl(SetSysctl),
        /// See [`PrepareVolume`].
        #[prost(message, tag = "13")]
        PrepareVolume(PrepareVolume),
        /// See [`ExtractArchive`].
        #[prost(message, tag = "14")]
        ExtractArchive(ExtractArchive),
        /// See [`RunCommand`].
        #[prost(message, tag = "15")]
        RunCommand(RunCommand),
        /// See [`Remove`].
        #[prost(message, tag = "16")]
        Remove(Remove),
        /// See [`Reboot`].
        #[prost(message, tag = "17")]
        Reboot(Reboot),
        /// See [`Adopt`].
        #[prost(message, tag = "18")]
        Adopt(Adopt),
    }
}

/// A fact that the plan relies on, checked again right before the operation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Guard {
    /// The path that is guarded.
    #[prost(string, tag = "1")]
    pub path: String,
    /// SHA-256 that its content must still have; empty means that nothing may be there.
    #[prost(string, tag = "2")]
    pub sha256: String,
}

/// What a unit still has to be given because an input of it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Owed {
    /// Nothing.
    Nothing = 0,
    /// A reload.
    Reload = 1,
    /// A restart.
    Restart = 2,
}

/// A debt that is written down, and fsynced, before the file that causes it is put in place. One
/// of [`crate::REBOOT_UNIT`] is a reboot of the host, and void after any boot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Debt {
    /// The full name of the unit.
    #[prost(string, tag = "1")]
    pub unit: String,
    /// What it is owed.
    #[prost(enumeration = "Owed", tag = "2")]
    pub owed: i32,
}

/// Puts a stored content in place: dotfile beside it, mode and owner, fsync, rename, fsync of
/// the directory. What stood there before is kept by hash, unless it may hold a secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteFile {
    /// The absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The hash of a stored content.
    #[prost(string, tag = "2")]
    pub sha256: String,
    /// The owner's name.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// The group's name.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// The content may hold a secret. No copy of it is kept when it is replaced, whatever that
    /// later write says, and no [`crate::fact::FileFact`] shows it. What stood there before this
    /// tool first wrote to the path is kept to be put back, unless the path is known already.
    #[prost(bool, tag = "6")]
    pub secret: bool,
    /// Restarts and reloads that this brings about.
    #[prost(message, repeated, tag = "7")]
    pub debts: Vec<Debt>,
    /// Run once more right before the rename, unless it has accepted this very content under this
    /// path when it was staged in the same conversation.
    #[prost(message, optional, tag = "8")]
    pub validation: Option<Validation>,
}

/// A program that must accept a file before it is put in place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Validation {
    /// The final path of the file that is validated.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Program and arguments; `{}` stands for the staged file. A program that is itself staged is
    /// run from the stage. `systemd-analyze` also refuses what it only warns of in the file itself.
    #[prost(string, repeated, tag = "2")]
    pub arguments: Vec<String>,
}

/// Makes a directory, and its missing parents with mode 0755 and owner root.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeDirectory {
    /// The absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The owner's name.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The group's name.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
}

/// Gives an existing file or directory an owner and a mode. Symbolic links are refused.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttributes {
    /// The absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The owner's name.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The group's name.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
}

/// Makes a group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeGroup {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// From the range for system groups.
    #[prost(bool, tag = "2")]
    pub system: bool,
}

/// Makes an account, or gives an existing one what it lacks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeUser {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// From the range for system accounts, without a password and without a home made for it.
    #[prost(bool, tag = "2")]
    pub system: bool,
    /// The primary group; empty for one of the same name.
    #[prost(string, tag = "3")]
    pub primary_group: String,
    /// Supplementary groups to be added to.
    #[prost(string, repeated, tag = "4")]
    pub groups: Vec<String>,
    /// The home directory; empty for the system's default.
    #[prost(string, tag = "5")]
    pub home: String,
    /// The login shell; empty for the system's default.
    #[prost(string, tag = "6")]
    pub shell: String,
}

/// Installs Debian packages in one transaction: noninteractive, configuration files of the
/// operator kept, held packages refused, apt's locks waited for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstallPackages {
    /// Names, or `name=version`.
    #[prost(string, repeated, tag = "1")]
    pub packages: Vec<String>,
    /// How long to wait for apt's locks, in seconds.
    #[prost(uint32, tag = "2")]
    pub lock_timeout_seconds: u32,
}

/// Acts on a systemd unit. Starting and stopping may take as long as the unit itself allows, and
/// [`crate::message::Progress`] is sent meanwhile.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UnitAction {
    /// The full name; empty for `DaemonReload`.
    #[prost(string, tag = "1")]
    pub unit: String,
    /// What to do.
    #[prost(enumeration = "UnitVerb", tag = "2")]
    pub verb: i32,
}

/// What can be done to a unit. `Start`, `Reload` and `Restart` wait for the result, and settle
/// what the unit is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UnitVerb {
    /// Read all unit files again.
    DaemonReload = 0,
    /// Start it at boot.
    Enable = 1,
    /// Do not start it at boot.
    Disable = 2,
    /// Start it now.
    Start = 3,
    /// Stop it now.
    Stop = 4,
    /// Have it read its configuration again.
    Reload = 5,
    /// Stop and start it.
    Restart = 6,
}

/// Sets a kernel parameter now; a [`WriteFile`] makes it last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetSysctl {
    /// The dotted key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Brings a block device to be mounted. Everything is checked again under one lock; a device is
/// formatted only when it is blank, or when this tool began to format it and did not end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrepareVolume {
    /// The device as it was found.
    #[prost(string, tag = "1")]
    pub device: String,
    /// The identity that it must have, `serial:…` (compared by [`crate::fact::plain_serial`] with
    /// every serial that the kernel shows) or `file:…`; empty where none was asked for.
    #[prost(string, tag = "2")]
    pub identity: String,
    /// The size that it must have, in bytes; see `size_tolerance_bytes`.
    #[prost(uint64, tag = "3")]
    pub size_bytes: u64,
    /// `ext4` or `xfs`.
    #[prost(string, tag = "4")]
    pub filesystem: String,
    /// The UUID that the file system gets, or has.
    #[prost(string, tag = "5")]
    pub uuid: String,
    /// Where it is mounted.
    #[prost(string, tag = "6")]
    pub mount_point: String,
    /// Mount options beside `nofail`, for instance `noatime`.
    #[prost(string, repeated, tag = "7")]
    pub options: Vec<String>,
    /// The plan said that it would be formatted. Without it a blank device is refused.
    #[prost(bool, tag = "8")]
    pub format: bool,
    /// How far the size may be from `size_bytes`, in bytes.
    #[prost(uint64, tag = "9")]
    pub size_tolerance_bytes: u64,
}

/// Unpacks a stored content, a gzip-compressed tar, into a directory beside the target and
/// exchanges the two. Entries that leave the directory, devices and hard links are refused.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExtractArchive {
    /// The hash of a stored content.
    #[prost(string, tag = "1")]
    pub sha256: String,
    /// The directory that it becomes. Its hash is written to `.provision-archive` inside.
    #[prost(string, tag = "2")]
    pub path: String,
    /// How many leading components of each name to drop.
    #[prost(uint32, tag = "3")]
    pub strip_components: u32,
    /// The owner's name.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// The group's name.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Restarts and reloads that this brings about.
    #[prost(message, repeated, tag = "6")]
    pub debts: Vec<Debt>,
}

/// Runs a program. Its result cannot be undone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunCommand {
    /// Program and arguments; no shell.
    #[prost(string, repeated, tag = "1")]
    pub arguments: Vec<String>,
    /// How long it may take, in seconds.
    #[prost(uint32, tag = "2")]
    pub timeout_seconds: u32,
    /// Checked afterwards: it must now count as done.
    #[prost(message, optional, tag = "3")]
    pub done: Option<crate::fact::CommandQuery>,
}

/// Reboots the host, if it is still in this boot. The answer may be lost with the connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reboot {
    /// The boot that it is to end, as [`crate::message::Hello::boot_id`] names it.
    #[prost(string, tag = "1")]
    pub boot_id: String,
    /// How long the controller waits until the host answers from another boot, in milliseconds.
    #[prost(uint64, tag = "2")]
    pub within_millis: u64,
}

/// Writes down how a thing stands that others have put there, and leaves it as it is. What is not
/// there, or in the manifest already, is left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Adopt {
    /// What kind of thing it is.
    #[prost(enumeration = "ManifestKind", tag = "1")]
    pub kind: i32,
    /// Its path or name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// It is a file whose content may hold a secret, so that no copy of it is kept.
    #[prost(bool, tag = "3")]
    pub secret: bool,
    /// What is to be restarted or reloaded when it changes.
    #[prost(message, repeated, tag = "4")]
    pub debts: Vec<Debt>,
}

/// Takes back one entry of the manifest: what was made is removed, what was replaced is put back,
/// what was there before stays. Data is never removed: a volume is unmounted and its `fstab` line
/// goes, a directory that is not empty stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remove {
    /// The entry, as the manifest has it.
    #[prost(message, optional, tag = "1")]
    pub entry: Option<ManifestEntry>,
}

/// What was put on a host, and what stood there before.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ManifestEntry {
    /// The environment.
    #[prost(string, tag = "1")]
    pub environment: String,
    /// The play.
    #[prost(string, tag = "2")]
    pub play: String,
    /// The resource.
    #[prost(string, tag = "3")]
    pub resource: String,
    /// What kind of thing it is.
    #[prost(enumeration = "ManifestKind", tag = "4")]
    pub kind: i32,
    /// Its path or name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// It was there before the first run, so it is not removed.
    #[prost(bool, tag = "6")]
    pub existed: bool,
    /// SHA-256 of the content that stood there before the first run and is kept; empty without.
    #[prost(string, tag = "7")]
    pub previous_sha256: String,
    /// Owner, group and mode before the first run, as `owner:group:octal`; empty without.
    #[prost(string, tag = "8")]
    pub previous_attributes: String,
    /// The value, enablement or activity before the first run, where that is what changed: a
    /// sysctl's value; `enabled,active` of a unit.
    #[prost(string, tag = "9")]
    pub previous_value: String,
    /// How it was left when it was last put there.
    #[prost(message, optional, tag = "10")]
    pub applied: Option<Standing>,
    /// Its content may hold a secret.
    #[prost(bool, tag = "11")]
    pub secret: bool,
    /// What is to be restarted or reloaded when it changes.
    #[prost(message, repeated, tag = "12")]
    pub debts: Vec<Debt>,
    /// It was taken over from others by [`Adopt`].
    #[prost(bool, tag = "13")]
    pub adopted: bool,
}

/// What a manifest entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ManifestKind {
    /// Not given.
    Unspecified = 0,
    /// A file, by path.
    File = 1,
    /// A directory, by path.
    Directory = 2,
    /// A group, by name.
    Group = 3,
    /// An account, by name.
    User = 4,
    /// A package, by name; dependencies that came with it have entries of their own.
    Package = 5,
    /// A unit, by full name.
    Unit = 6,
    /// A kernel parameter, by key.
    Sysctl = 7,
    /// A volume, by UUID.
    Volume = 8,
    /// An unpacked archive, by path.
    Archive = 9,
    /// A command, by its program; never an entry, as nothing is known of what it did.
    Command = 10,
}
