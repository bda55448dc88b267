//! A driver for tests: sets a device up through its PCI function and works its rings in memory.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pci::{BarListener, MsiMessage, MsiSink, PciFunction};
use virtio::{Device, VirtioPci, feature};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::worker::Confine;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const MEMORY: usize = 16 << 20;
/// Buffers of tests start here; rings lie below.
pub(crate) const DATA: u64 = 1 << 20;
const SIZE: u16 = 64;
const RINGS: u64 = 0x4000;

pub(crate) fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory")
}

pub(crate) fn unconfined() -> Confine {
    Arc::new(|_| Ok(()))
}

/// Counts interrupts.
#[derive(Default)]
pub(crate) struct Sink {
    count: Mutex<u64>,
    raised: Condvar,
}

impl MsiSink for Sink {
    fn route(&self, _vector: u16, _message: Option<MsiMessage>) {}

    fn trigger(&self, _vector: u16) {
        *self.count.lock().expect("lock") += 1;
        self.raised.notify_all();
    }
}

struct Nowhere;

impl BarListener for Nowhere {
    fn bar_moved(&self, _bar: u8, _from: Option<u64>, _to: Option<u64>) {}
}

/// One queue from the driver's side.
#[derive(Default, Clone, Copy)]
struct Ring {
    next: u16,
    seen: u16,
    free: u16,
}

pub(crate) struct Driver {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) sink: Arc<Sink>,
    function: VirtioPci<GuestMemoryMmap>,
    rings: Vec<Ring>,
}

impl Driver {
    pub(crate) fn new(device: Arc<dyn Device>, memory: GuestMemoryMmap) -> Driver {
        let queues = device.queue_sizes().len();
        let sink = Arc::<Sink>::default();
        let function = VirtioPci::new(device, memory.clone(), sink.clone(), Arc::new(Nowhere))
            .expect("function");
        Driver {
            memory,
            sink,
            function,
            rings: vec![Ring::default(); queues],
        }
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        self.function.write_bar(0, offset, data);
    }

    pub(crate) fn status(&self) -> u8 {
        let mut data = [0];
        self.function.read_bar(0, 0x14, &mut data);
        data[0]
    }

    /// Initialises the device with these features (and version 1), interrupts on.
    pub(crate) fn start(&mut self, features: u64) {
        for vector in 0..=self.rings.len() as u64 {
            self.write(0x8000 + vector * 16 + 12, &[0; 4]);
        }
        self.enable_msix();
        self.write(0x14, &[3]);
        let features = features | feature::VERSION_1;
        for (select, word) in [(0u32, features), (1, features >> 32)] {
            self.write(0x08, &select.to_le_bytes());
            self.write(0x0C, &word.to_le_bytes()[..4]);
        }
        self.write(0x14, &[11]);
        assert_eq!(self.status(), 11, "features refused");
        for index in 0..u16::try_from(self.rings.len()).expect("few") {
            let base = base(index);
            self.memory
                .write_slice(&[0; 0x4000], GuestAddress(base))
                .expect("memory");
            self.rings[usize::from(index)] = Ring::default();
            self.write(0x16, &index.to_le_bytes());
            self.write(0x18, &SIZE.to_le_bytes());
            self.write(0x1A, &(index + 1).to_le_bytes());
            self.write(0x20, &base.to_le_bytes());
            self.write(0x28, &(base + 0x1000).to_le_bytes());
            self.write(0x30, &(base + 0x2000).to_le_bytes());
            self.write(0x1C, &1u16.to_le_bytes());
        }
        self.write(0x14, &[15]);
        assert_eq!(self.status(), 15);
    }

    fn enable_msix(&self) {
        let mut at = [0];
        self.function.read_config(0x34, &mut at);
        loop {
            let mut head = [0; 2];
            self.function.read_config(u16::from(at[0]), &mut head);
            if head[0] == 0x11 {
                return self
                    .function
                    .write_config(u16::from(at[0]) + 2, &0x8000u16.to_le_bytes());
            }
            at[0] = head[1];
        }
    }

    /// Resets the device and waits until it says so.
    pub(crate) fn reset(&mut self) {
        self.write(0x14, &[0]);
        until("the end of the reset", || self.status() == 0);
    }

    /// Makes a chain of (address, length, writable) available, without a kick; gives its head.
    pub(crate) fn offer(&mut self, queue: u16, buffers: &[(u64, u32, bool)]) -> u16 {
        let base = base(queue);
        let ring = &mut self.rings[usize::from(queue)];
        let head = ring.free;
        for (place, (address, len, write)) in (1..).zip(buffers) {
            let at = base + u64::from(ring.free) * 16;
            ring.free = (ring.free + 1) % SIZE;
            let last = place == buffers.len();
            let flags = u16::from(!last) | u16::from(*write) << 1;
            self.memory
                .write_obj(*address, GuestAddress(at))
                .expect("memory");
            self.memory
                .write_obj(*len, GuestAddress(at + 8))
                .expect("memory");
            self.memory
                .write_obj(flags, GuestAddress(at + 12))
                .expect("memory");
            self.memory
                .write_obj(ring.free, GuestAddress(at + 14))
                .expect("memory");
        }
        let slot = base + 0x1004 + u64::from(ring.next % SIZE) * 2;
        self.memory
            .write_obj(head, GuestAddress(slot))
            .expect("memory");
        ring.next = ring.next.wrapping_add(1);
        let index = GuestAddress(base + 0x1002);
        self.memory
            .store(ring.next, index, std::sync::atomic::Ordering::Release)
            .expect("memory");
        head
    }

    pub(crate) fn kick(&self, queue: u16) {
        self.write(
            virtio::NOTIFY_OFFSET + u64::from(queue) * 4,
            &queue.to_le_bytes(),
        );
    }

    /// What was returned since the last call: (head, length).
    pub(crate) fn used(&mut self, queue: u16) -> Vec<(u16, u32)> {
        let used = base(queue) + 0x2000;
        let ring = &mut self.rings[usize::from(queue)];
        let order = std::sync::atomic::Ordering::Acquire;
        let index: u16 = self
            .memory
            .load(GuestAddress(used + 2), order)
            .expect("memory");
        let mut list = Vec::new();
        while ring.seen != index {
            let at = used + 4 + u64::from(ring.seen % SIZE) * 8;
            let head: u32 = self.memory.read_obj(GuestAddress(at)).expect("memory");
            let len: u32 = self.memory.read_obj(GuestAddress(at + 4)).expect("memory");
            list.push((u16::try_from(head).expect("head"), len));
            ring.seen = ring.seen.wrapping_add(1);
        }
        list
    }

    /// Waits for `count` chains to be returned.
    pub(crate) fn wait(&mut self, queue: u16, count: usize) -> Vec<(u16, u32)> {
        let mut list = Vec::new();
        until("used buffers", || {
            list.extend(self.used(queue));
            list.len() >= count
        });
        list
    }

    pub(crate) fn interrupts(&self) -> u64 {
        *self.sink.count.lock().expect("lock")
    }
}

fn base(queue: u16) -> u64 {
    RINGS * (u64::from(queue) + 1)
}

/// Polls for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
