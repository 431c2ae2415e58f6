//! What runs have changed on a host, one generation for each run that changed something.
//!
//! Goes in: what the helper wrote down while it worked. Comes out: who changed what, when, from
//! which state to which. Invariant: what stood there before a change is written down before the
//! change is made; contents that hold a secret are named by nothing but a mark.

use crate::operation::{Debt, ManifestKind, Validation};

/// Who asks for changes, and from which state of the project.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Origin {
    /// User and machine, for instance `ada@controller-1`.
    #[prost(string, tag = "1")]
    pub who: String,
    /// The git commit of the project, with `+` behind it where files differ from it; empty where
    /// the project is not in git.
    #[prost(string, tag = "2")]
    pub commit: String,
}

/// Asks for generations of an environment, and for the one that is not closed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GenerationsQuery {
    /// The environment's name.
    #[prost(string, tag = "1")]
    pub environment: String,
    /// The most closed generations that are returned, the newest ones; 0 asks for none.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
    /// The hosts that were written down here are asked for as well.
    #[prost(bool, tag = "3")]
    pub peers: bool,
}

/// Generations of an environment, the oldest first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GenerationsFact {
    /// Those that are closed, and one that is not, which then is the last.
    #[prost(message, repeated, tag = "1")]
    pub generations: Vec<Generation>,
    /// Hosts of the environment when something was last changed here, as the controller wrote
    /// them down.
    #[prost(message, repeated, tag = "2")]
    pub peers: Vec<Peer>,
}

/// A host of the fleet, so that it can be reached after it has left the inventory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// Its name in the inventory.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How it is reached, in words that only the controller reads; without any secret.
    #[prost(string, tag = "2")]
    pub reached: String,
}

/// Asks for a content that is kept because it stands somewhere, or stood there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeptQuery {
    /// Its SHA-256, in lower-case hex.
    #[prost(string, tag = "1")]
    pub sha256: String,
    /// Return its text, up to this size in bytes; 0 asks for no text.
    #[prost(uint64, tag = "2")]
    pub text_limit_bytes: u64,
}

/// A content that is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeptFact {
    /// It is.
    #[prost(bool, tag = "1")]
    pub exists: bool,
    /// Its size in bytes.
    #[prost(uint64, tag = "2")]
    pub size_bytes: u64,
    /// Its text, where it was asked for and is one.
    #[prost(string, optional, tag = "3")]
    pub text: Option<String>,
}

/// What one run changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Generation {
    /// Counts from 1 on this host, over all environments.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// When its last run began to change something, in seconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "2")]
    pub unix_seconds: u64,
    /// The run, as [`crate::message::Perform`] names it.
    #[prost(string, tag = "3")]
    pub run: String,
    /// Who asked for it.
    #[prost(message, optional, tag = "4")]
    pub origin: Option<Origin>,
    /// The environment.
    #[prost(string, tag = "5")]
    pub environment: String,
    /// How it ended.
    #[prost(enumeration = "Ending", tag = "6")]
    pub ending: i32,
    /// The plays that were gone through from beginning to end.
    #[prost(string, repeated, tag = "7")]
    pub plays: Vec<String>,
    /// What else is to be said of it, for instance `rollback to 3`.
    #[prost(string, tag = "8")]
    pub note: String,
    /// What was changed, in order.
    #[prost(message, repeated, tag = "9")]
    pub changes: Vec<Alteration>,
}

/// How a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Ending {
    /// It has not: a run is at work, was interrupted, or failed and left things as they were then.
    /// The next one goes on with it.
    Unfinished = 0,
    /// The host was brought to what was asked for.
    Applied = 1,
    /// Something failed, and what had been changed was put back.
    RolledBack = 2,
}

/// One thing that was changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Alteration {
    /// The play.
    #[prost(string, tag = "1")]
    pub play: String,
    /// The resource.
    #[prost(string, tag = "2")]
    pub resource: String,
    /// What kind of thing it is.
    #[prost(enumeration = "ManifestKind", tag = "3")]
    pub kind: i32,
    /// Its path or name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// This tool had put it there already before this generation.
    #[prost(bool, tag = "5")]
    pub managed: bool,
    /// How it was before; absent where nothing was there.
    #[prost(message, optional, tag = "6")]
    pub before: Option<Standing>,
    /// How it is afterwards; absent where nothing is left.
    #[prost(message, optional, tag = "7")]
    pub after: Option<Standing>,
    /// What was to be restarted or reloaded because of it.
    #[prost(message, repeated, tag = "8")]
    pub debts: Vec<Debt>,
    /// What had to accept the content.
    #[prost(message, optional, tag = "9")]
    pub validation: Option<Validation>,
    /// The content before, or the one afterwards, may hold a secret: it is not kept.
    #[prost(bool, tag = "10")]
    pub secret: bool,
    /// The content before is still kept.
    #[prost(bool, tag = "11")]
    pub kept: bool,
    /// The content itself was written or removed, and not only who may use it.
    #[prost(bool, tag = "12")]
    pub wrote: bool,
}

/// How something stands on a host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Standing {
    /// SHA-256 of its content, or of the archive that it was unpacked from; empty without.
    #[prost(string, tag = "1")]
    pub sha256: String,
    /// `owner:group:octal`; empty without.
    #[prost(string, tag = "2")]
    pub attributes: String,
    /// A sysctl's value, a package's version, `enabled,active` of a unit, the mount point of a
    /// volume, or how many components of each name of an archive were dropped; empty without.
    #[prost(string, tag = "3")]
    pub value: String,
}
