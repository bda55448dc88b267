//! Writing a host image onto a disk.
//!
//! ```text
//!  release verified ─▶ target checked ─▶ old tables erased ─▶ all but the first MiB written, flushed, read back and compared
//!      ─▶ configuration put into the EFI system partition ─▶ first MiB written, table fitted to the disk, flushed
//! ```
//!
//! The partition table is in the first MiB, so that a disk on which this was interrupted does not boot and says so: there is no table.

mod contents;
mod esp;
pub mod interrupt;
pub mod look;
pub mod release;
pub mod target;
#[cfg(test)]
mod tests;
pub mod write;

use crate::client::Error;

/// A failure about `what` that has a cause.
fn local<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> Error {
    let what = what.into();
    move |error| Error::local(what)(std::io::Error::other(error))
}
