//! The configuration of a host: one TOML file with a versioned schema, checked before it is used, with messages that point
//! at the line. Pure: text in, values out; where the text comes from is the caller's business.
//!
//! [`parse`] reads one text; [`choose`] decides which of several is in force.

#![forbid(unsafe_code)]

pub mod command_line;
mod error;
mod form;
mod keys;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod validate;

pub use error::{ConfigError, Problem};
pub use schema::{
    Api, Bond, BondMode, Cpu, DataDisk, Encryption, HostConfig, Interface, Kernel, Link, Match,
    Network, Shutdown, Storage, Time, Update, Vlan,
};
pub use source::{Candidates, Chosen, Source, choose};
pub use validate::parse;

/// The one version of the schema there is: what `version = …` must say.
pub const VERSION: u32 = 1;
/// The longest configuration that is read, bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// A configuration with every key, each with its default and what it means.
pub const EXAMPLE: &str = include_str!("../host.example.toml");
