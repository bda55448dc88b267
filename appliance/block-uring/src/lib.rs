//! Disks that are files (or block devices), served through one io_uring per I/O thread.
//!
//! An [`UringDisk`] is an opened file with its [`block::Geometry`]; an [`UringChannel`] is one thread's ring on
//! it. Besides disk completions the ring watches event counters ([`UringChannel::watch`]), so a thread that serves
//! a guest's queues sleeps in a single `io_uring_enter` for kicks and completions alike, and submits with the
//! same call. At depth 1 that is two calls per request (one wakes for the kick and submits, one wakes for the
//! completion); at depth the calls are shared by whole batches.
//!
//! # Choices
//! * **O_DIRECT** where the file system takes 512-byte aligned transfers ([`UringDisk::caching`] tells): guest pages
//!   are not cached twice. Buffers aligned to what the file system asks for go to the kernel as they are; others
//!   are bounced in pieces of bounded size.
//! * **No registered buffers.** Registering guest memory pins it, which makes the host back all of it with RAM
//!   whether the guest uses it or not. The file is registered, which costs nothing.
//! * Write-through is `RWF_DSYNC` on the write itself; flush is `fdatasync`. Discard punches holes; zeroes are
//!   punched or zero-ranged and, where the file system can do neither, written.
//!
//! This crate does not know virtio.

mod channel;
mod counters;
mod disk;
mod slot;

pub use channel::{Events, UringChannel, WatchKey};
pub use counters::{Counters, Snapshot};
pub use disk::{Caching, OpenError, OpenOptions, UringDisk};

/// System calls of a thread that uses a channel, after it was opened.
pub const SYSCALLS: &[libc::c_long] = &[libc::SYS_io_uring_enter];
/// System calls that [`block::BlockDevice::open_channel`] needs.
pub const SETUP_SYSCALLS: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_register,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_close,
];
