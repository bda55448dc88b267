//! Physical memory: the map, the heap, and buffers devices may use. Identity-mapped throughout.
//!
//! The heap grows upwards through the RAM above the image; freed blocks are kept by size (powers of two) and never
//! returned. That wastes up to half of a block and is as quick as it gets.

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use alloc::string::String;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tables::{Memory, Range, StartInfo};

use crate::{BootInfo, cpu};

const MAX_REGIONS: usize = 16;
const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
/// End of what `boot.s` maps.
const MAPPED_AT_START: u64 = 1 << 32;

unsafe extern "C" {
    static mut guest_pdpt: [u64; 512];
    static __guest_image_end: u8;
}

struct Map {
    /// RAM above the image, page-aligned, without the modules.
    regions: [Range; MAX_REGIONS],
    count: usize,
}

struct State {
    map: Map,
    /// The region the heap is growing in, and how far.
    current: usize,
    next: u64,
    /// Freed blocks by the logarithm of their size; each holds the address of the next.
    free: [u64; 48],
}

struct Heap {
    locked: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: the state is only reached through `with`, under the lock.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    locked: AtomicBool::new(false),
    state: UnsafeCell::new(State {
        map: Map {
            regions: [Range { start: 0, end: 0 }; MAX_REGIONS],
            count: 0,
        },
        current: 0,
        next: 0,
        free: [0; 48],
    }),
};
static IN_USE: AtomicU64 = AtomicU64::new(0);

impl Heap {
    fn with<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        while self.locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: the lock makes this the only reference; interrupt handlers do not allocate.
        let result = action(unsafe { &mut *self.state.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl State {
    fn grow(&mut self, size: u64, alignment: u64) -> Option<u64> {
        while self.current < self.map.count {
            let region = self.map.regions[self.current];
            let start = self.next.max(region.start).next_multiple_of(alignment);
            if let Some(end) = start.checked_add(size).filter(|end| *end <= region.end) {
                self.next = end;
                return Some(start);
            }
            self.current += 1;
        }
        None
    }
}

/// Size class of a layout: the logarithm of the block's size. Blocks are aligned to their size, up to a page.
fn class(layout: Layout) -> usize {
    layout
        .size()
        .max(layout.align())
        .max(16)
        .next_power_of_two()
        .trailing_zeros() as usize
}

// SAFETY: blocks are distinct (the heap only grows, and a freed block is handed out once), at least as large as asked,
// and aligned to min(size, page); larger alignments are refused.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        if layout.align() as u64 > PAGE || class >= 48 {
            return null_mut();
        }
        let size = 1_u64 << class;
        let block = self.with(|state| match state.free[class] {
            0 => state.grow(size, size.min(PAGE)),
            block => {
                // SAFETY: a block on the free list is unused memory whose first word is the next block's address.
                state.free[class] = unsafe { (block as *const u64).read() };
                Some(block)
            }
        });
        match block {
            Some(block) => {
                IN_USE.fetch_add(size, Ordering::Relaxed);
                block as *mut u8
            }
            None => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class(layout);
        IN_USE.fetch_sub(1 << class, Ordering::Relaxed);
        self.with(|state| {
            // SAFETY: the caller gives the block up; it is at least 16 bytes and aligned to 16.
            unsafe { block.cast::<u64>().write(state.free[class]) };
            state.free[class] = block as u64;
        });
    }
}

/// All mapped memory below 4 GiB, for reading tables.
pub(crate) struct Identity;

impl Memory for Identity {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if address == 0 || end > MAPPED_AT_START {
            return None;
        }
        // SAFETY: everything below 4 GiB is mapped, and tables are not written while they are read.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
    }
}

/// Reads the start info and gives the heap its memory. Everything the host handed over is copied first, since the
/// heap may overwrite it.
pub(crate) fn start(start_info: u64) -> BootInfo {
    let image_end = (&raw const __guest_image_end) as u64;
    let Some(info) = StartInfo::read(&Identity, start_info) else {
        crate::console::write("guest: error reason=\"no PVH start info in ebx\"\n");
        cpu::halt();
    };
    let mut line = [0; 4096];
    let found = info.command_line_bytes(&Identity);
    let length = found.len().min(line.len());
    line[..length].copy_from_slice(&found[..length]);
    let mut map = Map {
        regions: [Range { start: 0, end: 0 }; MAX_REGIONS],
        count: 0,
    };
    for ram in info.ram(&Identity) {
        let mut start = ram.start.max(image_end);
        for module in info
            .modules(&Identity)
            .filter(|module| module.end > ram.start && module.start < ram.end)
        {
            start = start.max(module.end);
        }
        let (start, end) = (start.next_multiple_of(PAGE), ram.end / PAGE * PAGE);
        if start < end && map.count < MAX_REGIONS {
            map.regions[map.count] = Range { start, end };
            map.count += 1;
        }
    }
    let high = map.regions[..map.count]
        .iter()
        .map(|region| region.end)
        .max()
        .unwrap_or(0);
    HEAP.with(|state| state.map = map);
    if high > MAPPED_AT_START {
        map_up_to(high);
    }
    BootInfo {
        command_line: String::from_utf8_lossy(&line[..length]).into_owned(),
        rsdp: info.rsdp,
    }
}

/// Maps 4 GiB to `end` (at most 512 GiB) in pages of 2 MiB, like `boot.s` the rest.
fn map_up_to(end: u64) {
    for gib in (MAPPED_AT_START >> 30)..end.div_ceil(1 << 30).min(512) {
        let table = Buffer::new(4096);
        for entry in 0..512_u64 {
            table.write_u64(entry as usize * 8, (gib << 30) + entry * LARGE_PAGE + 0x87);
        }
        // SAFETY: the index is below 512; the entry was not present; only CPU 0 runs, and nothing is mapped twice.
        unsafe {
            (&raw mut guest_pdpt)
                .cast::<u64>()
                .add(gib as usize)
                .write_volatile(table.address() + 7);
        }
        core::mem::forget(table);
    }
    cpu::flush_tlb();
}

/// RAM above the image in bytes, used or not.
pub fn ram_bytes() -> u64 {
    HEAP.with(|state| {
        state.map.regions[..state.map.count]
            .iter()
            .map(|region| region.end - region.start)
            .sum()
    })
}

/// Bytes of heap blocks in use.
pub fn heap_in_use() -> u64 {
    IN_USE.load(Ordering::Relaxed)
}

/// Writes a word in each of up to `count` unused pages of RAM, from the highest down to the heap's end. Returns how
/// many there were.
pub fn touch_unused(count: u64) -> u64 {
    HEAP.with(|state| {
        let mut done = 0;
        for index in (state.current..state.map.count).rev() {
            let region = state.map.regions[index];
            let bottom = if index == state.current {
                state.next.max(region.start).next_multiple_of(PAGE)
            } else {
                region.start
            };
            let mut page = region.end;
            while done < count && page > bottom {
                page -= PAGE;
                // SAFETY: the page is mapped RAM that the heap, locked here, has not reached yet.
                unsafe { (page as *mut u64).write_volatile(page) };
                done += 1;
            }
        }
        done
    })
}

/// Zeroed, page-aligned memory that a device may read and write.
#[derive(Debug)]
pub struct Buffer {
    start: *mut u8,
    length: usize,
}

// SAFETY: the buffer owns its memory.
unsafe impl Send for Buffer {}

impl Buffer {
    /// `length` bytes, at least 1. Without memory for it, the guest panics.
    pub fn new(length: usize) -> Self {
        let layout = Self::layout(length);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length.max(1), PAGE as usize).unwrap_or(Layout::new::<[u8; 4096]>())
    }

    /// Physical (and virtual) address.
    pub fn address(&self) -> u64 {
        self.start as u64
    }

    /// Length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes; call it while no device has the buffer.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is owned and initialised; devices write only between submission and completion.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }

    /// The bytes to change; call it while no device has the buffer.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }

    fn check<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.length,
            "outside the buffer"
        );
        // SAFETY: just checked to lie inside.
        unsafe { self.start.add(offset).cast() }
    }

    /// Reads four bytes a device may have changed. Panics outside the buffer or unaligned, like all below.
    pub fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u32>(offset).read_volatile() }
    }

    /// Reads two bytes a device may have changed.
    pub fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u16>(offset).read_volatile() }
    }

    /// Reads a byte a device may have changed.
    pub fn read_u8(&self, offset: usize) -> u8 {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u8>(offset).read_volatile() }
    }

    /// Writes eight bytes a device may read.
    pub fn write_u64(&self, offset: usize, value: u64) {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u64>(offset).write_volatile(value) }
    }

    /// Writes four bytes a device may read.
    pub fn write_u32(&self, offset: usize, value: u32) {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u32>(offset).write_volatile(value) }
    }

    /// Writes two bytes a device may read.
    pub fn write_u16(&self, offset: usize, value: u16) {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u16>(offset).write_volatile(value) }
    }

    /// Writes a byte a device may read.
    pub fn write_u8(&self, offset: usize, value: u8) {
        // SAFETY: `check` answers for bounds and alignment.
        unsafe { self.check::<u8>(offset).write_volatile(value) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start, Self::layout(self.length)) }
    }
}
