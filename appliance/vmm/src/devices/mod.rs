//! The devices of a machine: block, network, entropy; each a virtio model with whoever serves it.
//!
//! Disks and network cards have a thread each, started with the device and ended by dropping its function; it
//! sleeps in one system call on kicks, completions or packets, and commands ([`worker`]). The entropy device
//! needs none: the vCPU that asks is served where it is.

mod blk;
mod blk_server;
mod guest_iov;
mod net;
mod net_server;
mod rng;
mod tap;
#[cfg(test)]
mod testing;
mod worker;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use pci::PciFunction;
use virtio::{Device, NOTIFY_OFFSET, VirtioPci, notify_address};
use vmm_sys_util::eventfd::EventFd;

use crate::wiring::Wiring;

pub(crate) use net::NetCounters;
pub(crate) use worker::{Confine, RNG_SYSCALLS, ThreadKind};

/// The BAR that holds the doorbells.
const BAR: u8 = 0;

/// A device that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// See the message.
    #[error("cannot open the disk")]
    Disk(#[from] block_uring::OpenError),
    /// See the message.
    #[error(
        "cannot start the thread of the {device} device: io_uring may be disabled, or no thread or descriptor is left"
    )]
    Start {
        /// What the thread was to serve.
        device: &'static str,
        /// The first thing that failed.
        #[source]
        source: io::Error,
    },
    /// See the message.
    #[error(
        "the descriptor given for a network interface is not a tap with a virtio-net header (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)"
    )]
    Tap(#[source] io::Error),
    /// See the message.
    #[error("cannot put the device on the PCI bus")]
    Layout(#[from] virtio::LayoutError),
}

/// A disk on the bus, and what can be learned of it.
pub(crate) struct BlockDevice {
    pub function: Arc<dyn PciFunction>,
    pub counters: Arc<block_uring::Counters>,
    pub caching: block_uring::Caching,
    /// Its thread, until it has started.
    starting: Option<worker::Starting>,
}

impl BlockDevice {
    /// Waits until it can serve the guest.
    pub(crate) fn started(&mut self) -> Result<(), DeviceError> {
        started("block", self.starting.take())
    }
}

/// A network card on the bus.
pub(crate) struct NetDevice {
    pub function: Arc<dyn PciFunction>,
    pub counters: Arc<NetCounters>,
    /// Its thread, until it has started.
    starting: Option<worker::Starting>,
}

impl NetDevice {
    /// Waits until it can serve the guest.
    pub(crate) fn started(&mut self) -> Result<(), DeviceError> {
        started("network", self.starting.take())
    }
}

fn started(device: &'static str, starting: Option<worker::Starting>) -> Result<(), DeviceError> {
    let failed = |source| DeviceError::Start { device, source };
    starting.map_or(Ok(()), |starting| starting.done().map_err(failed))
}

/// Makes a disk of `file` with `queues` request queues; the guest sees `serial` (cut to 20 bytes). Its thread is on its way.
pub(crate) fn block(
    wiring: &Wiring,
    file: File,
    read_only: bool,
    serial: &str,
    queues: u16,
    confine: &Confine,
) -> Result<BlockDevice, DeviceError> {
    let options = block_uring::OpenOptions {
        read_only,
        ..Default::default()
    };
    let disk = block_uring::UringDisk::open(file, (*wiring.memory).clone(), options)?;
    let (counters, caching) = (disk.counters(), disk.caching());
    let (device, starting) = blk::Blk::start(disk, serial, queues, confine)?;
    let bells = device.kicks().to_vec();
    let function = attach(wiring, Arc::new(device), bells)?;
    Ok(BlockDevice {
        function,
        counters,
        caching,
        starting: Some(starting),
    })
}

/// Makes a network card of an open `tap`. Its packets must have a 12-byte header, which is set here. Its thread is on its way.
pub(crate) fn net(
    wiring: &Wiring,
    tap: OwnedFd,
    mac: [u8; 6],
    mtu: u16,
    confine: &Confine,
) -> Result<NetDevice, DeviceError> {
    let tap = tap::Tap::new(tap).map_err(DeviceError::Tap)?;
    let config = virtio::net::NetConfig {
        mac,
        mtu,
        queue_size: virtio::net::QUEUE_SIZE,
    };
    let (device, starting) = net::Net::start(tap, (*wiring.memory).clone(), config, confine)?;
    let (counters, bells) = (device.counters(), device.kicks().to_vec());
    let function = attach(wiring, Arc::new(device), bells)?;
    Ok(NetDevice {
        function,
        counters,
        starting: Some(starting),
    })
}

/// Makes an entropy device.
pub(crate) fn rng(wiring: &Wiring) -> Result<Arc<dyn PciFunction>, DeviceError> {
    attach(
        wiring,
        Arc::new(rng::Rng::new((*wiring.memory).clone())),
        Vec::new(),
    )
}

/// Puts a device on PCI; `kicks` are its queues' events, in order (none: kicks reach [`Device::notify`]).
fn attach(
    wiring: &Wiring,
    device: Arc<dyn Device>,
    kicks: Vec<Arc<EventFd>>,
) -> Result<Arc<dyn PciFunction>, DeviceError> {
    let queues = device.queue_sizes().len();
    let vectors = u16::try_from(queues + 1).map_err(|_| virtio::LayoutError::Queues(queues))?;
    let bells = (0..)
        .zip(kicks)
        .map(|(queue, kick)| (notify_address(0, queue), kick))
        .collect();
    debug_assert_eq!(notify_address(0, 0), NOTIFY_OFFSET);
    let function = VirtioPci::new(
        device,
        (*wiring.memory).clone(),
        wiring.msi_sink(vectors),
        wiring.doorbells(BAR, bells),
    )?;
    Ok(Arc::new(function))
}
