//! The life cycle of an instance as a pure state machine, and the admission of requests.
//!
//! Nothing here waits, reads a clock or touches the host: [`State::after`] says what becomes of an instance,
//! [`Operation::permit`] what may be done to it, and [`admission`] whether a request is let in at all, and what the operator's policy may
//! say about that.

#![forbid(unsafe_code)]

pub mod admission;
mod operation;
mod shape;
mod state;
mod token;

pub use operation::{IncorrectStatus, Operation};
pub use shape::{
    DiskCategory, LocalDisks, Shape, UnknownType, baseline_percent, has_own_cpus, local_disks,
};
pub use state::{Change, State, StopReason, StoppedMode};
pub use token::{Admission, ClientToken, InvalidToken, TokenRefusal, TokenUse};
