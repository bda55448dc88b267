//! What the daemon and a vmm process say to each other.

mod config;
mod frame;
mod message;
mod reason;

pub use config::{Boot, Disk, Host, Kernel, MachineConfig, Nic};
pub(crate) use config::{ProcessConfig, Sockets};
pub use frame::{MESSAGE_MAX, decode, encode};
pub use message::{
    Action, Answer, CONSOLE_INPUT_MAX, DeviceStatus, Event, Message, Request, ResetCause, Status,
};
pub use reason::{ExitReason, StartError};
