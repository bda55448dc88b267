//! A driver's side of a queue, for tests.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::Virtqueue;

pub const DESCRIPTORS: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x3000;
pub const USED: u64 = 0x4000;
pub const DATA: u64 = 0x8000;
pub const MEMORY: usize = 0x4_0000;
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

pub fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory")
}

pub fn queue(mem: &GuestMemoryMmap, size: u16, event_idx: bool) -> Virtqueue {
    Virtqueue::new(mem, size, DESCRIPTORS, AVAILABLE, USED, event_idx).expect("queue")
}

/// Writes descriptor `index` of the table at `table`.
pub fn descriptor(
    mem: &GuestMemoryMmap,
    table: u64,
    index: u16,
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
) {
    let at = table + u64::from(index) * 16;
    mem.write_obj(address, GuestAddress(at))
        .expect("descriptor");
    mem.write_obj(len, GuestAddress(at + 8))
        .expect("descriptor");
    mem.write_obj(flags, GuestAddress(at + 12))
        .expect("descriptor");
    mem.write_obj(next, GuestAddress(at + 14))
        .expect("descriptor");
}

/// Lays the buffers (address, length, writable) out as descriptors 0.. and makes the chain available as the only one.
pub fn offer(mem: &GuestMemoryMmap, buffers: &[(u64, u32, bool)]) {
    for (index, (address, len, write)) in buffers.iter().enumerate() {
        let index = u16::try_from(index).expect("few");
        let last = usize::from(index) + 1 == buffers.len();
        let flags = if *write { WRITE } else { 0 } | if last { 0 } else { NEXT };
        descriptor(mem, DESCRIPTORS, index, *address, *len, flags, index + 1);
    }
    make_available(mem, 8, 0, 0);
}

/// Puts `head` in the available ring of a queue of `size` at position `index`.
pub fn make_available(mem: &GuestMemoryMmap, size: u16, index: u16, head: u16) {
    mem.write_obj(
        head,
        GuestAddress(AVAILABLE + 4 + u64::from(index % size) * 2),
    )
    .expect("ring");
    mem.write_obj(index.wrapping_add(1), GuestAddress(AVAILABLE + 2))
        .expect("ring");
}
