//! The network device as its transport sees it; `net_server` does the work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio::net::NetConfig;
use virtio::{Activation, Device, DeviceKind, ResetDone};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::DeviceError;
use super::net_server::Server;
use super::tap::Tap;
use super::worker::{Command, Confine, Starting, ThreadKind, Worker, event};

/// Frames since the device was made.
#[derive(Debug, Default)]
pub(crate) struct NetCounters {
    /// Frames given to the guest.
    pub received: AtomicU64,
    /// Frames sent for the guest.
    pub sent: AtomicU64,
    /// Frames for the guest that did not fit its buffers.
    pub receive_dropped: AtomicU64,
    /// Frames of the guest that were malformed or that the host refused.
    pub send_dropped: AtomicU64,
}

impl NetCounters {
    /// Adds one to a counter of this.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A network card with one thread for both directions.
pub(crate) struct Net {
    config: NetConfig,
    kicks: [Arc<EventFd>; 2],
    counters: Arc<NetCounters>,
    worker: Worker,
}

impl Net {
    pub(crate) fn start(
        tap: Tap,
        memory: GuestMemoryMmap,
        config: NetConfig,
        confine: &Confine,
    ) -> Result<(Self, Starting), DeviceError> {
        let failed = |source: io::Error| DeviceError::Start {
            device: "network",
            source,
        };
        let kicks = [
            Arc::new(event().map_err(failed)?),
            Arc::new(event().map_err(failed)?),
        ];
        let counters = Arc::new(NetCounters::default());
        let (its_kicks, its_counters) = (kicks.clone(), Arc::clone(&counters));
        let (worker, starting) = Worker::start("net", ThreadKind::Net, confine, move |mailbox| {
            let server = Server::new(tap, memory, config, its_kicks, its_counters, mailbox)?;
            Ok(move || server.run())
        })
        .map_err(failed)?;
        let net = Net {
            config,
            kicks,
            counters,
            worker,
        };
        Ok((net, starting))
    }

    /// The kicks of receive and transmit queue.
    pub(crate) fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    /// What it moved.
    pub(crate) fn counters(&self) -> Arc<NetCounters> {
        Arc::clone(&self.counters)
    }
}

impl Device for Net {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![self.config.queue_size; self.kicks.len()]
    }

    fn features(&self) -> u64 {
        self.config.features()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&self, _offset: u64, _data: &[u8], _features: u64) {}

    fn activate(&self, activation: Activation) {
        self.worker.mailbox().post(Command::Activate(activation));
    }

    fn notify(&self, queue: u16) {
        if let Some(kick) = self.kicks.get(usize::from(queue)) {
            // Fails only if the counter is about to overflow: then a kick is pending anyway.
            let _ = kick.write(1);
        }
    }

    fn reset(&self, done: ResetDone) {
        self.worker.mailbox().post(Command::Reset(done));
    }
}

#[cfg(test)]
#[path = "net_test.rs"]
mod tests;
