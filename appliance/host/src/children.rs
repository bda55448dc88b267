//! The children of the first process: its own, and every process whose parent is gone.

use rustix::process::{WaitOptions, WaitStatus, wait};

/// A child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: u32,
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// Takes the ends of all children that have ended, without waiting for others.
#[must_use]
pub fn reap() -> Vec<Ended> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended.push(told(pid.as_raw_nonzero().get(), status));
    }
    ended
}

fn told(pid: i32, status: WaitStatus) -> Ended {
    Ended {
        pid: pid.unsigned_abs(),
        status: status.exit_status(),
        signal: status.terminating_signal(),
    }
}
