//! Wire types of the REST interface `/v1`: what a client sends and what a host answers, as JSON.
//!
//! Nothing in the core uses these types; `api` converts explicitly in both directions, and the command line prints
//! them as they came. Conventions, the same everywhere:
//!
//! - field names are snake_case and carry their unit (`memory_mib`, `size_gib`, `elapsed_ms`);
//! - ids are strings in ECS form (`i-…`, `d-…`, `m-…`, `sg-…`, `vpc-…`, `vsw-…`);
//! - states are spelled as ECS spells them (`Running`, `In_use`);
//! - timestamps are RFC 3339 strings in UTC, decimals (money) are strings, so that no digit is lost;
//! - a request with a field that is not known is refused; an answer may gain fields, and clients must ignore
//!   those they don't know.
#![forbid(unsafe_code)]

mod console;
mod decision;
mod disk;
mod event;
mod host;
mod image;
mod instance;
mod network;
mod page;
mod plugin;
mod problem;
mod security_group;
mod usage;

pub use console::*;
pub use decision::*;
pub use disk::*;
pub use event::*;
pub use host::*;
pub use image::*;
pub use instance::*;
pub use network::*;
pub use page::*;
pub use plugin::*;
pub use problem::*;
pub use security_group::*;
pub use usage::*;
