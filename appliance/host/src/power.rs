//! The end: reboot or power off, at once. Whoever calls this has stopped everything before.

use rustix::system::{RebootCommand, reboot};

use crate::Error;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It starts again.
    Reboot,
    /// It is off.
    PowerOff,
}

/// Writes out what is not on disk yet and ends the machine. Returns only if the kernel refused.
///
/// # Errors
/// The kernel refused.
pub fn end(how: End) -> Result<(), Error> {
    rustix::fs::sync();
    let command = match how {
        End::Reboot => RebootCommand::Restart,
        End::PowerOff => RebootCommand::PowerOff,
    };
    reboot(command).map_err(Error::of("end the machine"))
}

/// Ctrl-Alt-Del becomes a SIGINT to the first process instead of an immediate reboot.
///
/// # Errors
/// The kernel refused.
pub fn catch_ctrl_alt_del() -> Result<(), Error> {
    reboot(RebootCommand::CadOff).map_err(Error::of("take over Ctrl-Alt-Del"))
}
