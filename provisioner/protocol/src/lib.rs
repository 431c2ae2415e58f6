//! What controller and helper say to each other.
//!
//! The controller runs `provision-host` once per connection and speaks to it over its standard
//! input and output: length-framed ([`frame`]) prost messages ([`message`]). It asks for all
//! [`fact`]s at once, decides alone, and sends typed [`operation`]s back. Invariant: a helper
//! decides nothing; it checks the guards of an operation and then does exactly that operation.

pub mod fact;
pub mod frame;
pub mod generation;
pub mod message;
pub mod operation;

/// Raised whenever a message changes its meaning. Both sides refuse any other.
///
/// The helper is found by the hash of its bytes, so a mismatch means a damaged installation.
pub const PROTOCOL_VERSION: u32 = 5;

/// Where a helper keeps what must outlive a connection (mode 0700, owned by root).
pub const STATE_DIRECTORY: &str = "/var/lib/provision";

/// The unit that stands for a reboot of the whole host where something is owed one.
pub const REBOOT_UNIT: &str = "reboot.target";

/// What is there exactly while a host is about to put something back by itself.
pub const DEADMAN_NOTES: &str = "/var/lib/provision/deadman/notes.json";

/// The argument with which a helper runs another program at a terminal: a prompt, the program and
/// its arguments follow.
pub const AT_TERMINAL: &str = "--at-terminal";

/// Written by the helper's launcher in front of the first frame, so that banners and profile
/// output of a login shell are not taken for a message.
pub const HELLO_MARKER: &[u8] = b"\n\0provision-host\0\n";
