//! What the daemon and a vmm process say to each other.

mod config;
mod message;

pub use config::{Boot, Disk, Host, Kernel, MachineConfig, Nic};
pub(crate) use config::{ProcessConfig, Sockets};
pub use message::{
    Action, Answer, CONSOLE_INPUT_MAX, DeviceStatus, Event, ExitReason, MESSAGE_MAX, Message,
    Request, ResetCause, StartError, Status, decode, encode,
};
