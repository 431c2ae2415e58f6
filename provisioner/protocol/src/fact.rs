//! What the controller may ask about a host, and what it is told.
//!
//! Goes in: [`Query`]. Comes out: one [`Fact`] of the same kind. Invariant: looking changes
//! nothing, and what cannot be found out is an [`Fact::error`], never a guess.

use crate::generation::{GenerationsFact, GenerationsQuery, KeptFact, KeptQuery};
use crate::operation::ManifestEntry;

/// The least number of hex digits in the id of an EC2 volume.
const EC2_ID_DIGITS: usize = 8;

/// One question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    /// The question itself.
    #[prost(
        oneof = "query::Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub kind: Option<query::Kind>,
}

/// The kinds of [`Query`].
pub mod query {
    use super::{CommandQuery, FileQuery, GenerationsQuery, KeptQuery, RebootQuery, VolumeQuery};

    /// One question.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// What is at a path.
        #[prost(message, tag = "1")]
        File(FileQuery),
        /// An account, by name.
        #[prost(string, tag = "2")]
        User(String),
        /// A group, by name.
        #[prost(string, tag = "3")]
        Group(String),
        /// A Debian package, by name.
        #[prost(string, tag = "4")]
        Package(String),
        /// A systemd unit, by its full name.
        #[prost(string, tag = "5")]
        Unit(String),
        /// A kernel parameter, by its dotted key.
        #[prost(string, tag = "6")]
        Sysctl(String),
        /// A block device and what is on it.
        #[prost(message, tag = "7")]
        Volume(VolumeQuery),
        /// Whether a command has already been done.
        #[prost(message, tag = "8")]
        Command(CommandQuery),
        /// How much of a content is on the host, by SHA-256 in lower-case hex.
        #[prost(string, tag = "9")]
        Content(String),
        /// Everything that an environment put on the host, by the environment's name; that of all
        /// environments where it is empty.
        #[prost(string, tag = "10")]
        Manifest(String),
        /// What runs have changed.
        #[prost(message, tag = "11")]
        Generations(GenerationsQuery),
        /// A content that is kept.
        #[prost(message, tag = "12")]
        Kept(KeptQuery),
        /// The servers that runs have taken out of the balancer on the host, by the path of its
        /// state file.
        #[prost(string, tag = "13")]
        TakenOut(String),
        /// Whether the host waits for a reboot.
        #[prost(message, tag = "14")]
        Reboot(RebootQuery),
    }
}

/// One answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Fact {
    /// Why the question could not be answered; then `kind` is absent.
    #[prost(string, optional, tag = "20")]
    pub error: Option<String>,
    /// The answer itself.
    #[prost(
        oneof = "fact_kind::Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    )]
    pub kind: Option<fact_kind::Kind>,
}

/// The kinds of [`Fact`].
pub mod fact_kind {
    use super::{
        CommandFact, ContentFact, FileFact, GenerationsFact, GroupFact, KeptFact, ManifestFact,
        PackageFact, RebootFact, SysctlFact, TakenOutFact, UnitFact, UserFact, VolumeFact,
    };

    /// One answer.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// See [`FileFact`].
        #[prost(message, tag = "1")]
        File(FileFact),
        /// See [`UserFact`].
        #[prost(message, tag = "2")]
        User(UserFact),
        /// See [`GroupFact`].
        #[prost(message, tag = "3")]
        Group(GroupFact),
        /// See [`PackageFact`].
        #[prost(message, tag = "4")]
        Package(PackageFact),
        /// See [`UnitFact`].
        #[prost(message, tag = "5")]
        Unit(UnitFact),
        /// See [`SysctlFact`].
        #[prost(message, tag = "6")]
        Sysctl(SysctlFact),
        /// See [`VolumeFact`].
        #[prost(message, tag = "7")]
        Volume(VolumeFact),
        /// See [`CommandFact`].
        #[prost(message, tag = "8")]
        Command(CommandFact),
        /// See [`ContentFact`].
        #[prost(message, tag = "9")]
        Content(ContentFact),
        /// See [`ManifestFact`].
        #[prost(message, tag = "10")]
        Manifest(ManifestFact),
        /// See [`GenerationsFact`].
        #[prost(message, tag = "11")]
        Generations(GenerationsFact),
        /// See [`KeptFact`].
        #[prost(message, tag = "12")]
        Kept(KeptFact),
        /// See [`TakenOutFact`].
        #[prost(message, tag = "13")]
        TakenOut(TakenOutFact),
        /// See [`RebootFact`].
        #[prost(message, tag = "14")]
        Reboot(RebootFact),
    }
}

/// Asks what is at a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileQuery {
    /// An absolute path. Symbolic links are not followed at the last component.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Return the text of a regular file whose hash is none of `known_sha256`, up to this size
    /// in bytes; 0 asks for no text. Only valid UTF-8 is returned.
    #[prost(uint64, tag = "2")]
    pub text_limit_bytes: u64,
    /// Hashes of contents that need not be returned, in lower-case hex.
    #[prost(string, repeated, tag = "3")]
    pub known_sha256: Vec<String>,
}

/// What is at a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileFact {
    /// What it is.
    #[prost(enumeration = "FileType", tag = "1")]
    pub file_type: i32,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// The owner's name, or the number in decimal where no account has it.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// The group's name, or the number in decimal where no group has it.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Size in bytes.
    #[prost(uint64, tag = "5")]
    pub size_bytes: u64,
    /// SHA-256 of a regular file, in lower-case hex.
    #[prost(string, tag = "6")]
    pub sha256: String,
    /// The text, where it was asked for and is text.
    #[prost(string, optional, tag = "7")]
    pub text: Option<String>,
    /// Where a symbolic link points.
    #[prost(string, tag = "8")]
    pub link_target: String,
    /// The text was asked for and is withheld: what this tool wrote there last may hold a secret,
    /// and be it one that the controller does not know any more.
    #[prost(bool, tag = "9")]
    pub secret: bool,
}

/// What a path can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FileType {
    /// Nothing is there.
    Absent = 0,
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A device, socket or pipe.
    Other = 4,
}

/// An account.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserFact {
    /// It exists.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// The numeric id.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// The name of the primary group.
    #[prost(string, tag = "3")]
    pub primary_group: String,
    /// The names of the supplementary groups, sorted.
    #[prost(string, repeated, tag = "4")]
    pub groups: Vec<String>,
    /// The home directory.
    #[prost(string, tag = "5")]
    pub home: String,
    /// The login shell.
    #[prost(string, tag = "6")]
    pub shell: String,
}

/// A group.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupFact {
    /// It exists.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// The numeric id.
    #[prost(uint32, tag = "2")]
    pub gid: u32,
}

/// A Debian package.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PackageFact {
    /// The version that is installed and configured; empty where none is.
    #[prost(string, tag = "1")]
    pub installed_version: String,
    /// The operator holds it (`apt-mark hold`).
    #[prost(bool, tag = "2")]
    pub held: bool,
    /// dpkg was interrupted over it (unpacked or half-configured).
    #[prost(bool, tag = "3")]
    pub broken: bool,
}

/// A systemd unit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UnitFact {
    /// `LoadState`, for instance `loaded` or `not-found`.
    #[prost(string, tag = "1")]
    pub load_state: String,
    /// `ActiveState`, for instance `active`.
    #[prost(string, tag = "2")]
    pub active_state: String,
    /// `SubState`, for instance `running`.
    #[prost(string, tag = "3")]
    pub sub_state: String,
    /// `UnitFileState`, for instance `enabled`.
    #[prost(string, tag = "4")]
    pub unit_file_state: String,
    /// systemd has an older version of the unit file in memory.
    #[prost(bool, tag = "5")]
    pub needs_daemon_reload: bool,
    /// Changes with every start.
    #[prost(string, tag = "6")]
    pub invocation_id: String,
    /// An earlier run put an input in place and did not get to the restart.
    #[prost(enumeration = "crate::operation::Owed", tag = "7")]
    pub owed: i32,
    /// How often systemd restarted it by itself since it was last started by hand.
    #[prost(uint32, tag = "8")]
    pub restarts: u32,
}

/// A kernel parameter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SysctlFact {
    /// The kernel knows it.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// Its value, with runs of white space made one blank.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Asks for a block device. Exactly one of `device`, `serial` and `backing_file` selects it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeQuery {
    /// The device node, for instance `/dev/sdf`; used only together with an identity or a size.
    #[prost(string, tag = "1")]
    pub device: String,
    /// The serial that the kernel shows for the disk, compared by [`plain_serial`]; the device is
    /// searched by it.
    #[prost(string, tag = "2")]
    pub serial: String,
    /// The file behind a loop device, as the kernel shows it; the device is searched by it.
    #[prost(string, tag = "3")]
    pub backing_file: String,
    /// Where it shall be mounted.
    #[prost(string, tag = "4")]
    pub mount_point: String,
    /// The UUID that the file system shall have or get.
    #[prost(string, tag = "5")]
    pub uuid: String,
    /// The file system that it shall have or get, `ext4` or `xfs`; empty where nobody asks whether
    /// it could be made.
    #[prost(string, tag = "6")]
    pub filesystem: String,
}

/// A block device and what is on it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VolumeFact {
    /// It was found.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// The node by which it was found.
    #[prost(string, tag = "2")]
    pub device: String,
    /// What identifies it: `serial:…` or `file:…`, and where it was searched by one of these that
    /// very one, spelt as in the query; empty where the kernel shows neither.
    #[prost(string, tag = "3")]
    pub identity: String,
    /// Its size in bytes.
    #[prost(uint64, tag = "4")]
    pub size_bytes: u64,
    /// Every test for blankness was passed.
    #[prost(bool, tag = "5")]
    pub blank: bool,
    /// Why it is not blank, for a person.
    #[prost(string, tag = "6")]
    pub occupied_by: String,
    /// The file system on it, as `blkid` names it.
    #[prost(string, tag = "7")]
    pub filesystem: String,
    /// The UUID of that file system.
    #[prost(string, tag = "8")]
    pub uuid: String,
    /// Where it is mounted now.
    #[prost(string, repeated, tag = "9")]
    pub mounted_at: Vec<String>,
    /// An earlier run began to make the file system with this UUID on this identity and did not
    /// end, so that making it again destroys nothing of anybody's.
    #[prost(bool, tag = "10")]
    pub unfinished_intent: bool,
    /// The whole line of `/etc/fstab` for the wanted UUID or the mount point; empty without one.
    #[prost(string, tag = "11")]
    pub fstab_line: String,
    /// Something else is mounted at the wanted mount point.
    #[prost(string, tag = "12")]
    pub mount_point_taken_by: String,
    /// Nothing is mounted at the wanted mount point, but the directory has entries, which a mount
    /// would hide: [`crate::operation::PrepareVolume`] refuses.
    #[prost(bool, tag = "13")]
    pub mount_point_not_empty: bool,
    /// The line of `/etc/fstab` by which somebody else mounts something at the wanted mount point,
    /// for which [`crate::operation::PrepareVolume`] refuses; empty without one. A line of a
    /// volume in the manifest is nobody else's.
    #[prost(string, tag = "14")]
    pub foreign_fstab_line: String,
    /// The program that would make the wanted file system, for instance `mkfs.xfs`, where one
    /// would have to be made and that program is not installed; empty otherwise, and where the
    /// query names no file system.
    #[prost(string, tag = "15")]
    pub missing_program: String,
}

/// The spelling by which serials are compared. EC2 shows `vol0abc` for the volume that it calls
/// `vol-0abc`; every other serial is one as it stands, less blanks around it.
#[must_use]
pub fn plain_serial(serial: &str) -> String {
    let serial = serial.trim();
    let lower = serial.to_ascii_lowercase();
    let volume = lower
        .strip_prefix("vol-")
        .or_else(|| lower.strip_prefix("vol"));
    match volume {
        Some(id)
            if id.len() >= EC2_ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            format!("vol{id}")
        }
        _ => serial.to_owned(),
    }
}

/// Asks whether a command has been done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandQuery {
    /// It has when this path exists; empty where `unless` tells.
    #[prost(string, tag = "1")]
    pub creates: String,
    /// It has when this program and its arguments exit 0. It must change nothing.
    #[prost(string, repeated, tag = "2")]
    pub unless: Vec<String>,
}

/// Whether a command has been done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandFact {
    /// It has.
    #[prost(bool, tag = "1")]
    pub done: bool,
}

/// How much of a content the host already has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContentFact {
    /// All of it, verified.
    #[prost(bool, tag = "1")]
    pub complete: bool,
    /// The plain bytes of it that an interrupted upload left.
    #[prost(uint64, tag = "2")]
    pub partial_bytes: u64,
}

/// What an environment put on the host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ManifestFact {
    /// In the order in which it was put there.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<ManifestEntry>,
}

/// Asks whether the host waits for a reboot.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RebootQuery {}

/// Whether the host waits for a reboot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RebootFact {
    /// A run put something in place in this boot that takes effect with the next one.
    #[prost(bool, tag = "1")]
    pub owed: bool,
    /// The distribution says so: `/run/reboot-required` is there.
    #[prost(bool, tag = "2")]
    pub required: bool,
    /// The packages that ask for it, where they say so.
    #[prost(string, repeated, tag = "3")]
    pub packages: Vec<String>,
}

/// The servers that runs have taken out of a balancer and not put back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TakenOutFact {
    /// Their names, sorted.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_ec2_is_one_however_it_is_spelt() {
        let plain = "vol0123456789abcdef0";
        for spelt in [
            plain,
            "vol-0123456789abcdef0",
            "VOL-0123456789ABCDEF0",
            " vol0123456789abcdef0 \n",
        ] {
            assert_eq!(plain_serial(spelt), plain, "{spelt:?}");
        }
    }

    #[test]
    fn other_serials_stay_apart() {
        assert_ne!(plain_serial("data-1"), plain_serial("data1"));
        assert_ne!(plain_serial("QM01"), plain_serial("qm01"));
        assert_ne!(plain_serial("vol-data"), plain_serial("voldata"));
        assert_eq!(plain_serial(" S4EVNX0R123456  "), "S4EVNX0R123456");
    }
}
