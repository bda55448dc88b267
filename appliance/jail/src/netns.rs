//! The one network namespace without any interface that all jailed processes share.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::thread;

use crate::Error;

static EMPTY: OnceLock<OwnedFd> = OnceLock::new();

/// The empty network namespace: made at the first call (making one is slow), the same one ever after.
///
/// # Errors
/// When the process may not make a network namespace.
pub fn empty_network() -> Result<BorrowedFd<'static>, Error> {
    if let Some(fd) = EMPTY.get() {
        return Ok(fd.as_fd());
    }
    let made = thread::spawn(make).join().map_err(|_| {
        Error::Request("the thread that makes the empty network namespace panicked".into())
    })??;
    // Two threads may race here; the loser's namespace vanishes with its descriptor.
    Ok(EMPTY.get_or_init(|| made).as_fd())
}

/// Runs in a thread of its own: `unshare` of the network concerns the calling thread only.
fn make() -> Result<OwnedFd, Error> {
    const STEP: &str = "make the empty network namespace (this needs root)";
    // SAFETY: a plain system call; the flag concerns only this thread, which ends after this function.
    Error::check(STEP, unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let file = File::open("/proc/thread-self/ns/net")
        .map_err(|source| Error::Step { step: STEP, source })?;
    Ok(file.into())
}
