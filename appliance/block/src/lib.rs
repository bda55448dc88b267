//! The seam between a disk device model and the engine that serves it.
//!
//! A device model turns what the guest asks into [`Operation`]s and hands them to an [`IoChannel`]; the
//! channel reports [`Completion`]s, in any order. This crate knows neither virtio nor io_uring, and does no I/O.
//!
//! # What a completion promises
//!
//! | operation | after [`Outcome::Done`] |
//! |---|---|
//! | read | the segments hold the bytes; all of them |
//! | write | later reads see the bytes; they survive a power cut only after a later [`Operation::Flush`] |
//! | write, `durable` | the bytes survive a power cut (write-through, "FUA") |
//! | flush | every write *completed before the flush was submitted* survives a power cut |
//! | discard | the range's content is undefined until written; space may have been given back |
//! | write zeroes | later reads see zeroes; durable as for writes; space is kept unless `unmap` |
//!
//! Operations in flight at the same time are not ordered against each other: who needs an order waits for
//! the completion. Nothing is promised about a failed write: the range may hold old, new or mixed bytes.
#![forbid(unsafe_code)]

pub mod fake;
mod geometry;
mod request;

pub use geometry::{Geometry, GeometryError, SECTOR_BYTES};
pub use request::{Completion, ErrorKind, Operation, Outcome, Segment, Token};

/// An opened disk, from which each I/O thread takes a channel of its own.
pub trait BlockDevice: Send + Sync {
    /// What [`BlockDevice::open_channel`] returns.
    type Channel: IoChannel;
    /// Why a channel could not be opened.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Size and limits; constant while the device is open.
    fn geometry(&self) -> Geometry;

    /// Opens a channel. Call it on the thread that will use the channel: engines may bind to their creator.
    ///
    /// # Errors
    /// Whatever keeps the engine from starting (for io_uring: limits on locked memory, or the call being denied).
    fn open_channel(&self) -> Result<Self::Channel, Self::Error>;
}

/// One thread's path to a disk: submit operations, collect completions.
///
/// Order of calls: any number of [`submit`](Self::submit), then [`poll`](Self::poll) or
/// [`wait`](Self::wait) until [`in_flight`](Self::in_flight) is zero. Dropping a channel first waits for all that is
/// in flight, so guest memory is never written after the drop.
pub trait IoChannel {
    /// Accepts one operation; `token` comes back in its [`Completion`]. Submission may be deferred to the
    /// next [`poll`](Self::poll) or [`wait`](Self::wait). Operations outside the disk or on bad guest addresses are
    /// accepted and complete with [`Outcome::Failed`].
    ///
    /// # Errors
    /// [`ChannelFull`]: [`capacity`](Self::capacity) operations are in flight; collect completions first.
    fn submit(&mut self, token: Token, operation: &Operation<'_>) -> Result<(), ChannelFull>;

    /// Appends what has completed to `completions`, without blocking.
    fn poll(&mut self, completions: &mut Vec<Completion>);

    /// Like [`poll`](Self::poll), but blocks until something completes; returns at once when nothing is in flight.
    fn wait(&mut self, completions: &mut Vec<Completion>);

    /// Operations accepted and not yet reported.
    fn in_flight(&self) -> usize;

    /// The most operations that can be in flight, at least 1.
    fn capacity(&self) -> usize;
}

/// The channel takes no further operation before a completion has been collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the I/O channel is full: collect completions before submitting more")]
pub struct ChannelFull;
