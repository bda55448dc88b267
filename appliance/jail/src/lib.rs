//! Confines a vmm process, so that a guest that breaks out of its machine finds nothing.
//!
//! ```text
//! daemon                                child
//! spawn(JailedCommand) ─ clone ───────▶ new pid, mount, ipc and uts namespaces; session; the empty network
//!                                       namespace; cgroups; limits; descriptors exactly as listed; exec
//!                                       confine_self(): empty read-only root, own uid and gid, no
//!                                       capabilities, no new privileges, Landlock; then checks all of it
//!                                       Filter::install(): one seccomp allow-list per thread
//! ```
//!
//! The executable is reached through a descriptor. The last steps happen after `exec` because a dynamically
//! linked executable needs its loader and libraries from the host's root; nothing but the parent's arguments
//! has been read by then. [`confine_self`] must be the first thing the child's `main` does.
//!
//! A jailed process outlives the daemon that made it. This crate knows nothing of machines, instances or files.
//!
//! Needs Linux 5.11 (`close_range` with `CLOSE_RANGE_CLOEXEC`) and, to spawn, root.

mod confine;
mod error;
mod netns;
mod process;
mod seccomp;
mod spawn;

pub use confine::{Confined, confine_self};
pub use error::Error;
pub use netns::empty_network;
pub use process::{Child, Exit, Process};
pub use seccomp::{Allow, Filter, OnViolation, RUST_RUNTIME, seccomp};
pub use spawn::{JailedCommand, Limits, spawn};
