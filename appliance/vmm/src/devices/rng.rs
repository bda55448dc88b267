//! The entropy device. Requests are served by the vCPU thread that kicks: it costs the guest its own time, and a
//! thread less. Beyond [`BYTES_PER_SECOND`] answers become short, so that the guest pays an exit for each few bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use virtio::{
    Activation, Chain, Device, DeviceKind, Interrupts, QueueError, ResetDone, Virtqueue, feature,
};
use vm_memory::GuestMemoryMmap;

/// What a guest may draw at full speed.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// What it may draw at once after a pause.
const BURST_BYTES: u64 = 256 << 10;
/// The length of answers beyond that.
const SHORT_ANSWER: usize = 16;

pub(crate) struct Rng {
    memory: GuestMemoryMmap,
    active: Mutex<Option<Active>>,
}

struct Active {
    queue: Virtqueue,
    interrupts: Interrupts,
    budget: Budget,
    chain: Chain,
}

/// A token bucket.
struct Budget {
    bytes: u64,
    since: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Budget {
            bytes: BURST_BYTES,
            since: now,
        }
    }

    /// How long an answer may be, at most `wanted`.
    fn draw(&mut self, wanted: usize, now: Instant) -> usize {
        let elapsed = u64::try_from(now.duration_since(self.since).as_micros()).unwrap_or(u64::MAX);
        let earned = elapsed.saturating_mul(BYTES_PER_SECOND) / 1_000_000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(BURST_BYTES);
            self.since = now;
        }
        let wanted_bytes = u64::try_from(wanted).unwrap_or(u64::MAX);
        if self.bytes < wanted_bytes {
            return wanted.min(SHORT_ANSWER);
        }
        self.bytes -= wanted_bytes;
        wanted
    }
}

impl Rng {
    pub(crate) fn new(memory: GuestMemoryMmap) -> Self {
        Rng {
            memory,
            active: Mutex::new(None),
        }
    }

    fn active(&self) -> MutexGuard<'_, Option<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    /// Answers what is in the queue, at most as many requests as it has room for.
    fn serve(&mut self, mem: &GuestMemoryMmap) -> Result<(), QueueError> {
        let mut bytes = vec![0; usize::try_from(virtio::rng::MAX_BYTES).unwrap_or(0)];
        for _ in 0..self.queue.size() {
            if !self.queue.pop(mem, &mut self.chain)? {
                break;
            }
            let wanted = usize::try_from(virtio::rng::wanted(&self.chain)).unwrap_or(0);
            let answer = &mut bytes[..self.budget.draw(wanted, Instant::now())];
            // The kernel's generator, once seeded (long before a guest runs), gives up to 256 bytes whatever happens
            // and more unless a signal interrupts it; then the answer is shorter, which the device may be.
            let filled =
                rustix::rand::getrandom(&mut *answer, rustix::rand::GetRandomFlags::empty())
                    .unwrap_or(0);
            let written = virtio::rng::fill(mem, &self.chain, &answer[..filled]);
            self.queue.add_used(mem, self.chain.head, written)?;
        }
        // What a second vCPU adds meanwhile waits for the next kick, which the driver owes once it reuses a buffer.
        self.queue.enable_kicks(mem)?;
        if self.queue.wants_interrupt(mem)? {
            self.interrupts.queue(0);
        }
        Ok(())
    }
}

impl Device for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Entropy
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![virtio::rng::QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        feature::RING
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&self, _offset: u64, _data: &[u8], _features: u64) {}

    fn activate(&self, activation: Activation) {
        let interrupts = activation.interrupts;
        *self.active() = activation
            .queues
            .into_iter()
            .find(|active| active.index == 0)
            .map(|active| Active {
                queue: active.queue,
                interrupts,
                budget: Budget::new(Instant::now()),
                chain: Chain::default(),
            });
    }

    fn notify(&self, _queue: u16) {
        let mut guard = self.active();
        let Some(active) = guard.as_mut() else { return };
        if active.serve(&self.memory).is_err() {
            active.interrupts.needs_reset();
            *guard = None;
        }
    }

    fn reset(&self, done: ResetDone) {
        *self.active() = None;
        drop(done);
    }
}
