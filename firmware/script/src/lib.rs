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
mod histogram;
mod pattern;
mod words;

pub use access::{Order, Plan};
pub use command::{
    Action, Bench, Command, DiskCommand, Extent, Line, NetCommand, PowerButton, Transfer, Wait,
    parse, script_of, statements,
};
pub use histogram::Histogram;
pub use pattern::{Pattern, SECTOR, mix};
