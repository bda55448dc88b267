//! One thread's ring on a disk.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use block::{
    BlockDevice, ChannelFull, Completion, ErrorKind, Geometry, IoChannel, Operation, Outcome,
    Segment, Token,
};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use libc::iovec;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};
use vmm_sys_util::eventfd::EventFd;

use crate::slot::{Mode, Next, Slot, Work};
use crate::{Caching, Counters, UringDisk};

/// Operations in flight at most.
const CAPACITY: u32 = 256;
/// Event counters watched at most.
const MAX_WATCHES: u32 = 64;
/// Set in the user data of entries that watch a counter.
const WATCH: u64 = 1 << 63;
/// Threads the kernel may start for this ring to do what would block: for transfers, and for other calls.
const KERNEL_WORKERS: [u32; 2] = [8, 8];

/// Names a watched counter; chosen by the caller.
pub type WatchKey = u32;

/// What a wait brought; reused from wait to wait.
#[derive(Debug, Default)]
pub struct Events {
    /// Operations that ended.
    pub completions: Vec<Completion>,
    /// Counters that were written, possibly more than once each.
    pub kicks: Vec<WatchKey>,
}

/// One thread's io_uring on a disk. Must be used on the thread that opened it.
pub struct UringChannel {
    ring: IoUring,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Operations that ended without the kernel.
    ready: VecDeque<Completion>,
    watches: Vec<(WatchKey, Arc<EventFd>)>,
    /// Watches whose poll the kernel has ended: to be armed again.
    unarmed: Vec<WatchKey>,
    /// Kicks seen by calls that do not report them.
    kicked: Vec<WatchKey>,
    geometry: Geometry,
    caching: Caching,
    /// A read met the end of the file: whatever else is read may be just as wrong.
    truncated: bool,
    memory: GuestMemoryMmap,
    counters: Arc<Counters>,
}

impl UringChannel {
    pub(crate) fn new(disk: &UringDisk) -> io::Result<Self> {
        let ring = build_ring()?;
        ring.submitter().register_files(&[disk.as_raw_fd()])?;
        // Kernels before 5.15 have no such limit to set; everything works without.
        let _ = ring
            .submitter()
            .register_iowq_max_workers(&mut KERNEL_WORKERS.clone());
        let alignment = match disk.caching() {
            Caching::Direct { memory_alignment } => {
                usize::try_from(memory_alignment).unwrap_or(4096).max(1)
            }
            _ => 1,
        };
        let capacity = usize::try_from(CAPACITY).unwrap_or(1);
        Ok(UringChannel {
            ring,
            slots: (0..capacity).map(|_| Slot::new(alignment)).collect(),
            free: (0..capacity).rev().collect(),
            ready: VecDeque::new(),
            watches: Vec::new(),
            unarmed: Vec::new(),
            kicked: Vec::new(),
            geometry: disk.geometry(),
            caching: disk.caching(),
            truncated: false,
            memory: disk.memory.clone(),
            counters: disk.counters(),
        })
    }

    /// Reports every write to `counter` (which need not be read, and is not) as a kick with `key`. Watches last as
    /// long as the channel.
    ///
    /// # Errors
    /// 64 counters are watched already.
    pub fn watch(&mut self, key: WatchKey, counter: Arc<EventFd>) -> io::Result<()> {
        if self.watches.len() >= usize::try_from(MAX_WATCHES).unwrap_or(0) {
            return Err(io::Error::other(
                "an I/O channel watches at most 64 event counters",
            ));
        }
        self.watches.push((key, counter));
        self.unarmed.push(key);
        Ok(())
    }

    /// Submits what is pending and sleeps until an operation ends or a watched counter is written; replaces the
    /// content of `events`.
    ///
    /// # Errors
    /// The ring is unusable; nothing more will complete.
    pub fn wait_events(&mut self, events: &mut Events) -> io::Result<()> {
        events.completions.clear();
        events.kicks.clear();
        events.kicks.append(&mut self.kicked);
        while events.completions.is_empty() && events.kicks.is_empty() {
            let idle = self.ready.is_empty() && self.ring.completion().is_empty();
            self.enter(usize::from(idle))?;
            self.collect(events);
        }
        Ok(())
    }

    /// As [`wait_events`](Self::wait_events), without sleeping: `events` may stay empty.
    ///
    /// # Errors
    /// The ring is unusable; nothing more will complete.
    pub fn poll_events(&mut self, events: &mut Events) -> io::Result<()> {
        events.completions.clear();
        events.kicks.clear();
        events.kicks.append(&mut self.kicked);
        self.enter(0)?;
        self.collect(events);
        Ok(())
    }

    /// Whether [`poll_events`](Self::poll_events) would bring something; no system call.
    pub fn has_events(&mut self) -> bool {
        !self.ready.is_empty()
            || !self.ring.completion().is_empty()
            || self.ring.submission().taskrun()
    }

    /// Submits; waits for `want` completions. Interruptions and a full completion queue end it early.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        self.arm();
        if want == 0 && self.ring.submission().is_empty() && !self.ring.submission().taskrun() {
            return Ok(());
        }
        self.counters.enter();
        match self.ring.submit_and_wait(want) {
            Ok(_) => Ok(()),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn arm(&mut self) {
        while let Some(key) = self.unarmed.pop() {
            let Some((_, counter)) = self.watches.iter().find(|(k, _)| *k == key) else {
                continue;
            };
            let events = u32::from(libc::POLLIN.unsigned_abs());
            let entry = opcode::PollAdd::new(types::Fd(counter.as_raw_fd()), events)
                .multi(true)
                .build();
            self.push(&entry.user_data(WATCH | u64::from(key)));
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: a poll refers to a counter kept in `watches`; a transfer to its slot's vector, buffers and
            // the registered file, all of which stay put until the entry's completion frees the slot, and
            // `drop` waits for every completion; guest memory is kept mapped by `memory`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // Each slot and watch has at most one entry pending, so the queue has room; submit should it not.
            let _ = self.ring.submit();
        }
    }

    fn submit_slot(&mut self, index: usize) {
        let mut bounced = false;
        let entry = self.slots[index].entry(&mut bounced);
        if bounced {
            self.counters.bounce();
        }
        self.push(&entry.user_data(index as u64));
    }

    /// Moves everything that has completed to `events`.
    fn collect(&mut self, events: &mut Events) {
        events.completions.extend(self.ready.drain(..));
        loop {
            let Some(entry) = self.ring.completion().next() else {
                break;
            };
            self.take(&entry, events);
        }
        for completion in &events.completions {
            self.counters.completion();
            if completion.outcome != Outcome::Done {
                self.counters.failure();
            }
        }
    }

    fn take(&mut self, entry: &cqueue::Entry, events: &mut Events) {
        let data = entry.user_data();
        if data & WATCH != 0 {
            let key = u32::try_from(data & !WATCH).unwrap_or(0);
            if !cqueue::more(entry.flags()) {
                self.unarmed.push(key);
            }
            events.kicks.push(key);
            return;
        }
        let index = usize::try_from(data).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        match slot.answer(entry.result()) {
            Next::Submit => self.submit_slot(index),
            Next::Finish(outcome) => {
                self.truncated |= outcome == Outcome::Failed(ErrorKind::Truncated);
                events.completions.push(Completion {
                    token: slot.token,
                    outcome,
                });
                self.free.push(index);
            }
        }
    }

    fn admit(&self, operation: &Operation<'_>) -> Result<(), ErrorKind> {
        self.geometry.admit(operation)?;
        if self.truncated {
            return Err(ErrorKind::Truncated);
        }
        let block = u64::from(self.geometry.logical_block);
        let aligned =
            |(offset, len): (u64, u64)| offset.is_multiple_of(block) && len.is_multiple_of(block);
        let direct = matches!(self.caching, Caching::Direct { .. });
        if direct && !operation.range().is_none_or(aligned) {
            return Err(ErrorKind::Io(libc::EINVAL));
        }
        Ok(())
    }

    /// Prepares a slot for `operation`; `None` if there is nothing to transfer.
    fn prepare(
        &mut self,
        index: usize,
        token: Token,
        operation: &Operation<'_>,
    ) -> Result<Option<()>, ErrorKind> {
        let slot = &mut self.slots[index];
        slot.runs.clear();
        let (offset, len) = operation.range().unwrap_or((0, 0));
        let work = match *operation {
            Operation::Read { segments, .. } => {
                map(&self.memory, segments, Permissions::Write, &mut slot.runs)?;
                Work::Read
            }
            Operation::Write {
                segments, durable, ..
            } => {
                map(&self.memory, segments, Permissions::Read, &mut slot.runs)?;
                Work::Write { durable }
            }
            Operation::Flush => Work::Sync,
            Operation::Discard { .. } => Work::Allocate {
                mode: Mode::Discard,
                durable: false,
            },
            Operation::WriteZeroes { unmap, durable, .. } => Work::Allocate {
                mode: if unmap { Mode::Unmap } else { Mode::Zero },
                durable,
            },
        };
        if len == 0 && work != Work::Sync {
            return Ok(None);
        }
        slot.start(token, work, offset, len);
        Ok(Some(()))
    }
}

impl IoChannel for UringChannel {
    fn submit(&mut self, token: Token, operation: &Operation<'_>) -> Result<(), ChannelFull> {
        let waiting = self.ready.len();
        let Some(&index) = self.free.last().filter(|_| waiting < self.slots.len()) else {
            return Err(ChannelFull);
        };
        self.counters.request();
        let prepared = self
            .admit(operation)
            .and_then(|()| self.prepare(index, token, operation));
        let outcome = match prepared {
            Ok(Some(())) => {
                self.free.pop();
                self.submit_slot(index);
                return Ok(());
            }
            Ok(None) => Outcome::Done,
            Err(kind) => Outcome::Failed(kind),
        };
        self.ready.push_back(Completion { token, outcome });
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let mut events = Events::default();
        // An unusable ring shows at the next wait.
        let _ = self.enter(0);
        self.collect(&mut events);
        self.kicked.append(&mut events.kicks);
        completions.append(&mut events.completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let mut events = Events::default();
        while self.in_flight() > 0 && events.completions.is_empty() {
            let idle = self.ready.is_empty() && self.ring.completion().is_empty();
            if self.enter(usize::from(idle)).is_err() {
                break;
            }
            self.collect(&mut events);
        }
        self.kicked.append(&mut events.kicks);
        completions.append(&mut events.completions);
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.ready.len()
    }

    fn capacity(&self) -> usize {
        self.slots.len()
    }
}

impl Drop for UringChannel {
    fn drop(&mut self) {
        let mut events = Events::default();
        while self.slots.len() > self.free.len() {
            if self.wait_events(&mut events).is_err() {
                // The kernel may still write to guest memory and buffers of ours: going on would corrupt memory.
                std::process::abort();
            }
        }
    }
}

/// Appends where `segments` are mapped in this process.
fn map(
    memory: &GuestMemoryMmap,
    segments: &[Segment],
    access: Permissions,
    runs: &mut Vec<iovec>,
) -> Result<(), ErrorKind> {
    for segment in segments {
        let len = usize::try_from(segment.len).map_err(|_| ErrorKind::BadAddress)?;
        let slices = memory
            .get_slices(GuestAddress(segment.address), len, access)
            .map_err(|_| ErrorKind::BadAddress)?;
        for slice in slices {
            let slice = slice.map_err(|_| ErrorKind::BadAddress)?;
            runs.push(iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            });
        }
    }
    Ok(())
}

/// A ring for one thread: completions are processed when that thread enters the kernel anyway, not by interrupting
/// it. Kernels before 6.1 lack that and get a plain ring.
fn build_ring() -> io::Result<IoUring> {
    let entries = CAPACITY + MAX_WATCHES;
    let modern = IoUring::builder()
        .setup_clamp()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .dontfork()
        .build(entries);
    match modern {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().setup_clamp().dontfork().build(entries)
        }
        other => other,
    }
}
