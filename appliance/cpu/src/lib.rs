//! CPU time as something that is given out: credits of burstable instances, and CPUs that are one instance's own.
//!
//! Everything here is arithmetic on what the caller measured. It reads no clock, no topology and no control group, and
//! knows no instance type: [`Plan`] takes numbers.

#![forbid(unsafe_code)]

mod assignments;
mod credits;
mod plan;
mod set;
mod topology;

pub use assignments::{Assignments, NoRoom};
pub use credits::Credits;
pub use plan::{CREDIT, LAUNCH_CREDITS, PERIOD, Plan};
pub use set::{CpuSet, NotACpuSet};
pub use topology::{Core, Topology};
