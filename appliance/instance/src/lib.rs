//! The life cycle of an instance as a pure state machine, and the admission of requests.

#![forbid(unsafe_code)]

mod state;

pub use state::{State, StopReason};
