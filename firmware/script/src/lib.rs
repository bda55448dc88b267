#![no_std]
#![forbid(unsafe_code)]
//! What the probe is told to do, and the data it writes: everything about it that needs no machine.
//!
//! - [`parse`] reads one command per line or `;`
//! - [`script_of`] finds the script on a kernel command line
//! - [`Pattern`] is what a sector should contain
//! - [`Plan`] is which blocks a run visits
//! - [`Histogram`] counts latencies

extern crate alloc;

mod access;
mod command;
#[cfg(test)]
mod command_test;
mod histogram;
mod model;
mod pattern;
mod words;

pub use access::{Order, Plan};
pub use command::{parse, script_of, statements};
pub use histogram::Histogram;
pub use model::{
    Action, Bench, Command, DiskCommand, Extent, Line, NetCommand, PowerButton, Transfer, Wait,
};
pub use pattern::{Pattern, SECTOR, mix};
