//! The messages of a conversation, in the order in which they are usually sent.
//!
//! Goes in and comes out: prost messages. Invariant: every [`ToHost`] is answered by exactly one
//! [`FromHost`] that is not [`from_host::Body::Progress`], in the order of the requests, so that
//! a controller may send several without waiting. Chunks of a content are the exception: only the
//! last one is answered.

use crate::fact::{Fact, Query};
use crate::generation::{Ending, Origin, Peer};
use crate::operation::{Operation, Validation};

/// A request of the controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToHost {
    /// The request itself.
    #[prost(
        oneof = "to_host::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21"
    )]
    pub body: Option<to_host::Body>,
}

/// The kinds of [`ToHost`].
pub mod to_host {
    use super::{
        Arm, Balance, Chunk, Commit, Disarm, Lock, Observe, Perform, Probe, Retire, Stage, Unstage,
    };

    /// One request.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// Take the host's lock, answered by `Locked` or `Refused`.
        #[prost(message, tag = "1")]
        Lock(Lock),
        /// Collect facts, answered by `Facts`.
        #[prost(message, tag = "2")]
        Observe(Observe),
        /// A piece of a content; the last is answered by `Stored` or `Refused`.
        #[prost(message, tag = "3")]
        Chunk(Chunk),
        /// Lay files out under their final names and validate them, answered by `Staged`.
        #[prost(message, tag = "4")]
        Stage(Stage),
        /// Do operations in order, answered by `Performed`.
        #[prost(message, tag = "5")]
        Perform(Perform),
        /// Wait until something on the host is healthy, answered by `Probed`.
        #[prost(message, tag = "6")]
        Probe(Probe),
        /// Throw staged files and spent contents away, answered by `Unstaged`.
        #[prost(message, tag = "7")]
        Unstage(Unstage),
        /// Leave a host on which nothing is left to be managed, answered by `Retired`.
        #[prost(message, tag = "8")]
        Retire(Retire),
        /// Close what this run has changed as one generation, answered by `Committed`.
        #[prost(message, tag = "9")]
        Commit(Commit),
        /// Take a server out of the balancer on the host or put it back, answered by `Balanced`.
        #[prost(message, tag = "10")]
        Balance(Balance),
        /// Have the host put paths back by itself unless it is disarmed, answered by `Armed`.
        #[prost(message, tag = "20")]
        Arm(Arm),
        /// Somebody got in anew, so that nothing needs to be put back, answered by `Disarmed`.
        #[prost(message, tag = "21")]
        Disarm(Disarm),
    }
}

/// An answer of the helper.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromHost {
    /// The answer itself.
    #[prost(
        oneof = "from_host::Body",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21"
    )]
    pub body: Option<from_host::Body>,
}

/// The kinds of [`FromHost`].
pub mod from_host {
    use super::{
        Armed, Balanced, Committed, Disarmed, Facts, Hello, Locked, Performed, Probed, Progress,
        Refused, Retired, Staged, Stored, Unstaged,
    };

    /// One answer.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// Sent unasked, once, before everything else.
        #[prost(message, tag = "1")]
        Hello(Hello),
        /// The lock is held for as long as the helper runs.
        #[prost(message, tag = "2")]
        Locked(Locked),
        /// All facts that were asked for, in the order of the queries.
        #[prost(message, tag = "3")]
        Facts(Facts),
        /// A content has arrived whole and bears the hash it should.
        #[prost(message, tag = "4")]
        Stored(Stored),
        /// What staging and validation found.
        #[prost(message, tag = "5")]
        Staged(Staged),
        /// What became of each operation.
        #[prost(message, tag = "6")]
        Performed(Performed),
        /// What the probe saw.
        #[prost(message, tag = "7")]
        Probed(Probed),
        /// Nothing staged is left.
        #[prost(message, tag = "8")]
        Unstaged(Unstaged),
        /// The request was not carried out and changed nothing.
        #[prost(message, tag = "9")]
        Refused(Refused),
        /// What the helper is doing now; any number of these may precede an answer.
        #[prost(message, tag = "10")]
        Progress(Progress),
        /// Nothing of the helper is left.
        #[prost(message, tag = "11")]
        Retired(Retired),
        /// The generation is closed.
        #[prost(message, tag = "12")]
        Committed(Committed),
        /// What the balancer does with the server.
        #[prost(message, tag = "13")]
        Balanced(Balanced),
        /// The switch is durable, and its time has begun.
        #[prost(message, tag = "20")]
        Armed(Armed),
        /// The switch is gone.
        #[prost(message, tag = "21")]
        Disarmed(Disarmed),
    }
}

/// Who and what the helper runs on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the helper.
    #[prost(uint32, tag = "1")]
    pub protocol_version: u32,
    /// The kernel's host name.
    #[prost(string, tag = "2")]
    pub host_name: String,
    /// The machine as `uname -m` names it, for instance `x86_64`.
    #[prost(string, tag = "3")]
    pub architecture: String,
    /// `ID` of `/etc/os-release`, for instance `debian`.
    #[prost(string, tag = "4")]
    pub os_id: String,
    /// `VERSION_ID` of `/etc/os-release`, for instance `12`; empty where there is none.
    #[prost(string, tag = "5")]
    pub os_version: String,
    /// The release of the running kernel.
    #[prost(string, tag = "6")]
    pub kernel_release: String,
    /// The kernel's random id of this boot.
    #[prost(string, tag = "7")]
    pub boot_id: String,
    /// The effective user id; everything but observing asks for 0.
    #[prost(uint32, tag = "8")]
    pub effective_uid: u32,
    /// Processors online.
    #[prost(uint32, tag = "9")]
    pub processors: u32,
    /// Physical memory, in bytes.
    #[prost(uint64, tag = "10")]
    pub memory_bytes: u64,
    /// What an unprivileged user may still write below `/var/lib`, in bytes.
    #[prost(uint64, tag = "11")]
    pub free_state_bytes: u64,
    /// The clock of the host, in seconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "12")]
    pub clock_unix_seconds: u64,
}

/// Asks for the host's lock. Whoever gets it finds nothing staged, no content smaller than 1 MiB,
/// and none that is older than 7 days; so the contents on the host are asked for afterwards.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lock {
    /// Who asks, in words for the next one who does: user, machine, process and run.
    #[prost(string, tag = "1")]
    pub holder: String,
}

/// The lock is held. When the conversation ends, however it does, the same is thrown away as by
/// [`Unstage`], so that no secret waits on the host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Locked {}

/// Asks for facts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Observe {
    /// What to look at.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
}

/// Answers [`Observe`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Facts {
    /// One fact per query, in the same order.
    #[prost(message, repeated, tag = "1")]
    pub facts: Vec<Fact>,
}

/// A piece of a content that is addressed by its hash.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Chunk {
    /// SHA-256 of the whole plain content, in lower-case hex.
    #[prost(string, tag = "1")]
    pub sha256: String,
    /// The size of the whole plain content, in bytes.
    #[prost(uint64, tag = "2")]
    pub total_bytes: u64,
    /// Where these bytes belong in the plain content; a partial content on the host is resumed
    /// from the size that [`crate::fact::ContentFact`] reported.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// A frame of zstd that holds the plain bytes of this piece.
    #[prost(bytes = "vec", tag = "4")]
    pub zstd: Vec<u8>,
    /// No further piece follows: check the hash, fsync and answer.
    #[prost(bool, tag = "5")]
    pub last: bool,
}

/// A content is complete on the host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stored {
    /// Its hash.
    #[prost(string, tag = "1")]
    pub sha256: String,
}

/// Lays files out and validates them. Nothing outside the state directory changes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stage {
    /// The files, under the names that they will have.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<StagedFile>,
    /// What must accept them before any of them is put in place.
    #[prost(message, repeated, tag = "2")]
    pub validations: Vec<Validation>,
}

/// One file in a [`Stage`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct StagedFile {
    /// The final absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The hash of a content that was stored before.
    #[prost(string, tag = "2")]
    pub sha256: String,
    /// The permission bits it will have; while staged it is readable by root alone.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
}

/// Answers [`Stage`]. The host is ready when `failures` is empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Staged {
    /// What was refused.
    #[prost(message, repeated, tag = "1")]
    pub failures: Vec<StageFailure>,
    /// Paths whose validator is not on the host yet; they are validated again when committed.
    #[prost(string, repeated, tag = "2")]
    pub unvalidated: Vec<String>,
}

/// A file that may not be put in place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StageFailure {
    /// The final path of the file.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What is wrong, for a person: the validator's own words, or the missing space.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Asks for operations, which are done in order until one fails.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Perform {
    /// Names this run in the journal.
    #[prost(string, tag = "1")]
    pub run: String,
    /// What to do.
    #[prost(message, repeated, tag = "2")]
    pub operations: Vec<Operation>,
    /// Who asks for it.
    #[prost(message, optional, tag = "3")]
    pub origin: Option<Origin>,
}

/// Closes what was changed for an environment as one generation, if anything was.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    /// The environment.
    #[prost(string, tag = "1")]
    pub environment: String,
    /// The plays that were gone through from beginning to end.
    #[prost(string, repeated, tag = "2")]
    pub plays: Vec<String>,
    /// How it ended.
    #[prost(enumeration = "Ending", tag = "3")]
    pub ending: i32,
    /// What else is to be said of it; without any secret.
    #[prost(string, tag = "4")]
    pub note: String,
    /// The hosts of the environment, to be written down; none leaves those that are.
    #[prost(message, repeated, tag = "5")]
    pub peers: Vec<Peer>,
}

/// Answers [`Commit`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Committed {
    /// The number of the generation; 0 where nothing was changed.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// Answers [`Perform`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Performed {
    /// How many operations were done, from the first.
    #[prost(uint32, tag = "1")]
    pub done: u32,
    /// Why the one after those was not; absent when all were done.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<OperationFailure>,
}

/// Why an operation was not done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperationFailure {
    /// The resource that the operation belongs to.
    #[prost(string, tag = "1")]
    pub resource: String,
    /// What is wrong, for a person.
    #[prost(string, tag = "2")]
    pub message: String,
    /// A guard did not hold: the host is no longer what the plan was made for.
    #[prost(bool, tag = "3")]
    pub guard: bool,
}

/// Waits for health.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probe {
    /// `http://…` answers 2xx, `tcp://host:port` accepts, or `unit:NAME` is active.
    #[prost(string, tag = "1")]
    pub target: String,
    /// How long it may take, in milliseconds.
    #[prost(uint64, tag = "2")]
    pub within_millis: u64,
}

/// Answers [`Probe`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probed {
    /// It is healthy.
    #[prost(bool, tag = "1")]
    pub healthy: bool,
    /// What was seen last, for a person.
    #[prost(string, tag = "2")]
    pub detail: String,
}

/// Has the HAProxy on the host send a server nothing more, or something again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Balance {
    /// Its runtime socket.
    #[prost(string, tag = "1")]
    pub socket: String,
    /// The `server-state-file` of its configuration. It gets the servers that are taken out, so
    /// that no reload and no restart brings them back, and tells later runs which those are.
    #[prost(string, tag = "2")]
    pub state_file: String,
    /// The server's name, which it may have in several backends.
    #[prost(string, tag = "3")]
    pub server: String,
    /// What to do.
    #[prost(enumeration = "BalanceVerb", tag = "4")]
    pub verb: i32,
    /// How long it may take, in milliseconds.
    #[prost(uint64, tag = "5")]
    pub within_millis: u64,
}

/// What can be done with a server of a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum BalanceVerb {
    /// Only look.
    Look = 0,
    /// Give it nothing new, wait until it has no session, and hold it in maintenance. A server
    /// whose sessions do not end in time is put back.
    TakeOut = 1,
    /// Give it requests again, and wait until it is seen up.
    PutBack = 2,
}

/// Answers [`Balance`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Balanced {
    /// The balancer runs; where it does not, no request passes it.
    #[prost(bool, tag = "1")]
    pub running: bool,
    /// In how many of its backends the server is.
    #[prost(uint32, tag = "2")]
    pub backends: u32,
    /// A run has taken it out and not put it back.
    #[prost(bool, tag = "3")]
    pub taken_out: bool,
    /// What was asked for is so.
    #[prost(bool, tag = "4")]
    pub done: bool,
    /// What was seen last, for a person.
    #[prost(string, tag = "5")]
    pub detail: String,
}

/// Throws away what was staged, every stored content smaller than 1 MiB, and those that this
/// conversation has put in their places. A larger one that was not put anywhere stays for 7 days,
/// so that it need not be sent again after a refusal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unstage {}

/// Answers [`Unstage`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unstaged {}

/// Removes what the helper keeps on the host, and the helper itself. A host whose manifest still
/// has entries, of whatever environment, is left as it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Retire {}

/// Answers [`Retire`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Retired {
    /// How many entries of other environments the manifest has, so that everything stays.
    #[prost(uint64, tag = "1")]
    pub entries_left: u64,
}

/// A request that was not carried out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Why, for a person.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// What goes on while an answer takes its time. Without a resource: nothing was asked for a while,
/// and whoever holds the lock wants to know whether somebody is still there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Progress {
    /// The resource in hand.
    #[prost(string, tag = "1")]
    pub resource: String,
    /// A few words.
    #[prost(string, tag = "2")]
    pub doing: String,
}

/// Have the host put paths back by itself unless it is disarmed in time, also at its next boot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Arm {
    /// The paths that are about to change.
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
    /// The units that read them, as far as there are such: they get back what they did.
    #[prost(string, repeated, tag = "2")]
    pub units: Vec<String>,
    /// After how long.
    #[prost(uint64, tag = "3")]
    pub within_millis: u64,
    /// The host is about to reboot, and shall then be given as long again: it puts back what stood
    /// there before the generation that is open, as nobody knows yet how it boots with that.
    #[prost(bool, tag = "4")]
    pub reboots: bool,
}

/// Answers [`Arm`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Armed {}

/// Somebody got in anew. Needs no lock, as another conversation than the one that changes says it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Disarm {}

/// Answers [`Disarm`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Disarmed {
    /// It was armed until now; otherwise everything had been put back already.
    #[prost(bool, tag = "1")]
    pub armed: bool,
}
