//! One operation on its way: what to ask the kernel next, and what its answer means.
//!
//! ```text
//!  read ──► short? ──► read the rest ...                    ──► done / failed
//!  write ─► short? ──► write the rest ...                   ──► done / failed
//!  punch ──► unsupported? ─► zero range ─► unsupported? ─► write zeroes  (a discard: done)
//!     └────► durable? ──► fdatasync                         ──► done / failed
//! ```

use std::sync::LazyLock;

use block::{ErrorKind, Outcome, Token};
use io_uring::{opcode, squeue, types};
use libc::{c_int, iovec};
use vm_memory::VolatileSlice;

/// Index of the disk's file in the ring's table of registered files.
const FILE: types::Fixed = types::Fixed(0);
/// The kernel takes at most this many runs of memory at once (UIO_MAXIOV).
const MAX_RUNS: usize = 1024;
/// Longest piece that is bounced at once.
const BOUNCE_BYTES: usize = 256 << 10;
/// Answers "try again" may follow each other this often before the operation fails.
const MAX_RETRIES: u8 = 64;
/// What zeroes are written from, over and over.
static ZEROES: LazyLock<Box<[u8; ZERO_BYTES]>> = LazyLock::new(|| Box::new([0; ZERO_BYTES]));
const ZERO_BYTES: usize = 64 << 10;
/// Alignment bounce buffers and zeroes are used with: the strictest file systems ask for.
const PAGE: usize = 4096;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Read,
    Write { durable: bool },
    Sync,
    Allocate { mode: Mode, durable: bool },
    ZeroFill { durable: bool },
}

/// How a range is zeroed or given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Content may become anything.
    Discard,
    /// Zeroes, space may be given back.
    Unmap,
    /// Zeroes, space stays.
    Zero,
}

/// What to do after the kernel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Submit,
    Finish(Outcome),
}

/// Memory for transfers whose buffers are not aligned as direct I/O needs.
struct Bounce {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

/// One place in the ring, reused from operation to operation.
pub(crate) struct Slot {
    pub(crate) token: Token,
    pub(crate) work: Work,
    /// The guest's memory still to be transferred is `runs[first..]`.
    pub(crate) runs: Vec<iovec>,
    first: usize,
    offset: u64,
    remaining: u64,
    retries: u8,
    /// Alignment the buffers need; 1 with the page cache.
    alignment: usize,
    bounce: Option<Bounce>,
}

// SAFETY: the pointers in `runs` point into guest memory, which the channel that owns the slots keeps mapped and
// which any thread may access.
unsafe impl Send for Slot {}

impl Slot {
    pub(crate) fn new(alignment: usize) -> Self {
        Slot {
            token: Token(0),
            work: Work::Sync,
            runs: Vec::new(),
            first: 0,
            offset: 0,
            remaining: 0,
            retries: 0,
            alignment,
            bounce: None,
        }
    }

    /// Starts an operation on `remaining` bytes at `offset`; `runs` has been filled by the caller.
    pub(crate) fn start(&mut self, token: Token, work: Work, offset: u64, remaining: u64) {
        self.token = token;
        self.work = work;
        self.first = 0;
        self.offset = offset;
        self.remaining = remaining;
        self.retries = 0;
        self.bounce = None;
    }

    /// The next submission. `bounced` is set if a bounce buffer is used.
    pub(crate) fn entry(&mut self, bounced: &mut bool) -> squeue::Entry {
        let sync_flags = |durable: bool| if durable { libc::RWF_DSYNC } else { 0 };
        match self.work {
            Work::Sync => opcode::Fsync::new(FILE)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Work::Allocate { mode, .. } => {
                let flags = match mode {
                    Mode::Discard | Mode::Unmap => libc::FALLOC_FL_PUNCH_HOLE,
                    Mode::Zero => libc::FALLOC_FL_ZERO_RANGE,
                };
                opcode::Fallocate::new(FILE, self.remaining)
                    .offset(self.offset)
                    .mode(flags | libc::FALLOC_FL_KEEP_SIZE)
                    .build()
            }
            Work::ZeroFill { durable } => {
                let start = ZEROES.as_ptr().align_offset(PAGE);
                let room = u64::try_from(ZERO_BYTES - PAGE).unwrap_or(0);
                let len = u32::try_from(self.remaining.min(room)).unwrap_or(0);
                let from = ZEROES[start..].as_ptr();
                opcode::Write::new(FILE, from, len)
                    .offset(self.offset)
                    .rw_flags(sync_flags(durable))
                    .build()
            }
            Work::Read => {
                let offset = self.offset;
                let runs = self.window(false, bounced);
                match single(runs) {
                    Some((start, len)) => {
                        opcode::Read::new(FILE, start, len).offset(offset).build()
                    }
                    None => opcode::Readv::new(FILE, runs.as_ptr(), count(runs))
                        .offset(offset)
                        .build(),
                }
            }
            Work::Write { durable } => {
                let (offset, flags) = (self.offset, sync_flags(durable));
                let runs = self.window(true, bounced);
                match single(runs) {
                    Some((start, len)) => opcode::Write::new(FILE, start, len)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                    None => opcode::Writev::new(FILE, runs.as_ptr(), count(runs))
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                }
            }
        }
    }

    /// The vector for the next transfer. It points into `self`, which stays put until the kernel has answered.
    fn window(&mut self, write: bool, bounced: &mut bool) -> &[iovec] {
        // Direct I/O also wants every run to be whole sectors.
        let unit = if self.alignment > 1 {
            self.alignment.max(512)
        } else {
            1
        };
        let aligned = |run: &iovec| {
            run.iov_base.addr() & (self.alignment - 1) == 0 && run.iov_len & (unit - 1) == 0
        };
        if self.runs[self.first..].iter().all(aligned) {
            let runs = &self.runs[self.first..];
            return &runs[..runs.len().min(MAX_RUNS)];
        }
        *bounced = true;
        let len = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(BOUNCE_BYTES);
        let memory = vec![0; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        let mut bounce = Bounce { memory, start, len };
        if write {
            self.copy(&mut bounce, len, true);
        }
        // One spare run behind the guest's describes the bounce buffer.
        let base = bounce.memory[start..].as_mut_ptr();
        self.bounce = Some(bounce);
        self.runs.push(iovec {
            iov_base: base.cast(),
            iov_len: len,
        });
        &self.runs[self.runs.len() - 1..]
    }

    /// Copies the first `len` bytes between the guest's runs and the bounce buffer.
    fn copy(&self, bounce: &mut Bounce, len: usize, from_guest: bool) {
        let mut at = bounce.start;
        let end = at + len;
        for run in &self.runs[self.first..] {
            let part = run.iov_len.min(end - at);
            if part == 0 {
                break;
            }
            // SAFETY: every run was taken from a slice of guest memory that the channel keeps mapped; the
            // guest may change it meanwhile, which the volatile copy allows for.
            let guest = unsafe { VolatileSlice::new(run.iov_base.cast(), part) };
            if from_guest {
                guest.copy_to(&mut bounce.memory[at..at + part]);
            } else {
                guest.copy_from(&bounce.memory[at..at + part]);
            }
            at += part;
        }
    }

    /// Takes the kernel's answer to the last submission.
    pub(crate) fn answer(&mut self, result: c_int) -> Next {
        let bounce = self.bounce.take();
        if bounce.is_some() {
            self.runs.pop();
        }
        if result < 0 {
            return self.failed(-result);
        }
        self.retries = 0;
        let moved = u64::try_from(result).unwrap_or(0);
        match self.work {
            Work::Sync => Next::Finish(Outcome::Done),
            Work::Allocate { durable: true, .. } => {
                self.work = Work::Sync;
                Next::Submit
            }
            Work::Allocate { .. } => Next::Finish(Outcome::Done),
            Work::Read => {
                if let Some(mut bounce) = bounce {
                    let len = usize::try_from(moved).unwrap_or(0).min(bounce.len);
                    self.copy(&mut bounce, len, false);
                }
                // Files end short reads; with direct I/O also one that is not whole sectors.
                let ended = moved == 0 || self.alignment > 1 && moved % block::SECTOR_BYTES != 0;
                if ended {
                    Next::Finish(Outcome::Failed(ErrorKind::Truncated))
                } else {
                    self.advance(moved)
                }
            }
            Work::Write { .. } | Work::ZeroFill { .. } if moved == 0 => {
                Next::Finish(Outcome::Failed(ErrorKind::Io(libc::EIO)))
            }
            Work::Write { .. } => self.advance(moved),
            Work::ZeroFill { .. } => self.advance(moved),
        }
    }

    fn failed(&mut self, errno: c_int) -> Next {
        match (errno, self.work) {
            (libc::EINTR | libc::EAGAIN, _) if self.retries < MAX_RETRIES => {
                self.retries += 1;
                return Next::Submit;
            }
            // A discard is advice.
            (
                libc::EOPNOTSUPP,
                Work::Allocate {
                    mode: Mode::Discard,
                    ..
                },
            ) => {
                return Next::Finish(Outcome::Done);
            }
            (
                libc::EOPNOTSUPP,
                Work::Allocate {
                    mode: Mode::Unmap,
                    durable,
                },
            ) => {
                self.work = Work::Allocate {
                    mode: Mode::Zero,
                    durable,
                };
                return Next::Submit;
            }
            (
                libc::EOPNOTSUPP,
                Work::Allocate {
                    mode: Mode::Zero,
                    durable,
                },
            ) => {
                self.work = Work::ZeroFill { durable };
                return Next::Submit;
            }
            _ => {}
        }
        Next::Finish(Outcome::Failed(match errno {
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => ErrorKind::NoSpace,
            other => ErrorKind::Io(other),
        }))
    }

    /// `moved` bytes are behind us.
    fn advance(&mut self, moved: u64) -> Next {
        self.remaining = self.remaining.saturating_sub(moved);
        self.offset += moved;
        if self.remaining == 0 {
            return Next::Finish(Outcome::Done);
        }
        let mut left = usize::try_from(moved).unwrap_or(usize::MAX);
        while let Some(run) = self.runs.get_mut(self.first) {
            if left < run.iov_len {
                run.iov_base = run.iov_base.wrapping_byte_add(left);
                run.iov_len -= left;
                break;
            }
            left -= run.iov_len;
            self.first += 1;
        }
        Next::Submit
    }
}

/// Start and length of a vector of one run, for which the kernel has a cheaper call.
fn single(runs: &[iovec]) -> Option<(*mut u8, u32)> {
    match runs {
        [run] => Some((run.iov_base.cast(), u32::try_from(run.iov_len).ok()?)),
        _ => None,
    }
}

/// The length of a vector, which is at most [`MAX_RUNS`].
fn count(runs: &[iovec]) -> u32 {
    u32::try_from(runs.len()).unwrap_or(0)
}
