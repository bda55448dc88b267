//! A split virtqueue, driver side (§2.7).
//!
//! The driver decides which descriptors a request uses, so there is no free list here. Requests are made visible and
//! the device kicked once for all that were added ([`Queue::kick`]).

use core::sync::atomic::{Ordering, fence};

use crate::io::Mmio;
use crate::memory::Buffer;

/// Descriptor flags (§2.7.5).
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 16;

/// `avail.flags`: no interrupts; `used.flags`: no kicks.
const QUIET: u16 = 1;

/// One queue.
#[derive(Debug)]
pub struct Queue {
    index: u16,
    size: u16,
    event_idx: bool,
    kick: Mmio,
    table: Buffer,
    available: Buffer,
    used: Buffer,
    /// Requests added.
    next_available: u16,
    /// Requests the device has been shown.
    shown: u16,
    /// Completions taken.
    next_used: u16,
    /// Kicks so far.
    pub kicks: u64,
}

impl Queue {
    pub(super) fn new(index: u16, size: u16, event_idx: bool, kick: Mmio) -> Self {
        let entries = usize::from(size);
        let mut queue = Self {
            index,
            size,
            event_idx,
            kick,
            table: Buffer::new(entries * DESCRIPTOR),
            available: Buffer::new(6 + 2 * entries),
            used: Buffer::new(6 + 8 * entries),
            next_available: 0,
            shown: 0,
            next_used: 0,
            kicks: 0,
        };
        queue.refuse_interrupts();
        queue
    }

    pub(super) fn descriptors(&self) -> u64 {
        self.table.address()
    }

    pub(super) fn driver_area(&self) -> u64 {
        self.available.address()
    }

    pub(super) fn device_area(&self) -> u64 {
        self.used.address()
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Writes a descriptor of the queue's own table.
    pub fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        describe(
            &self.table,
            usize::from(index) * DESCRIPTOR,
            address,
            length,
            flags,
            next,
        );
    }

    /// Adds the request whose chain starts at a descriptor. At most `size` requests may be on their way.
    pub fn add(&mut self, head: u16) {
        let slot = usize::from(self.next_available % self.size);
        self.available.write_u16(4 + 2 * slot, head);
        self.next_available = self.next_available.wrapping_add(1);
    }

    /// Shows the device what was added and kicks it if it wants that (§2.7.13, §2.7.10).
    pub fn kick(&mut self) {
        let (old, new) = (self.shown, self.next_available);
        if old == new {
            return;
        }
        fence(Ordering::Release);
        self.available.write_u16(2, new);
        self.shown = new;
        // The index must be visible before the device's wishes are read, or both sides could go to sleep.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.used.read_u16(4 + 8 * usize::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.used.read_u16(0) & QUIET == 0
        };
        if wanted {
            self.kick.write_u16(self.index);
            self.kicks += 1;
        }
    }

    /// The next completed request: its first descriptor, and how many bytes the device wrote.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        if self.used.read_u16(2) == self.next_used {
            return None;
        }
        fence(Ordering::Acquire);
        let at = 4 + 8 * usize::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        let head = self.used.read_u32(at);
        Some((
            u16::try_from(head).unwrap_or(u16::MAX),
            self.used.read_u32(at + 4),
        ))
    }

    /// Asks for an interrupt at the next completion. Returns false if there already is one to take.
    pub fn ask_interrupt(&mut self) -> bool {
        if self.event_idx {
            self.available
                .write_u16(4 + 2 * usize::from(self.size), self.next_used);
        } else {
            self.available.write_u16(0, 0);
        }
        fence(Ordering::SeqCst);
        self.used.read_u16(2) == self.next_used
    }

    /// Asks for no interrupts; with EVENT_IDX that holds for the next 65535 completions.
    pub fn refuse_interrupts(&mut self) {
        if self.event_idx {
            self.available.write_u16(
                4 + 2 * usize::from(self.size),
                self.next_used.wrapping_sub(1),
            );
        } else {
            self.available.write_u16(0, QUIET);
        }
    }
}

/// Writes a descriptor at a byte offset of a table.
pub(super) fn describe(
    table: &Buffer,
    at: usize,
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
) {
    table.write_u64(at, address);
    table.write_u32(at + 8, length);
    table.write_u16(at + 12, flags);
    table.write_u16(at + 14, next);
}
