//! Holds whole conversations with the built helper.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conversation;
mod generation;
mod occupied;
mod power;
mod secret;
mod system;
mod talk;
mod terminal;
mod volume;
