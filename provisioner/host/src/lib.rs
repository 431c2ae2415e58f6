//! What runs on a host for as long as one connection lasts.
//!
//! The walk: [`run`] settles the process (umask, signals, root directory) and hands standard
//! input and output to `conversation`, which greets and then answers one request after the other:
//! - `fact` looks: one file per kind, nothing is changed;
//! - `content` takes uploads in, `stage` lays them out and validates them;
//! - `operation` acts: one file per kind, between two lines of the `journal`, after an entry in
//!   the `manifest`, with what a unit is owed written down by `debt`;
//! - `generation` remembers what each run changed, and from what;
//! - `probe` waits for health, `balancer` takes servers out of HAProxy and puts them back;
//! - `deadman` puts back what locked everybody out;
//! - `retire` leaves a host on which nothing is managed any more.
//!
//! Before all that, `terminal` may run what makes it root and asks for a password at a terminal.
//!
//! Everything that is written goes through `durable`, every program through `process`, and every
//! path through `root`, so that a whole conversation can be held against a temporary directory.
//! Invariant: a conversation that only observes writes nothing.

mod accounts;
mod balancer;
mod content;
mod conversation;
mod deadman;
mod debt;
mod durable;
mod fact;
mod failure;
mod generation;
mod greeting;
mod journal;
mod lock;
mod manifest;
mod operation;
mod peers;
mod probe;
mod process;
mod retire;
mod root;
mod space;
mod stage;
mod terminal;
mod volume;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use provision_protocol::AT_TERMINAL;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::root::Root;

/// Exit code where the arguments or the process itself are not as they must be.
const EXIT_USAGE: u8 = 2;
/// Exit code where the connection broke inside a frame.
const EXIT_BROKEN: u8 = 3;

/// Holds the conversation. The only arguments are `--root DIRECTORY`, which tests use, the one
/// with which the host itself puts back what locked everybody out, and the one with which the
/// helper has another program make it root.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if arguments.next_if(|first| first == AT_TERMINAL).is_some() {
        return terminal::run(arguments);
    }
    let root = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, _, _) => Root::system(),
        (Some(flag), None, None) if flag == deadman::REVERT => return put_back(),
        (Some(flag), Some(directory), None) if flag == "--root" => Root::below(directory.into()),
        _ => return ExitCode::from(EXIT_USAGE),
    };
    process::settle_umask();
    // A lost connection or a signal must not cut an operation in two: both only raise this flag,
    // which is looked at between two operations.
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if signal_hook::flag::register(signal, Arc::clone(&ending)).is_err() {
            return ExitCode::from(EXIT_USAGE);
        }
    }
    match conversation::hold(root, std::io::stdin(), std::io::stdout(), ending) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_BROKEN),
    }
}

/// What the dead man's switch runs; its words go to the host's journal.
fn put_back() -> ExitCode {
    process::settle_umask();
    match deadman::revert(&Root::system()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}
