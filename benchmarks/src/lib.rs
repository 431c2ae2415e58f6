//! Measures collectors: this one, the floor below it, and others, under the same load.
//!
//! In: programs and rows. Out: figures, tables and a plot.
//! Invariant: the load, the sink and the figures come from one thread of one process; each
//! subject is a process of its own.
//!
//! - [`payload`], [`wire`]: requests, encoded before anything is measured
//! - [`load`] → a [`subject`] → [`sink`]; [`floor`] is the least that a subject can be
//! - [`row`], [`runner`]: what is run, and in which order
//! - [`result`], [`report`], [`plot`]: what came of it

pub mod cli;
pub mod count;
pub mod disk;
pub mod floor;
pub mod load;
pub mod payload;
pub mod plot;
pub mod report;
pub mod result;
pub mod row;
pub mod runner;
pub mod sink;
pub mod subject;
pub mod wire;
