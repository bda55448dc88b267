//! The REST interface of the host: `/v1` over HTTP/1.1, on a unix socket and on loopback TCP.
//!
//! One file per resource in `resources` turns requests into the use cases' commands; `convert` turns their records
//! into wire types. What every answer has in common (a request id, problems as RFC 9457 says, limits, access) is in
//! the modules here. Nothing in this crate decides anything about instances: that is `control`'s.
#![forbid(unsafe_code)]

mod access;
mod convert;
mod envelope;
mod extract;
mod listen;
mod openapi;
mod paging;
mod problem;
mod resources;
mod routes;
mod server;

pub use access::{Token, TokenError};
pub use listen::{ListenError, Listener};
pub use openapi::document as openapi_document;
pub use server::{Host, Options, serve, serve_maintenance};
