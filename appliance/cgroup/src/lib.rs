//! Control groups (cgroups(7)): how much CPU time a process gets, on which CPUs, and how much it had.
//!
//! ```text
//! v2:  ROOT/PARENT/GROUP      cpu.max cpu.weight cpu.stat cpuset.cpus cpuset.mems
//! v1:  CPU/PARENT/GROUP       cpu.cfs_quota_us cpu.shares
//!      CPUACCT/PARENT/GROUP   cpuacct.usage
//!      CPUSET/PARENT/GROUP    cpuset.cpus cpuset.mems (where it is mounted)
//! ```
//!
//! One parent for each daemon, one group for each process under it. A process is in its group from the moment it is
//! spawned: to move one that runs takes the kernel some 15 ms, which would more than double the start of a machine. Nothing is
//! made until the first group is, and the parent goes with the last one. A group with a process in it cannot be removed,
//! so removing is safe for whoever finds an old one.
//!
//! This crate knows no instance and no credits. Calls block for microseconds.

#![forbid(unsafe_code)]

mod error;
mod group;
mod hierarchy;
mod topology;

pub use error::Error;
pub use group::{Group, Groups};
pub use hierarchy::{Hierarchy, Version};
pub use topology::topology;
