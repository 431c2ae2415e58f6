//! What the tests of the whole share: a project of their own, a lab, and the programs.
//!
//! Goes in: the repository and the programs that were built. Comes out: a [`Project`] whose files
//! a test may change, and a [`Lab`] with hosts. Invariant: nothing of a lab survives its [`Lab`].

mod lab;
mod listing;
mod machine;
mod output;
mod project;
mod requirement;
mod secrecy;
#[cfg(test)]
mod tidy;

pub use lab::{Lab, TreeState};
pub use listing::differences;
pub use machine::Machine;
pub use output::Output;
pub use project::{Edit, Project};
pub use requirement::{Requirement, missing};
pub use secrecy::{ArgumentWatch, Watched, forms};
