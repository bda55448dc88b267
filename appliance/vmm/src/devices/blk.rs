//! The block device as its transport sees it; `blk_server` does the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::BlockDevice as _;
use block_uring::UringDisk;
use virtio::blk::{self, BlkConfig};
use virtio::{Activation, Device, DeviceKind, ResetDone};
use vmm_sys_util::eventfd::EventFd;

use super::DeviceError;
use super::blk_server::Server;
use super::worker::{Command, Confine, Starting, ThreadKind, Worker, event};

/// Request queues at most: more than the vCPUs that can kick them at once is of no use.
const MAX_QUEUES: u16 = 16;

/// A disk with one thread for all its queues.
pub(crate) struct Blk {
    config: BlkConfig,
    /// The driver's choice between write-back and write-through.
    writeback: Arc<AtomicBool>,
    kicks: Vec<Arc<EventFd>>,
    worker: Worker,
}

impl Blk {
    pub(crate) fn start(
        disk: UringDisk,
        serial: &str,
        queues: u16,
        confine: &Confine,
    ) -> Result<(Self, Starting), DeviceError> {
        let geometry = disk.geometry();
        let config = BlkConfig {
            sectors: geometry.sectors,
            logical_block: geometry.logical_block,
            physical_block: geometry.physical_block,
            discard_granularity: geometry.discard_granularity,
            max_discard: geometry.max_discard,
            read_only: geometry.read_only,
            queues: queues.clamp(1, MAX_QUEUES),
            queue_size: blk::QUEUE_SIZE,
            serial: serial_bytes(serial),
        };
        let failed = |source| DeviceError::Start {
            device: "block",
            source,
        };
        let kicks = (0..config.queues).map(|_| event().map(Arc::new));
        let kicks = kicks.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let writeback = Arc::new(AtomicBool::new(true));
        let (its_kicks, its_writeback) = (kicks.clone(), Arc::clone(&writeback));
        let (worker, starting) = Worker::start("blk", ThreadKind::Block, confine, move |mailbox| {
            let server = Server::new(&disk, config, its_writeback, &its_kicks, mailbox)?;
            Ok(move || server.run())
        })
        .map_err(failed)?;
        let blk = Blk {
            config,
            writeback,
            kicks,
            worker,
        };
        Ok((blk, starting))
    }

    /// Each queue's kick.
    pub(crate) fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }
}

impl Device for Blk {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![self.config.queue_size; self.kicks.len()]
    }

    fn features(&self) -> u64 {
        self.config.features()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.config
            .read(self.writeback.load(Ordering::Acquire), offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8], features: u64) {
        if let Some(writeback) = BlkConfig::writeback_after(offset, data, features) {
            self.writeback.store(writeback, Ordering::Release);
        }
    }

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
        self.writeback.store(true, Ordering::Release);
        self.worker.mailbox().post(Command::Reset(done));
    }
}

/// A serial number as the device gives it: cut or zero-padded to 20 bytes.
fn serial_bytes(serial: &str) -> [u8; blk::SERIAL_BYTES] {
    let mut bytes = [0; blk::SERIAL_BYTES];
    for (to, from) in bytes.iter_mut().zip(serial.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
#[path = "blk_test.rs"]
mod tests;
